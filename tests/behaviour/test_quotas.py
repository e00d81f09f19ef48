"""What a contract bounds is bound: its quotas, and what its contributor gets in return.

Every bound has its control: another consumer, the next period, or more given.
"""

from __future__ import annotations

import asyncio
from contextlib import closing
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest

from gateway.audit.stores import open_reader
from gateway.clock import rfc3339
from gateway.demo.world import COMPANIES
from gateway.errors import GatewayError, Reason
from gateway.exchange import steps
from gateway.exchange.journal import Journal
from gateway.exchange.quotas.rebuilding import DEAD_AFTER, Leftovers, rebuild
from gateway.exchange.state import Exchange
from gateway.exchange.steps import Steps
from gateway.ledger import AccountKind, Ledger, open_ledger
from gateway.ledger.contracts import Gifts, balance
from gateway.model import EntryKind, Operation, Subject
from gateway.model.contract import Contract, ContractState, Per, Quota, Reciprocity
from tests.simulators.contracts import KnownContracts
from tests.simulators.in_force import RECIPIENT, SELLERS, description, sellers, sellers_terms, until_listed
from tests.simulators.outcome import reason_of, refused
from tests.simulators.waiting import until
from tests.simulators.world import SimulatedWorld

pytestmark = pytest.mark.asyncio(loop_scope="module")

EXHAUSTED = "RESOURCE_EXHAUSTED"
PURPOSE = "public-lookup"
LOANS = f"members/{RECIPIENT}/datasets/loans"


class Covering:
    """Puts a contract of the registry's in force, in the place of the one before."""

    def __init__(self, world: SimulatedWorld) -> None:
        self._world = world
        self.contract: Contract | None = None

    async def __call__(self, *quotas: Quota, **changed: Any) -> Contract:
        terms = sellers_terms(**{"recipients": {"classes": ["bank"]}, **changed})
        contracts = self._world.node.contracts
        if self.contract is not None:
            contracts.remove(self.contract)
        self.contract = contracts.put(msgspec.structs.replace(terms, quotas=quotas))
        for dataset in terms.datasets:
            await until_listed(self._world.client(), dataset.name)
        return self.contract

    async def restart(self) -> None:
        """Start the gateway again, under the same contract."""
        await self._world.restart_node()
        assert self.contract is not None
        self._world.node.contracts.put(self.contract.terms)
        await until_listed(self._world.client(), self.contract.terms.datasets[0].name)


@pytest.fixture
def cover(own_world: SimulatedWorld) -> Covering:
    own_world.registry.lists[SELLERS] = sellers(own_world.companies)
    return Covering(own_world)


def statement(caller, operation: Operation = Operation.QUERY, dataset: str = SELLERS, **parts: Any):
    return caller.statement(dataset, PURPOSE, operation, **parts)


async def asked(world: SimulatedWorld, records: int, member: str = RECIPIENT, dataset: str = SELLERS):
    return await world.client(member).query(dataset, purpose=PURPOSE, page_size=records)


async def refusal_of(
    world: SimulatedWorld, records: int, member: str = RECIPIENT, dataset: str = SELLERS, **parts: Any
):
    caller = world.caller(member)
    return await refused(caller.query(statement(caller, dataset=dataset, **parts), page_size=records))


def using(world: SimulatedWorld) -> closing[Ledger]:
    return closing(open_ledger(world.config.log.database))


def counted(world: SimulatedWorld, kind: AccountKind = AccountKind.QUOTA) -> dict[tuple[str, str], int]:
    """Return what stands on the open accounts: (consumer, period) to records."""
    with using(world) as ledger:
        return {
            (standing.account.consumer, standing.account.per.value): standing.records
            for standing in ledger.standings(open_at=world.clock())
            if standing.account.kind is kind
        }


def logged(world: SimulatedWorld, contract: Contract) -> int:
    """Return what the log says has left under `contract`."""
    return sum(
        entry.records
        for entry in world.log.entries()
        if entry.contract == contract.id
        and entry.kind in {EntryKind.EXCHANGE_RELEASED, EntryKind.EXCHANGE_FAILED}
    )


def rebuilt(world: SimulatedWorld, *contracts: Contract) -> None:
    with using(world) as ledger, open_reader(world.config.log.database) as reader:
        rebuild(ledger, [reader], KnownContracts(*contracts))


# -- quotas ----------------------------------------------------------------------------------------


async def test_a_quota_gives_out_what_it_says_and_not_one_more(own_world, cover) -> None:
    """Control: of a quota that each consumer has, another has its own."""
    world = own_world
    contract = await cover(
        Quota(records=20, per=Per.DAY, each="consumer"), Quota(records=30, per=Per.MONTH, each="contract")
    )
    await asked(world, 15)
    refusal = await refusal_of(world, 6)
    entry = world.assert_recorded(refusal, EXHAUSTED, "QUOTA_EXHAUSTED")
    assert entry.contract == contract.id
    assert (refusal.details["limit"], refusal.details["per"], refusal.details["each"]) == (
        "20",
        "day",
        "consumer",
    )
    opens = datetime.fromisoformat(refusal.details["opens"])
    assert timedelta() < opens - world.clock() <= timedelta(days=1)
    await asked(world, 5)
    # Now all together have ten left, of which the other bank takes seven.
    await asked(world, 7, "northern-bank")
    refusal = await refusal_of(world, 4, "northern-bank")
    assert (refusal.details["each"], refusal.details["limit"]) == ("contract", "30")
    assert "27" not in refusal.message
    await asked(world, 3, "northern-bank")
    assert counted(world) == {("harbour-bank", "day"): 20, ("northern-bank", "day"): 10, ("", "month"): 30}
    assert logged(world, contract) == 30


async def test_what_has_nothing_left_is_denied_before_anybody_is_asked(own_world, cover) -> None:
    world = own_world
    await cover(Quota(records=5, per=Per.TERM))
    await asked(world, 5)
    orders = len(world.registry.orders)
    refusal = await refusal_of(world, 1)
    entry = world.assert_recorded(refusal, EXHAUSTED, "QUOTA_EXHAUSTED")
    assert entry.kind is EntryKind.EXCHANGE_DENIED
    assert len(world.registry.orders) == orders, "the provider was asked in vain"
    assert "opens" not in refusal.details


async def test_a_day_and_a_month_open_again_and_a_term_does_not(own_world, cover) -> None:
    world = own_world
    if (world.clock() + timedelta(days=1)).day == 1:
        # The two borders are to be told apart.
        world.clock.advance(timedelta(days=1))
    await cover(
        Quota(records=10, per=Per.DAY), Quota(records=15, per=Per.MONTH), Quota(records=25, per=Per.TERM)
    )
    await asked(world, 10)
    refusal = await refusal_of(world, 1)
    assert refusal.details["per"] == "day"
    tomorrow = datetime.fromisoformat(refusal.details["opens"])
    world.clock.advance(tomorrow - world.clock() - timedelta(seconds=1))
    assert await reason_of(refused_query(world, 1)) == "QUOTA_EXHAUSTED"
    world.clock.advance(timedelta(seconds=1))
    await asked(world, 5)
    refusal = await refusal_of(world, 1)
    assert refusal.details["per"] == "month"
    opens = datetime.fromisoformat(refusal.details["opens"])
    assert (opens.day, opens.hour) == (1, 0)
    world.clock.advance(opens - world.clock())
    await asked(world, 10)
    world.clock.advance(timedelta(days=1))
    refusal = await refusal_of(world, 1)
    assert refusal.details["per"] == "term"


async def refused_query(world: SimulatedWorld, records: int) -> None:
    caller = world.caller()
    await caller.query(statement(caller), page_size=records)


async def test_a_new_version_of_the_contract_opens_no_quota_again(own_world, cover) -> None:
    """Control: a contract of another name has quotas of its own, and a new term is a new term."""
    world = own_world
    quotas = (Quota(records=10, per=Per.DAY), Quota(records=10, per=Per.TERM))
    await cover(*quotas)
    await asked(world, 10)
    await cover(*quotas, version=2)
    assert (await refusal_of(world, 1)).reason == "QUOTA_EXHAUSTED"
    await cover(quotas[1], version=3, valid_from="2026-02-01T00:00:00Z")
    await asked(world, 10)
    await cover(*quotas, version=4, contract="others")
    await asked(world, 10)


async def test_a_quota_survives_a_restart(own_world, cover) -> None:
    world = own_world
    await cover(Quota(records=10, per=Per.DAY))
    await asked(world, 8)
    await cover.restart()
    assert (await refusal_of(world, 3)).reason == "QUOTA_EXHAUSTED"
    await asked(world, 2)


async def test_a_stream_ends_where_the_quota_does(own_world, cover) -> None:
    world = own_world
    contract = await cover(Quota(records=25, per=Per.DAY))
    caller = world.caller()
    got = 0

    async def read() -> None:
        nonlocal got
        async for message in caller.stream(statement(caller, Operation.STREAM), page_size=10):
            got += message.page.record_count

    refusal = await refused(read())
    entry = world.assert_recorded(refusal, EXHAUSTED, "QUOTA_EXHAUSTED")
    assert got == entry.records == logged(world, contract) == 20
    assert counted(world) == {("", "day"): 20}


async def test_a_page_of_a_cut_stream_that_did_not_leave_is_given_back(own_world, cover, monkeypatch) -> None:
    """Pages are recorded ahead of their reader. Control: those that left stay counted."""
    world = own_world
    contract = await cover(Quota(records=1000, per=Per.DAY))
    asked_again = 0

    def suspended_before_the_third_page(self: Steps, exchange: Exchange) -> None:
        nonlocal asked_again
        asked_again += 1
        if asked_again == 3:
            raise GatewayError("Suspended.", reason=Reason.MEMBER_SUSPENDED)

    monkeypatch.setattr(Steps, "still_permitted", suspended_before_the_third_page)
    caller = world.caller()
    got = 0

    async def read() -> None:
        nonlocal got
        async for message in caller.stream(statement(caller, Operation.STREAM), page_size=10):
            got += message.page.record_count

    refusal = await refused(read())
    recorded = [
        e.records for e in world.log.of_exchange(refusal.exchange) if e.kind is EntryKind.EXCHANGE_PAGE
    ]
    assert sum(recorded) > got == logged(world, contract) == 20
    assert counted(world) == {("", "day"): 20}
    assert not _held(world)
    rebuilt(world, contract)
    assert counted(world) == {("", "day"): 20}


async def test_what_failed_to_leave_is_given_back(own_world, cover, monkeypatch) -> None:
    """Control: what left stays counted."""
    world = own_world
    await cover(Quota(records=25, per=Per.DAY))

    def failing(self: Journal, exchange: object, once: object = None) -> None:
        raise ZeroDivisionError("a fault of a test")

    with monkeypatch.context() as patched:
        patched.setattr(Journal, "released", failing)
        assert (await refusal_of(world, 10)).reason == "INTERNAL"
    assert counted(world) == {("", "day"): 0}
    await asked(world, 10)
    assert counted(world) == {("", "day"): 10}


async def test_a_match_and_an_empty_answer_count_what_they_are(own_world, cover) -> None:
    world = own_world
    await cover(Quota(records=25, per=Per.DAY))
    client = world.client()
    unknown, company, *_ = world.companies
    del world.registry.lists[SELLERS][0]
    await client.query(SELLERS, purpose=PURPOSE, subjects=[Subject("uscc", unknown.uscc)])
    assert counted(world) == {}
    await client.match(
        SELLERS, purpose=PURPOSE, subject=Subject("uscc", company.uscc), match={"name": company.name}
    )
    assert counted(world) == {("", "day"): 1}


async def test_how_far_a_quota_is_used_is_told_to_operators(own_world, cover) -> None:
    world = own_world
    await cover(Quota(records=10, per=Per.DAY))
    await asked(world, 8)
    await cover.restart()
    line = 'sluicegate_quota_used_ratio{contract="registry/sellers",each="contract",per="day"} 0.8'
    await until(lambda: line in world.metrics_text())


# -- what a crash leaves ---------------------------------------------------------------------------


async def test_what_a_killed_exchange_reserved_is_put_right_by_the_log(own_world, cover, monkeypatch) -> None:
    """Of three that were never settled: one left, one did not, and one may still be under way."""
    world = own_world
    contract = await cover(Quota(records=100, per=Per.DAY))
    with monkeypatch.context() as patched:
        patched.setattr("gateway.exchange.quotas.metering.Meter.settle", lambda self, exchange: None)
        await asked(world, 10)
        patched.setattr(Journal, "released", lambda *_: 1 / 0)
        assert (await refusal_of(world, 20)).reason == "INTERNAL"
    with using(world) as ledger, open_reader(world.config.log.database) as reader:
        assert counted(world) == {("", "day"): 30}
        leftovers = Leftovers(ledger, [reader], world.clock)
        assert leftovers.settle() == 0, "they might be under way"
        later = Leftovers(ledger, [reader], lambda: world.clock() + DEAD_AFTER + timedelta(minutes=1))
        assert later.settle() == 2
        assert counted(world) == {("", "day"): 10}
        assert logged(world, contract) == 10
        assert later.settle() == 0


async def test_a_rebuilt_ledger_says_what_the_log_says(own_world, cover) -> None:
    world = own_world
    clause = Reciprocity(datasets=("d",), received_per_hundred_given=10, counts="released")
    first = await cover(
        Quota(records=1000, per=Per.DAY, each="consumer"),
        Quota(records=1000, per=Per.TERM),
        reciprocity=clause,
    )
    await asked(world, 7)
    await asked(world, 9, "northern-bank")
    caller = world.caller()
    async for _ in caller.stream(statement(caller, Operation.STREAM), page_size=25):
        pass
    second = await cover(Quota(records=10, per=Per.TERM), version=2, reciprocity=clause)
    assert (await refusal_of(world, 10)).reason == "QUOTA_EXHAUSTED"
    await until(lambda: not _held(world))
    before = counted(world), counted(world, AccountKind.GIVEN)
    assert before[0] == {("harbour-bank", "day"): 67, ("northern-bank", "day"): 9, ("", "term"): 76}
    assert before[1] == {("registry", "term"): 76}
    with using(world) as ledger:
        ledger.restate([*AccountKind], lambda _holds: {})
        assert counted(world) == {}
    rebuilt(world, first, second)
    assert (counted(world), counted(world, AccountKind.GIVEN)) == before


def _held(world: SimulatedWorld) -> bool:
    with using(world) as ledger:
        return bool(ledger.holds())


async def test_a_ledger_can_be_rebuilt_while_the_gateway_serves(own_world, cover) -> None:
    world = own_world
    contract = await cover(Quota(records=30, per=Per.DAY))
    rebuilding = True

    async def rebuild_again_and_again() -> None:
        while rebuilding:
            await asyncio.to_thread(rebuilt, world, contract)

    task = asyncio.create_task(rebuild_again_and_again())
    try:
        outcomes = await asyncio.gather(*(asked(world, 1) for _ in range(50)), return_exceptions=True)
    finally:
        rebuilding = False
        await task
    assert sum(not isinstance(outcome, BaseException) for outcome in outcomes) == 30
    assert logged(world, contract) == 30
    assert counted(world) == {("", "day"): 30}


# -- give and take ---------------------------------------------------------------------------------


def clause(**parts: Any) -> Reciprocity:
    return Reciprocity(datasets=(COMPANIES,), received_per_hundred_given=50, **parts)


def of_loans(reciprocity: Reciprocity, **changed: Any) -> dict[str, Any]:
    """Return what makes of the terms those of a bank that gives its loans, and gets something in return."""
    return {
        "contract": "loans",
        "parties": [
            {"member": RECIPIENT, "role": "contributor"},
            {"member": "registry", "role": "recipient"},
        ],
        "datasets": [{"name": LOANS, "held": "vault", "description": description(LOANS)}],
        "recipients": {"members": ["registry"]},
        "reciprocity": reciprocity,
        **changed,
    }


async def test_a_contributor_gets_what_it_has_given_for(own_world, cover) -> None:
    """Control: who asks under no clause of its own is not bound by it."""
    world = own_world
    contract = await cover(**of_loans(clause(allowance=3)))
    await asked(world, 3, dataset=COMPANIES)
    refusal = await refusal_of(world, 5, dataset=COMPANIES)
    entry = world.assert_recorded(refusal, EXHAUSTED, "RECIPROCITY_EXHAUSTED")
    assert entry.kind is EntryKind.EXCHANGE_DENIED
    assert refusal.details["left"] == "0"
    with using(world) as ledger:
        Gifts(ledger).gave(contract, 11)
        assert balance(ledger, contract).left == 5
    await asked(world, 4, dataset=COMPANIES)
    refusal = await refusal_of(world, 5, dataset=COMPANIES)
    assert (refusal.details["left"], refusal.details["missing"]) == ("1", "7")
    with using(world) as ledger:
        Gifts(ledger).gave(contract, 7)
    await cover.restart()
    await asked(world, 5, dataset=COMPANIES)
    with using(world) as ledger:
        found = balance(ledger, contract)
    assert (found.given, found.received, found.left) == (18, 12, 0)
    await asked(world, 20, "northern-bank", COMPANIES)


async def test_what_is_released_of_its_datasets_counts_as_given(own_world, cover) -> None:
    """Control: where contributions count, releases do not."""
    world = own_world
    contract = await cover(reciprocity=clause(counts="released"))
    await asked(world, 20)
    await until(lambda: not _held(world))
    with using(world) as ledger:
        assert balance(ledger, contract).given == 20
        assert balance(ledger, contract).left == 10
        other = await cover(contract="another", reciprocity=clause(counts="contributed"))
    await asked(world, 20)
    with using(world) as ledger:
        Gifts(ledger).gave(contract, 99)
        assert (balance(ledger, contract).given, balance(ledger, other).given) == (20, 0)


async def test_a_clause_that_gives_nothing_for_more_says_so(own_world, cover) -> None:
    world = own_world
    nothing = Reciprocity(datasets=(COMPANIES,), received_per_hundred_given=0, allowance=4)
    await cover(**of_loans(nothing))
    refusal = await refusal_of(world, 5, dataset=COMPANIES)
    assert refusal.reason == "RECIPROCITY_EXHAUSTED"
    assert refusal.details["left"] == "4"
    assert "missing" not in refusal.details


async def test_what_is_got_in_return_is_in_the_log_and_rebuilt_from_it(own_world, cover) -> None:
    """Control: who gets nothing in return has no contract in its entry."""
    world = own_world
    contract = await cover(**of_loans(clause(allowance=9)))
    for parts in ({}, {"contract": "loans"}, {"contract": contract.id}):
        page = await world.client().query(COMPANIES, purpose=PURPOSE, page_size=2, **parts)
        entry = page.verified.entry
        assert (entry.contract, entry.in_return) == (contract.id, contract.id)
        requested = world.log.of_exchange(entry.exchange)[0]
        assert requested.policy_input.get("contract") is None, "policy decides as if there were no clause"
    page = await asked(world, 2, "northern-bank", COMPANIES)
    assert (page.verified.entry.contract, page.verified.entry.in_return) == ("", "")
    await until(lambda: not _held(world))
    received = {(RECIPIENT, "term"): 6}
    assert counted(world, AccountKind.RECEIVED) == received
    with using(world) as ledger:
        ledger.restate([*AccountKind], lambda _holds: {})
    rebuilt(world, contract)
    assert counted(world, AccountKind.RECEIVED) == received


async def test_of_a_dataset_under_a_contract_both_count(own_world, cover) -> None:
    """Control: the other bank has given nothing, and is bound by the quota alone."""
    world = own_world
    given = await cover(Quota(records=10, per=Per.DAY))
    returned = Reciprocity(datasets=(SELLERS,), received_per_hundred_given=0, allowance=4)
    own = world.node.contracts.put(sellers_terms(**of_loans(returned)))
    for contract, taken in (("loans", 1), ("sellers", 2), ("", 1)):
        page = await world.client().query(SELLERS, purpose=PURPOSE, page_size=taken, contract=contract)
        assert (page.verified.entry.contract, page.verified.entry.in_return) == (given.id, own.id)
    assert (await refusal_of(world, 1)).reason == "RECIPROCITY_EXHAUSTED"
    await asked(world, 6, "northern-bank")
    assert (await refusal_of(world, 1, "northern-bank")).reason == "QUOTA_EXHAUSTED"
    await until(lambda: not _held(world))
    before = counted(world), counted(world, AccountKind.RECEIVED)
    assert before == ({("", "day"): 10}, {(RECIPIENT, "term"): 4})
    rebuilt(world, given, own)
    assert (counted(world), counted(world, AccountKind.RECEIVED)) == before


async def test_of_several_clauses_one_must_be_named(own_world, cover) -> None:
    world = own_world
    await cover(**of_loans(clause(allowance=9)))
    other = world.node.contracts.put(sellers_terms(**of_loans(clause(allowance=5), contract="more-loans")))
    refusal = await refusal_of(world, 1, dataset=COMPANIES)
    world.assert_recorded(refusal, "PERMISSION_DENIED", "CONTRACT_MISSING")
    assert refusal.details["contracts"] == "loans,more-loans"
    page = await world.client().query(COMPANIES, purpose=PURPOSE, page_size=2, contract="more-loans")
    assert page.verified.entry.in_return == other.id


@pytest.mark.parametrize("state", [ContractState.SUSPENDED, ContractState.TERMINATED])
async def test_who_ends_its_contract_gets_nothing_in_return_any_more(own_world, cover, state) -> None:
    """Not even unmetered. Control: another never had a clause, and a later version without one lets go."""
    world = own_world
    contract = await cover(**of_loans(clause(allowance=9)))
    await asked(world, 1, dataset=COMPANIES)
    world.node.contracts.put(contract.terms, state)
    for parts in ({}, {"contract": "loans"}):
        refusal = await refusal_of(world, 1, dataset=COMPANIES, **parts)
        world.assert_recorded(refusal, "PERMISSION_DENIED", "CONTRACT_NOT_IN_FORCE")
    await asked(world, 1, "northern-bank", COMPANIES)
    world.node.contracts.put(sellers_terms(**of_loans(None, version=2)))
    await asked(world, 1, dataset=COMPANIES)


async def test_a_clause_that_has_not_begun_binds_nobody(own_world) -> None:
    """Control: once it has begun it does."""
    world = own_world
    begins = rfc3339(world.clock() + timedelta(hours=1))[:19] + "Z"
    world.node.contracts.put(sellers_terms(**of_loans(clause(), valid_from=begins)))
    await asked(world, 1, dataset=COMPANIES)
    world.clock.advance(timedelta(hours=2))
    assert (await refusal_of(world, 1, dataset=COMPANIES)).reason == "RECIPROCITY_EXHAUSTED"


async def _cut(world: SimulatedWorld, contract: Contract) -> None:
    """Read what is got in return in bulk, and suspend the contract after two pages."""
    caller, pages = world.caller(), 0
    statement_ = statement(caller, Operation.STREAM, COMPANIES)
    async for _ in caller.stream(statement_, page_size=2):
        pages += 1
        if pages == 2:
            world.node.contracts.put(contract.terms, ContractState.SUSPENDED)


async def test_a_running_answer_ends_with_the_contract_that_it_is_got_by(own_world, cover) -> None:
    world = own_world
    contract = await cover(**of_loans(clause(allowance=500)))
    refusal = await refused(_cut(world, contract))
    entry = world.assert_recorded(refusal, "PERMISSION_DENIED", "CONTRACT_NOT_IN_FORCE")
    assert 4 <= entry.records < len(world.companies)
    await until(lambda: not _held(world))
    assert counted(world, AccountKind.RECEIVED) == {(RECIPIENT, "term"): entry.records}


async def test_control_a_gateway_that_does_not_look_goes_on(own_world, cover, monkeypatch) -> None:
    world = own_world
    contract = await cover(**of_loans(clause(allowance=500)))
    monkeypatch.setattr(steps, "verify_in_force", lambda *_: None)
    await _cut(world, contract)
