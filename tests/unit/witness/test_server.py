"""The witness over HTTP, with real connections on the loopback address."""

import asyncio
import ssl
from contextlib import suppress

import aiohttp
import pytest

from gateway.audit.note import Ed25519Signer, sign_note
from gateway.errors import ConfigError
from gateway.pki.authority import CertificateAuthority
from gateway.witness.server import WitnessServer, make_app, server_tls
from gateway.witness.submission import MAX_SUBMISSION_BYTES, Submission, checkpoint_path

ORIGIN = "audit.example.org/log/2026"


@pytest.fixture
async def url(witness):
    server = WitnessServer(make_app(witness, body_timeout_s=0.3), "127.0.0.1:0")
    await server.start()
    yield f"http://127.0.0.1:{server.port}"
    await server.stop()


@pytest.fixture
async def session():
    async with aiohttp.ClientSession() as session:
        yield session


async def post(session, url, body):
    async with session.post(f"{url}/add-checkpoint", data=body) as response:
        return response.status, response.headers.get("Content-Type", ""), await response.text()


async def test_each_refusal_has_the_status_of_the_specification(url, session, log):
    log.grow(9)
    stranger = Ed25519Signer.from_seed(ORIGIN, bytes(32))
    text = log.checkpoint().partition("\n\n")[0] + "\n"
    unknown = sign_note(text.replace("2026", "2027"), [log.signer])
    assert (await post(session, url, log.submission(0).to_bytes()))[0] == 200
    log.grow(9)
    expected = {
        400: [b"", b"old 18\n", Submission.of(99, (), log.checkpoint()).to_bytes()],
        403: [Submission.of(9, log.proof(9, 18), sign_note(text, [stranger])).to_bytes()],
        404: [Submission.of(9, (), unknown).to_bytes()],
        409: [log.submission(0).to_bytes(), log.submission(18).to_bytes()],
        413: [b"old 0\n" + b"x" * MAX_SUBMISSION_BYTES],
        422: [Submission.of(9, (), log.checkpoint()).to_bytes(), log.fork(5, 20).submission(9).to_bytes()],
    }
    for status, bodies in expected.items():
        for body in bodies:
            got = await post(session, url, body)
            assert got[0] == status, (status, got)
            if status == 409:
                assert got[1:] == ("text/x.tlog.size", "9\n")
    assert (await post(session, url, log.submission(9).to_bytes()))[0] == 200  # and none of it did any harm


async def test_other_methods_and_paths_are_refused(url, session):
    async with session.get(f"{url}/add-checkpoint") as response:
        assert response.status == 405
    for path in ("", "nothing", "x/checkpoint", "0" * 64 + "/checkpoint", "../etc/checkpoint"):
        async with session.get(f"{url}/{path}") as response:
            assert response.status == 404, path


async def test_monitors_get_the_latest_checkpoint(url, session, log):
    _, _, lines = await post(session, url, log.grow(9).submission(0).to_bytes())
    async with session.get(f"{url}/{checkpoint_path(ORIGIN)}") as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert await response.text() == log.checkpoint() + lines


async def test_a_body_that_never_ends_is_given_up(url):
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /add-checkpoint HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nold 0")
    assert (await reader.readline()).startswith(b"HTTP/1.1 408")
    writer.close()
    await writer.wait_closed()


async def test_an_endless_body_without_a_length_is_cut(url, session):
    sent = 0

    async def endless():
        nonlocal sent
        for _ in range(1000):
            sent += 1
            yield b"x" * 10_000

    # The server may close the connection before the client has noticed that it answered.
    with suppress(aiohttp.ClientError):
        async with session.post(f"{url}/add-checkpoint", data=endless()) as response:
            assert response.status == 413
    assert sent < 1000


async def test_many_submissions_at_once_leave_one_history(url, session, log, state):
    log.grow(40)
    bodies = [log.submission(0, size).to_bytes() for size in range(1, 41)]
    answers = await asyncio.gather(*(post(session, url, body) for body in bodies))
    won = [size for size, answer in enumerate(answers, start=1) if answer[0] == 200]
    assert len(won) == 1
    assert all(answer[0] in {200, 409} for answer in answers)
    assert state.latest(ORIGIN).head.size == won[0]


async def test_a_state_that_cannot_be_written_is_a_503(url, session, log, state):
    await post(session, url, log.grow(9).submission(0).to_bytes())
    state._connection.execute("PRAGMA query_only = ON")
    status, _, text = await post(session, url, log.grow(9).submission(9).to_bytes())
    assert status == 503
    assert "—" not in text


async def test_tls_is_1_3_with_the_certificate_given(witness, log, tmp_path):
    authority = CertificateAuthority.create("An authority", 1)
    certificate, key, ca = tmp_path / "tls.pem", tmp_path / "tls.key", tmp_path / "ca.pem"
    authority.issue("witness", ips=["127.0.0.1"], valid_days=1).save(certificate, key)
    ca.write_bytes(authority.certificate_pem)
    server = WitnessServer(make_app(witness), "127.0.0.1:0", tls=server_tls(certificate, key))
    await server.start()
    trusting = ssl.create_default_context(cafile=ca)
    old = ssl.create_default_context(cafile=ca)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    body = log.grow(3).submission(0).to_bytes()
    url = f"https://127.0.0.1:{server.port}/add-checkpoint"
    async with aiohttp.ClientSession() as session:
        async with session.post(url, data=body, ssl=trusting) as response:
            assert response.status == 200
        for refused in (ssl.create_default_context(), old):
            with pytest.raises(aiohttp.ClientError):
                async with session.post(url, data=body, ssl=refused):
                    pass
    await server.stop()


def test_a_certificate_that_is_none_is_refused(tmp_path):
    (tmp_path / "x").write_text("nothing")
    with pytest.raises(ConfigError, match="belong together"):
        server_tls(tmp_path / "x", tmp_path / "x")


async def test_an_address_that_is_taken_is_refused(url, witness):
    with pytest.raises(ConfigError, match="cannot listen"):
        await WitnessServer(make_app(witness), url.removeprefix("http://")).start()
