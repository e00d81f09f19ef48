"""Usage and statements over generated logs: what they say is what the log says, and of nobody else."""

from __future__ import annotations

import asyncio
import tempfile
from collections import defaultdict
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.audit import sqlite_reader
from gateway.errors import GatewayError
from gateway.evidence import dsse
from gateway.evidence.keys import SigningKey
from gateway.model import EntryKind
from gateway.usage import books
from gateway.usage.book import Outcome
from gateway.usage.books import LogBook
from gateway.usage.issuing import Accounts
from gateway.usage.period import Period, month_of
from gateway.usage.ranges import read_ranges, write_ranges
from gateway.usage.sqlite import SqliteUsageStore
from gateway.usage.statement import STATEMENT_TYPE, Statement, StatementError, open_statement, sign_statement
from gateway.usage.verification import verify_statement, wanted_entries
from tests.simulators import usage as made

KEY = SigningKey.generate()
DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)
ALL = Period(date(2026, 1, 1), date(2026, 12, 31))
CLOSING = {EntryKind.EXCHANGE_RELEASED, EntryKind.EXCHANGE_FAILED, EntryKind.EXCHANGE_DENIED}


@contextmanager
def log(exchanges):
    with (
        tempfile.TemporaryDirectory() as folder,
        made.log_of(Path(folder) / "audit.db", made.entries_of(exchanges)) as reader,
    ):
        yield reader


def issue(reader, member=made.AMBER, month=made.MONTH, contracts=None) -> dsse.Envelope:
    contracts = contracts or made.Contracts(made.contract_of(made.AMBER), made.contract_of(made.BIRCH))
    store = SqliteUsageStore(Path(reader.path).with_name("usage.db"))
    try:
        accounts = Accounts(reader, contracts, store, KEY, lambda: DECEMBER, made.ignore)
        return asyncio.run(accounts.statement(member, month))
    finally:
        store.close()


def own_entries(reader, statement) -> dict[int, bytes]:
    """What ListEntries gives the member for the filter."""
    return {
        stored.index: stored.data
        for stored in reader.follow(wanted_entries(statement), 1000, 0, reader.size())
    }


def verify(reader, envelope):
    statement, checkpoint = open_statement(envelope, made.trust_of(KEY))
    entries = own_entries(reader, statement)
    return statement, verify_statement(statement, checkpoint, entries, made.ReaderProofs(reader))


@given(made.exchanges)
def test_usage_is_what_has_left(exchanges):
    with log(exchanges) as reader:
        book = LogBook(reader, made.AMBER)
        book.read(reader.size())
        lines = book.lines(ALL)
    own = [exchange for exchange in exchanges if exchange.provider == made.AMBER]
    assert sum(line.records for line in lines) == sum(exchange.has_left for exchange in own)
    for consumer in made.BANKS:
        assert sum(line.records for line in lines if line.group.consumer == consumer) == sum(
            exchange.has_left for exchange in own if exchange.consumer == consumer
        )
    denied = [line for line in lines if line.group.outcome is Outcome.DENIED]
    assert sum(line.exchanges for line in denied) == sum(exchange.end == "denied" for exchange in own)
    assert all(line.reasons == ("PURPOSE_NOT_PERMITTED",) for line in denied)


@given(made.exchanges, st.lists(st.integers(0, 120), max_size=4))
def test_a_book_that_is_brought_up_to_date_says_what_one_read_at_once_says(exchanges, stops):
    with log(exchanges) as reader:
        size = reader.size()
        at_once = LogBook(reader, made.AMBER)
        at_once.read(size)
        piecewise = LogBook(reader, made.AMBER)
        for stop in (*sorted(min(stop, size) for stop in stops), size):
            piecewise.read(stop)
            piecewise.lines(ALL)
        assert piecewise.lines(ALL) == at_once.lines(ALL)


@settings(max_examples=30)
@given(made.exchanges, st.integers(1, 9))
def test_a_long_log_is_read_in_parts(exchanges, entries):
    with log(exchanges) as reader:
        whole = LogBook(reader, made.AMBER)
        whole.read(reader.size())
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(books, "_READ_AT_ONCE", 3 * entries)
            patch.setattr(sqlite_reader, "SCANNED_AT_ONCE", entries)
            parts = LogBook(reader, made.AMBER)
            parts.read(reader.size())
        assert (parts.lines(ALL), parts.counted) == (whole.lines(ALL), whole.counted)


@given(made.exchanges)
def test_the_usage_of_one_member_does_not_depend_on_the_others(exchanges):
    """What is not in X's entries changes nothing of X's usage: it cannot be told by it."""
    alone = [exchange for exchange in exchanges if exchange.provider == made.AMBER]

    def told(of: Any) -> list[tuple[Any, ...]]:
        with log(of) as reader:
            book = LogBook(reader, made.AMBER)
            book.read(reader.size())
            return [(*line.group, line.exchanges, line.records, line.pages) for line in book.lines(ALL)]

    assert told(exchanges) == told(alone)


@given(made.exchanges)
def test_a_statement_holds_nothing_of_other_members_entries_nor_of_actors(exchanges):
    with log(exchanges) as reader:
        text = issue(reader).payload.decode()
    assert made.BIRCH not in text
    assert made.contract_id(made.BIRCH) not in text
    assert "actor-of" not in text
    assert "0195512e-0000" not in text


def test_the_search_for_leaks_would_find_one():
    exchange = made.Exchange(made.AMBER, "birch", "credit-check", 20 * 86400, (), 3, "released", 0)
    with log([exchange]) as reader:
        assert made.BIRCH in issue(reader).payload.decode()


@settings(max_examples=60)
@given(made.exchanges)
def test_the_totals_of_a_statement_are_the_logs(exchanges):
    with log(exchanges) as reader:
        statement, _ = verify(reader, issue(reader))
        entries = [
            msgspec.json.decode(data) | {"index": index} for index, data in made.leaves(reader).items()
        ]
    # Counted a second time, in another way: exchange by exchange.
    by_exchange: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for entry in entries:
        if entry.get("provider") == made.AMBER:
            by_exchange[entry["exchange"]].append(entry)
    records = ended = 0
    owed: dict[str, int] = defaultdict(int)
    for own in by_exchange.values():
        closing = [entry for entry in own if entry["kind"] in CLOSING]
        pages = [entry for entry in own if entry["kind"] == "exchange.page"]
        last = closing[-1] if closing else pages[-1] if pages else None
        if last is None or not last["time"].startswith(made.MONTH):
            continue
        left = closing[-1].get("records", 0) if closing else sum(page["records"] for page in pages)
        records += left
        ended += 1
        owed[last["consumer"]] += left
    assert statement.totals.records == records
    assert statement.totals.exchanges == ended
    assert sum(line.records for line in statement.lines) == records
    assert {amount.consumer: amount.records for amount in statement.amounts} == {
        consumer: count for consumer, count in owed.items() if count
    }


numbers_in = ("exchanges", "records", "pages", "entries")


def altered(value: Any, chance: st.DataObject) -> Any:
    """Change one number, anywhere in the statement."""
    places: list[tuple[Any, Any]] = []

    def walk(part: Any) -> None:
        items = part.items() if isinstance(part, dict) else enumerate(part)
        for name, item in items:
            if isinstance(item, int) and not isinstance(item, bool):
                places.append((part, name))
            elif isinstance(item, dict | list):
                walk(item)

    walk(value)
    part, name = chance.draw(st.sampled_from(places))
    part[name] += chance.draw(st.sampled_from((-1, 1, 1000)))
    return value


@settings(max_examples=80)
@given(made.exchanges, st.data())
def test_any_altered_number_is_found(exchanges, chance):
    """Even when it is signed anew with the gateway's own key."""
    with log(exchanges) as reader:
        envelope = issue(reader)
        changed = altered(msgspec.json.decode(envelope.payload), chance)
        own_numbers = msgspec.json.decode(envelope.payload)
        stated = {contract["id"]: contract for contract in changed["contracts"]}
        for contract in own_numbers["contracts"]:
            # What a contract says is not in the log; the contract, which all parties have, says it.
            now = stated.get(contract["id"], contract)
            if (
                now["version"],
                now["price"]["minor_units_per_thousand"],
                [q["records"] for q in now["quotas"]],
            ) != (
                contract["version"],
                contract["price"]["minor_units_per_thousand"],
                [q["records"] for q in contract["quotas"]],
            ):
                return
        text = msgspec.json.encode(changed, order="sorted")
        with pytest.raises(StatementError):
            verify(reader, dsse.sign(text, STATEMENT_TYPE, [KEY]))


@settings(max_examples=30)
@given(made.exchanges)
def test_a_statement_that_leaves_an_exchange_out_is_found(exchanges):
    with log(exchanges) as reader:
        envelope = issue(reader)
        statement, _ = verify(reader, envelope)
        if not statement.lines:
            return
        less = msgspec.structs.replace(statement, lines=statement.lines[1:])
        with pytest.raises(StatementError):
            verify(reader, sign_statement(less, KEY))


@settings(max_examples=30)
@given(made.exchanges)
def test_a_statement_of_entries_that_are_not_in_the_log_is_found(exchanges):
    with log(exchanges) as reader:
        envelope = issue(reader)
        statement, checkpoint = open_statement(envelope, made.trust_of(KEY))
        entries = own_entries(reader, statement)
        named = [
            index for line in statement.lines for index in read_ranges(line.entries, statement.tree_size)
        ]
        if not named:
            return
        data = entries[named[0]]
        entries[named[0]] = data.replace(b'"v":1', b'"v":2')
        assert entries[named[0]] != data
        with pytest.raises(StatementError):
            verify_statement(statement, checkpoint, entries, made.ReaderProofs(reader))


def test_a_release_that_is_kept_from_the_member_is_found_by_the_numbers():
    exchanges = [
        made.Exchange(made.AMBER, made.BANKS[0], "credit-check", 20 * 86400 + at, (), 3, "released", 0)
        for at in range(3)
    ]
    with log(exchanges) as reader:
        statement, checkpoint = open_statement(issue(reader), made.trust_of(KEY))
        entries = own_entries(reader, statement)
        middle = sorted(index for index, data in entries.items() if b"exchange.released" in data)[1]
        del entries[middle]
        with pytest.raises(StatementError, match="gap"):
            verify_statement(statement, checkpoint, entries, made.ReaderProofs(reader))


def test_every_exchange_stands_in_exactly_one_months_statement():
    exchanges = [
        made.Exchange(made.AMBER, made.BANKS[0], "credit-check", at, (5, 7), 0, end, 1)
        for end in ("released", "cut", "withdrawn", "crashed")
        for at in range(11 * 86400 - 200, 11 * 86400 + 200, 20)
    ]
    with log(exchanges) as reader:
        totals = 0
        for month in ("2026-09", "2026-10"):
            statement, _ = verify(reader, issue(reader, month=month))
            assert statement.period == month_of(month)
            assert statement.lines
            totals += statement.totals.records
    assert totals == sum(exchange.has_left for exchange in exchanges)


@given(st.sets(st.integers(0, 300)))
def test_ranges_are_read_as_they_were_written(indices):
    text = write_ranges(sorted(indices))
    assert read_ranges(text, 301) == sorted(indices)


@given(st.text(alphabet="0123456789,-", max_size=12))
def test_ranges_have_one_form(text):
    try:
        indices = read_ranges(text, 2000)
    except GatewayError:
        return
    assert write_ranges(indices) == text


def test_statement_of_a_stranger_is_not_taken_for_the_gateways():
    with log([]) as reader:
        envelope = issue(reader)
        statement, _ = verify(reader, envelope)
        assert isinstance(statement, Statement)
        stranger = SigningKey.generate()
        with pytest.raises(StatementError):
            verify(reader, sign_statement(statement, stranger))
