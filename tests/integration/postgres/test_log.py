"""The log in PostgreSQL: what it holds, how nodes share it, and what it refuses."""

import random
import threading
from contextlib import closing, contextmanager
from datetime import timedelta

import psycopg
import pytest

from gateway.audit.blocks import BLOCK_ENTRIES, COLUMNS
from gateway.audit.checkpoint import Checkpoint, sign_checkpoint
from gateway.audit.errors import (
    EntryNotFoundError,
    LogClosedError,
    LogMismatchError,
    LogUnavailableError,
)
from gateway.audit.filter import EVERYTHING, Field, Has, both, since, until
from gateway.audit.filter_parser import parse_filter
from gateway.audit.note import Ed25519Signer
from gateway.audit.postgres import PostgresStore
from gateway.audit.postgres_fsck import fsck_database
from gateway.audit.postgres_reader import PostgresReader
from gateway.audit.proof import TlogProof
from gateway.audit.sqlite import SqliteStore
from gateway.audit.sqlite_reader import SqliteReader
from gateway.audit.store import LogIdentity, Once, prepare_entry
from gateway.audit.tree import leaf_hash
from gateway.audit.writer import AuditLog
from gateway.database import PostgresAddress
from gateway.database.errors import DatabaseRefusedError
from gateway.database.migration import inspect_schema, newest_revision
from gateway.database.privileges import APPEND_ONLY, GUARDS, PRIVILEGES
from gateway.database.session import SCHEMA_REVISION
from gateway.model.entry import EntryKind
from tests.simulators.entries import NOON, ORIGIN, make_entry
from tests.simulators.postgres import ROLE
from tests.simulators.waiting import wait_until

pytestmark = pytest.mark.postgres


def test_the_version_this_release_knows_is_the_newest_there_is():
    assert newest_revision() == SCHEMA_REVISION


def test_the_table_of_entries_has_the_columns_that_entries_are_found_by(server, address):
    with server.owner(address) as connection:
        rows = connection.execute(
            "SELECT column_name FROM information_schema.columns WHERE table_name = 'entry'"
            " ORDER BY ordinal_position"
        ).fetchall()
    assert [name for (name,) in rows] == ["idx", "hash", *COLUMNS, "data"]


def test_appends_of_every_size_make_the_tree_that_sqlite_makes(
    address, open_store, sign, identity, batch, examined, tmp_path
):
    store = open_store(address)
    with SqliteStore(tmp_path / "audit.db") as other:
        other.open(identity, sign)
        first = 0
        for count in (1, 2, 253, 1, 255, 256, 257, 700, 3):
            pending = batch(first, count)
            mine, theirs = store.append(pending, sign, NOON), other.append(pending, sign, NOON)
            assert (mine.note, mine.batch.first, mine.refused) == (theirs.note, first, frozenset())
            first += count
    assert examined(address).entries == first
    with PostgresReader(address) as reader, SqliteReader(tmp_path / "audit.db") as expected:
        for index, size in ((0, first), (255, 256), (256, 700), (first - 1, first)):
            assert reader.inclusion_proof(index, size) == expected.inclusion_proof(index, size)
        for old, new in ((0, 1), (256, 768), (700, first)):
            assert reader.consistency_proof(old, new) == expected.consistency_proof(old, new)
        for level, number, width in ((0, 0, 256), (0, 0, 7), (0, 6, 100), (1, 0, 6)):
            assert reader.tile(level, number, width) == expected.tile(level, number, width)
        assert reader.checkpoint_at(256) == expected.checkpoint_at(256)


def test_tiles_above_the_first_level_hold_what_earlier_transactions_brought(
    address, open_store, sign, batch, examined
):
    store = open_store(address)
    first = 0
    while first < 65_536 + 300:
        store.append(batch(first, 5_000), sign, NOON)
        first += 5_000
    assert examined(address).entries == first
    with PostgresReader(address) as reader:
        assert len(reader.tile(1, 0, 256)) == 256 * 32
        assert len(reader.tile(2, 0, 1)) == 32


def test_a_search_finds_what_it_finds_in_sqlite(address, open_store, sign, identity, tmp_path):
    store = open_store(address)
    chance, count = random.Random(3), BLOCK_ENTRIES + 900
    contracts = [f"sha256:{number:064x}" for number in range(3)]
    entries = [
        make_entry(
            number,
            kind=chance.choice([EntryKind.EXCHANGE_RELEASED, EntryKind.EXCHANGE_DENIED]),
            reasons=tuple(chance.sample(["A", "B", "AB"], chance.randrange(3))),
            tier=chance.choice(["", "open", "closed"]),
            purpose=chance.choice(["", "research"]),
            contract=chance.choice(["", *contracts]),
        )
        for number in range(count)
    ]
    with SqliteStore(tmp_path / "audit.db") as other:
        other.open(identity, sign)
        for target in (store, other):
            # Of batches that end anywhere, and one of which fills the block of the search.
            for start in range(0, count, 700):
                pending = [prepare_entry(entry) for entry in entries[start : start + 700]]
                target.append(pending, sign, NOON)
    filters = [
        EVERYTHING,
        parse_filter("kind = exchange.denied"),
        both(parse_filter("member = bank-1"), Has(Field.REASON, "A")),
        parse_filter("dataset = members/registry/datasets/set-2 AND NOT tier = open"),
        parse_filter(f"exchange = {entries[77].exchange}"),
        both(since(NOON + timedelta(milliseconds=300)), until(NOON + timedelta(milliseconds=600))),
        parse_filter("purpose = research OR NOT tier:*"),
        Has(Field.REASON, "B%"),
        parse_filter(f"contract = {contracts[1]} AND member = bank-1"),
        parse_filter("NOT contract:*"),
    ]
    with PostgresReader(address) as reader, SqliteReader(tmp_path / "audit.db") as expected:
        assert reader.identity() == expected.identity()
        assert reader.entries(4090, 4100) == expected.entries(4090, 4100)
        for wanted in filters:
            for before in (None, 0, 300, 4999):
                assert reader.find(wanted, 40, before) == expected.find(wanted, 40, before)
            for start in (0, 250, 4090):
                assert reader.follow(wanted, 40, start, 4990) == expected.follow(wanted, 40, start, 4990)
        assert reader.find(filters[1], 40), "the control: something is found"
        assert reader.entry(5) == expected.entry(5)
        for missing in (
            lambda: reader.entry(count),
            lambda: reader.entries(count - 1, count + 1),
            lambda: reader.checkpoint_at(7),
            lambda: reader.inclusion_proof(1, count + 1),
            lambda: reader.tile(0, 19, 256),
        ):
            with pytest.raises(EntryNotFoundError):
                missing()


def test_entries_are_found_by_contract_in_a_block_that_an_earlier_release_has_summed_up(
    server, address, open_store, sign, identity
):
    store, contract = open_store(address), f"sha256:{5:064x}"
    count = 2 * BLOCK_ENTRIES + 10
    pending = [
        prepare_entry(make_entry(number, contract=contract if number % 500 == 0 else ""))
        for number in range(count)
    ]
    for start in range(0, count, 2000):
        store.append(pending[start : start + 2000], sign, NOON)
    change_as_owner(server, address, "DELETE FROM block_term WHERE term LIKE 'contract=%' AND number = 0")
    wanted = Has(Field.CONTRACT, contract)
    with PostgresReader(address) as reader:
        assert [at for found in reader.scan(wanted, 0, count) for at in found.indices] == list(
            range(0, count, 500)
        )
        change_as_owner(
            server,
            address,
            "UPDATE block_term SET bits = set_bit(bits, 404, 0) WHERE term = 'contract=" + contract + "'",
        )
        found = [at for many in reader.scan(wanted, 0, count) for at in many.indices]
    # The control: of the second block, the summary is asked.
    assert found == [index for index in range(0, count, 500) if index != 4500]


def test_a_closed_log_takes_no_more_entries(address, open_store, sign, batch, examined):
    """Neither from the node that closed it, nor from one that has it open, nor from one that opens it."""
    store, other = open_store(address), open_store(address)
    closing = prepare_entry(make_entry(2, kind=EntryKind.LOG_CLOSED))
    with pytest.raises(LogClosedError, match="Nothing may follow"):
        store.append([closing, *batch(3, 1)], sign, NOON)
    store.append([*batch(0, 2), closing], sign, NOON)
    for node in (store, other):
        with pytest.raises(LogClosedError, match="was closed"):
            node.append(batch(3, 1), sign, NOON)
        with pytest.raises(LogClosedError, match="was closed"):
            node.probe()
    with pytest.raises(LogClosedError, match="was closed"):
        open_store(address)
    assert examined(address).entries == 3


def test_a_receipts_proof_verifies(address, open_store, sign, batch, signer):
    store = open_store(address)
    store.append(batch(0, 300), sign, NOON)
    with PostgresReader(address) as reader:
        data, note = reader.entry(17).data, reader.checkpoint()
        proof = TlogProof(17, reader.inclusion_proof(17, 300), note, None)
    proof.verify(leaf_hash(data), [signer.verifier], origin=ORIGIN)


def test_two_nodes_append_to_one_tree_without_gap_or_double(address, signer, examined):
    """Each acknowledged entry stands where its node was told, under a checkpoint that covers it."""
    acknowledged: list[tuple[int, bytes]] = []
    nodes = [AuditLog(PostgresStore(address), signer, origin=ORIGIN, clock=lambda: NOON) for _ in range(2)]

    def append(log, start):
        for number in range(start, start + 60):
            done = log.append_sync(make_entry(number))
            acknowledged.append((done.index, done.leaf_hash))

    threads = [
        threading.Thread(target=append, args=(nodes[at % 2], at * 1000), daemon=True) for at in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for log in nodes:
        log.close()
    assert sorted(index for index, _ in acknowledged) == list(range(480))
    assert examined(address).entries == 480
    with PostgresReader(address) as reader:
        assert all(leaf_hash(reader.entry(index).data) == hashed for index, hashed in acknowledged)


def test_a_node_that_slept_while_another_appended_much_goes_on(address, open_store, sign, batch, examined):
    sleeper, busy = open_store(address), open_store(address)
    sleeper.append(batch(0, 3), sign, NOON)
    busy.append(batch(3, 6000), sign, NOON)
    assert sleeper.append(batch(6003, 1), sign, NOON).batch.first == 6003
    busy.append(batch(6004, 2), sign, NOON)
    assert examined(address).entries == 6006


def test_two_nodes_that_make_the_log_at_once_make_one(address, identity, sign, batch, examined):
    stores = [PostgresStore(address) for _ in range(4)]
    threads = [threading.Thread(target=store.open, args=(identity, sign)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for at, store in enumerate(stores):
        with closing(store):
            assert store.append(batch(at, 1), sign, NOON).batch.first == at
    assert examined(address).checkpoints == 5


def test_a_once_key_is_taken_on_every_node_until_it_expires(address, open_store, sign, batch):
    here, there = open_store(address), open_store(address)
    claim = Once(b"nonce", NOON + timedelta(minutes=5))
    assert here.append(batch(0, 1, claim), sign, NOON).refused == frozenset()
    assert there.append(batch(1, 1, claim), sign, NOON).refused == {0}
    mixed = [*batch(2, 1), *batch(3, 1, claim), *batch(4, 1, Once(b"other", claim.until))]
    done = there.append(mixed, sign, NOON)
    assert (done.refused, done.batch.first, len(done.batch.leaf_hashes)) == ({1}, 1, 2)
    late = NOON + timedelta(minutes=6)
    assert here.append(batch(5, 1, Once(b"nonce", late)), sign, late).refused == frozenset()


def test_within_one_batch_only_the_first_claim_of_a_key_counts(address, open_store, sign, batch):
    store = open_store(address)
    claim = Once(b"nonce", NOON + timedelta(minutes=5))
    done = store.append([*batch(0, 1, claim), *batch(1, 1, claim), *batch(2, 1)], sign, NOON)
    assert done.refused == {1}
    expired = Once(b"past", NOON - timedelta(seconds=1))
    again = [*batch(3, 1, expired), *batch(4, 1, expired), *batch(5, 1, Once(b"past", claim.until))]
    assert store.append(again, sign, NOON).refused == frozenset(), "as if one came after the other"
    assert store.append(batch(6, 1, Once(b"past", claim.until)), sign, NOON).refused == {0}


def test_expired_once_keys_go(server, address, open_store, sign, batch):
    store = open_store(address)
    for number in range(3):
        now = NOON + timedelta(seconds=number * 10)
        store.append(batch(number, 1, Once(bytes([number]), now + timedelta(seconds=5))), sign, now)
    with server.owner(address) as connection:
        assert connection.execute("SELECT key FROM sluicegate.once").fetchall() == [(b"\x02",)]


def test_another_key_or_origin_is_refused(address, open_store, sign, signer):
    open_store(address)
    stranger = Ed25519Signer.from_seed(ORIGIN, bytes(32))
    elsewhere = Ed25519Signer.from_seed("audit.example.org/log/2027", bytes(range(32)))
    for other in (stranger, elsewhere):
        with closing(PostgresStore(address)) as store, pytest.raises(LogMismatchError, match="origin or key"):
            store.open(LogIdentity(other.name, other.verifier), sign)


# -- what the server, the schema and the role must be --------------------------------------------


def _probe_succeeds(store):
    try:
        store.probe()
    except (LogUnavailableError, DatabaseRefusedError):
        return False
    return True


@contextmanager
def setting(server, **values):
    server.configure(**values)
    try:
        yield
    finally:
        server.configure(**dict.fromkeys(values, "on"))


@pytest.mark.parametrize("name", ["fsync", "full_page_writes"])
def test_a_server_that_may_lose_what_it_acknowledges_is_refused(server, address, open_store, name):
    open_store(address)
    with setting(server, **{name: "off"}), pytest.raises(DatabaseRefusedError, match=name):
        open_store(address)
    open_store(address)


@pytest.mark.parametrize("name", ["fsync", "full_page_writes"])
def test_a_server_that_is_changed_while_nodes_run_gets_no_more_entries(
    server, address, open_store, sign, batch, examined, name
):
    store = open_store(address)
    store.append(batch(0, 1), sign, NOON)
    with setting(server, **{name: "off"}):
        wait_until(lambda: store._connection.execute(f"SHOW {name}").fetchone() == ("off",))
        with pytest.raises(LogUnavailableError, match="fsync"):
            store.append(batch(1, 1), sign, NOON)
        with pytest.raises(LogUnavailableError):
            store.probe()
    wait_until(lambda: _probe_succeeds(store))
    assert store.append(batch(1, 1), sign, NOON).batch.first == 1
    assert examined(address).entries == 2


def test_a_role_that_is_set_to_commit_without_flushing_commits_with_it(
    server, address, open_store, sign, batch
):
    with server.admin() as connection:
        connection.execute(f"ALTER ROLE {ROLE} SET synchronous_commit = off")
        try:
            store = open_store(address)
            shown = store._connection.execute("SHOW synchronous_commit").fetchone()
            store.append(batch(0, 1), sign, NOON)
        finally:
            connection.execute(f"ALTER ROLE {ROLE} RESET synchronous_commit")
    assert shown == ("on",)


def test_a_database_without_schema_or_with_another_is_refused(server, identity, sign):
    address = server.empty_database()
    with closing(PostgresStore(address)) as store, pytest.raises(DatabaseRefusedError, match="migrate"):
        store.open(identity, sign)
    assert inspect_schema(address).revision is None
    address = server.database()
    with server.owner(address) as connection:
        connection.execute("UPDATE sluicegate.alembic_version SET version_num = '9999'")
    with closing(PostgresStore(address)) as store, pytest.raises(DatabaseRefusedError, match="9999"):
        store.open(identity, sign)
    with pytest.raises(LogMismatchError, match="9999"):
        PostgresReader(address)


@pytest.mark.parametrize(
    ("excess", "told"),
    [
        ("GRANT UPDATE ON sluicegate.entry TO {role}", "UPDATE on entry"),
        ("GRANT UPDATE (data) ON sluicegate.entry TO {role}", "UPDATE on entry"),
        ("GRANT DELETE ON sluicegate.tile TO {role}", "DELETE on tile"),
        ("GRANT TRUNCATE ON sluicegate.checkpoint TO {role}", "TRUNCATE on checkpoint"),
        ("GRANT TRIGGER ON sluicegate.head TO PUBLIC", "TRIGGER on head"),
        ("GRANT CREATE ON SCHEMA sluicegate TO {role}", "create objects"),
        ("GRANT sluicegate_owner TO {role}", "owns table"),
        ("GRANT pg_write_all_data TO {role}", "pg_write_all_data"),
        ("ALTER ROLE {role} CREATEROLE", "may create roles"),
        ("ALTER ROLE {role} SUPERUSER", "superuser"),
    ],
)
def test_a_role_that_may_do_too_much_is_refused(server, identity, sign, excess, told):
    address = server.database()
    name = psycopg.conninfo.conninfo_to_dict(address.url)["dbname"]
    with server.admin(name) as connection:
        connection.execute(excess.format(role=ROLE))
        try:
            with closing(PostgresStore(address)) as store, pytest.raises(DatabaseRefusedError, match=told):
                store.open(identity, sign)
            assert not inspect_schema(address).sound
        finally:
            connection.execute(f"ALTER ROLE {ROLE} NOCREATEROLE NOSUPERUSER")
            connection.execute(f"REVOKE sluicegate_owner, pg_write_all_data FROM {ROLE}")


def test_the_role_of_the_gateway_cannot_change_what_is_logged(address, open_store, sign, batch):
    store = open_store(address)
    store.append(batch(0, 300), sign, NOON)
    with psycopg.connect(**address.parameters(), autocommit=True) as connection:
        connection.execute("SET search_path = sluicegate")
        columns = {
            "log": "origin",
            "checkpoint": "note",
            "entry": "data",
            "published": "note",
            "erasure": "salt",
            "erased": "entry",
            "policy_file": "bundle",
            "policy_proposal": "statement",
        }
        for table in APPEND_ONLY:
            column = columns.get(table, "number")
            for statement in (
                f"UPDATE {table} SET {column} = {column}",
                f"DELETE FROM {table}",
                f"TRUNCATE {table}",
                f"ALTER TABLE {table} DISABLE TRIGGER ALL",
                f"DROP TABLE {table}",
                "SET session_replication_role = replica",
            ):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(statement)
        assert connection.execute("SELECT count(*) FROM entry").fetchone() == (300,), "the control"


def test_triggers_refuse_even_a_careless_owner(server, address, open_store, sign, batch):
    open_store(address).append(batch(0, 300), sign, NOON)
    with server.owner(address) as connection:
        connection.execute("SET search_path = sluicegate")
        for table in APPEND_ONLY:
            for statement in (f"DELETE FROM {table}", f"TRUNCATE {table}"):
                with pytest.raises(psycopg.errors.RestrictViolation, match="append-only"):
                    connection.execute(statement)
        for statement in (
            "UPDATE entry SET data = ''",
            "UPDATE head SET size = size - 1",
            "UPDATE head SET size = size",
            "DELETE FROM head",
            "TRUNCATE head",
        ):
            with pytest.raises(psycopg.errors.RestrictViolation):
                connection.execute(statement)
        # The control: without its trigger, the same statement does its damage.
        connection.execute("ALTER TABLE entry DISABLE TRIGGER entry_is_append_only")
        assert connection.execute("UPDATE entry SET data = '{}' WHERE idx = 7").rowcount == 1


def test_a_guard_that_was_taken_away_stops_the_node_and_is_a_finding(
    server, address, open_store, identity, sign
):
    open_store(address)
    with server.owner(address) as connection:
        connection.execute("ALTER TABLE sluicegate.entry DISABLE TRIGGER entry_is_append_only")
    with pytest.raises(DatabaseRefusedError, match="entry_is_append_only"):
        open_store(address)
    report = fsck_database(address, identity.verifier)
    assert [finding.place for finding in report.findings] == ["database"]
    with server.owner(address) as connection:
        connection.execute("ALTER TABLE sluicegate.entry ENABLE TRIGGER entry_is_append_only")
    with pytest.raises(DatabaseRefusedError):
        # A trigger that a session may switch off for itself is no guard.
        open_store(address)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE entry SET data = overlay(data PLACING '\\x31' FROM 30) WHERE idx = 41",
        "UPDATE entry SET data = e.data, hash = e.hash FROM entry AS e WHERE entry.idx = 8 AND e.idx = 7",
        "DELETE FROM entry WHERE idx = 41",
        "DELETE FROM entry WHERE idx = 299",
        "UPDATE entry SET consumer = 'nobody' WHERE idx = 41",
        "UPDATE tile SET hashes = overlay(hashes PLACING '\\x00' FROM 5)",
        "DELETE FROM tile",
        "DELETE FROM checkpoint WHERE size = 300",
        "UPDATE checkpoint SET note = replace(note, '300', '301') WHERE size = 300",
        f"INSERT INTO entry SELECT 300, hash, {', '.join(COLUMNS)}, data FROM entry WHERE idx = 5",
        "UPDATE head SET size = 299",
    ],
)
def test_what_an_owner_changes_is_found(server, address, open_store, sign, batch, identity, examined, damage):
    open_store(address).append(batch(0, 300), sign, NOON)
    examined(address)
    change_as_owner(server, address, damage)
    found = fsck_database(address, identity.verifier).findings
    assert [finding for finding in found if "guard" not in finding.what]


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM block",
        "DELETE FROM block_term WHERE term = 'consumer=bank-1'",
        "UPDATE block_term SET bits = set_bit(bits, 1, 0) WHERE term = 'consumer=bank-1'",
        "UPDATE block SET last_time = first_time",
    ],
)
def test_what_an_owner_changes_in_the_search_is_found(
    server, address, open_store, sign, batch, identity, examined, damage
):
    open_store(address).append(batch(0, BLOCK_ENTRIES + 1), sign, NOON)
    examined(address)
    change_as_owner(server, address, damage)
    found = fsck_database(address, identity.verifier).findings
    assert [finding for finding in found if "guard" not in finding.what]


def change_as_owner(server, address, damage):
    """Do what somebody can who owns the tables: switch off the guards, and on again."""
    with server.owner(address) as connection:
        connection.execute("SET search_path = sluicegate")
        for table in (*APPEND_ONLY, "head"):
            connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER ALL")
        assert connection.execute(damage).rowcount > 0, "the damage must hit something"
        for table in (*APPEND_ONLY, "head"):
            connection.execute(f"ALTER TABLE {table} ENABLE TRIGGER ALL")
            for guarded, guard in sorted(GUARDS):
                if guarded == table:
                    connection.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {guard}")


def test_a_head_that_was_moved_without_the_key_is_not_built_upon(
    server, address, open_store, sign, batch, identity
):
    """Somebody who may write to the tables cannot have the log's key sign what he has put there."""
    store = open_store(address)
    store.append(batch(0, 3), sign, NOON)
    forger = open_store(address)
    forged = Ed25519Signer.from_seed(ORIGIN, bytes(32))
    # His checkpoint is not signed by the log's key; the database takes it all the same.
    forger.append(
        batch(3, 1), lambda size, root: sign_checkpoint(Checkpoint(ORIGIN, size, root), forged), NOON
    )
    with pytest.raises(LogMismatchError):
        store.append(batch(4, 1), sign, NOON)
    with pytest.raises(LogMismatchError):
        store.probe()
    assert fsck_database(address, identity.verifier).findings


def test_a_log_that_went_back_is_refused_for_good(server, address, open_store, sign, batch):
    store = open_store(address)
    store.append(batch(0, 5), sign, NOON)
    with server.owner(address) as connection:
        connection.execute("SET search_path = sluicegate")
        rows = connection.execute("SELECT size, frontier, note FROM head").fetchone()
    store.append(batch(5, 5), sign, NOON)
    with server.owner(address) as connection:
        connection.execute("SET search_path = sluicegate")
        for table in (*APPEND_ONLY, "head"):
            connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER ALL")
        connection.execute("DELETE FROM entry WHERE idx >= 5")
        connection.execute("DELETE FROM checkpoint WHERE size > 5")
        connection.execute("UPDATE head SET size = %s, frontier = %s, note = %s", rows)
    for _ in range(2):
        with pytest.raises(LogUnavailableError, match=r"lost entries|Guards"):
            store.append(batch(5, 1), sign, NOON)


def test_the_rights_of_the_role_are_those_that_are_documented(server, address):
    with server.owner(address) as connection:
        rows = connection.execute(
            "SELECT table_name, array_agg(privilege_type::text)"
            " FROM information_schema.role_table_grants WHERE grantee = %s AND table_schema = 'sluicegate'"
            " GROUP BY table_name",
            (ROLE,),
        ).fetchall()
    assert {table: sorted(rights) for table, rights in rows} == {
        table: sorted(rights) for table, rights in PRIVILEGES.items()
    }


def test_the_wrong_password_is_told_without_it(server, address, tmp_path):
    wrong = tmp_path / "pgpass"
    wrong.write_text("*:*:*:*:canary-3340\n")
    wrong.chmod(0o600)

    other = PostgresAddress.parse(address.url.replace(str(server.passfile), str(wrong)))
    with pytest.raises(LogUnavailableError) as caught:
        PostgresReader(other)
    assert "canary" not in caught.value.message
    assert caught.value.__cause__.__cause__ is None
