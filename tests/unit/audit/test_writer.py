import asyncio
import fcntl
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta

import pytest
import structlog
import structlog.testing

from gateway.audit.appender import LogHooks
from gateway.audit.checkpoint import open_checkpoint
from gateway.audit.errors import (
    EntryTooLargeError,
    LogMismatchError,
    LogOverloadedError,
    LogUnavailableError,
    OnceTakenError,
)
from gateway.audit.fsck import fsck
from gateway.audit.note import Ed25519Signer
from gateway.audit.proof import TlogProof
from gateway.audit.sqlite import SqliteStore
from gateway.audit.sqlite_reader import SqliteReader
from gateway.audit.store import Once
from gateway.errors import Reason

from .conftest import NOON, ORIGIN

SOON_S = 20


@contextmanager
def held(path):
    """Hold the log's lock as another process would."""
    descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


class Recorder:
    """Takes note of what the hooks are told."""

    def __init__(self):
        self.commits, self.faults, self.states = [], [], []
        self.healthy_again = threading.Event()
        self.failed_once = threading.Event()
        self.hooks = LogHooks(
            committed=lambda entries, seconds: self.commits.append((entries, seconds)),
            failed=self._failed,
            health_changed=self._changed,
        )

    def _failed(self, error):
        self.faults.append(error)
        self.failed_once.set()

    def _changed(self, healthy):
        self.states.append(healthy)
        if healthy:
            self.healthy_again.set()


class Faulty(SqliteStore):
    """A store that fails in a way no store should, as often as told."""

    def __init__(self, path, faults):
        super().__init__(path)
        self.faults = faults

    def append(self, pending, sign, now):
        if self.faults:
            self.faults -= 1
            raise ZeroDivisionError("secret inside")
        return super().append(pending, sign, now)


async def test_an_entry_is_durable_and_proven_when_append_returns(store, path, open_log, make_entry):
    log = open_log(store)
    for number in range(5):
        committed = await log.append(make_entry(number))
        assert (committed.index, committed.size) == (number, number + 1)
        proof = TlogProof.from_text(committed.tlog_proof())
        assert proof.verify(committed.leaf_hash, [log.verifier], origin=ORIGIN).size == committed.size
        with SqliteReader(path) as reader:
            assert reader.size() == number + 1
            assert reader.checkpoint() == committed.checkpoint_note
            assert reader.inclusion_proof(number, number + 1) == committed.inclusion_hashes


async def test_callers_who_come_together_share_transactions(store, path, open_log, make_entry, identity):
    recorder = Recorder()
    log = open_log(store, hooks=recorder.hooks)
    committed = await asyncio.gather(*(log.append(make_entry(number)) for number in range(600)))
    assert [item.index for item in committed] == list(range(600))
    assert sum(entries for entries, _ in recorder.commits) == 600
    assert len(recorder.commits) < 60
    assert max(entries for entries, _ in recorder.commits) <= 512
    for item in committed:
        TlogProof.from_text(item.tlog_proof()).verify(item.leaf_hash, [log.verifier])
    log.close()
    assert fsck(path, identity.verifier).findings == ()


async def test_a_batch_wakes_the_loop_once(store, open_log, make_entry, monkeypatch):
    recorder = Recorder()
    log = open_log(store, hooks=recorder.hooks)
    loop = asyncio.get_running_loop()
    wakes = []
    original = loop.call_soon_threadsafe
    monkeypatch.setattr(
        loop, "call_soon_threadsafe", lambda *args, **named: wakes.append(args) or original(*args, **named)
    )
    await asyncio.gather(*(log.append(make_entry(number)) for number in range(100)))
    assert len(wakes) == len(recorder.commits) < 100


def test_threads_without_a_loop_append_too(store, open_log, make_entry):
    log = open_log(store)
    with ThreadPoolExecutor(8) as pool:
        committed = list(pool.map(lambda number: log.append_sync(make_entry(number)), range(100)))
    assert sorted(item.index for item in committed) == list(range(100))


async def test_a_once_key_is_taken_once_among_concurrent_callers(store, open_log, make_entry):
    log = open_log(store)
    once = Once(b"nonce", NOON + timedelta(minutes=10))
    outcomes = await asyncio.gather(
        *(log.append(make_entry(number), once) for number in range(50)), return_exceptions=True
    )
    refused = [outcome for outcome in outcomes if isinstance(outcome, OnceTakenError)]
    assert len(refused) == 49
    assert {error.reason for error in refused} == {Reason.REPLAYED}
    assert (await log.append(make_entry(99))).index == 1


async def test_an_entry_too_large_is_refused_before_it_waits(store, open_log, make_entry):
    log = open_log(store)
    with pytest.raises(EntryTooLargeError):
        await log.append(make_entry(1, purpose="x" * 20_000))
    assert (await log.append(make_entry(2))).index == 0


async def test_a_full_queue_refuses_more_and_loses_nothing(path, open_log, make_entry):
    with SqliteStore(path, lock_timeout_s=30) as store:
        log = open_log(store, queue_limit=10, batch_limit=1)

        async def append(number):
            return await log.append(make_entry(number))

        with held(path):
            waiting = [asyncio.ensure_future(append(number)) for number in range(40)]
            refused, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            assert {type(task.exception()) for task in refused} == {LogOverloadedError}
            assert 9 <= log.depth <= 10  # the writer may have taken one
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        log.close()
    kept = [outcome for outcome in outcomes if not isinstance(outcome, LogOverloadedError)]
    assert [item.index for item in kept] == list(range(len(kept)))
    assert 10 <= len(kept) <= 11


async def test_a_cancelled_caller_leaves_its_entry_in_the_log(path, open_log, make_entry):
    with SqliteStore(path, lock_timeout_s=30) as store:
        log = open_log(store)
        with held(path):
            task = asyncio.ensure_future(log.append(make_entry(1)))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert (await log.append(make_entry(2))).index == 1
        log.close()


async def test_closing_writes_what_is_queued_and_then_refuses(path, open_log, make_entry):
    store = SqliteStore(path)
    log = open_log(store, batch_limit=3)
    waiting = [asyncio.ensure_future(log.append(make_entry(number))) for number in range(20)]
    await asyncio.sleep(0)
    log.close()
    assert [item.index for item in await asyncio.gather(*waiting)] == list(range(20))
    with pytest.raises(LogUnavailableError, match="closed"):
        await log.append(make_entry(21))
    with pytest.raises(LogUnavailableError, match="closed"):
        log.append_sync(make_entry(21))
    log.close()


async def test_while_the_log_is_locked_all_are_refused_and_then_it_serves_again_unaided(
    store, path, open_log, make_entry, identity
):
    recorder = Recorder()
    log = open_log(store, hooks=recorder.hooks)
    assert (await log.append(make_entry(0))).index == 0
    with held(path):
        outcomes = await asyncio.gather(
            *(log.append(make_entry(number)) for number in range(1, 20)), return_exceptions=True
        )
        assert {type(outcome) for outcome in outcomes} == {LogUnavailableError}
        assert {outcome.reason for outcome in outcomes} == {Reason.LOG_UNAVAILABLE}
        assert len({id(outcome) for outcome in outcomes}) == len(outcomes)
        assert not log.healthy
    # Nobody appends: the log finds out by itself that the lock is free.
    assert await asyncio.to_thread(recorder.healthy_again.wait, SOON_S)
    assert log.healthy
    assert recorder.states == [False, True]
    assert (await log.append(make_entry(20))).index == 1
    log.close()
    assert fsck(path, identity.verifier).findings == ()


async def test_a_fault_no_one_foresaw_reaches_every_caller_and_ends_nothing(path, open_log, make_entry):
    recorder = Recorder()
    with Faulty(path, faults=1) as store:
        log = open_log(store, hooks=recorder.hooks)
        outcomes = await asyncio.gather(
            *(log.append(make_entry(number)) for number in range(3)), return_exceptions=True
        )
        # The first goes alone or in company; whoever shared its fate is told so, and told nothing else.
        refused = [outcome for outcome in outcomes if isinstance(outcome, LogUnavailableError)]
        assert refused
        assert not any("secret" in error.message for error in refused)
        assert [type(error) for error in recorder.faults] == [ZeroDivisionError]
        assert (await log.append(make_entry(9))).leaf_hash
        assert log.healthy
        log.close()


async def test_a_log_that_contradicts_itself_stays_refused(store, path, open_log, make_entry, tamper):
    recorder = Recorder()
    log = open_log(store, hooks=recorder.hooks)
    await log.append(make_entry(0))
    tamper(path, "UPDATE head SET frontier = zeroblob(40)", "UPDATE head SET note = 'x'")
    for number in (1, 2):
        with pytest.raises(LogMismatchError):
            await log.append(make_entry(number))
    assert not log.healthy
    assert recorder.states == [False]


def test_a_log_is_not_opened_under_another_key_or_origin(store, open_log):
    open_log(store).close()
    with pytest.raises(LogMismatchError):
        open_log(store, signer=Ed25519Signer.from_seed(ORIGIN, bytes(32)))
    with pytest.raises(LogMismatchError):
        open_log(
            store, signer=Ed25519Signer.from_seed("other.example", bytes(range(32))), origin="other.example"
        )


def test_the_checkpoint_of_every_transaction_is_kept(store, path, open_log, make_entry):
    log = open_log(store)
    notes = {
        item.size: item.checkpoint_note for item in (log.append_sync(make_entry(at)) for at in range(30))
    }
    with SqliteReader(path) as reader:
        for size, note in notes.items():
            assert reader.checkpoint_at(size) == note
            assert open_checkpoint(note, [log.verifier]).size == size


async def test_an_event_loop_that_is_gone_holds_nobody_up(path, open_log, make_entry):
    with SqliteStore(path, lock_timeout_s=30) as store:
        log = open_log(store)

        def leave():
            async def start():
                task = asyncio.ensure_future(log.append(make_entry(1)))
                await asyncio.sleep(0)
                task.cancel()

            asyncio.run(start())

        with held(path):
            await asyncio.to_thread(leave)
        assert (await log.append(make_entry(2))).index == 1
        log.close()


async def test_a_hook_that_fails_is_reported_and_ends_nothing(store, open_log, make_entry):
    def broken(entries, seconds):
        raise ZeroDivisionError

    log = open_log(store, hooks=LogHooks(committed=broken))
    with structlog.testing.capture_logs() as lines:
        assert [(await log.append(make_entry(number))).index for number in range(3)] == [0, 1, 2]
        log.close()
    assert [line["event"] for line in lines] == ["hook.failed"] * 3
