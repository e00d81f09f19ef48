"""Members count only as far as the log bears them out."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import msgspec
import pytest

from gateway.audit.errors import LogMismatchError
from gateway.deployment import (
    change_endpoint,
    change_state,
    confirm_member,
    record_change,
    register_key,
    revoke_key,
)
from gateway.evidence.keys import SigningKey
from gateway.members import Directory, MemberError
from gateway.model import EntryKind, MemberState
from gateway.recorded.members import (
    Contradiction,
    RecordedMembers,
    describe_member,
    member_digest,
    told,
)
from gateway.recorded.vetting import VettedMembers

BANK = "harbour-bank"
STRANGER = SigningKey(b"\x09" * 32).verify_key


def bank_of(store):
    return next(member for member in store.members()[1] if member.id == BANK)


def test_members_added_by_command_are_as_recorded(contradictions):
    assert contradictions() == []


def test_every_command_records_the_state_it_leads_to(config, store, contradictions):
    change_state(config, BANK, MemberState.SUSPENDED)
    assert contradictions() == []
    change_state(config, BANK, MemberState.ACTIVE)
    change_endpoint(config, "registry", "registry.example.org:1")
    first = next(iter(bank_of(store).signing_keys))
    register_key(config, BANK, STRANGER)
    revoke_key(config, BANK, first)
    assert bank_of(store).signing_keys.keys() == {STRANGER.key_id}
    assert contradictions() == []


TAMPERINGS = {
    "state": ("UPDATE members SET state = 'suspended' WHERE id = ?", BANK),
    "roles": ("UPDATE members SET roles = 'auditor,consumer' WHERE id = ?", BANK),
    "endpoint": ("UPDATE members SET endpoint = '10.0.0.1:1' WHERE id = ?", BANK),
    "uri": ("UPDATE members SET uri = 'spiffe://sluicegate/members/x' WHERE id = ?", BANK),
    "class": ("UPDATE members SET member_class = 'agency' WHERE id = ?", BANK),
    "title": ("UPDATE members SET title = 'Northern Bank' WHERE id = ?", BANK),
    "keys": ("UPDATE signing_keys SET key_id = ?, public = ? WHERE member = ?",
             STRANGER.key_id, STRANGER.public, BANK),
}  # fmt: skip


@pytest.mark.parametrize("differing", TAMPERINGS)
def test_an_edited_row_is_found_and_what_differs_is_named(contradictions, behind_the_back, differing):
    behind_the_back(*TAMPERINGS[differing])
    [found] = contradictions()
    assert (found.member, found.what, found.differing) == (BANK, Contradiction.ALTERED, (differing,))
    assert told(found).endswith(f"in: {differing}")


def test_a_key_whose_bytes_were_exchanged_under_its_old_id_is_found(contradictions, behind_the_back):
    behind_the_back("UPDATE signing_keys SET public = ? WHERE member = ?", STRANGER.public, BANK)
    [found] = contradictions()
    assert (found.what, found.differing) == (Contradiction.ALTERED, ("keys",))


def test_a_row_that_was_put_in_is_found(contradictions, behind_the_back):
    behind_the_back(
        "INSERT INTO members SELECT 'mole', title, member_class, roles, 'spiffe://x/mole', endpoint, state "
        "FROM members WHERE id = ?",
        BANK,
    )
    [found] = contradictions()
    assert (found.member, found.what) == ("mole", Contradiction.UNRECORDED)


def test_a_row_that_was_taken_out_is_found(contradictions, behind_the_back):
    behind_the_back("DELETE FROM signing_keys WHERE member = ?", BANK)
    behind_the_back("DELETE FROM members WHERE id = ?", BANK)
    [found] = contradictions()
    assert (found.member, found.what) == (BANK, Contradiction.MISSING)


def test_a_suspension_that_was_lifted_in_the_store_is_found(config, contradictions, behind_the_back):
    """The state before the suspension is recorded, too, but it is not the last."""
    change_state(config, BANK, MemberState.SUSPENDED)
    behind_the_back("UPDATE members SET state = 'active' WHERE id = ?", BANK)
    [found] = contradictions()
    assert found.differing == ("state",)


def test_a_person_may_confirm_what_the_store_has(config, contradictions, behind_the_back, entries):
    behind_the_back(*TAMPERINGS["title"])
    assert contradictions()
    confirm_member(config, BANK, "restored from the copy of Tuesday")
    assert contradictions() == []
    [confirmed] = entries.newest(EntryKind.MEMBER_CONFIRMED, 5)
    assert confirmed.entry.detail["reason"] == "restored from the copy of Tuesday"


def test_an_entry_of_an_older_release_does_not_bear_out_a_member(config, contradictions):
    record_change(config, EntryKind.MEMBER_RESUMED, f"members/{BANK}", {})
    [found] = contradictions()
    assert found.differing == ()
    assert "older release" in told(found)


def test_an_entry_written_into_the_logs_file_is_not_believed(
    config, store, entries, behind_the_back, contradictions
):
    """Who writes to both databases, without the log's key, changes no member either."""
    behind_the_back(*TAMPERINGS["roles"])
    with closing(sqlite3.connect(config.log.database)) as database, database:
        for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            database.execute(f"DROP TRIGGER {name}")
        index, data = database.execute(
            "SELECT idx, data FROM entry WHERE kind = 'member.added' AND instr(data, ?) ORDER BY idx DESC",
            (b'"members/harbour-bank"',),
        ).fetchone()
        forged = msgspec.json.decode(data)
        forged["detail"] = describe_member(bank_of(store))
        forged = msgspec.json.encode(forged, order="sorted")
        database.execute("UPDATE entry SET data = ? WHERE idx = ?", (forged, index))
    with pytest.raises(LogMismatchError, match="not the one that the log's checkpoint covers"):
        contradictions()


def test_the_control_without_the_proof_the_forged_entry_would_be_believed(
    config, store, entries, behind_the_back, contradictions, monkeypatch
):
    monkeypatch.setattr("gateway.recorded.entries.verify_inclusion", lambda *_: None)
    test = test_an_entry_written_into_the_logs_file_is_not_believed
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        test(config, store, entries, behind_the_back, contradictions)
    assert contradictions() == []


def test_the_record_is_read_on_from_where_it_was(config, entries, store, monkeypatch):
    recorded = RecordedMembers(entries)
    assert recorded.contradictions(store.members()[1]) == []
    asked = []
    of_kinds = entries.of_kinds
    monkeypatch.setattr(
        entries, "of_kinds", lambda kinds, *, since: asked.append(since) or of_kinds(kinds, since=since)
    )
    change_state(config, BANK, MemberState.SUSPENDED)
    assert recorded.contradictions(store.members()[1]) == []
    assert asked[0] > 0


def test_the_digest_covers_everything_and_depends_on_no_order(store):
    member = bank_of(store)
    again = msgspec.structs.replace(
        member, signing_keys=dict(reversed({**member.signing_keys, "x": b"1"}.items()))
    )
    other = msgspec.structs.replace(member, signing_keys={**member.signing_keys, "x": b"1"})
    assert member_digest(again) == member_digest(other) != member_digest(member)


class Serving:
    """What a running gateway sees."""

    def __init__(self, store, entries):
        self.told = []
        self.vetted = VettedMembers(store, RecordedMembers(entries), self.told.append)
        self.directory = Directory(self.vetted)


@pytest.fixture
def serving(store, entries):
    return Serving(store, entries)


async def test_a_member_whom_the_log_contradicts_is_not_served_and_the_others_are(
    serving, store, behind_the_back
):
    uri = bank_of(store).uri
    assert serving.directory.caller(uri).id == BANK
    behind_the_back(*TAMPERINGS["keys"])
    await serving.directory.refresh()
    assert not serving.directory.is_active(BANK)
    assert serving.directory.signing_keys(BANK) == {}
    assert serving.directory.is_active("northern-bank")
    [[contradiction]] = serving.told
    assert contradiction.member == BANK


async def test_the_control_without_the_vetting_the_swapped_key_would_serve(store, behind_the_back):
    directory = Directory(store)
    behind_the_back(*TAMPERINGS["keys"])
    await directory.refresh()
    assert directory.is_active(BANK)
    assert directory.signing_keys(BANK).keys() == {STRANGER.key_id}


async def test_a_member_is_served_again_once_store_and_log_agree(serving, config, behind_the_back, store):
    before = bank_of(store).title
    behind_the_back(*TAMPERINGS["title"])
    await serving.directory.refresh()
    assert not serving.directory.is_active(BANK)
    behind_the_back("UPDATE members SET title = ? WHERE id = ?", before, BANK)
    await serving.directory.refresh()
    assert serving.directory.is_active(BANK)
    assert [len(found) for found in serving.told] == [1, 0]


async def test_a_provider_that_was_moved_behind_the_back_is_not_asked(serving, behind_the_back):
    behind_the_back("UPDATE members SET endpoint = '127.0.0.1:9' WHERE id = 'registry'")
    await serving.directory.refresh()
    assert not serving.directory.is_active("registry")


async def test_while_the_log_cannot_be_read_nobody_is_told_to_be_a_member(serving, entries, behind_the_back):
    behind_the_back(*TAMPERINGS["title"])
    entries._reader.close()
    with pytest.raises(MemberError, match="cannot be compared"):
        await serving.directory.refresh()


def test_only_a_provider_can_be_moved(config):
    with pytest.raises(MemberError, match="no provider"):
        change_endpoint(config, BANK, "127.0.0.1:1")


def test_the_last_key_is_not_revoked(config, store, contradictions):
    [key_id] = bank_of(store).signing_keys
    with pytest.raises(MemberError, match="only signing key"):
        revoke_key(config, BANK, key_id)
    with pytest.raises(MemberError, match="no signing key of this id"):
        revoke_key(config, BANK, STRANGER.key_id)
    assert contradictions() == []
