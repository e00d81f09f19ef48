"""The contracts as a running gateway sees them: never stale, and none rather than a wrong one."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest

from gateway.contracts import negotiation
from gateway.contracts.errors import ContractsUnavailableError
from gateway.contracts.register import STALE_AFTER_S, ContractRegister, Contracts
from gateway.contracts.sqlite import SqliteContractStore
from gateway.contracts.store import unrecorded
from gateway.errors import GatewayError, Reason
from gateway.model import ContractState
from tests.simulators.negotiated import (
    AGENCY,
    BANK,
    COMPANY,
    NOW,
    active,
    following,
    propose,
    reason_of,
    sign,
    signed,
    suspend,
)
from tests.simulators.waiting import until

DATASET = f"members/{COMPANY}/datasets/customers"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "contracts.db"


@pytest.fixture
def store(path):
    return SqliteContractStore(path)


@pytest.fixture
def suspended_members():
    return set()


@pytest.fixture
def register_of(suspended_members):
    """Return a function that makes the register of one node over a store."""
    return lambda store: ContractRegister(store, lambda member: member not in suspended_members)


@asynccontextmanager
async def kept_fresh(register, faults=None):
    task = asyncio.create_task(register.keep_fresh((faults if faults is not None else []).append))
    await asyncio.sleep(0)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_a_contract_is_in_force_within_its_dates_only(store, register_of):
    version = active(store)
    register: Contracts = register_of(store)
    begins, ends = datetime(2026, 11, 1, tzinfo=UTC), datetime(2027, 11, 1, tzinfo=UTC)
    for now, is_in_force in (
        (begins.replace(year=2025), False),
        (begins, True),
        (NOW, True),
        (ends, False),
    ):
        wanted = [version.contract()] if is_in_force else []
        assert register.in_force(now) == register.covering(DATASET, now) == wanted
    assert register.covering(f"members/{COMPANY}/datasets/others", NOW) == []


def test_who_looks_finds_it_in_every_state(store, register_of):
    version = active(store)
    suspend(store, version)
    register = register_of(store)
    [found] = register.contracts()
    assert found == register.contract(version.id)
    assert (found.id, found.state, found.reason) == (version.id, ContractState.SUSPENDED, "a doubt")
    assert register.of_member(COMPANY) == register.of_member(AGENCY) == [found]
    assert register.of_member(BANK) == []
    assert register.in_force(NOW) == []
    assert reason_of(register.contract, "sha256:" + "0" * 64) is Reason.CONTRACT_UNKNOWN


def test_a_contract_of_a_suspended_member_is_not_in_force(store, register_of, suspended_members):
    """Control: once the member is served again, it is."""
    version = active(store)
    register = register_of(store)
    for member in (COMPANY, AGENCY):
        suspended_members.add(member)
        assert register.in_force(NOW) == register.covering(DATASET, NOW) == []
        suspended_members.clear()
        assert register.in_force(NOW) == [version.contract()]


def test_a_proposal_is_not_in_force_and_changes_nothing_about_what_is(store, register_of):
    first = active(store)
    terms = following(first, title="Another")
    propose(store, terms)
    assert register_of(store).in_force(NOW) == [first.contract()]
    newer = sign(store, terms)
    assert register_of(store).in_force(NOW) == [newer.contract()]


def test_of_two_that_run_for_a_moment_the_later_holds(store, register_of):
    """As between two entries of one act, should a gateway die just there."""
    first = active(store)
    terms = following(first, title="Another")
    propose(store, terms)
    handed_in = signed(terms, AGENCY)
    changes = store.change(
        terms.contract, lambda history: negotiation.sign(history, handed_in, NOW)[:1], unrecorded
    )
    assert register_of(store).in_force(NOW) == [changes[0].version.contract()]


async def test_who_listens_hears_of_each_change_once(store, register_of):
    register = register_of(store)
    heard = []
    register.on_change(lambda: heard.append(len(register.contracts())))
    await register.refresh()
    assert heard == []
    active(store)
    await register.refresh()
    await register.refresh()
    assert heard == [1]


@pytest.mark.timed
async def test_a_suspension_is_seen_by_every_worker_within_a_second(store, path, register_of):
    """P11. Control: a register that nobody keeps fresh goes on with what it has."""
    version = active(store)
    other, idle = register_of(SqliteContractStore(path)), register_of(SqliteContractStore(path))
    async with kept_fresh(other):
        assert other.covering(DATASET, NOW) == [version.contract()]
        await asyncio.to_thread(suspend, store, version)
        await until(lambda: other.covering(DATASET, NOW) == [], within_s=1.0)
        assert idle.covering(DATASET, NOW) == [version.contract()]


async def test_a_register_that_cannot_be_read_has_no_contract_until_it_can(
    store, path, register_of, tmp_path
):
    """A suspension might stand in what cannot be read."""
    active(store)
    register = register_of(SqliteContractStore(path))
    faults = []
    async with kept_fresh(register, faults):
        assert len(register.in_force(NOW)) == 1
        away = tmp_path / "away.db"
        path.rename(away)

        def has_none() -> bool:
            reasons = set()
            for call in (
                lambda: register.in_force(NOW),
                lambda: register.covering(DATASET, NOW),
                lambda: register.contract("x"),
                lambda: register.of_member(COMPANY),
                register.contracts,
                register.versions,
            ):
                try:
                    call()
                except GatewayError as error:
                    reasons.add(error.reason)
                else:
                    return False
            return reasons == {Reason.CONTRACTS_UNAVAILABLE}

        await until(has_none, within_s=STALE_AFTER_S + 2)
        assert {type(fault) for fault in faults} == {ContractsUnavailableError}
        away.replace(path)
        await until(lambda: not has_none(), within_s=STALE_AFTER_S + 2)
