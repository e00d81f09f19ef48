"""Records of contributors: given under a contract in force, as far as it says, and not a second longer."""

from __future__ import annotations

import asyncio
import time

import msgspec
import pytest
import pytest_asyncio

from gateway.client import Subject
from gateway.client.errors import ClientError
from gateway.demo.world import COMPANIES
from gateway.errors import Reason
from gateway.exchange import steps
from gateway.model import Contract, ContractState, EntryKind, MemberState
from tests.simulators.in_force import (
    RECIPIENT,
    SELLERS,
    description,
    sellers,
    sellers_terms,
    until_listed,
)
from tests.simulators.outcome import refused
from tests.simulators.provider import Fault
from tests.simulators.waiting import until
from tests.simulators.world import SimulatedWorld

pytestmark = pytest.mark.asyncio(loop_scope="module")

DENIED = "PERMISSION_DENIED"


async def agree(world: SimulatedWorld, **changed) -> Contract:
    """Put a contract in force, and wait until its dataset is in the catalogue."""
    world.registry.lists[SELLERS] = sellers(world.companies)
    contract = world.node.contracts.put(sellers_terms(**changed))
    await until_listed(world.client(), contract.terms.datasets[0].name)
    return contract


@pytest_asyncio.fixture(loop_scope="module")
async def agreed(world: SimulatedWorld):
    contract = await agree(world)
    yield contract
    for one in world.node.contracts.contracts():
        world.node.contracts.remove(one)
    world.registry.lists.clear()


def change(world: SimulatedWorld, contract: Contract, state: ContractState) -> None:
    world.node.contracts.put(contract.terms, state)


async def test_records_are_given_as_the_contract_says_and_the_log_names_it(world, agreed) -> None:
    company = world.companies[12]
    page = await world.client().query(
        SELLERS, purpose="public-lookup", subjects=[Subject("uscc", company.uscc)]
    )
    assert page.records == [
        {
            "uscc": company.uscc,
            "name": company.name,
            "phone": "*" * 11,  # the bank's own mask keeps seven of eleven, which hides less than half
            "complaints": "0-99",
            "joined_on": "2020",
        }
    ]
    entries = world.log.of_exchange(page.verified.entry.exchange)
    assert [entry.contract for entry in entries] == [agreed.id] * 2
    assert world.registry.orders[-1].contract == agreed.id


async def test_a_contract_is_cited_by_name_and_by_identity(world, agreed) -> None:
    for cited in (agreed.id, "sellers"):
        page = await world.client().query(SELLERS, purpose="public-lookup", contract=cited)
        assert page.verified.entry.contract == agreed.id
    caller = world.caller()
    statement = caller.statement(SELLERS, "public-lookup", contract="another")
    refusal = await refused(caller.query(statement))
    entry = world.assert_recorded(refusal, DENIED, "CONTRACT_NOT_IN_FORCE")
    assert entry.contract == ""


async def test_who_is_not_named_gets_nothing_and_neither_does_another_purpose(world, agreed) -> None:
    caller = world.caller("northern-bank")
    refusal = await refused(caller.query(caller.statement(SELLERS, "public-lookup")))
    entry = world.assert_recorded(refusal, DENIED, "CONTRACT_NOT_APPLICABLE")
    assert entry.contract == agreed.id
    caller = world.caller()
    refusal = await refused(caller.query(caller.statement(SELLERS, "statistics")))
    assert "CONTRACT_NOT_APPLICABLE" in world.assert_recorded(refusal, DENIED, refusal.reason).reasons


async def test_of_several_contracts_the_one_that_serves_is_taken_or_one_must_be_named(world, agreed) -> None:
    other = world.node.contracts.put(
        sellers_terms(contract="sellers-north", recipients={"members": ["northern-bank"]})
    )
    for member, contract in ((RECIPIENT, agreed), ("northern-bank", other)):
        page = await world.client(member).query(SELLERS, purpose="public-lookup")
        assert page.verified.entry.contract == contract.id
    third = world.node.contracts.put(
        sellers_terms(contract="sellers-banks", recipients={"classes": ["bank"]})
    )
    caller = world.caller()
    refusal = await refused(caller.query(caller.statement(SELLERS, "public-lookup")))
    world.assert_recorded(refusal, DENIED, "CONTRACT_MISSING")
    assert refusal.details["contracts"] == "sellers,sellers-banks"
    page = await world.client().query(SELLERS, purpose="public-lookup", contract="sellers-banks")
    assert page.verified.entry.contract == third.id


async def test_the_catalogue_says_what_a_contract_gives(world, agreed) -> None:
    [grant] = (await world.client().dataset(SELLERS)).grants
    assert (grant.purpose, grant.contract) == ("public-lookup", "sellers")
    assert {item.field: item.treatment for item in grant.treatments}["remarks"] == "drop"
    assert (await world.client("northern-bank").dataset(SELLERS)).grants == []


async def test_a_dataset_comes_and_goes_with_its_contract(world, agreed) -> None:
    change(world, agreed, ContractState.SUSPENDED)
    await until_listed(world.client(), SELLERS, listed=False)
    caller = world.caller()
    refusal = await refused(caller.query(caller.statement(SELLERS, "public-lookup")))
    world.assert_recorded(refusal, DENIED, "CONTRACT_NOT_IN_FORCE")
    change(world, agreed, ContractState.ACTIVE)
    await until_listed(world.client(), SELLERS)
    await world.client().query(SELLERS, purpose="public-lookup")


async def test_a_decision_that_was_kept_does_not_outlive_the_contract(world, agreed) -> None:
    """The same question, within the time that decisions are kept: before, after, and under other terms."""
    await world.client().query(SELLERS, purpose="public-lookup")
    change(world, agreed, ContractState.TERMINATED)
    with pytest.raises(ClientError) as caught:
        await world.client().query(SELLERS, purpose="public-lookup")
    # By the first until the catalogue has followed, a quarter of a second later; by the second after it.
    assert caught.value.reason in {Reason.CONTRACT_MISSING, Reason.CONTRACT_NOT_IN_FORCE}
    stricter = msgspec.to_builtins(agreed.terms)
    stricter["datasets"][0]["fields"]["name"] = {"treatment": "drop"}
    await agree(world, version=2, datasets=stricter["datasets"])
    page = await world.client().query(SELLERS, purpose="public-lookup")
    assert "name" not in page.fields


async def test_a_dataset_of_the_operators_own_is_not_replaced_and_from_then_on_needs_a_contract(
    own_world: SimulatedWorld,
) -> None:
    world = own_world
    await world.works()
    described = description(COMPANIES)
    datasets = [{"name": COMPANIES, "held": "provider", "description": described}]
    contract = world.node.contracts.put(sellers_terms(datasets=datasets))
    await until(lambda: "contracts.dataset_refused" in world.output.getvalue())
    page = await world.client().query(
        COMPANIES, purpose="public-lookup", filters={"uscc": world.companies[0].uscc}
    )
    assert "registered_on" in page.fields, "the operator's own description counts"
    assert page.verified.entry.contract == contract.id
    change(world, contract, ContractState.TERMINATED)
    caller = world.caller()
    refusal = await refused(caller.query(caller.statement(COMPANIES, "public-lookup")))
    world.assert_recorded(refusal, DENIED, "CONTRACT_MISSING")


# -- running answers -------------------------------------------------------------------------------


async def streaming(world: SimulatedWorld, contract: Contract) -> asyncio.Task:
    """Return a stream under the contract of which two pages have come, and whose provider is silent."""
    world.registry.gate.clear()
    pages = asyncio.Queue()

    async def read() -> None:
        async for page in world.client().stream(SELLERS, purpose="public-lookup", page_size=10):
            await pages.put(page)

    task = asyncio.create_task(read())
    for _ in range(2):
        await pages.get()
    return task


async def ended(task: asyncio.Task) -> tuple[float, ClientError]:
    begun = time.monotonic()
    with pytest.raises(ClientError) as caught:
        async with asyncio.timeout(10):
            await task
    return time.monotonic() - begun, caught.value


@pytest.mark.timed
@pytest.mark.parametrize("state", [ContractState.SUSPENDED, ContractState.TERMINATED, ContractState.EXPIRED])
async def test_a_running_stream_stops_within_a_second_of_the_end(world, agreed, state) -> None:
    task = await streaming(world, agreed)
    change(world, agreed, state)
    seconds, error = await ended(task)
    assert seconds < 1.0
    assert error.reason == Reason.CONTRACT_NOT_IN_FORCE
    closing = world.log.entries()[-1]
    assert (closing.kind, closing.reasons) == (EntryKind.EXCHANGE_FAILED, ("CONTRACT_NOT_IN_FORCE",))
    assert (closing.contract, closing.pages, closing.records) == (agreed.id, 2, 20)


@pytest.mark.timed
async def test_a_running_stream_stops_when_a_party_is_suspended(own_world: SimulatedWorld) -> None:
    world = own_world
    world.add_member("third-party")
    parties = [
        {"member": "registry", "role": "contributor"},
        {"member": "third-party", "role": "recipient"},
    ]
    await until(lambda: world.node.contracts.is_active("third-party"))
    contract = await agree(world, parties=parties)
    task = await streaming(world, contract)
    await world.set_state("third-party", MemberState.SUSPENDED)
    seconds, error = await ended(task)
    assert seconds < 1.0
    assert error.reason == Reason.CONTRACT_NOT_IN_FORCE


async def test_control_a_gateway_that_does_not_look_goes_on(world, agreed, monkeypatch) -> None:
    monkeypatch.setattr(steps, "verify_in_force", lambda *_: None)
    task = await streaming(world, agreed)
    change(world, agreed, ContractState.SUSPENDED)
    done, _ = await asyncio.wait({task}, timeout=1.0)
    assert not done, "the test above would notice nothing"
    world.registry.gate.set()
    await task


@pytest.mark.timed
async def test_a_provider_that_is_silent_cannot_keep_an_answer_alive(world, agreed) -> None:
    world.registry.fault = Fault.HANGS
    call = asyncio.create_task(world.client().query(SELLERS, purpose="public-lookup"))
    await until(lambda: world.registry.working > 0)
    change(world, agreed, ContractState.SUSPENDED)
    seconds, error = await ended(call)
    assert seconds < 1.0
    assert error.reason == Reason.CONTRACT_NOT_IN_FORCE
    assert world.log.entries()[-1].records == 0


@pytest.mark.timed
async def test_an_answer_that_is_held_is_not_given_after_the_end(world, agreed) -> None:
    world.node.scripted.duties = {"delay": {"seconds": 20}}
    try:
        call = asyncio.create_task(world.client().query(SELLERS, purpose="public-lookup", timeout_s=25))
        await until(lambda: "sluicegate_answers_held 1.0" in world.metrics_text())
        change(world, agreed, ContractState.SUSPENDED)
        seconds, error = await ended(call)
        assert seconds < 1.0
        assert error.reason == Reason.CONTRACT_NOT_IN_FORCE
    finally:
        world.node.scripted.duties = None
