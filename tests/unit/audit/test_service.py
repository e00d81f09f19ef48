"""The log process and those who append through it, over a real socket."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import textwrap
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

import pytest

from gateway.audit.appender import Appender, LogHooks
from gateway.audit.checkpoint import open_checkpoint
from gateway.audit.errors import (
    LogMismatchError,
    LogOverloadedError,
    LogUnavailableError,
    OnceTakenError,
)
from gateway.audit.frames import MAX_FRAME_BYTES, Answer, FrameReader, Placed, encode_frame
from gateway.audit.fsck import fsck
from gateway.audit.proof import TlogProof
from gateway.audit.remote import RemoteLog
from gateway.audit.service import LogService
from gateway.audit.sqlite import SqliteStore
from gateway.audit.sqlite_reader import SqliteReader
from gateway.audit.store import Once
from gateway.audit.tree import leaf_hash
from gateway.local_socket import listen_locally
from gateway.model.entry import Entry, EntryKind
from tests.simulators.log_faults import entries_refused
from tests.simulators.waiting import until

from .conftest import NOON, ORIGIN


@asynccontextmanager
async def serving(path, signer, clock, listener):
    appender = Appender(SqliteStore(path), signer, origin=ORIGIN, clock=clock)
    service = LogService(appender)
    await service.start(listener)
    try:
        yield service
    finally:
        await service.stop()
        appender.close()


@asynccontextmanager
async def connected(address, **options):
    log = RemoteLog(address, **{"queue_limit": 100, **options})
    try:
        await log.wait_until_open(10)
        yield log
    finally:
        await log.close()


@pytest.fixture
def local():
    listener, address = listen_locally()
    yield listener, address
    listener.close()


async def test_an_entry_comes_back_with_its_place_and_a_proof_under_a_signed_checkpoint(
    path, signer, clock, local, make_entry
):
    async with serving(path, signer, clock, local[0]), connected(local[1]) as log:
        placed = await asyncio.gather(*(log.append(make_entry(number)) for number in range(40)))
    assert sorted(item.index for item in placed) == list(range(40))
    for item in placed:
        checkpoint = open_checkpoint(item.checkpoint_note, [signer.verifier], origin=ORIGIN)
        assert checkpoint.size == item.size
        proof = TlogProof.from_text(item.tlog_proof())
        proof.verify(item.leaf_hash, [signer.verifier], origin=ORIGIN)
    report = fsck(path, signer.verifier)
    assert (report.entries, report.findings) == (40, ())


async def test_what_arrives_together_is_one_batch_told_to_one_caller(path, signer, clock, local, make_entry):
    batches = []
    hooks = LogHooks(committed=lambda entries, seconds: batches.append(entries))
    async with (
        serving(path, signer, clock, local[0]),
        connected(local[1], hooks=hooks) as one,
        connected(local[1], hooks=hooks) as other,
    ):
        await asyncio.gather(
            *(log.append(make_entry(number)) for number in range(30) for log in (one, other))
        )
    assert sum(batches) == 60
    assert len(batches) < 60


async def test_a_nonce_is_taken_once_across_all_callers(path, signer, clock, local, make_entry):
    once = Once(b"n" * 32, NOON + timedelta(minutes=5))
    async with (
        serving(path, signer, clock, local[0]),
        connected(local[1]) as one,
        connected(local[1]) as other,
    ):
        await one.append(make_entry(1), once)
        with pytest.raises(OnceTakenError):
            await other.append(make_entry(2), once)
        assert (await other.append(make_entry(3))).index == 1


async def test_a_failing_log_is_told_to_all_and_heals_by_itself(path, signer, clock, local, make_entry):
    states = []
    hooks = LogHooks(health_changed=states.append)
    async with (
        serving(path, signer, clock, local[0]),
        connected(local[1]) as one,
        connected(local[1], hooks=hooks) as bystander,
    ):
        await one.append(make_entry(0))
        with entries_refused(path, "exchange.released"):
            with pytest.raises(LogMismatchError):
                await one.append(make_entry(1))
            await until(lambda: not bystander.healthy)
        await until(lambda: one.healthy and bystander.healthy)
        assert states == [False, True]
        assert (await one.append(make_entry(2))).index == 1


async def test_when_the_log_process_goes_away_what_waits_fails_and_what_comes_after_too(
    path, signer, clock, local, make_entry
):
    listener, address = local
    async with connected_later(address) as log:
        async with serving(path, signer, clock, listener.dup()) as service:
            await log.wait_until_open(10)
            await log.append(make_entry(0))
            service._commit = lambda: None  # from now on nothing is answered
            waiting = log.append(make_entry(1))
            await asyncio.sleep(0)
        with pytest.raises(LogUnavailableError, match="went away"):
            await waiting
        assert not log.healthy
        with pytest.raises(LogUnavailableError, match="not there"):
            log.append(make_entry(2))
        async with serving(path, signer, clock, listener.dup()):
            await until(lambda: log.healthy)
            await log.append(make_entry(3))


@asynccontextmanager
async def connected_later(address):
    log = RemoteLog(address, queue_limit=10)
    try:
        yield log
    finally:
        await log.close()


async def test_a_silent_log_counts_as_failing(path, signer, clock, local, make_entry, monkeypatch):
    monkeypatch.setattr("gateway.audit.remote.SILENCE_S", 0.05)
    async with serving(path, signer, clock, local[0]) as service, connected(local[1]) as log:
        commit = service._commit
        service._commit = lambda: None
        waiting = log.append(make_entry(0))
        assert log.healthy
        await until(lambda: not log.healthy)
        commit()
        await waiting
        assert log.healthy


async def test_more_than_may_wait_is_refused_at_once(path, signer, clock, local, make_entry):
    async with serving(path, signer, clock, local[0]), connected(local[1], queue_limit=3) as log:
        waiting = [log.append(make_entry(number)) for number in range(3)]
        assert log.depth == 3
        with pytest.raises(LogOverloadedError):
            log.append(make_entry(3))
        await asyncio.gather(*waiting)
        assert log.depth == 0


async def test_a_caller_that_is_cancelled_leaves_its_entry(path, signer, clock, local, make_entry):
    async with serving(path, signer, clock, local[0]), connected(local[1]) as log:
        log.append(make_entry(0)).cancel()
        assert (await log.append(make_entry(1))).index == 1


async def test_what_is_no_frame_ends_the_connection_and_nothing_else(path, signer, clock, local, make_entry):
    async with serving(path, signer, clock, local[0]), connected(local[1]) as log:
        for noise in (b"\xff" * 64, b"\0\0\0\1\xc1", b"\0\0\0\2\x91\1"):
            with socket.socket(socket.AF_UNIX) as stranger:
                stranger.setblocking(False)
                loop = asyncio.get_running_loop()
                await loop.sock_connect(stranger, local[1])
                await loop.sock_sendall(stranger, noise)
                with suppress(ConnectionResetError):
                    while await loop.sock_recv(stranger, 4096):
                        pass
        await log.append(make_entry(0))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
async def test_another_user_is_turned_away(path, signer, clock, local, make_entry):
    program = textwrap.dedent(
        """
        import os, socket, sys
        os.setuid(65534)
        with socket.socket(socket.AF_UNIX) as channel:
            channel.connect(bytes.fromhex(sys.argv[1]))
            print(len(channel.recv(4096)))
        """
    )
    async with serving(path, signer, clock, local[0]), connected(local[1]) as log:
        stranger = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, local[1].hex(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        answer, errors = await stranger.communicate()
        assert answer.strip() == b"0" or b"ConnectionResetError" in errors
        await log.append(make_entry(0))


async def test_nobody_there_is_said_in_time(local):
    log = RemoteLog(b"\0sluicegate-nobody-listens-here", queue_limit=1)
    with pytest.raises(LogUnavailableError):
        await log.wait_until_open(0.1)
    await log.close()


def test_frames_are_cut_whatever_the_pieces():
    answers = [Answer(True, number, "n" * number, (Placed(1, 2, (b"h",), None),)) for number in range(20)]
    stream = b"".join(map(encode_frame, answers))
    for length in (1, 3, 7, len(stream)):
        reader = FrameReader(Answer)
        pieces = [stream[start : start + length] for start in range(0, len(stream), length)]
        assert [frame for piece in pieces for frame in reader.feed(piece)] == answers


def test_a_frame_without_end_is_refused():
    with pytest.raises(ValueError, match="too long"):
        list(FrameReader(Answer).feed((MAX_FRAME_BYTES + 1).to_bytes(4, "big")))


def test_a_killed_log_process_loses_nothing_it_has_answered(path, signer, tmp_path):
    """SIGKILL in the middle of a stream of appends, again and again: what was answered is there."""
    program = tmp_path / "log.py"
    program.write_text(_LOG_PROGRAM)
    listener, address = listen_locally()
    acknowledged = {}

    async def append_until_it_dies(process):
        async with connected(address) as log:
            number = len(acknowledged)
            try:
                while True:
                    placed = await log.append(_entry(number))
                    assert placed.index not in acknowledged
                    acknowledged[placed.index] = placed.leaf_hash
                    number += 1
                    if number % 15 == 0:
                        process.send_signal(signal.SIGKILL)
            except LogUnavailableError:
                process.wait()

    with listener:
        for _ in range(5):
            with subprocess.Popen(
                [sys.executable, str(program), str(path), str(listener.fileno())],
                pass_fds=[listener.fileno()],
            ) as process:
                asyncio.run(append_until_it_dies(process))
    report = fsck(path, signer.verifier)
    assert report.findings == ()
    assert len(acknowledged) >= 50
    assert report.entries >= len(acknowledged)
    with SqliteReader(path) as reader:
        for index, hashed in acknowledged.items():
            assert leaf_hash(reader.entry(index).data) == hashed


def _entry(number):
    return Entry(v=1, kind=EntryKind.EXCHANGE_RELEASED, time="2026-03-01T12:00:00.000000Z", records=number)


_LOG_PROGRAM = """
import asyncio, socket, sys
from pathlib import Path
from gateway.audit.appender import Appender
from gateway.audit.note import Ed25519Signer
from gateway.audit.service import LogService
from gateway.audit.sqlite import SqliteStore

ORIGIN = "audit.example.org/log/2026"

async def main():
    signer = Ed25519Signer.from_seed(ORIGIN, bytes(range(32)))
    service = LogService(Appender(SqliteStore(Path(sys.argv[1])), signer, origin=ORIGIN))
    await service.start(socket.socket(fileno=int(sys.argv[2])))
    await asyncio.Event().wait()

asyncio.run(main())
"""
