"""What is kept of recipients and corrections, the same in SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from gateway.clock import rfc3339
from gateway.corrections.database import open_tables
from gateway.corrections.errors import CorrectionsUnavailableError
from gateway.corrections.notices import Announced, Notices, SealedNotice
from gateway.corrections.register import FEW, ReceivedPage, Register

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
COMPANIES = "members/registry/datasets/companies"


def a_page(exchange: str = "e1", **changes: object) -> ReceivedPage:
    page = ReceivedPage(exchange, 0, "bank", "registry", COMPANIES, "credit", "", "release", rfc3339(NOW))
    return replace(page, **changes)


def tokens(*numbers: int) -> bytes:
    return b"".join(token(number) for number in numbers)


def token(number: int) -> bytes:
    return number.to_bytes(16, "big")


def announced(number: int = 1, at: datetime = NOW, announcer: str = "registry") -> Announced:
    return Announced(
        f"c{number}", announcer, COMPANIES, "withdrawn", "error", rfc3339(at), rfc3339(at), 3, None
    )


def sealed(recipient: str = "bank") -> SealedNotice:
    return SealedNotice(recipient, "d" * 44, b"sealed for " + recipient.encode())


# -- who received what -----------------------------------------------------------------------------


@pytest.fixture
def register(tables):
    return Register(tables)


def test_a_record_is_found_on_every_page_that_holds_it(register):
    alone, among, other = a_page("alone"), a_page("among", page=3), a_page("other")
    register.add([(alone, tokens(7)), (among, tokens(5, 7, 9)), (other, tokens(1, 2, 3))])
    found = {named.page: named.tokens for named in register.holding(COMPANIES, {token(7)})}
    assert found == {alone: {token(7)}, among: {token(7)}}


@pytest.mark.parametrize("count", [2, FEW, FEW + 1, 500])
def test_many_records_are_found_at_once(register, count):
    pages = [(a_page(f"e{number}"), tokens(number, 10_000 + number)) for number in range(50)]
    register.add(pages)
    wanted = {token(number) for number in range(count)}
    found = register.holding(COMPANIES, wanted)
    assert len(found) == min(count, 50)
    assert all(named.tokens == {token(int(named.page.exchange[1:]))} for named in found)


def test_a_token_that_lies_across_two_others_is_none(register):
    """Control: where it does lie as one of them it is found."""
    first, second = bytes(8) + b"abcdefgh", b"ijklmnop" + bytes(8)
    register.add([(a_page("across"), first + second), (a_page("there"), b"abcdefghijklmnop" + second)])
    found = register.holding(COMPANIES, {b"abcdefghijklmnop"})
    assert [named.page.exchange for named in found] == ["there"]


def test_other_datasets_are_not_searched(register):
    register.add([(a_page(dataset="members/tax/datasets/arrears"), tokens(7)), (a_page(), tokens(1, 2))])
    assert register.holding(COMPANIES, {token(7)}) == []


def test_old_pages_are_forgotten_and_no_others(register):
    old, young = a_page("old", time=rfc3339(NOW - timedelta(days=2))), a_page("young")
    register.add([(old, tokens(7)), (young, tokens(7))])
    assert register.forget(NOW - timedelta(days=1)) == 1
    assert [named.page for named in register.holding(COMPANIES, {token(7)})] == [young]


def test_pages_are_kept_over_restarts_and_seen_by_other_processes(place, register):
    register.add([(a_page(), tokens(7))])
    with closing(open_tables(place)) as other:
        assert len(Register(other).holding(COMPANIES, {token(7)})) == 1


def test_many_processes_note_pages_at_once(place, register):
    def note(number: int) -> None:
        with closing(open_tables(place)) as own:
            for at in range(10):
                Register(own).add([(a_page(f"e{number}-{at}"), tokens(7))])

    threads = [threading.Thread(target=note, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(register.holding(COMPANIES, {token(7)})) == 40


# -- what was announced ----------------------------------------------------------------------------


@pytest.fixture
def stored(tables):
    return Notices(tables)


def publish(stored: Notices, number: int, *recipients: str, at: datetime = NOW, **parts: str) -> None:
    correction = announced(number, at, **parts)
    stored.prepare(correction, [sealed(recipient) for recipient in recipients])
    stored.publish(correction.id, 100 + number)


def test_nobody_sees_what_is_only_prepared(stored):
    """Control: once it is published it is seen."""
    stored.prepare(announced(), [sealed()])
    assert stored.waiting("bank", 0, 10) == []
    assert stored.find("c1", "bank") is None
    assert stored.statuses(None, None, 10) == []
    assert stored.revision() == 0
    stored.publish("c1", 42)
    [waiting] = stored.waiting("bank", 0, 10)
    assert (waiting.notice, waiting.correction.entry, waiting.delivered) == (sealed(), 42, "")
    assert stored.revision() == 1


def test_what_a_crash_left_prepared_is_found_and_can_be_discarded(stored):
    stored.prepare(announced(1), [sealed()])
    publish(stored, 2, "bank")
    assert stored.prepared(NOW) == []
    assert [each.id for each in stored.prepared(NOW + timedelta(minutes=1))] == ["c1"]
    stored.discard("c1")
    stored.discard("c2")
    assert stored.prepared(NOW + timedelta(minutes=1)) == []
    assert [waiting.correction.id for waiting in stored.waiting("bank", 0, 10)] == ["c2"]


def test_publishing_twice_tells_nobody_twice(stored):
    publish(stored, 1, "bank")
    [before] = stored.waiting("bank", 0, 10)
    stored.publish("c1", 999)
    assert stored.waiting("bank", 0, 10) == [before]


def test_each_recipient_sees_its_own_in_order_and_from_where_it_was(stored):
    publish(stored, 1, "bank", "insurer")
    publish(stored, 2, "insurer")
    publish(stored, 3, "bank")
    found = stored.waiting("bank", 0, 10)
    assert [waiting.correction.id for waiting in found] == ["c1", "c3"]
    assert [waiting.correction.id for waiting in stored.waiting("bank", found[0].position, 10)] == ["c3"]
    assert len(stored.waiting("bank", 0, 1)) == 1
    assert all(waiting.notice.recipient == "bank" for waiting in found)


def test_an_answer_settles_it_and_erases_what_was_told(stored, tables):
    publish(stored, 1, "bank", "insurer")
    stored.note_delivered("c1", "bank", NOW)
    stored.settle("c1", "bank", "deleted", NOW + timedelta(hours=1))
    stored.settle("c1", "bank", "done", NOW + timedelta(hours=2))
    assert stored.waiting("bank", 0, 10) == []
    found = stored.find("c1", "bank")
    assert found is not None
    assert (found[1].outcome, found[1].answered) == ("deleted", rfc3339(NOW + timedelta(hours=1)))
    with tables.reading() as statements:
        kept = dict(statements.execute("SELECT recipient, content FROM correction_notice"))
    assert kept["bank"] is None
    assert kept["insurer"] is not None, "the control"


def test_erased_content_is_not_in_the_file_any_more(tmp_path):
    """Control: before the answer it is."""
    with closing(open_tables(tmp_path / "audit.db")) as tables:
        stored = Notices(tables)
        publish(stored, 1, "bank")

        def is_there() -> bool:
            return any(b"sealed for bank" in path.read_bytes() for path in tmp_path.iterdir())

        assert is_there()
        stored.settle("c1", "bank", "deleted", NOW)
        assert not is_there()


def test_open_and_overdue_ones_are_counted(stored):
    publish(stored, 1, "bank", "insurer", at=NOW - timedelta(days=9))
    publish(stored, 2, "bank")
    assert stored.open_count(NOW - timedelta(days=7)) == (3, 2)
    stored.settle("c1", "bank", "done", NOW)
    assert stored.open_count(NOW - timedelta(days=7)) == (2, 1)


def test_announcers_see_their_own_and_pages_go_on(stored):
    for number in range(5):
        publish(stored, number, "bank", at=NOW + timedelta(minutes=number))
    publish(stored, 9, "bank", announcer="tax")
    newest = stored.statuses("registry", None, 2)
    assert [each.correction.id for each in newest] == ["c4", "c3"]
    last = newest[-1].correction
    rest = stored.statuses("registry", (last.announced, last.id), 10)
    assert [each.correction.id for each in rest] == ["c2", "c1", "c0"]
    assert len(stored.statuses(None, None, 10)) == 6
    assert rest[0].recipients[0].recipient == "bank"


def test_old_corrections_are_forgotten_once_everybody_answered(stored):
    publish(stored, 1, "bank", at=NOW - timedelta(days=9))
    publish(stored, 2, "bank", "insurer", at=NOW - timedelta(days=9))
    for correction in ("c1", "c2"):
        stored.settle(correction, "bank", "done", NOW)
    stored.forget(NOW - timedelta(days=1))
    assert [each.correction.id for each in stored.statuses(None, None, 10)] == ["c2"]


@pytest.mark.timed
async def test_another_process_hears_of_a_publication_within_a_second(place, stored):
    with closing(open_tables(place)) as other:
        listening = Notices(other)
        # The first wait opens the connection on which notices come.
        await other.await_change(0.3)
        begun = time.monotonic()
        await asyncio.to_thread(publish, stored, 1, "bank")
        while not listening.waiting("bank", 0, 1):
            await other.await_change(5.0)
        assert time.monotonic() - begun < 1


def test_a_store_that_cannot_be_used_says_so(tmp_path):
    tables = open_tables(tmp_path / "audit.db")
    tables.close()
    with pytest.raises(CorrectionsUnavailableError, match="operator"):
        Register(tables).add([(a_page(), tokens(1))])
