"""Against real servers in processes of their own: grpc reads the suites once, when it is imported."""

import os
import subprocess
import sys

import pytest

from gateway.errors import ConfigError
from gateway.pki.tls13 import CIPHER_SUITES_VARIABLE, UNUSABLE_SUITE, require_tls13, verify_only_tls13

SERVER = """
import asyncio, sys
from pathlib import Path
from gateway.pki.tls13 import require_tls13

if sys.argv[1] == "required":
    require_tls13()

import grpc, grpc.aio
from gateway.pki.reload import ReloadingCredentials, channel_credentials

cert, key, trusted, client_cert, client_key = map(Path, sys.argv[2:])

async def version(request, context):
    return b",".join(context.auth_context()["ssl_tls_version"])

async def main():
    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(version)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Tls", {"Version": handler})])
    credentials = ReloadingCredentials(cert, key, trusted).server_credentials()
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    credentials = channel_credentials(trusted, client_cert, client_key)
    async with grpc.aio.secure_channel(f"localhost:{port}", credentials) as channel:
        print(port, (await channel.unary_unary("/test.Tls/Version")(b"", timeout=10)).decode(), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.stop(0)

asyncio.run(main())
"""


def environment():
    return {name: value for name, value in os.environ.items() if name != CIPHER_SUITES_VARIABLE}


def run_python(source):
    return subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=False, env=environment()
    )


@pytest.fixture
def client(authority, save):
    return save(authority.issue("bank", uri="https://gateway.example/members/bank", valid_days=1), "client")


@pytest.fixture
def start(server_files, client):
    """Starts a server with TLS 1.3 `required` or not; returns its port and the version of a gRPC call."""
    started = []

    def run(mode):
        process = subprocess.Popen(
            [sys.executable, "-c", SERVER, mode, *map(str, (*server_files, *client))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        started.append(process)
        port, version = process.stdout.readline().split()
        return int(port), version

    yield run
    for process in started:
        process.communicate("", timeout=20)
        assert process.returncode == 0


@pytest.fixture
def handshake(server_files, client):
    """Which version OpenSSL gets when it is willing to speak only one; empty when there is no handshake."""

    def run(port, option):
        done = subprocess.run(
            [
                *("openssl", "s_client", "-connect", f"127.0.0.1:{port}", option, "-alpn", "h2", "-brief"),
                *("-cert", client[0], "-key", client[1], "-CAfile", server_files[2], "-verify_return_error"),
            ],
            input=b"",
            capture_output=True,
            check=False,
            timeout=30,
        )
        shown = dict(line.split(b": ", 1) for line in done.stderr.splitlines() if b": " in line)
        return shown.get(b"Protocol version", b"").decode() if done.returncode == 0 else ""

    return run


async def test_only_tls_1_3_is_spoken(start, handshake):
    port, version = start("required")
    assert version == "TLSv1.3"
    assert handshake(port, "-tls1_3") == "TLSv1.3"
    assert not handshake(port, "-tls1_2")
    await verify_only_tls13("127.0.0.1", port)


async def test_without_the_requirement_tls_1_2_is_spoken_and_found_out(start, handshake):
    """The control: the refusals above are ours, and the probe sees their absence."""
    port, _ = start("not required")
    assert handshake(port, "-tls1_3") == "TLSv1.3"
    assert handshake(port, "-tls1_2") == "TLSv1.2"
    with pytest.raises(ConfigError, match="would speak"):
        await verify_only_tls13("127.0.0.1", port)


async def test_a_server_that_does_not_answer_is_not_taken_for_a_safe_one(unused_tcp_port):
    with pytest.raises(ConfigError, match="does not answer"):
        await verify_only_tls13("127.0.0.1", unused_tcp_port)


def test_requiring_it_after_grpc_is_loaded_is_refused():
    late = "import grpc\nfrom gateway.pki.tls13 import require_tls13\nrequire_tls13()"
    assert "gRPC was loaded before" in run_python(late).stderr


def test_requiring_it_twice_is_once():
    twice = (
        "import os\nfrom gateway.pki.tls13 import *\nrequire_tls13()\nimport grpc\nrequire_tls13()\n"
        "assert os.environ[CIPHER_SUITES_VARIABLE] == UNUSABLE_SUITE"
    )
    done = run_python(twice)
    assert done.returncode == 0, done.stderr


def test_the_module_that_requires_it_does_not_load_grpc():
    source = (
        "import sys, gateway.pki.tls13\nassert not [name for name in sys.modules if name.startswith('grpc')]"
    )
    done = run_python(source)
    assert done.returncode == 0, done.stderr


def test_other_suites_in_the_environment_stop_the_start(monkeypatch):
    monkeypatch.setenv(CIPHER_SUITES_VARIABLE, "ECDHE-ECDSA-AES128-GCM-SHA256")
    with pytest.raises(ConfigError, match="unset it"):
        require_tls13()


def test_the_right_suites_in_the_environment_are_enough(monkeypatch):
    monkeypatch.setenv(CIPHER_SUITES_VARIABLE, UNUSABLE_SUITE)
    require_tls13()
