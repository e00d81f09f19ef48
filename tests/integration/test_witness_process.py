"""A gateway and its witness as processes of their own: witnessing, crashes, and a database put back.

The crash cycles are scaled by SLUICEGATE_FAULT_SCALE.
"""

import asyncio
import json
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import aiohttp
import pytest

from gateway.audit.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from gateway.audit.cosignature import cosigner_of
from gateway.audit.note import Ed25519Signer, parse_note
from gateway.audit.prover import TreeHashes
from gateway.audit.tree import Frontier, append, leaf_hash
from gateway.evidence.keys import SigningKey
from gateway.witness.submission import Submission
from tests.simulators.campaign import scaled
from tests.unit.cli.conftest import Commands

CYCLES = scaled(15, 100)
ORIGIN = "audit.example.org/log/2026"
NAME = "witness.example.org/w1"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def spawn(*words):
    return subprocess.Popen(
        [sys.executable, "-c", "from gateway.cli.main import run; run()", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={name: value for name, value in os.environ.items() if not name.startswith("SLUICEGATE_")},
    )


def wait_for(process, event):
    for line in process.stdout:
        found = json.loads(line)
        if found["event"] == event:
            return found
    raise AssertionError(process.stderr.read())


@contextmanager
def running(event, *words) -> Iterator[subprocess.Popen[str]]:
    process = spawn(*words)
    try:
        wait_for(process, event)
        yield process
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
        assert (process.returncode, errors) == (0, "")
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


class Deployment:
    """A gateway and a witness that knows its log, made by the commands."""

    def __init__(self, folder):
        self.witness = folder / "witness" / "witness.toml"
        self.config = folder / "gateway" / "config.toml"
        self.database = folder / "gateway" / "data" / "audit.db"
        port = self.port = free_port()
        made = Commands().json(
            "witness", "init", folder / "witness", "--name", NAME, "--listen", f"127.0.0.1:{port}"
        )
        initialised = Commands()(
            *("init", folder / "gateway", "--origin", ORIGIN, "--listen", "127.0.0.1:0", "--metrics-port", 0)
        )
        assert initialised.exit_code == 0, initialised.output
        [vkey] = json.loads((folder / "gateway" / "trust.json").read_text())["log_keys"]
        assert Commands(self.witness)("witness", "add-log", vkey).exit_code == 0
        url = f"http://127.0.0.1:{port}"
        lines = [f"witness w{at} {key} {url}" for at, key in enumerate(made["vkeys"])]
        names = " ".join(line.split()[1] for line in lines)
        (folder / "gateway" / "witnesses.policy").write_text(
            "\n".join([*lines, f"group all {len(lines)} {names}", "quorum all\n"])
        )

    def ask_witnesses(self):
        settings = '\n[log.witnesses]\npolicy = "witnesses.policy"\ninterval_s = 0.1\nrefresh_s = 1\n'
        self.config.write_text(self.config.read_text() + settings)

    def serving(self):
        return running("gateway.started", "serve", "--config", self.config)

    def witnessing(self):
        return running("witness.started", "witness", "serve", "--config", self.witness)

    def published(self):
        return Commands(self.config).json("audit", "published")

    def size(self):
        connection = sqlite3.connect(self.database)
        (size,) = connection.execute("SELECT size FROM head").fetchone()
        connection.close()
        return size

    def back_up(self):
        copy = self.database.with_name("backup.db")
        source, target = sqlite3.connect(self.database), sqlite3.connect(copy)
        source.backup(target)
        source.close()
        target.close()
        return copy

    def restore(self, copy):
        for leftover in ("", "-wal", "-shm"):
            Path(f"{self.database}{leftover}").unlink(missing_ok=True)
        shutil.copy(copy, self.database)
        self.database.chmod(0o600)


@pytest.fixture
def deployment(tmp_path):
    return Deployment(tmp_path)


def test_a_gateway_has_its_log_witnessed_while_it_runs(deployment):
    deployment.ask_witnesses()
    with deployment.witnessing(), deployment.serving() as gateway:
        assert wait_for(gateway, "log.published")["outcome"] == "witnessed"
    grades = [row["grade"] for row in deployment.published()]
    assert set(grades) == {"witnessed"}
    assert len(grades) >= 2  # before anything was appended, and with the entry of the start
    [row] = Commands(deployment.witness).json("witness", "show")
    assert row["size"] >= 1


def test_a_gateway_serves_without_its_witness_and_says_so(deployment):
    deployment.ask_witnesses()
    with deployment.serving() as gateway:
        assert wait_for(gateway, "log.published")["outcome"] == "published"
    assert {row["grade"] for row in deployment.published()} == {"published"}


def rolled_back(deployment):
    deployment.ask_witnesses()
    with deployment.serving():
        pass
    backup = deployment.back_up()
    with deployment.serving() as gateway:
        while wait_for(gateway, "log.published")["outcome"] != "witnessed":
            continue
    deployment.restore(backup)


def test_a_gateway_refuses_to_start_on_yesterday_s_database(deployment):
    with deployment.witnessing():
        rolled_back(deployment)
        size = deployment.size()
        refused = spawn("serve", "--config", deployment.config)
        _, errors = refused.communicate(timeout=60)
        assert refused.returncode == 3
        assert "rolled back" in errors
        assert "Restore the newest copy" in errors
        assert deployment.size() == size  # nothing was appended to it


def test_without_witnesses_yesterday_s_database_is_taken_for_today_s(deployment):
    with deployment.witnessing():
        rolled_back(deployment)
        size = deployment.size()
        text = deployment.config.read_text()
        deployment.config.write_text(text.partition("\n[log.witnesses]")[0])
        with deployment.serving():
            assert deployment.size() > size  # it goes on from there, none the wiser


class Forger:
    """Somebody with the log's key, who shows the witness another continuation of the log."""

    def __init__(self, deployment):
        signing_key = SigningKey.load(deployment.config.parent / "keys" / "log.key")
        self.signer = Ed25519Signer(ORIGIN, signing_key)
        with closing(sqlite3.connect(deployment.database)) as connection:
            self.rows = [row for (row,) in connection.execute("SELECT hash FROM entry ORDER BY idx")]
        self.known = len(self.rows)
        self.rows.append(leaf_hash(b"what never happened"))

    def tile(self, level, number, width):
        assert (level, number) == (0, 0)
        return b"".join(self.rows[:width])

    def submission(self):
        size = len(self.rows)
        checkpoint = Checkpoint(ORIGIN, size, append(Frontier(), self.rows).root)
        proof = TreeHashes(self, size).consistency_proof(self.known)
        return Submission.of(self.known, proof, sign_checkpoint(checkpoint, self.signer)).to_bytes()


async def _submit_once(url, body):
    async with aiohttp.ClientSession() as session, session.post(url, data=body) as answer:
        return answer.status


def test_a_running_gateway_ends_when_its_witness_has_seen_another_history(deployment):
    deployment.ask_witnesses()
    with deployment.witnessing():
        gateway = spawn("serve", "--config", deployment.config)
        try:
            while (found := wait_for(gateway, "log.published"))["log_entries"] < 1 or (
                # A start goes on appending: what the witness has seen must be all there is.
                found["log_entries"] != (forger := Forger(deployment)).known
            ):
                continue
            assert found["outcome"] == "witnessed"
            url = f"http://127.0.0.1:{deployment.port}/add-checkpoint"
            assert asyncio.run(_submit_once(url, forger.submission())) == 200
            # The control: as long as nothing is appended it agrees with neither; with the witness's next
            # question it must end, by itself and with the code for what does not verify.
            _, errors = gateway.communicate(timeout=60)
        finally:
            gateway.kill()
            gateway.communicate()
        assert gateway.returncode == 3
        assert "error:" in errors


class Branches:
    """One log up to a size, then two histories, both signed with its key."""

    def __init__(self, signer, common=50):
        self.signer = signer
        self.common = common
        self.rows = {
            name: [leaf_hash(f"{'' if at < common else name}{at}".encode()) for at in range(200)]
            for name in ("true", "false")
        }
        self._name = "true"

    def tile(self, level, number, width):
        assert level == 0
        return b"".join(self.rows[self._name][:width])

    def submission(self, name, old, size):
        self._name = name
        root = append(Frontier(), self.rows[name][:size]).root
        note = sign_checkpoint(Checkpoint(ORIGIN, size, root), self.signer)
        return Submission.of(old, TreeHashes(self, size).consistency_proof(old), note).to_bytes()

    def branch_of(self, body):
        """Which branch a submission was for; none below the common size."""
        checkpoint = open_checkpoint(Submission.parse(body).note, [self.signer.verifier])
        if checkpoint.size <= self.common:
            return None
        for name, row in self.rows.items():
            if append(Frontier(), row[: checkpoint.size]).root == checkpoint.root:
                return name
        raise AssertionError("a checkpoint of no branch")


class WitnessProcess:
    """A witness that is killed and started again, and what came back from it."""

    def __init__(self, folder, branches):
        self.folder = folder
        self.config = folder / "witness.toml"
        self.state = folder / "data" / "witness.db"
        self.port = free_port()
        self.branches = branches
        made = Commands().json(
            "witness", "init", folder, "--name", NAME, "--listen", f"127.0.0.1:{self.port}"
        )
        self.verifier = cosigner_of(made["vkeys"][0])
        vkey = branches.signer.verifier.vkey()
        assert Commands(self.config)("witness", "add-log", vkey).exit_code == 0
        self.cosigned = set()
        self.answers = 0

    async def press(self, chance, killed_after_s):
        """Submit both branches at once, from whatever size it names, until it is killed."""
        process = await asyncio.to_thread(self._start)
        loop = asyncio.get_running_loop()
        loop.call_later(killed_after_s, process.kill)
        async with aiohttp.ClientSession() as session:
            await asyncio.gather(
                *(self._submit(session, name, process, chance) for name in ("true", "false") * 2)
            )
        await asyncio.to_thread(process.communicate)

    def _start(self):
        process = spawn("witness", "serve", "--config", self.config)
        wait_for(process, "witness.started")
        return process

    async def _submit(self, session, name, process, chance):
        known = 0
        while process.poll() is None:
            size = min(known + chance.randrange(1, 9), 200)
            body = self.branches.submission(name, min(known, size), size)
            try:
                async with session.post(
                    f"http://127.0.0.1:{self.port}/add-checkpoint", data=body
                ) as response:
                    text = await response.text()
            except aiohttp.ClientError:
                continue
            self.answers += 1
            if response.status == 200:
                line = parse_note("x\n\n" + text).signatures[0]
                self.verifier.verify(parse_note(Submission.parse(body).note).text, line.signature)
                self.cosigned.add(self.branches.branch_of(body))
                known = size
            elif response.status == 409:
                known = int(text)
            elif response.status == 422:
                known = 0
            if known >= 200:
                return


@pytest.fixture
def killed_witness(tmp_path):
    branches = Branches(Ed25519Signer.from_seed(ORIGIN, bytes(range(32))))
    return WitnessProcess(tmp_path / "witness", branches)


@pytest.mark.timeout(900)
async def test_a_witness_that_is_killed_again_and_again_never_cosigns_both_branches(killed_witness):
    chance = random.Random(7)
    for _ in range(CYCLES):
        await killed_witness.press(chance, chance.uniform(0.02, 0.25))
    assert killed_witness.answers > CYCLES
    assert killed_witness.cosigned - {None} in ({"true"}, {"false"}, set())
    await killed_witness.press(chance, 2.0)  # it serves again unaided
    assert len(killed_witness.cosigned - {None}) == 1


async def test_a_witness_that_forgets_cosigns_both_branches(killed_witness):
    """The control: with its memory put back, the same pressure makes it cosign a fork."""
    chance = random.Random(8)
    before = killed_witness.state.read_bytes()
    for _ in range(20):
        for leftover in killed_witness.state.parent.iterdir():
            leftover.unlink()
        killed_witness.state.write_bytes(before)
        killed_witness.state.chmod(0o600)
        killed_witness.branches.rows = dict(reversed(killed_witness.branches.rows.items()))
        await killed_witness.press(chance, 1.0)
        if {"true", "false"} <= killed_witness.cosigned:
            return
    pytest.fail("the pressure is too weak to show anything")
