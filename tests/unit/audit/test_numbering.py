"""Releases are numbered for each pair of members: given by the log, within the transaction, without a gap."""

import sqlite3
from contextlib import closing

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audit.errors import LogUnavailableError
from gateway.audit.fsck import fsck
from gateway.audit.numbering import AWAITED, Numbering, fill_number
from gateway.audit.remote import RemoteLog
from gateway.audit.sqlite import SqliteStore
from gateway.audit.sqlite_reader import SqliteReader
from gateway.audit.store import Once, prepare_entry
from gateway.audit.tree import leaf_hash
from gateway.errors import GatewayError
from gateway.evidence.canonical import encode_canonical
from gateway.local_socket import listen_locally
from gateway.model.entry import Entry, EntryKind
from tests.simulators.log_faults import entries_refused

from .conftest import NOON, ORIGIN
from .test_service import connected, serving

TEXT = st.text(max_size=40)


@pytest.fixture
def release(make_entry):
    def release(consumer="bank-1", provider="registry", number=0, **members):
        return make_entry(number, consumer=consumer, provider=provider, sequence=AWAITED, **members)

    return release


@pytest.fixture
def opened(store, identity, sign):
    store.open(identity, sign)
    return store


def numbers(path):
    """Return (consumer, provider, sequence) of each release in the log."""
    with SqliteReader(path) as reader:
        entries = [msgspec.json.decode(reader.entry(at).data, type=Entry) for at in range(reader.size())]
    return [
        (entry.consumer, entry.provider, entry.sequence)
        for entry in entries
        if entry.kind is EntryKind.EXCHANGE_RELEASED
    ]


# -- the leaf --------------------------------------------------------------------------------------


@given(st.integers(1, 2**53 - 1), TEXT, st.dictionaries(st.sampled_from(["sequence", "a"]), TEXT))
def test_the_number_is_filled_in_where_the_entry_would_have_it(number, text, nested):
    entry = Entry(
        v=1,
        kind=EntryKind.EXCHANGE_RELEASED,
        time="",
        sequence=AWAITED,
        purpose=text + '"sequence":0',
        obligations={**nested, "sequence": "0"},
        acknowledgement='{"sequence":0}',
    )
    filled = fill_number(encode_canonical(entry), number)
    assert filled == encode_canonical(msgspec.structs.replace(entry, sequence=number))


def test_an_entry_that_awaits_no_number_cannot_be_given_one(make_entry):
    with pytest.raises(ValueError, match="not found"):
        fill_number(encode_canonical(make_entry()), 1)


def test_only_the_log_gives_numbers(make_entry):
    with pytest.raises(GatewayError, match="numbers"):
        prepare_entry(make_entry(sequence=1))
    with pytest.raises(GatewayError, match="numbers"):
        prepare_entry(make_entry(kind=EntryKind.EXCHANGE_DENIED, sequence=AWAITED))


# -- the store -------------------------------------------------------------------------------------


def test_each_pair_counts_for_itself(opened, path, sign, release):
    opened.append([prepare_entry(release("a")), prepare_entry(release("b"))], sign, NOON)
    appended = opened.append(
        [prepare_entry(release("a")), prepare_entry(release("a", "tax")), prepare_entry(release("a"))],
        sign,
        NOON,
    )
    assert [entry.sequence for entry in appended.entries] == [2, 1, 3]
    assert [entry.leaf_hash for entry in appended.entries] == [
        leaf_hash(entry.data) for entry in appended.entries
    ]
    assert numbers(path) == [
        ("a", "registry", 1),
        ("b", "registry", 1),
        ("a", "registry", 2),
        ("a", "tax", 1),
        ("a", "registry", 3),
    ]


def test_a_release_that_is_refused_takes_no_number(opened, path, sign, release):
    once = Once(b"nonce", NOON.replace(hour=13))
    opened.append([prepare_entry(release("a"), once)], sign, NOON)
    appended = opened.append([prepare_entry(release("a"), once), prepare_entry(release("a"))], sign, NOON)
    assert appended.refused == {0}
    assert [entry.sequence for entry in appended.entries] == [2]


def test_a_transaction_that_fails_takes_no_number(opened, path, identity, sign, release):
    opened.append([prepare_entry(release("a"))], sign, NOON)
    with entries_refused(path, EntryKind.EXCHANGE_RELEASED), pytest.raises(LogUnavailableError):
        opened.append([prepare_entry(release("a"))], sign, NOON)
    opened.append([prepare_entry(release("a"))], sign, NOON)
    assert [number for *_, number in numbers(path)] == [1, 2]
    assert fsck(path, identity.verifier).findings == ()


def test_two_writers_of_one_file_go_on_from_each_other(opened, path, identity, sign, release):
    with SqliteStore(path) as other:
        other.open(identity, sign)
        for _ in range(3):
            opened.append([prepare_entry(release("a"))], sign, NOON)
            other.append([prepare_entry(release("a")), prepare_entry(release("a"))], sign, NOON)
    assert [number for *_, number in numbers(path)] == list(range(1, 10))
    assert fsck(path, identity.verifier).findings == ()


def test_numbers_go_on_after_a_restart(opened, path, identity, sign, release):
    opened.append([prepare_entry(release("a"))], sign, NOON)
    opened.close()
    opened.open(identity, sign)
    opened.append([prepare_entry(release("a"))], sign, NOON)
    assert [number for *_, number in numbers(path)] == [1, 2]


def test_releases_without_a_number_stand_before_the_first_numbered_one(
    opened, path, identity, sign, make_entry, release
):
    opened.append([prepare_entry(make_entry(consumer="a")), prepare_entry(release("a"))], sign, NOON)
    assert [number for *_, number in numbers(path)] == [None, 1]
    assert fsck(path, identity.verifier).findings == ()
    opened.append([prepare_entry(make_entry(consumer="b"))], sign, NOON)
    assert [finding.index for finding in fsck(path, identity.verifier).findings] == [2]


@pytest.mark.parametrize(
    "statement", ["UPDATE pair SET last = 1", "UPDATE pair SET provider = 'tax'", "DELETE FROM pair"]
)
def test_the_kept_numbers_only_grow(opened, path, sign, release, statement):
    opened.append([prepare_entry(release("a")), prepare_entry(release("a"))], sign, NOON)
    with closing(sqlite3.connect(path)) as connection, pytest.raises(sqlite3.IntegrityError):
        connection.execute(statement)


# -- several processes -----------------------------------------------------------------------------


async def test_workers_get_the_numbers_that_stand_in_the_log(path, signer, clock, release):
    listener, address = listen_locally()
    with closing(listener):
        async with (
            serving(path, signer, clock, listener),
            connected(address) as one,
            connected(address) as two,
        ):
            logs: list[RemoteLog] = [one, two]
            futures = [logs[at % 2].append(release("a", number=at)) for at in range(60)]
            committed = [await future for future in futures]
    assert sorted(found.sequence for found in committed) == list(range(1, 61))
    with SqliteReader(path) as reader:
        for found in committed:
            assert reader.entry(found.index).data == found.data
            assert found.leaf_hash == leaf_hash(found.data)
    assert fsck(path, signer.verifier).findings == ()


# -- what an operator might do ---------------------------------------------------------------------


def forged(path, identity, sign, entries):
    """Make a log in which the operator's own program gave the numbers, hashes and signatures."""
    from gateway.audit.blocks import IndexRow
    from gateway.audit.store import PendingEntry

    with SqliteStore(path) as store:
        store.open(identity, sign)
        for entry in entries:
            data = encode_canonical(entry)
            store.append([PendingEntry(data, leaf_hash(data), IndexRow.of(entry), None)], sign, NOON)
    with closing(sqlite3.connect(path)) as connection, connection:
        numbering = Numbering()
        for entry in entries:
            numbering.find_fault(entry)
        for pair, last in numbering.last.items():
            connection.execute("INSERT INTO pair VALUES (?, ?, ?)", (*pair, last))
    return [finding.what for finding in fsck(path, identity.verifier).findings]


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ([1, 2, 3], []),
        ([1, 3], ["this release has the number 3 of its pair of members, not 2"]),
        ([1, 1], ["this release has the number 1 of its pair of members, not 2"]),
        ([1, None, 2], ["this release has no number, though earlier ones have"]),
        ([None, 1, 2], []),
        ([2], ["this release has the number 2 of its pair of members, not 1"]),
        ([0], ["this release has the number 0 of its pair of members, not 1"]),
    ],
)
def test_fsck_follows_the_numbers(path, identity, sign, make_entry, given, found):
    entries = [make_entry(at, consumer="a", sequence=number) for at, number in enumerate(given)]
    assert forged(path, identity, sign, entries) == found


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b"]),
            st.sampled_from([None, 0, 1, 1, 2, 2, 3, 4]),
            st.sampled_from([EntryKind.EXCHANGE_RELEASED] * 4 + [EntryKind.EXCHANGE_DENIED, None]),
        ),
        max_size=8,
    ),
    st.integers(0, 8),
)
def test_numbers_taken_together_are_those_taken_one_by_one(given, middle):
    entries = [
        kind and Entry(v=1, kind=kind, time="", consumer=consumer, sequence=number)
        for consumer, number, kind in given
    ]
    together, single = Numbering(), Numbering()
    for chunk in (entries[:middle], entries[middle:]):
        faults = [single.find_fault(entry) for entry in chunk if entry is not None]
        if together.take_sound(chunk):
            assert not any(faults)
        else:
            assert [together.find_fault(entry) for entry in chunk if entry is not None] == faults
        assert together.last == single.last


def test_sound_numbers_are_taken_together():
    """The control: if they never were, both ways would agree for nothing."""
    entries = [
        Entry(v=1, kind=EntryKind.EXCHANGE_RELEASED, time="", consumer=f"bank-{at % 3}", sequence=at // 3 + 1)
        for at in range(30)
    ]
    numbering = Numbering()
    assert numbering.take_sound(entries)
    assert not numbering.take_sound(entries)
    assert set(numbering.last.values()) == {10}


def test_fsck_finds_a_number_on_what_is_no_release(path, identity, sign, make_entry):
    entry = make_entry(kind=EntryKind.EXCHANGE_FAILED, sequence=1)
    assert forged(path, identity, sign, [entry]) == ["it has a number, which only releases have"]


def test_fsck_finds_a_kept_number_that_was_set_back(opened, path, identity, sign, release, tamper):
    """Set back, it would give numbers twice. Control: the log as it was has no finding."""
    opened.append([prepare_entry(release("a")), prepare_entry(release("a"))], sign, NOON)
    opened.close()
    assert fsck(path, identity.verifier).findings == ()
    tamper(path, "UPDATE pair SET last = 1")
    [finding] = fsck(path, identity.verifier).findings
    assert finding.place == "index"


def test_a_number_changed_in_the_leaf_no_longer_fits_the_tree(opened, path, identity, sign, release, tamper):
    opened.append([prepare_entry(release("a"))], sign, NOON)
    opened.close()
    tamper(path, """UPDATE entry SET data = CAST(replace(data, '"sequence":1', '"sequence":2') AS BLOB)""")
    places = {finding.place for finding in fsck(path, identity.verifier).findings}
    assert {"entry", "checkpoint"} <= places
    assert identity.origin == ORIGIN
