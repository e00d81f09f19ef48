"""Releases are numbered for each pair of members, whichever node appends them."""

from concurrent.futures import ThreadPoolExecutor

import msgspec
import psycopg
import pytest

from gateway.audit.numbering import AWAITED
from gateway.audit.postgres_reader import PostgresReader
from gateway.audit.store import Once, prepare_entry
from gateway.model.entry import Entry
from tests.simulators.entries import NOON, make_entry


def release(consumer="bank-1", provider="registry", once=None):
    return prepare_entry(make_entry(consumer=consumer, provider=provider, sequence=AWAITED), once)


def numbers(address):
    """Return (consumer, provider, sequence) of each entry in the log."""
    with PostgresReader(address) as reader:
        entries = [msgspec.json.decode(reader.entry(at).data, type=Entry) for at in range(reader.size())]
    return [(entry.consumer, entry.provider, entry.sequence) for entry in entries]


def test_each_pair_counts_for_itself(address, open_store, sign, examined):
    store = open_store(address)
    store.append([release("a"), release("b")], sign, NOON)
    appended = store.append([release("a"), release("a", "tax"), release("a")], sign, NOON)
    assert [entry.sequence for entry in appended.entries] == [2, 1, 3]
    assert numbers(address) == [
        ("a", "registry", 1),
        ("b", "registry", 1),
        ("a", "registry", 2),
        ("a", "tax", 1),
        ("a", "registry", 3),
    ]
    assert examined(address).entries == 5


def test_a_release_that_is_refused_takes_no_number(address, open_store, sign, examined):
    once = Once(b"nonce", NOON.replace(hour=13))
    store = open_store(address)
    store.append([release("a", once=once)], sign, NOON)
    appended = store.append([release("a", once=once), release("a")], sign, NOON)
    assert appended.refused == {0}
    assert [entry.sequence for entry in appended.entries] == [2]
    assert examined(address).entries == 2


def test_two_nodes_go_on_from_each_other(address, open_store, sign, examined):
    def appends(store):
        for _ in range(40):
            store.append([release("a"), release("b", "tax")], sign, NOON)

    with ThreadPoolExecutor(2) as nodes:
        list(nodes.map(appends, [open_store(address), open_store(address)]))
    assert [number for consumer, _, number in numbers(address) if consumer == "a"] == list(range(1, 81))
    assert examined(address).entries == 160


def test_numbers_that_an_owner_moves_are_found(server, address, open_store, sign, identity):
    from gateway.audit.postgres_fsck import fsck_database

    open_store(address).append([release("a"), release("a")], sign, NOON)
    with server.owner(address) as owner:
        owner.execute("SET search_path = sluicegate")
        for statement in ("UPDATE pair SET last = 1", "DELETE FROM pair", "TRUNCATE pair"):
            with pytest.raises(psycopg.errors.RestrictViolation):
                owner.execute(statement)
        # The control: without its trigger the number is moved, and found where the log is examined.
        owner.execute("ALTER TABLE pair DISABLE TRIGGER pair_counts_up")
        owner.execute("UPDATE pair SET last = 1")
        owner.execute("ALTER TABLE pair ENABLE ALWAYS TRIGGER pair_counts_up")
    [finding] = fsck_database(address, identity.verifier).findings
    assert "last numbers" in finding.what
