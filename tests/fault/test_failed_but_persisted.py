"""A call to the store that is reported as failed although it was carried out, and one that was not.

The caller cannot tell the two apart and is refused; the log is sound, and what is sent again under the
same once-key stands in it once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import gateway.audit.sqlite
from gateway.audit.appender import Appender
from gateway.audit.committed import Committed
from gateway.audit.errors import LogUnavailableError, OnceTakenError
from gateway.audit.fsck import fsck
from gateway.audit.note import Ed25519Signer
from gateway.audit.sqlite import SqliteStore
from gateway.audit.sqlite_reader import SqliteReader
from gateway.audit.store import Once, PendingEntry, prepare_entry
from gateway.evidence.dsse import Envelope
from gateway.model import EntryKind
from tests.simulators.appender import ORIGIN, entry
from tests.simulators.caller import RawCaller
from tests.simulators.outcome import refused
from tests.simulators.statement_faults import StatementFaults
from tests.simulators.waiting import until
from tests.simulators.world import COMPANIES, SimulatedWorld

ALREADY = 254
"""Entries of the log before: the append under fault completes a tile."""


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> StatementFaults:
    faults = StatementFaults()
    monkeypatch.setattr(gateway.audit.sqlite, "connect_for_writing", faults.connect)
    return faults


@pytest.fixture
def batch() -> list[PendingEntry]:
    until = datetime.now(UTC) + timedelta(hours=1)
    return [prepare_entry(entry(1000 + at), Once(bytes([at]) * 32, until)) for at in range(5)]


@pytest.fixture
def open_appender(path: Path, signer: Ed25519Signer) -> Iterator[Callable[[], Appender]]:
    opened: list[Appender] = []

    def open_appender() -> Appender:
        for appender in opened:
            appender.close()
        opened.append(Appender(SqliteStore(path), signer, origin=ORIGIN))
        return opened[-1]

    yield open_appender
    for appender in opened:
        appender.close()


@pytest.fixture
def appender(open_appender: Callable[[], Appender]) -> Appender:
    appender = open_appender()
    appender.append([prepare_entry(entry(number)) for number in range(ALREADY)])
    return appender


def times_logged(path: Path, batch: list[PendingEntry]) -> set[int]:
    """Return how often the entries of `batch` stand in the log: one number if for all alike."""
    with SqliteReader(path) as reader:
        leaves = Counter(reader.entries(0, reader.size()))
    return {leaves[item.data] for item in batch}


def assert_once(path: Path, batch: list[PendingEntry], signer: Ed25519Signer) -> None:
    assert times_logged(path, batch) == {1}
    report = fsck(path, signer.verifier)
    assert (report.entries, report.findings) == (ALREADY + len(batch), ())


def statements_of_an_append(path: Path, signer: Ed25519Signer, batch: list[PendingEntry]) -> list[str]:
    """Return the statements of an append as it is without a fault, on a log like the one under test."""
    faults = StatementFaults()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gateway.audit.sqlite, "connect_for_writing", faults.connect)
        appender = Appender(SqliteStore(path.with_name("sample.db")), signer, origin=ORIGIN)
        appender.append([prepare_entry(entry(number)) for number in range(ALREADY)])
        faults.statements.clear()
        appender.append(batch)
        appender.close()
    return list(faults.statements)


@pytest.mark.parametrize("when_done", [False, True], ids=["not done", "done"])
def test_an_append_whose_statement_fails_is_refused_and_stands_in_the_log_once_when_sent_again(
    path: Path, signer: Ed25519Signer, batch: list[PendingEntry], when_done: bool
) -> None:
    statements = statements_of_an_append(path, signer, batch)
    assert statements[0] == "BEGIN IMMEDIATE"
    assert statements[-1] == "COMMIT"
    assert any("tile" in statement for statement in statements)
    persisted = []
    for at, statement in enumerate(statements):
        case = path.with_name(f"case-{at}.db")
        faults = StatementFaults()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(gateway.audit.sqlite, "connect_for_writing", faults.connect)
            appender = Appender(SqliteStore(case), signer, origin=ORIGIN)
            appender.append([prepare_entry(entry(number)) for number in range(ALREADY)])
            faults.fail(at, when_done=when_done)
            told = appender.append(batch)
            assert faults.struck
            assert {type(outcome) for outcome in told} == {LogUnavailableError}
            assert not appender.healthy
            again = {type(outcome) for outcome in appender.append(batch)}
            assert appender.healthy
            assert again in ({Committed}, {OnceTakenError})
            if again == {OnceTakenError}:
                persisted.append(statement)
            appender.close()
        assert_once(case, batch, signer)
    assert persisted == (["COMMIT"] if when_done else [])


def test_the_control_who_takes_an_error_for_a_no_doubles_the_entries(
    path: Path, faults: StatementFaults, appender: Appender
) -> None:
    batch = [prepare_entry(entry(number)) for number in range(5)]
    faults.fail(0, when_done=True, only="COMMIT")
    assert {type(outcome) for outcome in appender.append(batch)} == {LogUnavailableError}
    assert {type(outcome) for outcome in appender.append(batch)} == {Committed}
    assert times_logged(path, batch) == {2}


def test_a_second_fault_while_the_log_recovers_changes_nothing(
    path: Path, signer: Ed25519Signer, faults: StatementFaults, appender: Appender, batch: list[PendingEntry]
) -> None:
    faults.fail(0, when_done=True, only="COMMIT")
    assert {type(outcome) for outcome in appender.append(batch)} == {LogUnavailableError}
    at = 0
    while True:
        faults.fail(at, when_done=at % 2 == 1)
        told = {type(outcome) for outcome in appender.append(batch)}
        if not faults.struck:
            break
        assert told == {LogUnavailableError}
        at += 1
    assert at > 3, "recovery is more than one statement"
    assert told == {OnceTakenError}
    assert_once(path, batch, signer)


@pytest.mark.parametrize("when_done", [False, True], ids=["not done", "done"])
@pytest.mark.parametrize("call", ["open", "probe", "maintain"])
def test_a_call_that_fails_at_any_statement_leaves_a_sound_log_that_takes_entries(
    path: Path,
    signer: Ed25519Signer,
    faults: StatementFaults,
    open_appender: Callable[[], Appender],
    appender: Appender,
    batch: list[PendingEntry],
    call: str,
    when_done: bool,
) -> None:
    struck = at = 0
    while True:
        # As after much writing: there is a write-ahead log to fold.
        appender._store._unfolded_pages = 10**6  # type: ignore[attr-defined]
        faults.fail(at, when_done=when_done)
        if call == "open":
            try:
                appender = open_appender()
            except LogUnavailableError:
                appender = open_appender()
        else:
            getattr(appender, call)()
            assert appender.healthy is not faults.struck
        if not faults.struck:
            break
        struck += 1
        appender.probe()
        assert appender.healthy
        at += 1
    faults.heal()
    assert struck >= {"open": 5, "probe": 3, "maintain": 1}[call]
    assert {type(outcome) for outcome in appender.append(batch)} == {Committed}
    assert_once(path, batch, signer)


@pytest.fixture
async def world(tmp_path: Path, faults: StatementFaults) -> AsyncIterator[SimulatedWorld]:
    world = await SimulatedWorld(tmp_path / "world").start()
    try:
        yield world
    finally:
        await world.stop()


def ask(world: SimulatedWorld, caller: RawCaller) -> Envelope:
    return caller.seal(
        caller.statement(COMPANIES, "public-lookup", filters={"uscc": world.companies[0].uscc})
    )


@pytest.mark.parametrize(
    ("commit", "kind"), [(0, EntryKind.EXCHANGE_REQUESTED), (1, EntryKind.EXCHANGE_RELEASED)]
)
async def test_nothing_is_released_on_account_of_a_commit_that_failed_although_it_was_done(
    world: SimulatedWorld, faults: StatementFaults, commit: int, kind: EntryKind
) -> None:
    await world.works()
    asked = len(world.registry.orders)
    caller = world.caller()
    envelope = ask(world, caller)
    faults.fail(commit, when_done=True, only="COMMIT")
    refusal = await refused(caller.query(envelope))
    assert (refusal.code, refusal.reason) == ("UNAVAILABLE", "LOG_UNAVAILABLE")
    assert faults.struck
    assert len(world.registry.orders) == asked + commit, "a provider is asked only after the first commit"
    await until(lambda: "sluicegate_log_healthy 1.0" in world.metrics_text())
    assert (await refused(caller.query(envelope))).reason == "REPLAYED"
    kinds = [entry.kind for entry in world.log.of_exchange(refusal.exchange)]
    assert kinds.count(kind) == 1
    await world.works()
    world.log.verify()


async def test_the_control_a_commit_that_failed_and_was_not_done_leaves_the_question_free(
    world: SimulatedWorld, faults: StatementFaults
) -> None:
    caller = world.caller()
    envelope = ask(world, caller)
    faults.fail(0, when_done=False, only="COMMIT")
    refusal = await refused(caller.query(envelope))
    assert refusal.reason == "LOG_UNAVAILABLE"
    await until(lambda: "sluicegate_log_healthy 1.0" in world.metrics_text())
    assert EntryKind.EXCHANGE_REQUESTED not in {
        entry.kind for entry in world.log.of_exchange(refusal.exchange)
    }
    assert (await caller.query(envelope)).page.record_count == 1
    world.log.verify()
