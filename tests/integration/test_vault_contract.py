"""What a vault keeps and gives back, the same in SQLite and in PostgreSQL."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from datetime import timedelta

import pytest

from gateway.errors import ConfigError, Reason
from gateway.model.contract import ContractState, Held
from gateway.sources.cursor import CursorError, CursorSeal
from gateway.sources.source import FetchRequest
from gateway.vault import BatchError, RecordError, RecordsDestroyedError, Upkeep
from gateway.vault.dataset import HeldDataset
from gateway.vault.errors import VaultAlteredError, VaultUnavailableError
from gateway.vault.kek import KeyFile
from gateway.vault.keys import DataKeys, rotate_kek
from gateway.vault.postgres import PostgresEngine
from gateway.vault.sqlite import SqliteEngine
from tests.simulators.clock import MovableClock
from tests.simulators.postgres import running_postgres
from tests.simulators.vault import LOANS, OpenedVault, contract, described, lines, loan

TERMS = contract()
FIELDS = ("uscc", "number", "status", "amount")


@pytest.fixture(scope="module")
def server():
    with running_postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def open_engine(request, tmp_path):
    """Return a function that opens the vault, as another process would."""
    if request.param == "sqlite":
        return lambda: SqliteEngine(tmp_path / "vault.db")
    address = request.getfixturevalue("server").database()
    return lambda: PostgresEngine(address)


@pytest.fixture
def clock():
    return MovableClock()


@pytest.fixture
def vault(open_engine, tmp_path, clock):
    with closing(open_engine()) as engine:
        yield OpenedVault(engine, tmp_path, clock)


def held(vault, name="acme-harbour") -> HeldDataset:
    return HeldDataset(vault.reader, vault.holding(name), CursorSeal(b"c" * 32))


def read(vault, *, name="acme-harbour", page_size=1000, **wanted):
    """Return the records of the newest version, read as a stream and page by page alike."""
    request = FetchRequest(**{"fields": FIELDS, "page_size": page_size, **wanted})
    source = held(vault, name)
    streamed = list(source.stream(request))
    assert [page.next_cursor is None for page in streamed] == [False] * (len(streamed) - 1) + [True]
    fetched, cursor = [], None
    while True:
        page = source.fetch(
            FetchRequest(**{"fields": FIELDS, "page_size": page_size, **wanted}, cursor=cursor)
        )
        assert page.count == page.records.count(b"\n") <= page_size
        fetched += page.records.splitlines()
        cursor = page.next_cursor
        if cursor is None:
            break
    assert b"".join(page.records for page in streamed).splitlines() == fetched
    return [json.loads(line) for line in fetched]


def numbers(vault, **wanted):
    return [record["number"] for record in read(vault, **wanted)]


# -- staging and committing ------------------------------------------------------------------------


def test_what_is_committed_is_read_back_in_order(vault):
    records = [loan(number) for number in range(1, 1201)]
    assert vault.contribute(TERMS, "b1", records, at_once=500) == 1
    found = read(vault, page_size=177)
    assert [list(record) for record in found[:1]] == [list(FIELDS)]
    assert found == [{name: record[name] for name in FIELDS} for record in records]
    assert held(vault).count_records() == 1200


def test_staged_records_are_durable_and_invisible(vault, open_engine, tmp_path, clock):
    staged = vault.writer.begin(TERMS, LOANS, "b1")
    staged = vault.writer.stage(staged, lines([loan(1), loan(2)]), [b"d" * 32] * 2, b"byte 400")
    assert (staged.records, staged.resume, staged.version) == (2, b"byte 400", None)
    assert read(vault) == []
    with closing(open_engine()) as engine:
        other = OpenedVault(engine, tmp_path, clock)
        again = other.writer.begin(TERMS, LOANS, "b1")
        assert again == staged
        again = other.writer.stage(again, lines([loan(3)]), [b"e" * 32], b"byte 600")
        assert other.writer.commit(again) == 1
        assert list(other.reader.digests(other.holding(), again.row)) == [b"d" * 64, b"e" * 32]
    assert numbers(vault) == [1, 2, 3]


def test_a_batch_that_was_committed_says_so_and_takes_nothing_more(vault):
    vault.contribute(TERMS, "b1", [loan(1)])
    again = vault.writer.begin(TERMS, LOANS, "b1")
    assert again.version == 1
    for call in (lambda: vault.writer.stage(again, lines([loan(2)])), lambda: vault.writer.commit(again)):
        with pytest.raises(BatchError) as raised:
            call()
        assert raised.value.reason is Reason.BATCH_CLOSED
    assert numbers(vault) == [1]


def test_two_uploads_of_one_batch_do_not_mix(vault):
    first = vault.writer.begin(TERMS, LOANS, "b1")
    second = vault.writer.begin(TERMS, LOANS, "b1")
    first = vault.writer.stage(first, lines([loan(1)]))
    for call in (lambda: vault.writer.stage(second, lines([loan(9)])), lambda: vault.writer.commit(second)):
        with pytest.raises(BatchError):
            call()
    vault.writer.commit(first)
    assert numbers(vault) == [1]


def test_a_discarded_batch_leaves_nothing_and_its_name_is_free(vault):
    staged = vault.writer.stage(vault.writer.begin(TERMS, LOANS, "b1"), lines([loan(1)]))
    assert vault.writer.discard(staged)
    assert not vault.writer.discard(staged)
    with pytest.raises(BatchError):
        vault.writer.commit(staged)
    assert vault.writer.staged(TERMS, LOANS, "b1") is None
    vault.store.sweep()
    with vault.store.engine.reading() as session:
        for table in ("vault_page", "vault_run", "vault_token", "vault_keyed", "vault_batch"):
            assert session.rows(f"SELECT count(*) FROM {table}", {}) == [(0,)]
    vault.contribute(TERMS, "b1", [loan(2)])
    assert numbers(vault) == [2]


def test_leftovers_are_listed_and_removed_after_a_time(vault, clock):
    dead = vault.writer.stage(vault.writer.begin(TERMS, LOANS, "dead"), lines([loan(1)]))
    clock.advance(timedelta(hours=2))
    vault.writer.stage(vault.writer.begin(TERMS, LOANS, "alive"), lines([loan(2)]))
    assert [batch.name for batch in vault.writer.leftovers(timedelta(hours=1))] == ["dead"]
    assert vault.writer.remove_leftovers(timedelta(hours=1)) == 1
    assert vault.writer.staged(TERMS, LOANS, dead.name) is None
    assert vault.writer.staged(TERMS, LOANS, "alive").records == 1


@pytest.mark.parametrize(
    "record",
    [
        b"{",
        b"[]",
        b'{"number":1}\n{"number":2}',
        b'{"number":[1]}',
        b'{"uscc":"x"}',
        b'{"number":null}',
        b"\xff",
    ],
)
def test_a_record_that_cannot_be_kept_is_refused_and_nothing_is_staged(vault, record):
    staged = vault.writer.begin(TERMS, LOANS, "b1")
    with pytest.raises(RecordError):
        vault.writer.stage(staged, [*lines([loan(1)]), record])
    assert vault.writer.staged(TERMS, LOANS, "b1").records == 0


def test_a_dataset_that_the_contract_does_not_put_there_is_refused(vault):
    for terms, dataset in ((TERMS, "members/acme/datasets/other"), (contract(held=Held.PROVIDER), LOANS)):
        with pytest.raises(Exception, match="does not put") as raised:
            vault.writer.begin(terms, dataset, "b1")
        assert raised.value.reason is Reason.DATASET_UNKNOWN


# -- versions --------------------------------------------------------------------------------------


def test_a_later_record_of_the_same_key_takes_the_place_of_the_earlier(vault):
    vault.contribute(TERMS, "b1", [loan(1), loan(2), loan(3)])
    assert vault.contribute(TERMS, "b2", [loan(2, amount=5), loan(4), loan(4, amount=6)]) == 2
    found = {record["number"]: record["amount"] for record in read(vault)}
    assert found == {1: 1000, 2: 5, 3: 3000, 4: 6}
    assert held(vault).count_records() == 4
    assert [
        record["amount"] for record in read(vault, subject_field="uscc", subject_values=(loan(2)["uscc"],))
    ] == [5]


def test_keys_of_several_fields_are_told_apart(vault):
    terms = contract(key=("uscc", "status"))
    records = [loan(1, uscc="a", status="bc"), loan(2, uscc="ab", status="c"), loan(3, uscc="a", status="bc")]
    vault.contribute(terms, "b1", records)
    assert numbers(vault) == [2, 3]


def test_without_a_key_no_record_replaces_another(vault):
    terms = contract(key=())
    vault.contribute(terms, "b1", [loan(1)])
    vault.contribute(terms, "b2", [loan(1)])
    assert numbers(vault) == [1, 1]
    with pytest.raises(BatchError, match="no key"):
        vault.writer.withdraw(terms, LOANS, [[1]])


def test_withdrawn_records_are_gone_from_the_newest_version(vault):
    vault.contribute(TERMS, "b1", [loan(1), loan(2), loan(3)])
    withdrawn = vault.writer.withdraw(TERMS, LOANS, [[2], [2], [77]])
    assert (withdrawn.version, withdrawn.records, withdrawn.unknown) == (2, 1, 1)
    assert numbers(vault) == [1, 3]
    assert numbers(vault, subject_field="uscc", subject_values=(loan(2)["uscc"],)) == []
    assert vault.writer.withdraw(TERMS, LOANS, [[2]]).version == 2
    assert vault.contribute(TERMS, "b2", [loan(2)]) == 3
    assert numbers(vault) == [1, 3, 2]
    with pytest.raises(RecordError):
        vault.writer.withdraw(TERMS, LOANS, [[2, 3]])


def test_an_older_version_can_be_read_and_a_cursor_stays_in_its_version(vault):
    vault.contribute(TERMS, "b1", [loan(1), loan(2), loan(3)])
    request = FetchRequest(fields=("number", "amount"), page_size=1)
    first = held(vault).fetch(request)
    vault.contribute(TERMS, "b2", [loan(2, amount=5)])
    vault.writer.withdraw(TERMS, LOANS, [[3]])
    rest = []
    cursor = first.next_cursor
    while cursor is not None:
        page = held(vault).fetch(FetchRequest(fields=("number", "amount"), page_size=1, cursor=cursor))
        rest.append(json.loads(page.records))
        cursor = page.next_cursor
    assert rest == [{"number": 2, "amount": 2000}, {"number": 3, "amount": 3000}]
    with pytest.raises(CursorError):
        held(vault).fetch(FetchRequest(fields=FIELDS, filters={"status": "late"}, cursor=first.next_cursor))


def test_evidence_is_kept_with_its_version(vault):
    vault.contribute(TERMS, "b1", [loan(1)], evidence=b"signed")
    vault.contribute(TERMS, "b2", [loan(2)])
    assert vault.reader.evidence(vault.holding()) == [(1, "b1", b"signed")]


# -- looking up ------------------------------------------------------------------------------------


def test_look_ups_find_what_a_scan_finds(vault):
    records = [loan(number) for number in range(1, 1301)]
    vault.contribute(TERMS, "b1", records[:1000], at_once=300)
    vault.contribute(TERMS, "b2", records[1000:])
    wanted = (records[6]["uscc"], records[499]["uscc"], "nobody's")
    expected = sorted(record["number"] for record in records if record["uscc"] in wanted)
    assert len(expected) == 5
    assert sorted(numbers(vault, subject_field="uscc", subject_values=wanted, page_size=2)) == expected
    late = [record["number"] for record in records if record["status"] == "late"]
    assert numbers(vault, filters={"status": "late"}, page_size=7) == late
    both = {"subject_field": "uscc", "subject_values": (records[9]["uscc"],), "filters": {"status": "late"}}
    assert numbers(vault, **both) == [10, 510, 1010]
    assert numbers(vault, filters={"uscc": records[6]["uscc"], "status": "late"}) == []


def test_a_field_that_became_searchable_later_is_found_in_older_batches_too(vault):
    vault.contribute(TERMS, "b1", [loan(1), loan(2)])
    vault.contribute(contract(description=described(("uscc", "amount"))), "b2", [loan(3, amount=1000)])
    assert numbers(vault, filters={"amount": "1000"}) == [1, 3]


def test_a_look_up_opens_no_page_without_the_record(vault, monkeypatch):
    """Control: a stream opens them all."""
    vault.contribute(TERMS, "b1", [loan(number, uscc=f"u{number}") for number in range(1, 2001)])
    opened = []
    original = vault.reader.open_page
    monkeypatch.setattr(
        vault.reader, "open_page", lambda holding, number: opened.append(number) or original(holding, number)
    )
    assert numbers(vault, subject_field="uscc", subject_values=("u1500",)) == [1500]
    assert len(set(opened)) == 1
    assert len(numbers(vault)) == 2000
    assert len(set(opened)) == 8


# -- keys ------------------------------------------------------------------------------------------


def test_new_batches_are_sealed_under_a_fresh_data_key_and_still_replace(vault):
    vault.contribute(TERMS, "b1", [loan(1), loan(2)])
    vault.store.add_key(vault.holding().number, vault.keys.make, "now")
    vault.contribute(TERMS, "b2", [loan(2, amount=5)])
    with vault.store.engine.reading() as session:
        assert session.rows("SELECT key FROM vault_batch ORDER BY number", {}) == [(1,), (2,)]
    assert [record["amount"] for record in read(vault)] == [1000, 5]
    assert numbers(vault, subject_field="uscc", subject_values=(loan(2)["uscc"],)) == [2]


def test_the_key_encryption_key_is_rotated_while_others_read(vault, open_engine, tmp_path, clock):
    vault.contribute(TERMS, "b1", [loan(1)])
    with closing(open_engine()) as engine:
        other = OpenedVault(engine, tmp_path, clock)
        before, old = vault.wrapped_keys(), vault.kek.read_bytes()
        assert rotate_kek(vault.store, vault.keys) == 1
        assert vault.kek.read_bytes() != old
        assert set(before).isdisjoint(vault.wrapped_keys())
        assert not vault.keys.key_file.next_path.exists()
        assert numbers(other) == numbers(vault) == [1]


def test_a_rotation_cut_short_anywhere_is_taken_up_again(vault, tmp_path, monkeypatch):
    vault.contribute(TERMS, "b1", [loan(1)])
    original = KeyFile.adopt_next

    def dies(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(vault.store, "rewrap", dies)
    with pytest.raises(KeyboardInterrupt):
        rotate_kek(vault.store, vault.keys)
    monkeypatch.undo()
    assert numbers(vault) == [1]
    following = vault.keys.key_file.next_path.read_bytes()
    monkeypatch.setattr(KeyFile, "adopt_next", dies)
    with pytest.raises(KeyboardInterrupt):
        rotate_kek(vault.store, vault.keys)
    monkeypatch.setattr(KeyFile, "adopt_next", original)
    assert numbers(vault) == [1]
    fresh = OpenedVault(vault.store.engine, tmp_path, vault.clock)
    assert numbers(fresh) == [1]
    assert rotate_kek(fresh.store, DataKeys(KeyFile(fresh.kek))) == 0
    assert fresh.kek.read_bytes() == following
    assert numbers(vault) == [1]


def test_another_key_encryption_key_opens_nothing(vault):
    vault.contribute(TERMS, "b1", [loan(1)])
    vault.kek.write_bytes(b"x" * 32)
    stranger = OpenedVault(vault.store.engine, vault.kek.parent, vault.clock)
    with pytest.raises(VaultUnavailableError, match="another key-encryption key"):
        read(stranger)


def test_destroyed_keys_leave_nothing_to_read(vault, open_engine, tmp_path, clock):
    ended = contract(state=ContractState.TERMINATED, ended="2026-01-02T00:00:00Z")
    vault.contribute(ended, "b1", [loan(1)])
    vault.contribute(contract("other"), "b1", [loan(2)])
    staged = vault.writer.stage(vault.writer.begin(ended, LOANS, "b2"), lines([loan(3)]))
    entries = []

    class Contracts:
        def contracts(self):
            return [ended]

    with closing(open_engine()) as engine:
        other = OpenedVault(engine, tmp_path, clock)
        assert numbers(other) == [1]
        upkeep = Upkeep(
            vault.store, vault.keys, clock, lambda entry: entries.append(entry) or 41, Contracts()
        )
        kept = upkeep.run(timedelta(days=1))
        assert [one.contract for one in kept.destroyed] == ["acme-harbour"]
        assert [(entry.kind.value, entry.subject, entry.records) for entry in entries] == [
            ("vault.key_destroyed", LOANS, 1)
        ]
        for reader in (vault, other):
            with pytest.raises(RecordsDestroyedError):
                read(reader)
            assert numbers(reader, name="other") == [2]
        for call in (
            lambda: vault.writer.begin(ended, LOANS, "b3"),
            lambda: vault.writer.stage(staged, lines([loan(4)])),
            lambda: vault.writer.commit(staged),
            lambda: vault.writer.withdraw(ended, LOANS, [[1]]),
        ):
            with pytest.raises(RecordsDestroyedError):
                call()
    holding = vault.holding()
    assert (holding.destroyed, holding.alive) == (41, 0)
    assert vault.store.keys(holding.number) == []
    assert upkeep.run(timedelta(days=1)).destroyed == ()
    assert len(entries) == 1
    with vault.store.engine.reading() as session:
        assert session.rows("SELECT count(*) FROM vault_page", {}) == [(1,)]
        assert session.rows("SELECT count(*) FROM vault_live", {}) == [(1,)]


def test_without_its_entry_no_key_is_destroyed(vault, clock):
    ended = contract(state=ContractState.EXPIRED, ended="2026-01-02T00:00:00Z")
    vault.contribute(ended, "b1", [loan(1)])

    class Contracts:
        def contracts(self):
            return [ended]

    def refuse(_):
        raise VaultUnavailableError("no log")

    with pytest.raises(VaultUnavailableError, match="no log"):
        Upkeep(vault.store, vault.keys, clock, refuse, Contracts()).run(timedelta(days=1))
    assert numbers(vault) == [1]


# -- altered behind our back -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE vault_page SET content = (SELECT content FROM vault_page WHERE number = 2) WHERE number = 1",
        "UPDATE vault_page SET place = place + 1 WHERE number = 1",
        "UPDATE vault_batch SET name = 'b9' WHERE number = 1",
        "UPDATE vault_batch SET version = 7 WHERE version = 1",
        "UPDATE vault_batch SET records = 1 WHERE number = 1",
        "UPDATE vault_batch SET identity = 'sha256:0' WHERE number = 1",
        "UPDATE vault_holding SET dataset = 'members/acme/datasets/other'",
    ],
)
def test_pages_that_were_altered_or_moved_do_not_open(vault, change):
    vault.contribute(TERMS, "b1", [loan(number) for number in range(300)])
    holding = vault.holding()
    with vault.store.engine.writing() as session:
        session.change(change, {})
    if "vault_holding" in change:
        holding = replace(holding, dataset="members/acme/datasets/other")
    if "version = 7" in change:
        with vault.store.engine.writing() as session:
            session.change("UPDATE vault_holding SET version = 7", {})
    with pytest.raises(VaultAlteredError):
        list(HeldDataset(vault.reader, holding, CursorSeal(b"c" * 32)).stream(FetchRequest(fields=FIELDS)))


def test_a_data_key_that_was_exchanged_does_not_unwrap(vault):
    vault.contribute(TERMS, "b1", [loan(1)])
    with vault.store.engine.writing() as session:
        session.change("UPDATE vault_key SET wrapped = :noise", {"noise": b"n" * 40})
    with pytest.raises(VaultUnavailableError, match="does not unwrap"):
        read(vault)


# -- retention -------------------------------------------------------------------------------------


def test_records_past_retention_are_purged_and_the_log_says_how_many(vault, clock):
    year = clock().year
    terms = contract(description=described(retention="signed_on:5"))
    old = [loan(number, signed_on=f"{year - 6}-01-01") for number in (1, 2)]
    young = [loan(number, signed_on=f"{year - 4}-01-01") for number in (3, 4)]
    undated = [loan(5, signed_on=None), loan(6, signed_on="soon")]
    vault.contribute(terms, "b1", [old[0], young[0], old[1], *undated])
    vault.contribute(terms, "b2", [young[1], loan(2, signed_on=f"{year - 6}-02-02")])
    entries = []
    upkeep = Upkeep(vault.store, vault.keys, clock, lambda entry: entries.append(entry) or 7)
    look = upkeep.purge(vault.holding(), only_look=True)
    assert (look.records, look.undated, entries) == (3, 2, [])
    [purge] = upkeep.run(timedelta(days=1)).purged
    assert (purge.records, purge.entry) == (3, 7)
    [entry] = entries
    assert (entry.kind.value, entry.subject, entry.provider, entry.records) == (
        "records.purged",
        LOANS,
        "acme",
        3,
    )
    assert entry.contract == terms.id
    assert numbers(vault) == [3, 5, 6, 4]
    assert held(vault).count_records() == 4
    assert numbers(vault, subject_field="uscc", subject_values=(loan(1)["uscc"],)) == []
    assert numbers(vault, subject_field="uscc", subject_values=(loan(3)["uscc"],)) == [3]
    assert upkeep.run(timedelta(days=1)).purged == ()
    assert vault.contribute(terms, "b3", [loan(2)]) == 3
    with vault.store.engine.reading() as session:
        for table in ("vault_keyed", "vault_live"):
            assert session.rows(f"SELECT count(*) FROM {table}", {}) == [(5,)]


def test_two_that_purge_at_once_count_nothing_twice(vault, clock, monkeypatch):
    terms = contract(description=described(retention="signed_on:5"))
    vault.contribute(terms, "b1", [loan(1, signed_on="2001-01-01"), loan(2, signed_on=None)])
    upkeep = Upkeep(vault.store, vault.keys, clock, lambda _: 7)
    other = Upkeep(vault.store, vault.keys, clock, lambda _: 8)
    original = vault.store.rewrite
    results = []

    def rewrite(*arguments):
        monkeypatch.setattr(vault.store, "rewrite", original)
        other.purge(vault.holding())
        results.append(original(*arguments))
        return results[-1]

    monkeypatch.setattr(vault.store, "rewrite", rewrite)
    upkeep.purge(vault.holding())
    assert results == [False]
    assert held(vault).count_records() == 1
    assert numbers(vault) == [2]


def test_a_page_of_which_everything_is_purged_is_gone(vault, clock):
    terms = contract(description=described(retention="signed_on:5"))
    vault.contribute(terms, "b1", [loan(number, signed_on="2001-01-01") for number in range(600)])
    Upkeep(vault.store, vault.keys, clock, lambda _: 7).run(timedelta(days=1))
    assert numbers(vault) == []
    with vault.store.engine.reading() as session:
        assert session.rows("SELECT count(*) FROM vault_page", {}) == [(0,)]


def test_a_missing_or_short_key_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot be opened"):
        KeyFile(tmp_path / "none.key")
    short = tmp_path / "short.key"
    short.write_bytes(b"x")
    short.chmod(0o600)
    with pytest.raises(ConfigError, match="exactly 32"):
        KeyFile(short)
    short.write_bytes(b"x" * 32)
    short.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        KeyFile(short)
