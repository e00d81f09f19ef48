from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
import time
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import msgspec
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway.errors import ConfigError, Reason
from gateway.policy import Bundle, EmbeddedEngine, PolicyError, PolicyInput
from gateway.policy.engine import ENTRY_POINT
from gateway.policy.opa import OpaEngine
from gateway.policy.opa_session import MAX_ANSWER_BYTES
from gateway.policy.policy_input import encode_input


@pytest.fixture
async def opa(bundle: Bundle, opa_simulator):
    engine = OpaEngine(bundle, opa_simulator.url, timeout_s=0.6)
    await engine.start()
    yield engine
    await engine.close()


async def truthful_answer(embedded: EmbeddedEngine, policy_input: PolicyInput) -> dict:
    return msgspec.json.decode(await embedded.evaluate(ENTRY_POINT, encode_input(policy_input)))


async def hang(simulator, request):
    await simulator.released.wait()
    return web.json_response({})


async def dribble(simulator, request):
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    await response.write(b'{"result":')
    await simulator.released.wait()
    return response


async def pour(simulator, request):
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    try:
        for _ in range(4096):
            await response.write(b" " * 65536)
    except ConnectionError:
        simulator.released.set()
    return response


async def say_stale(simulator, request):
    other = {
        "allow": True,
        "reasons": [],
        "tier": "public",
        "obligations": {"uscc": {"treatment": "release", "params": {}}},
        "duties": {},
        "rule_ids": [],
        "valid_until": None,
        "bundle": "sha256:" + "0" * 64,
    }
    return web.json_response({"result": other})


async def redirect(simulator, request):
    raise web.HTTPTemporaryRedirect("/elsewhere")


def body(payload: bytes, status: int = 200, **headers: str):
    async def fault(simulator, request):
        return web.Response(
            body=payload, status=status, headers={"Content-Type": "application/json", **headers}
        )

    return fault


FAULTS = {
    "hanging": (hang, Reason.POLICY_TIMEOUT),
    "slow": (dribble, Reason.POLICY_TIMEOUT),
    "undefined": (body(b"{}"), Reason.POLICY_UNDEFINED),
    "undefined with decision id": (body(b'{"decision_id":"x"}'), Reason.POLICY_UNDEFINED),
    "a number for a result": (body(b'{"result":7}'), Reason.POLICY_FAILED),
    "true for a result": (body(b'{"result":true}'), Reason.POLICY_FAILED),
    "null for a result": (body(b'{"result":null}'), Reason.POLICY_FAILED),
    "a list for an answer": (body(b"[1]"), Reason.POLICY_UNDEFINED),
    "a number for an answer": (body(b"1"), Reason.POLICY_FAILED),
    "malformed JSON": (body(b'{"result":'), Reason.POLICY_FAILED),
    "JSON too deep": (body(b'{"result":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), Reason.POLICY_FAILED),
    "no UTF-8": (body(b'{"result":"\xff"}'), Reason.POLICY_FAILED),
    "HTML": (body(b"<p>", **{"Content-Type": "text/html"}), Reason.POLICY_FAILED),
    "compressed": (body(gzip.compress(b"{}"), **{"Content-Encoding": "gzip"}), Reason.POLICY_FAILED),
    "huge": (pour, Reason.POLICY_FAILED),
    "stale": (say_stale, Reason.POLICY_STALE),
    "redirect": (redirect, Reason.POLICY_FAILED),
    "evaluation failed": (body(b'{"code":"internal_error"}', 500), Reason.POLICY_FAILED),
    "bad request": (body(b"{}", 400), Reason.POLICY_FAILED),
    "unauthorised": (body(b"{}", 401), Reason.POLICY_UNAVAILABLE),
    "overloaded": (body(b"{}", 503), Reason.POLICY_UNAVAILABLE),
}


async def test_the_server_decides_like_the_embedded_engine(opa, embedded, allowed_input, denied_input):
    for policy_input in (allowed_input, denied_input):
        expected = await embedded.decide(policy_input)
        decision = await opa.decide(policy_input)
        assert decision == msgspec.structs.replace(expected, engine="opa 1.20.2")
    assert (await opa.decide(allowed_input)).allow


@pytest.mark.timed
@pytest.mark.parametrize("name", FAULTS)
async def test_a_faulty_server_denies_with_its_reason_within_a_second(
    name, opa, opa_simulator, allowed_input
):
    fault, reason = FAULTS[name]
    opa_simulator.fault = lambda request: fault(opa_simulator, request)
    begun = time.monotonic()
    with pytest.raises(PolicyError) as caught:
        await opa.decide(allowed_input)
    assert time.monotonic() - begun < 1.0
    assert caught.value.reason is reason
    opa_simulator.fault = None
    assert (await opa.decide(allowed_input)).allow, (
        "the control: a server in health is believed again at once"
    )


@pytest.mark.timed
async def test_a_server_that_is_down_denies_within_a_second(bundle, opa_simulator, allowed_input):
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        engine = OpaEngine(bundle, f"http://127.0.0.1:{reserved.getsockname()[1]}")
        begun = time.monotonic()
        with pytest.raises(PolicyError) as caught:
            await engine.start()
    assert time.monotonic() - begun < 1.0
    assert caught.value.reason is Reason.POLICY_UNAVAILABLE


async def test_one_failure_is_asked_once_and_not_again(opa, opa_simulator, allowed_input):
    opa_simulator.fault = lambda request: FAULTS["evaluation failed"][0](opa_simulator, request)
    opa_simulator.requests.clear()
    with pytest.raises(PolicyError):
        await opa.decide(allowed_input)
    assert len(opa_simulator.requests) == 1


async def test_a_huge_answer_is_cut_off_unread(opa, opa_simulator, allowed_input):
    opa_simulator.fault = lambda request: pour(opa_simulator, request)
    with pytest.raises(PolicyError):
        await opa.decide(allowed_input)
    await asyncio.wait_for(opa_simulator.released.wait(), 5)
    assert MAX_ANSWER_BYTES < 4096 * 65536


async def test_every_question_demands_strict_builtin_errors(opa, opa_simulator, allowed_input):
    await opa.decide(allowed_input)
    assert opa_simulator.requests
    assert all(request.query["strict-builtin-errors"] == "true" for request in opa_simulator.requests)


async def test_proxies_of_the_environment_are_ignored(opa_simulator, bundle, allowed_input, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    engine = OpaEngine(bundle, opa_simulator.url)
    await engine.start()
    assert (await engine.decide(allowed_input)).allow
    await engine.close()


async def test_the_token_is_sent_and_never_shown(opa_simulator, bundle, tmp_path: Path):
    (tmp_path / "token").write_text("sesame\n")
    engine = OpaEngine(bundle, opa_simulator.url, token_file=tmp_path / "token")
    await engine.start()
    await engine.close()
    assert {request.headers["Authorization"] for request in opa_simulator.requests} == {"Bearer sesame"}


@pytest.mark.parametrize("content", [b"", b"two words", b"line\nline", b"\xff"])
async def test_a_token_file_without_one_token_is_refused(content, bundle, tmp_path: Path):
    (tmp_path / "token").write_bytes(content)
    with pytest.raises(ConfigError):
        await OpaEngine(bundle, "http://127.0.0.1:1", token_file=tmp_path / "token").start()


async def test_a_server_with_another_bundle_is_refused_at_the_start(bundle, opa_simulator):
    opa_simulator.fault = lambda request: body(b'{"result":"sha256:other"}')(opa_simulator, request)
    with pytest.raises(PolicyError) as caught:
        await OpaEngine(bundle, opa_simulator.url).start()
    assert caught.value.reason is Reason.POLICY_STALE


async def test_a_server_that_gives_rego_another_meaning_is_refused_at_the_start(bundle, opa_simulator):
    async def differ(request):
        if request.path.endswith("/answers"):
            opa_simulator.fault = None
            answer = await opa_simulator.answer(request)
            opa_simulator.fault = differ
            content = msgspec.json.decode(answer.body)
            content["result"]["negated_undefined"] = []
            return web.json_response(content)
        opa_simulator.fault = None
        try:
            return await opa_simulator.answer(request)
        finally:
            opa_simulator.fault = differ

    opa_simulator.fault = differ
    with pytest.raises(PolicyError) as caught:
        await OpaEngine(bundle, opa_simulator.url).start()
    assert caught.value.details["differing"] == "negated_undefined"


async def test_an_engine_not_started_or_closed_denies(bundle, opa, allowed_input):
    with pytest.raises(PolicyError) as caught:
        await OpaEngine(bundle, "http://127.0.0.1:1").decide(allowed_input)
    assert caught.value.reason is Reason.POLICY_UNAVAILABLE
    await opa.close()
    with pytest.raises(PolicyError):
        await opa.decide(allowed_input)


@pytest.mark.parametrize(
    "url",
    ["http://opa.example.org:8181", "ftp://127.0.0.1", "127.0.0.1:8181", "http://user:word@127.0.0.1", "https://",
     "http://127.0.0.1/v0", "http://127.0.0.1:99999"],
)  # fmt: skip
def test_a_url_that_cannot_be_trusted_is_refused(url, bundle):
    with pytest.raises(ConfigError):
        OpaEngine(bundle, url)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8181", "http://[::1]:8181", "http://localhost", "https://opa.example.org"]
)
def test_loopback_or_https_is_accepted(url, bundle):
    OpaEngine(bundle, url)


def self_signed(directory: Path) -> Path:
    """A key and a certificate for 127.0.0.1, signed by itself, in one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "opa")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(minutes=5))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = directory / "opa.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path


async def test_a_server_is_asked_over_tls_and_only_under_its_authority(
    bundle, opa_simulator, allowed_input, tmp_path
):
    pem = self_signed(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem)
    application = web.Application()
    application.router.add_post("/{path:.*}", opa_simulator.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    url = f"https://127.0.0.1:{runner.addresses[0][1]}"
    engine = OpaEngine(bundle, url, timeout_s=0.6, ca_file=pem)
    await engine.start()
    assert (await engine.decide(allowed_input)).allow
    await engine.close()
    with pytest.raises(PolicyError) as caught:
        await OpaEngine(bundle, url).start()
    assert caught.value.reason is Reason.POLICY_UNAVAILABLE
    await runner.cleanup()


async def test_an_authority_file_that_cannot_be_read_is_refused(bundle, tmp_path):
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(ConfigError):
        await OpaEngine(bundle, "https://127.0.0.1:1", ca_file=tmp_path / "ca.pem").start()


@pytest.mark.parametrize("timeout_s", [0, -1, 1.5])
def test_a_time_out_beyond_a_second_is_refused(timeout_s, bundle):
    with pytest.raises(ConfigError):
        OpaEngine(bundle, "http://127.0.0.1:8181", timeout_s=timeout_s)
