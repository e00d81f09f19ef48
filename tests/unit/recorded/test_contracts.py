"""Contracts count only as far as the log bears them out."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from gateway.clock import system_clock
from gateway.contracts import negotiation
from gateway.contracts.entries import entry_of, told_standing, version_digest
from gateway.contracts.life_cycle import OPERATOR
from gateway.contracts.sqlite import SqliteContractStore
from gateway.contracts.store import unrecorded
from gateway.deployment.changes import record_entry
from gateway.deployment.contracts import contract_versions, resume_contract, suspend_contract
from gateway.doctor.finding import State
from gateway.doctor.records import examine_contracts
from gateway.errors import Reason
from gateway.model import ContractState, EntryKind
from gateway.recorded.contracts import RecordedContracts, VettedContracts, told_contract
from gateway.recorded.members import Contradiction
from tests.simulators.negotiated import (
    AGENCY,
    COMPANY,
    KEYS,
    NOW,
    following,
    propose,
    reason_of,
    sign,
    signed,
    suspend,
    terms_of,
)

TERMS = terms_of(valid_until="2099-01-01T00:00:00Z")
NAME = "contracts/amber-customers/versions/1"


@pytest.fixture
def contracts(config):
    return SqliteContractStore(config.contracts_place)


@pytest.fixture
def record(config):
    """Return what puts a change into the log, as a gateway does."""
    return lambda change: record_entry(config, entry_of(change, system_clock()))


@pytest.fixture
def version(contracts, record):
    """A contract in force, as it came about through a gateway."""
    propose(contracts, TERMS, COMPANY, record)
    return sign(contracts, TERMS, AGENCY, record)


@pytest.fixture
def recorded(entries):
    return RecordedContracts(entries)


@pytest.fixture
def told():
    return []


@pytest.fixture
def vetted(contracts, recorded, told):
    return VettedContracts(contracts, recorded, told.append)


@pytest.fixture
def edit(config):
    def edit(old, new):
        with closing(sqlite3.connect(config.contracts_place)) as database, database:
            done = database.execute(
                "UPDATE contracts SET standing = replace(standing, ?, ?) WHERE instr(standing, ?)",
                (old, new, old),
            )
            assert done.rowcount > 0, "the tampering must hit something"
            database.execute("UPDATE registry SET revision = revision + 1")

    return edit


def test_what_came_about_through_a_gateway_is_as_recorded(version, contracts, recorded, record):
    assert recorded.contradictions(contracts.versions()[1]) == []
    suspended = suspend(contracts, version, COMPANY, record)
    assert recorded.contradictions(contracts.versions()[1]) == []
    recorded.vouch([suspended])


def test_an_entry_tells_all_that_holds(version, entries):
    [proposed, activated] = entries.of_kinds([EntryKind.CONTRACT_PROPOSED, EntryKind.CONTRACT_ACTIVATED])[1]
    assert told_standing(activated.entry) == version.standing
    entry = activated.entry
    assert (entry.contract, entry.subject) == (version.id, NAME)
    assert (entry.consumer, entry.provider) == (AGENCY, COMPANY)
    assert (entry.envelope_key, entry.detail["by"]) == (KEYS[AGENCY].key_id, AGENCY)
    assert entry.detail["digest"] == version_digest(version)
    assert entry.detail["before"] == proposed.entry.detail["digest"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"active"', '"suspended"'),
        ('"active"', '"terminated"'),
        ("2026-11-22T12", "2026-11-22T13"),
        ('"state"', '"reason":"none","state"'),
    ],
)
def test_an_edited_standing_does_not_count_and_is_told(version, vetted, edit, told, recorded, old, new):
    """Control: before, it counts."""
    assert vetted.versions()[1] == [version]
    edit(old, new)
    assert vetted.versions()[1] == []
    [[found]] = told
    assert (found.name, found.id, found.what) == (NAME, version.id, Contradiction.ALTERED)
    assert "does not stand as entries/" in told_contract(found)


def test_a_suspension_that_somebody_lifts_in_the_file_does_not_bring_it_into_force(
    version, contracts, record, vetted, edit, recorded
):
    suspend(contracts, version, COMPANY, record)
    edit(f'"held_by":["{COMPANY}"],', "")
    edit('"suspended"', '"active"')
    assert vetted.versions()[1] == []
    [edited] = contracts.versions()[1]
    assert edited.standing.state is ContractState.ACTIVE
    assert reason_of(recorded.vouch, [edited]) is Reason.CONTRACT_CONTRADICTED


def test_a_contract_that_no_entry_tells_of_does_not_count(contracts, vetted, told):
    propose(contracts, TERMS)
    assert vetted.versions()[1] == []
    assert [item.what for item in told[0]] == [Contradiction.UNRECORDED]


def test_a_contract_that_is_gone_is_told(config, version, vetted, told):
    with closing(sqlite3.connect(config.contracts_place)) as database, database:
        database.execute("DELETE FROM contracts")
    assert vetted.versions()[1] == []
    assert [(item.what, item.is_proposal) for item in told[0]] == [(Contradiction.MISSING, False)]


def test_the_doctor_notices_what_was_edited_and_what_is_sound(config, version, entries, edit):
    assert [finding.state for finding in examine_contracts(config, entries)] == [State.OK]
    edit('"active"', '"terminated"')
    [finding] = examine_contracts(config, entries)
    assert finding.state is State.FAIL
    assert NAME in finding.detail


def test_the_doctor_finds_nothing_where_there_is_nothing(config, entries):
    assert [finding.state for finding in examine_contracts(config, entries)] == [State.OK]
    assert not config.contracts_place.exists()


class PowerLossError(Exception):
    """The gateway dies after the entry is durable, before the store is."""


def dying(record):
    def run(change):
        record(change)
        raise PowerLossError

    return run


@pytest.mark.parametrize("act", ["sign", "suspend", "terminate"])
def test_what_a_crash_has_left_between_log_and_store_is_made_whole(contracts, record, recorded, told, act):
    """The log has it, so it is; nobody is served under it meanwhile. Control: without repair it stays so."""
    propose(contracts, TERMS, COMPANY, record)
    if act != "sign":
        sign(contracts, TERMS, AGENCY, record)
    handed_in = signed(TERMS, AGENCY)
    rules = {
        "sign": lambda history: negotiation.sign(history, handed_in, NOW),
        "suspend": lambda history: negotiation.suspend(history, 1, COMPANY, "a doubt", NOW),
        "terminate": lambda history: negotiation.terminate(history, 1, COMPANY, "over", NOW),
    }
    with pytest.raises(PowerLossError):
        contracts.change("amber-customers", rules[act], dying(record))
    vetted = VettedContracts(contracts, recorded, told.append)
    assert vetted.versions()[1] == vetted.versions()[1] == []
    vetted.repair(contracts, lambda member: {KEYS[member].key_id: KEYS[member].verify_key})
    [found] = vetted.versions()[1]
    wanted = {"sign": "active", "suspend": "suspended", "terminate": "terminated"}[act]
    assert found.standing.state.value == wanted
    assert told[-1] == []


def test_repair_lifts_nothing_that_was_edited(version, contracts, record, vetted, edit):
    """A row put back to what it was before the last entry is put right again, not the other way round."""
    suspend(contracts, version, COMPANY, record)
    edit('"suspended"', '"terminated"')
    assert vetted.versions()[1] == []
    vetted.repair(contracts, lambda member: {KEYS[member].key_id: KEYS[member].verify_key})
    assert vetted.versions()[1] == []
    with closing(sqlite3.connect(contracts._path)) as database, database:
        database.execute("DELETE FROM contracts")
    # What the store held before the suspension, signatures and all.
    contracts.change("amber-customers", lambda _: [_as_new(version)], unrecorded)
    assert vetted.versions()[1] == []
    vetted.repair(contracts, lambda member: {KEYS[member].key_id: KEYS[member].verify_key})
    assert [found.standing.state for found in vetted.versions()[1]] == [ContractState.SUSPENDED]


def _as_new(version):
    return negotiation.Change(EntryKind.CONTRACT_ACTIVATED, version, "")


def test_a_proposal_that_a_crash_has_swallowed_may_be_made_again(
    contracts, record, vetted, told, config, entries
):
    with pytest.raises(PowerLossError):
        propose(contracts, TERMS, COMPANY, dying(record))
    assert vetted.versions()[1] == []
    assert [item.is_proposal for item in told[0]] == [True]
    assert [finding.state for finding in examine_contracts(config, entries)] == [State.WARN]
    version = propose(contracts, TERMS, COMPANY, record)
    assert vetted.versions()[1] == [version]


def test_the_operator_suspends_and_takes_back_its_own(config, version, recorded, contracts):
    suspended = suspend_contract(config, NAME, "an order of the court")
    assert suspended.standing.held_by == (OPERATOR,)
    assert contract_versions(config) == [suspended]
    assert recorded.contradictions(contracts.versions()[1]) == []
    assert resume_contract(config, NAME).standing.state is ContractState.ACTIVE
    assert recorded.contradictions(contracts.versions()[1]) == []


def test_the_operator_changes_nothing_that_the_log_contradicts(config, version, edit):
    """Control: the same is done to a contract as recorded."""
    edit("2026-11-22T12", "2026-11-22T13")
    assert reason_of(suspend_contract, config, NAME, "a doubt") is Reason.CONTRACT_CONTRADICTED


def test_a_version_that_follows_is_recorded_with_the_one_that_makes_way(version, contracts, record, recorded):
    terms = following(version, title="Another")
    propose(contracts, terms, COMPANY, record)
    sign(contracts, terms, AGENCY, record)
    assert recorded.contradictions(contracts.versions()[1]) == []
    assert [item.standing.state.value for item in contracts.versions()[1]] == ["superseded", "active"]
