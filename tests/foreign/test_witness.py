"""A real witness, litewitness, cosigns our checkpoints, and refuses what no honest log would show it.

It is spoken to as c2sp.org/tlog-witness says, by a client that stands in this file.
"""

import asyncio
import base64
import hashlib
import http.client
import socket
import sqlite3
import subprocess
from contextlib import closing

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gateway.audit.checkpoint import Checkpoint, parse_checkpoint, sign_checkpoint
from gateway.audit.note import key_id_of, parse_note
from gateway.audit.sqlite_reader import SqliteReader
from gateway.audit.tree import EMPTY_ROOT
from gateway.evidence.keys import SignatureError, VerifyKey
from tests.simulators.waiting import until

from .conftest import BATCH, COUNT, ORIGIN

NAME = "witness.example/lite"
COSIGNATURE = 0x04
LIMIT_S = 20


class Witness:
    """A client of one running witness."""

    def __init__(self, port, public):
        self._port = port
        self._key = VerifyKey(public)
        self._key_id = key_id_of(NAME, COSIGNATURE, public)

    def ask(self, old, proof, note):
        """Submit a checkpoint; return the answer's status and text."""
        hashes = "".join(base64.b64encode(item).decode() + "\n" for item in proof)
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=LIMIT_S)
        with closing(connection):
            connection.request("POST", "/add-checkpoint", f"old {old}\n{hashes}\n{note}".encode())
            response = connection.getresponse()
            return response.status, response.read().decode()

    def verify(self, note, cosignature):
        """Raise `SignatureError` unless the line is the witness's cosignature of the note (type 0x04)."""
        (line,) = parse_note(f"{parse_note(note).text}\n{cosignature}").signatures
        assert (line.name, line.key_id) == (NAME, self._key_id)
        time = int.from_bytes(line.signature[:8], "big")
        signed = f"cosignature/v1\ntime {time}\n{parse_note(note).text}"
        self._key.verify(line.signature[8:], signed.encode())


@pytest.fixture
def witness(program, system_program, signer, tmp_path):
    litewitness = program("litewitness")
    agent_program = system_program("ssh-agent", "openssh-client")
    add_program = system_program("ssh-add", "openssh-client")
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes_raw()
    key_file, agent_socket, database = tmp_path / "key", tmp_path / "agent", tmp_path / "witness.db"
    key_file.touch(0o600)
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    started = []

    def start(*command):
        started.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

    try:
        start(agent_program, "-D", "-a", agent_socket)
        asyncio.run(until(agent_socket.exists, within_s=LIMIT_S))
        subprocess.run(
            [add_program, key_file], env={"SSH_AUTH_SOCK": str(agent_socket)}, capture_output=True, check=True
        )
        identity = hashlib.sha256(public).hexdigest()
        start(
            litewitness,
            *("-name", NAME, "-db", database, "-ssh-agent", agent_socket, "-key", identity),
            *("-listen", f"127.0.0.1:{port}"),
        )
        asyncio.run(until(lambda: is_listening(port), within_s=LIMIT_S))
        with closing(sqlite3.connect(database, timeout=LIMIT_S)) as connection, connection:
            empty = base64.b64encode(EMPTY_ROOT).decode()
            connection.execute("INSERT INTO log VALUES (?, 0, ?)", (ORIGIN, empty))
            connection.execute("INSERT INTO key VALUES (?, ?)", (ORIGIN, signer.verifier.vkey()))
        yield Witness(port, public)
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait(LIMIT_S)


def is_listening(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def reader(log):
    with SqliteReader(log) as reader:
        yield reader


def test_a_real_witness_cosigns_our_checkpoints_as_the_log_grows(witness, reader):
    old = 0
    for size in (BATCH, 50 * BATCH, COUNT):
        note = reader.checkpoint_at(size)
        proof = reader.consistency_proof(old, size)
        status, cosignature = witness.ask(old, proof, note)
        assert status == 200, cosignature
        witness.verify(note, cosignature)
        with pytest.raises(SignatureError):
            witness.verify(reader.checkpoint_at(2 * BATCH), cosignature)
        old = size


def test_a_real_witness_refuses_a_fork_signed_with_the_stolen_key(witness, reader, signer):
    seen, grown = 50 * BATCH, COUNT
    assert witness.ask(0, (), reader.checkpoint_at(seen))[0] == 200
    proof = reader.consistency_proof(seen, grown)
    honest = parse_checkpoint(parse_note(reader.checkpoint_at(grown)).text)
    fork = sign_checkpoint(Checkpoint(ORIGIN, grown, hashlib.sha256(b"fork").digest()), signer)
    assert witness.ask(seen, proof, fork)[0] == 422
    assert witness.ask(seen, proof[:-1], reader.checkpoint_at(grown))[0] in {400, 422}
    # The control: the same key, size and proof with the root that is true.
    assert witness.ask(seen, proof, sign_checkpoint(honest, signer))[0] == 200


def test_a_real_witness_refuses_a_log_that_was_rolled_back(witness, reader):
    assert witness.ask(0, (), reader.checkpoint_at(COUNT))[0] == 200
    status, told = witness.ask(0, (), reader.checkpoint_at(50 * BATCH))
    assert (status, told.strip()) == (409, str(COUNT))


def test_a_real_witness_knows_the_log_by_its_key(witness, reader):
    note = reader.checkpoint_at(COUNT)
    assert witness.ask(0, (), note.replace(ORIGIN, "other.example/log"))[0] in {403, 404}
    text, _, signature = note.partition("\n\n")
    spoilt = signature[:-10] + ("A" if signature[-10] != "A" else "B") + signature[-9:]
    assert witness.ask(0, (), f"{text}\n\n{spoilt}")[0] == 403
