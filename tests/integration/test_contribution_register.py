"""What a register of batches does, the same in SQLite and in PostgreSQL."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.clock import rfc3339
from gateway.contributions.deployed import copy_register, open_register, register_file
from gateway.contributions.register import (
    Batch,
    BatchBusyError,
    BatchRegister,
    BatchState,
    RegisterUnavailableError,
)
from gateway.errors import GatewayError
from tests.simulators.postgres import PostgresServer, running_postgres

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
Opened = Callable[[], BatchRegister]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with running_postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opened]:
    """Return a function that opens the register, as another process would."""
    place = tmp_path / "audit.db"
    if request.param == "postgres":
        place = request.getfixturevalue("server").database()
    with ExitStack() as stack:
        yield lambda: stack.enter_context(closing(open_register(place)))


@pytest.fixture
def register(opened: Opened) -> BatchRegister:
    return opened()


def batch(name: str = "march", **changes: Any) -> Batch:
    parts = {
        "contributor": "acme",
        "name": name,
        "exchange": f"exchange-{name}",
        "contract": "sha256:00",
        "dataset": "members/acme/datasets/loans",
        "choice": "accept-valid",
        "seed": bytes(range(32)),
        "touched": rfc3339(NOW),
    }
    return Batch(**{**parts, **changes})


def tokens(first: int, count: int) -> list[tuple[int, bytes]]:
    return [(row, row.to_bytes(16, "big")) for row in range(first, first + count)]


def test_a_batch_is_found_again_as_it_was_noted(register: BatchRegister, opened: Opened) -> None:
    assert register.find("acme", "march") is None
    with register.exclusively("acme", "march"):
        register.add(batch())
    assert register.find("acme", "march") == opened().find("acme", "march") == batch()
    assert register.find("other", "march") is None


def test_a_name_is_taken_once_by_each_company(register: BatchRegister) -> None:
    with register.exclusively("acme", "march"):
        register.add(batch())
        with pytest.raises(BatchBusyError):
            register.add(batch(exchange="another"))
    with register.exclusively("other", "march"):
        register.add(batch(contributor="other", exchange="another"))
    assert len(register.unfinished()) == 2


def test_a_key_that_came_before_is_told_and_telling_again_changes_nothing(register: BatchRegister) -> None:
    with register.exclusively("acme", "march"):
        register.add(batch())
        assert register.claim("exchange-march", tokens(0, 1000), NOW) == set()
        again = [*tokens(1000, 5), (1005, tokens(7, 1)[0][1]), (1006, tokens(1002, 1)[0][1])]
        for _ in range(2):
            assert register.claim("exchange-march", again, NOW) == {1005, 1006}
            assert register.claim("exchange-march", tokens(0, 1000), NOW) == set()


def test_what_was_not_staged_has_claimed_nothing(register: BatchRegister) -> None:
    """Control: what was staged has."""
    with register.exclusively("acme", "march"):
        register.add(batch())
        register.claim("exchange-march", tokens(0, 10), NOW)
        register.release("exchange-march", 6)
        moved = [(row + 100, token) for row, token in tokens(0, 10)]
        assert register.claim("exchange-march", moved, NOW) == set(range(100, 106))


def test_keys_of_one_batch_are_free_for_another(register: BatchRegister) -> None:
    for name in ("march", "april"):
        with register.exclusively("acme", name):
            register.add(batch(name))
            assert register.claim(f"exchange-{name}", tokens(0, 10), NOW) == set()


def test_a_batch_goes_on_to_its_end_and_is_told_again_and_again(
    register: BatchRegister, opened: Opened
) -> None:
    with register.exclusively("acme", "march"):
        register.add(batch())
        register.claim("exchange-march", tokens(0, 10), NOW)
        register.settle("exchange-march", BatchState.SEALED, b"decided")
        assert [one.state for one in opened().unfinished()] == [BatchState.SEALED]
        register.settle("exchange-march", BatchState.DONE, b"told")
    found = opened().find("acme", "march")
    assert found is not None
    assert (found.state, found.outcome) == (BatchState.DONE, b"told")
    assert opened().unfinished() == []


def test_of_unfinished_batches_the_one_that_lies_longest_comes_first(register: BatchRegister) -> None:
    for day, name in enumerate(("first", "second", "third")):
        with register.exclusively("acme", name):
            register.add(batch(name, touched=rfc3339(NOW + timedelta(days=day))))
    with register.exclusively("acme", "first"):
        register.claim("exchange-first", tokens(0, 1), NOW + timedelta(days=9))
    assert [one.name for one in register.unfinished()] == ["second", "third", "first"]


def test_the_name_of_a_forgotten_batch_is_free_again(register: BatchRegister) -> None:
    with register.exclusively("acme", "march"):
        register.add(batch())
        register.claim("exchange-march", tokens(0, 10), NOW)
        register.forget("exchange-march")
        assert register.find("acme", "march") is None
        register.add(batch())
        moved = [(row + 1, token) for row, token in tokens(0, 10)]
        assert register.claim("exchange-march", moved, NOW) == set()
        register.forget("exchange-march")
        with pytest.raises(BatchBusyError):
            register.settle("exchange-march", BatchState.SEALED, b"")


def test_of_a_batch_others_are_kept_out_here_and_in_another_process(
    register: BatchRegister, opened: Opened
) -> None:
    """Control: another batch is free, and so is this one afterwards."""
    other = opened()
    with register.exclusively("acme", "march"):
        for one in (register, other):
            with pytest.raises(BatchBusyError), one.exclusively("acme", "march"):
                pass
            with one.exclusively("acme", "april"):
                pass
    for one in (other, register):
        with one.exclusively("acme", "march"):
            pass


def test_a_process_that_ends_lets_go(register: BatchRegister, opened: Opened) -> None:
    with ExitStack() as stack:
        stack.enter_context(register.exclusively("acme", "march"))
        register.close()
        if "Sqlite" in type(register).__name__:
            # The lock is of an open file, which ends with the process and not with the register.
            stack.pop_all().close()
        with opened().exclusively("acme", "march"):
            pass


def test_of_many_that_want_a_batch_at_once_one_gets_it(opened: Opened) -> None:
    registers = [opened() for _ in range(6)]
    gate, held, got, overlaps = threading.Barrier(6), threading.Lock(), [], []

    def run(own: BatchRegister) -> None:
        gate.wait()
        for _ in range(20):
            with suppress(BatchBusyError), own.exclusively("acme", "march"):
                if not held.acquire(blocking=False):
                    overlaps.append(own)
                    continue
                got.append(own)
                held.release()

    threads = [threading.Thread(target=run, args=(one,)) for one in registers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got
    assert overlaps == []


def test_claims_in_any_pieces_are_answered_as_all_at_once_would_be(register: BatchRegister) -> None:
    seeded = random.Random(7)
    wanted = [(row, seeded.randrange(3000).to_bytes(16, "big")) for row in range(20_000)]
    seen: set[bytes] = set()
    expected = {row for row, token in wanted if token in seen or seen.add(token)}
    found: set[int] = set()
    with register.exclusively("acme", "march"):
        register.add(batch())
        at = 0
        while at < len(wanted):
            size = seeded.randrange(1, 200)
            found |= register.claim("exchange-march", wanted[at : at + size], NOW)
            at += size
    assert found == expected


def test_what_a_claim_writes_does_not_grow_with_the_batch(tmp_path: Path) -> None:
    """In one sorted table the last of these write more than ten times what the first do."""

    def written() -> int:
        # Of this process, whatever becomes of it in the page cache.
        return int(Path("/proc/self/io").read_text().split("wchar: ")[1].split()[0])

    seeded = random.Random(11)
    pieces, size, wrote = 60, 5000, []
    with closing(open_register(tmp_path / "audit.db")) as register:
        register.add(batch())
        for piece in range(pieces):
            claims = [(piece * size + at, seeded.randbytes(16)) for at in range(size)]
            before = written()
            assert register.claim("exchange-march", claims, NOW) == set()
            wrote.append(written() - before)
    assert sum(wrote[-16:]) < 2 * sum(wrote[:16])


@pytest.mark.postgres
class TestPostgres:
    """What only sessions can do: be cut."""

    def cut(self, server: PostgresServer) -> None:
        with server.admin() as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE application_name = 'sluicegate contributions'"
            )

    def test_who_has_lost_a_batch_with_the_session_writes_to_it_no_more(self, server: PostgresServer) -> None:
        """Control: who has taken it up does, and the one who lost it may take it up again after that."""
        address = server.database()
        with closing(open_register(address)) as first, closing(open_register(address)) as second:
            with first.exclusively("acme", "march"):
                first.add(batch())
                self.cut(server)
                with pytest.raises(RegisterUnavailableError):
                    first.claim("exchange-march", tokens(0, 1), NOW)
                with second.exclusively("acme", "march"):
                    for write in (
                        lambda: first.claim("exchange-march", tokens(0, 1), NOW),
                        lambda: first.settle("exchange-march", BatchState.DONE, b"mine"),
                        lambda: first.forget("exchange-march"),
                    ):
                        with pytest.raises(BatchBusyError):
                            write()
                    assert second.claim("exchange-march", tokens(0, 1), NOW) == set()
            with first.exclusively("acme", "march"):
                assert first.claim("exchange-march", [(9, tokens(0, 1)[0][1])], NOW) == {9}

    def test_leaving_a_batch_whose_session_was_cut_tells_of_nothing(self, server: PostgresServer) -> None:
        with closing(open_register(server.database())) as register:
            with register.exclusively("acme", "march"):
                self.cut(server)
            with suppress(GatewayError):
                register.unfinished()
            with register.exclusively("acme", "march"):
                register.add(batch())

    def test_a_register_is_moved_with_its_claims_and_may_be_moved_again(
        self, server: PostgresServer, tmp_path: Path
    ) -> None:
        log = tmp_path / "audit.db"
        with closing(open_register(log)) as old:
            with old.exclusively("acme", "march"):
                old.add(batch())
                old.claim("exchange-march", tokens(0, 1000), NOW)
            with old.exclusively("acme", "april"):
                old.add(batch("april"))
                old.settle("exchange-april", BatchState.DONE, b"told")
            noted = [old.find("acme", name) for name in ("march", "april")]
        with closing(open_register(server.database())) as new:
            for _ in range(2):
                assert copy_register(register_file(log), new) == 2
            assert [new.find("acme", name) for name in ("march", "april")] == noted
            with new.exclusively("acme", "march"):
                assert new.claim("exchange-march", [(1000, tokens(4, 1)[0][1])], NOW) == {1000}
