"""Two sides compare what they hold: what one of them hides, drops or alters has a name."""

import base64

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audit.fsck import fsck
from gateway.audit.holdings import (
    Holding,
    Holdings,
    HoldingsError,
    Outcome,
    Side,
    decode_holdings,
    encode_holdings,
    of_period,
)
from gateway.audit.log_holdings import read_holdings, read_unacknowledged
from gateway.audit.numbering import AWAITED
from gateway.audit.reconciliation import Kind, differ, examine, reconcile
from gateway.audit.sqlite import SqliteStore
from gateway.audit.sqlite_reader import SqliteReader
from gateway.audit.store import prepare_entry
from gateway.audit.tree import leaf_hash
from gateway.evidence.canonical import encode_canonical
from gateway.model.entry import Entry, EntryKind

from .conftest import NOON, ORIGIN

BANK, REGISTRY = "harbour-bank", "registry"


@pytest.fixture
def make_log(tmp_path, identity, sign):
    """Return a function that makes a log of entries with the log's own key, and gives a reader."""
    readers = []

    def make_log(entries):
        path = tmp_path / f"log-{len(readers)}.db"
        with SqliteStore(path) as store:
            store.open(identity, sign)
            for entry in entries:
                store.append([prepare_entry(entry)], sign, NOON)
        assert fsck(path, identity.verifier).findings == ()
        readers.append(SqliteReader(path))
        return readers[-1]

    yield make_log
    for reader in readers:
        reader.close()


@pytest.fixture
def releases(make_entry):
    """Return a function that makes that many releases of the registry to the bank, and one to another."""

    def releases(count, **members):
        own = [
            make_entry(number, consumer=BANK, provider=REGISTRY, sequence=AWAITED, pages=1, **members)
            for number in range(count)
        ]
        return [*own, make_entry(900, consumer="northern-bank", provider=REGISTRY, sequence=AWAITED)]

    return releases


def logged(reader, member=BANK):
    return read_holdings(reader, member, ORIGIN)


def receipts(reader):
    """Return what the bank holds if it was given a receipt for every release in the log."""
    entries = [msgspec.json.decode(reader.entry(at).data, type=Entry) for at in range(reader.size())]
    items = [
        Holding(
            exchange=entry.exchange,
            consumer=entry.consumer,
            provider=entry.provider,
            outcome=Outcome.RELEASED,
            time=entry.time,
            index=index,
            leaf_hash=base64.b64encode(leaf_hash(encode_canonical(entry))).decode(),
            sequence=entry.sequence,
            pages=entry.pages,
        )
        for index, entry in enumerate(entries)
        if entry.kind is EntryKind.EXCHANGE_RELEASED and entry.consumer == BANK
    ]
    return Holdings(Side.CONSUMER, BANK, tuple(items), ORIGIN)


def without(holdings, *exchanges):
    items = tuple(item for item in holdings.items if item.exchange not in exchanges)
    return Holdings(holdings.side, holdings.member, items, holdings.origin)


def unnumbered(holdings):
    items = tuple(msgspec.structs.replace(item, sequence=None) for item in holdings.items)
    return Holdings(holdings.side, holdings.member, items, holdings.origin)


def kinds(found):
    return [item.kind for item in found]


# -- what goes right -------------------------------------------------------------------------------


def test_a_member_that_holds_every_receipt_agrees_with_the_log(make_log, releases):
    reader = make_log(releases(5))
    found = reconcile(receipts(reader), logged(reader))
    assert kinds(found) == [Kind.UNACKNOWLEDGED] * 5
    assert not differ(found)
    assert examine(receipts(reader)) == []


def test_what_was_acknowledged_is_not_named(make_log, releases, make_entry):
    entries = releases(2)
    word = make_entry(
        950,
        kind=EntryKind.EXCHANGE_ACKNOWLEDGED,
        exchange=entries[0].exchange,
        consumer=BANK,
        provider=REGISTRY,
        acknowledges=0,
    )
    reader = make_log([*entries, word])
    [found] = reconcile(receipts(reader), logged(reader))
    assert (found.kind, found.exchange) == (Kind.UNACKNOWLEDGED, entries[1].exchange)
    assert [item.index for item in read_unacknowledged(reader, member=BANK)] == [1]
    assert [item.index for item in read_unacknowledged(reader)] == [1, 2]
    assert [item.index for item in read_unacknowledged(reader, until=NOON)] == []


def test_a_release_that_was_withdrawn_is_not_missed(make_log, releases, make_entry):
    entries = releases(3)
    withdrawal = make_entry(
        960,
        kind=EntryKind.EXCHANGE_FAILED,
        exchange=entries[1].exchange,
        consumer=BANK,
        provider=REGISTRY,
        withdraws=1,
    )
    reader = make_log([*entries, withdrawal])
    held = without(receipts(reader), entries[1].exchange)
    assert not differ(reconcile(held, logged(reader)))
    found = reconcile(receipts(reader), logged(reader))
    assert [(item.kind, item.index) for item in found if item.kind is Kind.DIFFERING] == [(Kind.DIFFERING, 1)]


# -- what the operator may try ---------------------------------------------------------------------


def test_a_withheld_receipt_shows_in_the_numbers_alone(make_log, releases):
    """Control: without numbers the member sees nothing by itself."""
    reader = make_log(releases(5))
    held = without(receipts(reader), receipts(reader).items[2].exchange)
    [found] = examine(held)
    assert (found.kind, found.sequence) == (Kind.OUT_OF_SEQUENCE, 3)
    assert examine(unnumbered(held)) == []


def test_a_withheld_receipt_is_named_by_the_log(make_log, releases):
    reader = make_log(releases(5))
    exchange = receipts(reader).items[2].exchange
    found = [
        item
        for item in reconcile(without(receipts(reader), exchange), logged(reader))
        if item.kind is not Kind.UNACKNOWLEDGED
    ]
    assert [(item.kind, item.exchange, item.index) for item in found] == [(Kind.MISSING, exchange, 2)]


def test_an_exchange_dropped_from_a_log_made_anew_is_found_by_its_receipt(make_log, releases):
    """The operator has the log's key and makes a log without the exchange: fsck finds nothing.

    Control: whoever threw that receipt away, and has no numbers to compare, sees nothing either.
    """
    entries = releases(5)
    held = receipts(make_log(entries))
    dropped = held.items[-1].exchange
    forged = make_log([entry for entry in entries if entry.exchange != dropped])
    found = reconcile(held, logged(forged))
    assert (Kind.EXTRA, dropped) in [(item.kind, item.exchange) for item in found]
    assert differ(found)
    assert not differ(reconcile(without(held, dropped), logged(forged)))


def test_dropping_an_exchange_changes_what_later_receipts_say(make_log, releases):
    """Also when the receipt of the dropped exchange is lost: the later ones were numbered after it."""
    entries = releases(5)
    held = receipts(make_log(entries))
    dropped = held.items[1].exchange
    forged = make_log([entry for entry in entries if entry.exchange != dropped])
    found = reconcile(without(held, dropped), logged(forged))
    assert kinds(found).count(Kind.DIFFERING) == 3
    assert (Kind.OUT_OF_SEQUENCE, 2) in [(item.kind, item.sequence) for item in found]


def test_an_altered_entry_differs_from_its_receipt(make_log, releases):
    entries = releases(3)
    held = receipts(make_log(entries))
    altered = [msgspec.structs.replace(entries[0], purpose="statistics"), *entries[1:]]
    [found] = [item for item in reconcile(held, logged(make_log(altered))) if item.kind is Kind.DIFFERING]
    assert found.exchange == entries[0].exchange
    assert "leaf hash" in found.what


def test_two_receipts_for_one_exchange_differ(make_log, releases):
    held = receipts(make_log(releases(2)))
    second = msgspec.structs.replace(held.items[0], index=7)
    both = Holdings(held.side, held.member, (*held.items, second), held.origin)
    assert Kind.DIFFERING in kinds(examine(both))
    twice = Holdings(held.side, held.member, (*held.items, held.items[0]), held.origin)
    assert examine(twice) == []


@pytest.mark.parametrize(
    ("numbers", "indices", "named"),
    [
        ([1, 2, 3], [0, 1, 2], []),
        ([1, 2, 2], [0, 1, 2], [2]),
        ([2, 3], [0, 1], [1]),
        ([1, 2, 3], [5, 4, 6], [2]),
        ([1, 5], [0, 1], [2, 3, 4]),
    ],
)
def test_numbers_that_are_not_as_they_must_be_are_named(numbers, indices, named):
    items = [
        Holding(
            exchange=f"exchange-{at}",
            consumer=BANK,
            provider=REGISTRY,
            outcome=Outcome.RELEASED,
            time="2026-03-01T12:00:00.000000Z",
            index=index,
            sequence=number,
        )
        for at, (number, index) in enumerate(zip(numbers, indices, strict=True))
    ]
    found = examine(Holdings(Side.CONSUMER, BANK, tuple(items), ORIGIN))
    assert [item.sequence for item in found] == named
    assert set(kinds(found)) <= {Kind.OUT_OF_SEQUENCE}


# -- providers, parts, files -----------------------------------------------------------------------


def deliveries(reader, *left_out):
    items = tuple(
        Holding(
            exchange=item.exchange,
            consumer=item.consumer,
            provider=item.provider,
            outcome=Outcome.DELIVERED,
            time=item.time,
            pages=item.pages,
        )
        for item in logged(reader, REGISTRY).items
        if item.exchange not in left_out
    )
    return Holdings(Side.PROVIDER, REGISTRY, items, ORIGIN)


def test_a_provider_compares_its_deliveries_with_the_log(make_log, releases):
    reader = make_log(releases(3))
    assert reconcile(deliveries(reader), logged(reader, REGISTRY)) == []
    exchange = deliveries(reader).items[0].exchange
    [found] = reconcile(deliveries(reader, exchange), logged(reader, REGISTRY))
    assert (found.kind, found.exchange) == (Kind.MISSING, exchange)


def test_a_delivery_that_the_log_does_not_know_is_extra(make_log, releases):
    entries = releases(3)
    held = deliveries(make_log(entries))
    forged = make_log(entries[1:])
    assert [item.exchange for item in reconcile(held, logged(forged, REGISTRY))] == [entries[0].exchange]


def test_a_consumer_and_a_provider_compare_without_any_log(make_log, releases):
    reader = make_log(releases(3))
    assert reconcile(receipts(reader), deliveries(reader)) == []
    exchange = receipts(reader).items[1].exchange
    [found] = reconcile(receipts(reader), deliveries(reader, exchange))
    assert (found.kind, found.exchange) == (Kind.EXTRA, exchange)
    found = reconcile(without(receipts(reader), exchange), deliveries(reader))
    assert Kind.MISSING in kinds(found)


def test_sides_of_different_logs_are_not_compared(make_log, releases):
    reader = make_log(releases(1))
    with pytest.raises(HoldingsError, match="different logs"):
        reconcile(receipts(reader), read_holdings(reader, BANK, "audit.elsewhere.example/log/x"))


def test_a_part_of_the_time_is_compared_without_its_beginning(make_log, releases):
    reader = make_log(releases(6))
    held, since = receipts(reader), receipts(reader).items[2].time
    part = Holdings(held.side, held.member, of_period(held.items, since, None), held.origin)
    theirs = logged(reader)
    theirs = Holdings(theirs.side, theirs.member, of_period(theirs.items, since, None), theirs.origin)
    assert not differ(reconcile(part, theirs, first_number=None))
    assert examine(part, first_number=None) == []
    assert [item.sequence for item in examine(part)] == [1, 2]


def test_holdings_come_back_from_their_file(make_log, releases):
    reader = make_log(releases(4))
    for holdings in (receipts(reader), logged(reader), deliveries(reader)):
        assert decode_holdings(encode_holdings(holdings)) == holdings


@pytest.mark.parametrize(
    ("at", "line"),
    [
        (0, b""),
        (0, b"{}\n"),
        (1, b"\n"),
        (1, b"[]\n"),
        (1, b'{"exchange":"x"}\n'),
        (1, b"\xff\n"),
        (1, b'{"exchange":"' + b"x" * 20_000 + b'"}\n'),
    ],
)
def test_a_malformed_line_is_refused_by_its_number(make_log, releases, at, line):
    lines = list(encode_holdings(receipts(make_log(releases(2)))))
    lines[at] = line
    with pytest.raises(HoldingsError, match=f"Line {at + 1} "):
        decode_holdings(lines)


@given(st.sets(st.integers(1, 12)), st.integers(1, 12))
def test_whatever_is_withheld_is_named(withheld, total):
    """Except the newest: that there is one more nobody can tell from the numbers before it."""
    items = tuple(
        Holding(
            exchange=f"exchange-{number}",
            consumer=BANK,
            provider=REGISTRY,
            outcome=Outcome.RELEASED,
            time="2026-03-01T12:00:00.000000Z",
            index=number,
            sequence=number,
        )
        for number in range(1, total + 1)
        if number not in withheld
    )
    last = max((item.sequence for item in items), default=0)
    found = {item.sequence for item in examine(Holdings(Side.CONSUMER, BANK, items))}
    assert found == {number for number in withheld if number < last}
