import io
import json
import shutil
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import grpc
import grpc.aio
import pytest
from cryptography import x509

from gateway.clock import FixedClock, system_clock
from gateway.errors import ConfigError
from gateway.pki.authority import BOTH_USAGES, Usage
from gateway.pki.certificates import key_fingerprint, parse_peer_certificate
from gateway.pki.reload import ReloadingCredentials, TlsIdentity, channel_credentials
from gateway.telemetry.logs import configure_logging

URI = "https://gateway.example/members/bank"
METHOD = "/test.Echo/Caller"


@pytest.fixture
def log_lines():
    stream = io.StringIO()
    configure_logging(stream)
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.fixture
def client_files(authority, save):
    return save(authority.issue("bank", uri=URI, valid_days=30), "client")


async def answer_with_the_callers_certificate(_, context):
    return context.auth_context()["x509_pem_cert"][0]


@pytest.fixture
async def serve():
    servers = []

    async def start(credentials):
        server = grpc.aio.server()
        handler = grpc.unary_unary_rpc_method_handler(answer_with_the_callers_certificate)
        server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler("test.Echo", {"Caller": handler})]
        )
        port = server.add_secure_port("127.0.0.1:0", credentials.server_credentials())
        await server.start()
        servers.append(server)
        return port

    yield start
    for server in servers:
        await server.stop(0)


async def call(port, credentials):
    async with grpc.aio.secure_channel(f"localhost:{port}", credentials) as channel:
        return await channel.unary_unary(METHOD)(b"", timeout=5)


def served_serial(port, client_files):
    """The serial number of the certificate that a new connection is shown."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(*client_files)
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
        context.wrap_socket(plain) as secured,
    ):
        return x509.load_der_x509_certificate(secured.getpeercert(binary_form=True)).serial_number


async def new_connection(port, client_files):
    import asyncio

    return await asyncio.get_running_loop().run_in_executor(None, served_serial, port, client_files)


def serial(cert_path):
    return x509.load_pem_x509_certificate(cert_path.read_bytes()).serial_number


async def test_a_member_with_its_certificate_is_let_in(serve, server_files, client_files):
    port = await serve(ReloadingCredentials(*server_files))
    shown = await call(port, channel_credentials(server_files[2], *client_files))
    assert parse_peer_certificate(shown).uri == URI


@pytest.mark.parametrize("fault", ["none", "foreign", "expired", "future", "server only"])
async def test_a_caller_without_a_good_certificate_is_kept_out(
    serve, server_files, save, issue_at, authority, other_authority, fault
):
    port = await serve(ReloadingCredentials(*server_files))
    now, wanted = system_clock(), {"uri": URI, "valid_days": 1}
    if fault == "none":
        credentials = grpc.ssl_channel_credentials(authority.certificate_pem)
    else:
        issued = {
            "foreign": lambda: other_authority.issue("bank", **wanted),
            "expired": lambda: issue_at(now - timedelta(days=2), "bank", **wanted),
            "future": lambda: issue_at(now + timedelta(days=2), "bank", **wanted),
            "server only": lambda: authority.issue("bank", **wanted, usages=frozenset({Usage.SERVER})),
        }[fault]()
        credentials = channel_credentials(server_files[2], *save(issued, "client"))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call(port, credentials)
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE


async def test_a_renewed_certificate_serves_the_next_connection(
    serve, server_files, client_files, save, new_server, log_lines
):
    port = await serve(ReloadingCredentials(*server_files))
    before = await new_connection(port, client_files)
    assert before == serial(server_files[0])
    save(new_server())
    after = await new_connection(port, client_files)
    assert after == serial(server_files[0]) != before
    (line,) = log_lines()
    assert (line["event"], line["level"]) == ("certificate.reloaded", "info")
    assert 29 < line["certificate_days"] <= 30


async def test_a_standing_connection_outlives_the_renewal(
    serve, server_files, client_files, save, new_server
):
    port = await serve(ReloadingCredentials(*server_files))
    credentials = channel_credentials(server_files[2], *client_files)
    async with grpc.aio.secure_channel(f"localhost:{port}", credentials) as channel:
        ask = channel.unary_unary(METHOD)
        await ask(b"", timeout=5)
        save(new_server())
        assert parse_peer_certificate(await ask(b"", timeout=5)).uri == URI


async def test_an_authority_taken_away_keeps_its_clients_out(
    serve, server_files, client_files, other_authority
):
    port = await serve(ReloadingCredentials(*server_files))
    credentials = channel_credentials(server_files[2], *client_files)
    await call(port, credentials)
    server_files[2].write_bytes(other_authority.certificate_pem)
    with pytest.raises(grpc.aio.AioRpcError):
        await call(port, credentials)


async def test_half_a_renewal_leaves_the_old_pair_in_use(
    serve, server_files, client_files, save, new_server, tmp_path, log_lines
):
    port = await serve(ReloadingCredentials(*server_files))
    before = serial(server_files[0])
    renewed = new_server()
    server_files[0].write_bytes(renewed.cert_pem)
    assert await new_connection(port, client_files) == before
    assert await new_connection(port, client_files) == before
    (line,) = log_lines()
    assert (line["event"], line["level"], line["reason"]) == ("certificate.refused", "error", "INTERNAL")
    assert "does not belong" in line["message"]
    save(renewed)
    assert await new_connection(port, client_files) == serial(server_files[0]) != before


def broken_cert(cert, key, trusted, other):
    cert.write_bytes(b"nothing")


def broken_key(cert, key, trusted, other):
    key.write_bytes(b"nothing")


def open_key(cert, key, trusted, other):
    key.write_bytes(key.read_bytes() + b"\n")
    key.chmod(0o644)


def missing_key(cert, key, trusted, other):
    key.unlink()


def broken_authorities(cert, key, trusted, other):
    trusted.write_bytes(b"nothing")


def expired_pair(cert, key, trusted, other):
    shutil.copy(other[0], cert)
    key.write_bytes(other[1].read_bytes())


FAULTS = [broken_cert, broken_key, open_key, missing_key, broken_authorities, expired_pair]


@pytest.mark.parametrize("fault", FAULTS)
def test_files_that_cannot_serve_are_refused_once_and_the_old_stay(
    server_files, fault, log_lines, save, issue_at, new_server, authority
):
    credentials = ReloadingCredentials(*server_files)
    days = credentials.days_left()
    expired = save(
        issue_at(system_clock() - timedelta(days=9), "x", dns=["localhost"], valid_days=1), "expired"
    )
    fault(*server_files, expired)
    assert credentials.fetch() is None
    assert credentials.fetch() is None
    assert [line["event"] for line in log_lines()] == ["certificate.refused"]
    assert credentials.days_left() == pytest.approx(days, abs=0.01)
    server_files[2].write_bytes(authority.certificate_pem)
    save(new_server())
    assert credentials.fetch() is not None
    assert log_lines()[-1]["event"] == "certificate.reloaded"


@pytest.mark.parametrize("fault", FAULTS)
def test_with_such_files_nothing_starts(server_files, fault, save, issue_at):
    expired = save(
        issue_at(system_clock() - timedelta(days=9), "x", dns=["localhost"], valid_days=1), "expired"
    )
    fault(*server_files, expired)
    with pytest.raises(ConfigError):
        ReloadingCredentials(*server_files)


def test_unchanged_files_are_not_read_again(server_files, monkeypatch):
    credentials = ReloadingCredentials(*server_files)
    monkeypatch.setattr(TlsIdentity, "read", None)
    assert credentials.fetch() is None


def test_of_many_handshakes_at_once_one_reads(server_files, save, new_server, log_lines):
    credentials = ReloadingCredentials(*server_files)
    save(new_server())
    with ThreadPoolExecutor(8) as pool:
        fetched = list(pool.map(lambda _: credentials.fetch(), range(64)))
    assert len([configuration for configuration in fetched if configuration is not None]) == 1
    assert len(log_lines()) == 1


def test_days_left_follow_the_clock(server_files):
    clock = FixedClock(system_clock())
    credentials = ReloadingCredentials(*server_files, clock=clock)
    clock.advance(timedelta(days=40))
    assert -11 < credentials.days_left() < -9


def test_the_key_in_use_has_a_fingerprint(server_files, save, new_server):
    credentials = ReloadingCredentials(*server_files)
    before = credentials.key_fingerprint()
    assert before == key_fingerprint(x509.load_pem_x509_certificate(server_files[0].read_bytes()))
    save(new_server())
    credentials.fetch()
    assert credentials.key_fingerprint() != before


def test_the_key_is_never_shown(server_files):
    identity = TlsIdentity.read(*server_files, demo=False, clock=system_clock)
    assert "PRIVATE" not in repr(identity)


def test_channel_credentials_want_a_pair_that_fits(server_files, client_files, authority, save):
    other_cert, _ = save(authority.issue("x", uri=URI, valid_days=1, usages=BOTH_USAGES), "other")
    with pytest.raises(ConfigError, match="does not belong"):
        channel_credentials(server_files[2], other_cert, client_files[1])
    client_files[1].chmod(0o604)
    with pytest.raises(ConfigError, match="chmod 600"):
        channel_credentials(server_files[2], *client_files)
    with pytest.raises(ConfigError, match="cannot be read"):
        channel_credentials(server_files[2].with_name("absent.pem"), *client_files)
