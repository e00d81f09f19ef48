"""The bundle file of `gateway policy build` in a real OPA server, verified by OPA's own signature."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.evidence.keys import SigningKey
from gateway.policy import PolicyError
from gateway.policy.bundle_file import _read_archive, _write_archive, file_digest, pack_bundle, unpack_bundle
from gateway.policy.golden import run_cases
from gateway.policy.opa import OpaEngine
from gateway.policy.opa_signature import ALGORITHM
from tests.policies.conftest import POLICIES, START_LIMIT_S, wait_until_listening

pytestmark = pytest.mark.opa


@pytest.fixture(scope="module")
def key() -> SigningKey:
    return SigningKey.generate()


def command(binary: str, file: Path, key: SigningKey, port: int) -> list[str]:
    public = file.with_suffix(".pem")
    public.write_bytes(key.verify_key.to_pem())
    return [
        binary,
        "run",
        "--server",
        "--skip-version-check",
        "--log-level=error",
        f"--addr=127.0.0.1:{port}",
        f"--verification-key={public}",
        f"--verification-key-id={key.key_id}",
        f"--signing-alg={ALGORITHM}",
        "--bundle",
        str(file),
    ]


def free_port() -> int:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        return int(reserved.getsockname()[1])


@contextmanager
def serving(binary: str, file: Path, key: SigningKey) -> Iterator[str]:
    port = free_port()
    with subprocess.Popen(command(binary, file, key, port)) as server:
        try:
            wait_until_listening(server, port)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


async def test_opa_verifies_the_file_and_decides_by_it(opa_binary, tmp_path, key):
    packed = unpack_bundle(pack_bundle(POLICIES, key))
    file = tmp_path / "policy.tar.gz"
    file.write_bytes(packed.content)
    with serving(opa_binary, file, key) as url:
        engine = OpaEngine(packed.bundle, url, timeout_s=1.0)
        await engine.start()
        try:
            assert await run_cases(engine, packed.cases[::5]) == ()
        finally:
            await engine.close()


@pytest.mark.parametrize("attack", ["another key", "altered file", "no signature"])
def test_opa_refuses_what_was_not_signed(attack, opa_binary, tmp_path, key):
    files = _read_archive(pack_bundle(POLICIES, key))
    if attack == "altered file":
        files["data.json"] = files["data.json"].replace(b"limited", b"public")
    if attack == "no signature":
        del files[".signatures.json"]
    file = tmp_path / "policy.tar.gz"
    file.write_bytes(_write_archive(files))
    trusted = SigningKey.generate() if attack == "another key" else key
    refused = subprocess.run(
        command(opa_binary, file, trusted, free_port()),
        capture_output=True,
        timeout=START_LIMIT_S,
        check=False,
    )
    assert refused.returncode != 0
    assert file.name.encode() in refused.stdout, "for the file, and not for the command line"


async def test_a_sidecar_with_another_revision_is_noticed(opa_binary, tmp_path, key, bundle):
    """The gateway has gone on to another bundle; the sidecar has not."""
    file = tmp_path / "policy.tar.gz"
    file.write_bytes(pack_bundle(POLICIES, key))
    newer = replace(bundle, digest=file_digest(b"other"))
    with serving(opa_binary, file, key) as url:
        with pytest.raises(PolicyError, match="another policy bundle"):
            await OpaEngine(newer, url).start()
        engine = OpaEngine(bundle, url)
        await engine.start()
        await engine.close()
