"""What policy lays on exchanges over time is done: budgets, delays, notices, acknowledgements.

Every duty has its control: without it, or elsewhere, the same question is answered at once.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import closing
from datetime import datetime, timedelta
from typing import Any

import grpc
import pytest

from gateway.demo.world import COMPANIES
from gateway.exchange.duties import holding
from gateway.exchange.journal import Journal
from gateway.ledger import Debt, DebtKind, budget, open_ledger
from gateway.ledger.stores import ledger_file
from gateway.model import EntryKind, MemberState, Operation, Subject
from tests.simulators.outcome import reason_of, refused
from tests.simulators.waiting import until
from tests.simulators.world import SimulatedWorld

pytestmark = pytest.mark.asyncio(loop_scope="module")

EXHAUSTED = "RESOURCE_EXHAUSTED"
PURPOSE = "public-lookup"


def statement(caller, operation: Operation = Operation.QUERY, **parts: Any):
    return caller.statement(COMPANIES, PURPOSE, operation, **parts)


async def asked(world: SimulatedWorld, **parts: Any):
    return await world.client().query(COMPANIES, purpose=PURPOSE, **parts)


def lay(world: SimulatedWorld, **duties: dict[str, Any]) -> None:
    """Lay duties on every exchange from now on."""
    world.node.scripted.duties = duties


def spent(world: SimulatedWorld, member: str = "harbour-bank") -> int:
    with closing(open_ledger(world.config.log.database)) as ledger:
        account = budget(member, PURPOSE, world.clock())
        return ledger.balances([account]).get(account, 0)


def debts(world: SimulatedWorld, kind: DebtKind) -> list[Debt]:
    with closing(open_ledger(world.config.log.database)) as ledger:
        return ledger.debts(kind)


# -- budgets ---------------------------------------------------------------------------------------


async def test_a_budget_is_never_exceeded_by_a_record(own_world: SimulatedWorld) -> None:
    """Not by many at once either. Control: another consumer has a budget of its own."""
    world = own_world
    lay(world, limit_volume={"records": 25, "per": "day"})
    caller = world.caller()
    outcomes = await asyncio.gather(
        *(caller.query(statement(caller), page_size=10) for _ in range(6)), return_exceptions=True
    )
    answers = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
    assert sum(answer.page.record_count for answer in answers) == 20
    assert all(isinstance(o, grpc.aio.AioRpcError) for o in outcomes if o not in answers)
    refusal = await refused(caller.query(statement(caller), page_size=10))
    world.assert_recorded(refusal, EXHAUSTED, "BUDGET_EXHAUSTED")
    opens = datetime.fromisoformat(refusal.details["opens"])
    assert timedelta() < opens - world.clock() <= timedelta(days=1)
    assert (opens.hour, opens.minute) == (0, 0)
    # What is left is left: five fit, a sixth does not.
    assert (await caller.query(statement(caller), page_size=5)).page.record_count == 5
    assert await reason_of(caller.query(statement(caller), page_size=1)) == "BUDGET_EXHAUSTED"
    other = world.caller("northern-bank")
    assert (await other.query(statement(other), page_size=10)).page.record_count == 10
    assert (spent(world), spent(world, "northern-bank")) == (25, 10)


async def test_a_budget_survives_a_restart_and_opens_again_the_next_day(own_world: SimulatedWorld) -> None:
    """Control: the next day, there is another budget."""
    world = own_world
    lay(world, limit_volume={"records": 10})
    assert len(await asked(world, page_size=10)) == 10
    await world.restart_node()
    lay(world, limit_volume={"records": 10})
    caller = world.caller()
    orders = len(world.registry.orders)
    refusal = await refused(caller.query(statement(caller), page_size=1))
    world.assert_recorded(refusal, EXHAUSTED, "BUDGET_EXHAUSTED")
    assert len(world.registry.orders) == orders, "the provider was asked in vain"
    opens = datetime.fromisoformat(refusal.details["opens"])
    world.clock.advance(opens - world.clock() + timedelta(seconds=1))
    assert len(await asked(world, page_size=10)) == 10


async def test_two_gateways_on_one_log_share_the_budget(own_world: SimulatedWorld) -> None:
    world = own_world
    lay(world, limit_volume={"records": 25})
    first = world.caller()
    await world.start_node()
    lay(world, limit_volume={"records": 25})
    second = world.caller()
    outcomes = await asyncio.gather(
        *(caller.query(statement(caller), page_size=10) for caller in (first, second) * 3),
        return_exceptions=True,
    )
    assert sum(not isinstance(outcome, BaseException) for outcome in outcomes) == 2
    assert spent(world) == 20


async def test_a_stream_ends_where_the_budget_does(own_world: SimulatedWorld) -> None:
    world = own_world
    lay(world, limit_volume={"records": 25})
    caller = world.caller()
    got = 0

    async def read() -> None:
        nonlocal got
        async for message in caller.stream(statement(caller, Operation.STREAM), page_size=10):
            got += message.page.record_count

    refusal = await refused(read())
    entry = world.assert_recorded(refusal, EXHAUSTED, "BUDGET_EXHAUSTED")
    assert got == entry.records == spent(world) == 20


async def test_what_did_not_leave_is_given_back(own_world: SimulatedWorld, monkeypatch) -> None:
    """Control: what left stays spent, and owed."""
    world = own_world
    lay(
        world,
        limit_volume={"records": 25},
        acknowledge={"within_hours": 1},
        notify_subject={"within_days": 1},
    )
    caller = world.caller()

    def failing(self: Journal, exchange: object) -> None:
        raise ZeroDivisionError("a fault of a test")

    with monkeypatch.context() as patched:
        patched.setattr(Journal, "released", failing)
        assert await reason_of(caller.query(statement(caller), page_size=10)) == "INTERNAL"
    assert spent(world) == 0
    assert debts(world, DebtKind.ACKNOWLEDGEMENT) == debts(world, DebtKind.NOTICE) == []
    await caller.query(statement(caller), page_size=10)
    assert spent(world) == 10
    assert len(debts(world, DebtKind.ACKNOWLEDGEMENT)) == len(debts(world, DebtKind.NOTICE)) == 1


async def test_without_its_ledger_nothing_leaves_that_has_a_budget(own_world: SimulatedWorld) -> None:
    """Control: what has none is answered meanwhile, and afterwards all is."""
    world = own_world
    caller = world.caller()
    with closing(sqlite3.connect(ledger_file(world.config.log.database), isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        await world.works()
        lay(world, limit_volume={"records": 25})
        refusal = await refused(caller.query(statement(caller), page_size=10))
    entry = world.assert_recorded(refusal, "UNAVAILABLE", "LEDGER_UNAVAILABLE")
    assert (entry.kind, entry.records) == (EntryKind.EXCHANGE_FAILED, 0)
    assert len(await asked(world, page_size=25)) == 25


# -- delays ----------------------------------------------------------------------------------------


@pytest.mark.timed
async def test_an_answer_is_held(world: SimulatedWorld) -> None:
    """Control: without the duty, it comes at once."""
    began = time.monotonic()
    await asked(world)
    assert time.monotonic() - began < 1
    lay(world, delay={"seconds": 1})
    began = time.monotonic()
    page = await asked(world)
    assert time.monotonic() - began >= 1
    assert page.verified.entry.duties == {"delay": {"seconds": 1}}
    world.node.scripted.duties = None


@pytest.mark.timed
async def test_a_deadline_within_the_delay_is_refused_at_once(world: SimulatedWorld) -> None:
    lay(world, delay={"seconds": 20})
    caller = world.caller()
    began = time.monotonic()
    refusal = await refused(caller.query(statement(caller), timeout_s=10))
    entry = world.assert_recorded(refusal, "INVALID_ARGUMENT", "DEADLINE_INVALID")
    assert entry.kind is EntryKind.EXCHANGE_DENIED
    assert refusal.details["held_seconds"] == "20"
    assert time.monotonic() - began < 5
    world.node.scripted.duties = None


async def test_a_held_answer_can_be_cancelled_and_asks_nobody_meanwhile(world: SimulatedWorld) -> None:
    lay(world, delay={"seconds": 20})
    caller = world.caller()
    orders, size = len(world.registry.orders), world.log.size()
    call = asyncio.ensure_future(caller.query(statement(caller), timeout_s=25))
    await until(lambda: "sluicegate_answers_held 1.0" in world.metrics_text())
    assert len(world.registry.orders) == orders
    call.cancel()
    await until(lambda: world.log.size() == size + 2)
    assert "sluicegate_answers_held 0.0" in world.metrics_text()
    [_, closing_entry] = world.log.entries(size)
    assert (closing_entry.kind, closing_entry.reasons) == (EntryKind.EXCHANGE_FAILED, ("CANCELLED",))
    world.node.scripted.duties = None


async def test_not_everybody_can_wait_at_once(world: SimulatedWorld, monkeypatch) -> None:
    """Control: another consumer still can."""
    monkeypatch.setattr(holding, "MAX_HELD_OF_ONE", 2)
    lay(world, delay={"seconds": 20})
    caller, other = world.caller(), world.caller("northern-bank")
    calls = [asyncio.ensure_future(caller.query(statement(caller), timeout_s=25)) for _ in range(2)]
    await until(lambda: "sluicegate_answers_held 2.0" in world.metrics_text())
    refusal = await refused(caller.query(statement(caller), timeout_s=25))
    world.assert_recorded(refusal, EXHAUSTED, "OVERLOADED")
    calls.append(asyncio.ensure_future(other.query(statement(other), timeout_s=25)))
    await until(lambda: "sluicegate_answers_held 3.0" in world.metrics_text())
    for call in calls:
        call.cancel()
    await until(lambda: "sluicegate_answers_held 0.0" in world.metrics_text())
    world.node.scripted.duties = None


async def test_who_is_suspended_while_the_answer_is_held_does_not_get_it(own_world: SimulatedWorld) -> None:
    world = own_world
    lay(world, delay={"seconds": 2})
    caller = world.caller()
    call = asyncio.ensure_future(caller.query(statement(caller), timeout_s=25))
    await until(lambda: "sluicegate_answers_held 1.0" in world.metrics_text())
    await world.set_state("harbour-bank", MemberState.SUSPENDED)
    refusal = await refused(call)
    world.assert_recorded(refusal, "PERMISSION_DENIED", "MEMBER_SUSPENDED")
    assert world.registry.orders == []


# -- what is owed afterwards -----------------------------------------------------------------------


async def test_a_notice_is_due_and_names_nobody(own_world: SimulatedWorld) -> None:
    """Control: an answer without the duty, or without a record, makes none due."""
    world = own_world
    await world.works()
    lay(world, notify_subject={"within_days": 30})
    await asked(world, filters={"kind": "no such kind"})
    assert debts(world, DebtKind.NOTICE) == []
    company = world.companies[3]
    page = await asked(world, subjects=[Subject("uscc", company.uscc)])
    entry = page.verified.entry
    [debt] = debts(world, DebtKind.NOTICE)
    assert (debt.exchange, debt.subject) == (entry.exchange, entry.commitments["subject"])
    assert entry.duties["notify_subject"]["within_days"] == 30
    assert datetime.fromisoformat(entry.duties["notify_subject"]["until"]) == debt.until
    file = ledger_file(world.config.log.database)
    kept = b"".join(path.read_bytes() for path in file.parent.glob(f"{file.name}*"))
    assert debt.exchange.encode() in kept
    assert company.uscc.encode() not in kept


async def test_the_subjects_of_a_cut_stream_are_to_be_told(own_world: SimulatedWorld) -> None:
    """Pages left. Control: of a stream that was cut before its first page, nobody is."""
    world = own_world
    lay(world, notify_subject={"within_days": 30}, limit_volume={"records": 15})
    caller = world.caller()
    for page_size, due in ((30, 0), (10, 1)):
        with pytest.raises(grpc.aio.AioRpcError):
            async for _ in caller.stream(statement(caller, Operation.STREAM), page_size=page_size):
                pass
        assert len(debts(world, DebtKind.NOTICE)) == due


async def test_a_release_says_until_when_it_must_be_acknowledged(own_world: SimulatedWorld) -> None:
    world = own_world
    lay(world, acknowledge={"within_hours": 2})
    page = await asked(world)
    until_when = datetime.fromisoformat(page.verified.entry.duties["acknowledge"]["until"])
    assert timedelta(hours=1, minutes=59) < until_when - world.clock() <= timedelta(hours=2)
    [debt] = debts(world, DebtKind.ACKNOWLEDGEMENT)
    assert debt.exchange == page.verified.entry.exchange
    await world.client().acknowledge(page.receipt)
    assert debts(world, DebtKind.ACKNOWLEDGEMENT) == []


async def test_who_does_not_acknowledge_gets_no_more(own_world: SimulatedWorld) -> None:
    """Control: another consumer does, and so does this one after the acknowledgement."""
    world = own_world
    lay(world, acknowledge={"within_hours": 2})
    page = await asked(world)
    await asked(world, acknowledge=True)
    world.clock.advance(timedelta(hours=2, minutes=1))
    await until(lambda: "sluicegate_acknowledgements_overdue 1.0" in world.metrics_text())
    caller = world.caller()
    refusal = await refused(caller.query(statement(caller)))
    entry = world.assert_recorded(refusal, "FAILED_PRECONDITION", "ACKNOWLEDGEMENT_OVERDUE")
    assert entry.kind is EntryKind.EXCHANGE_DENIED
    await world.works("northern-bank")
    await world.client().acknowledge(page.receipt)
    await until(lambda: "sluicegate_acknowledgements_overdue 0.0" in world.metrics_text())
    await world.works()


async def test_as_many_may_be_overdue_as_the_configuration_says(own_world: SimulatedWorld) -> None:
    world = own_world
    lay(world, acknowledge={"within_hours": 1})
    await asked(world)
    await world.stop_node()

    def tolerant(config):
        duties = config.duties.model_copy(update={"overdue_acknowledgements": 1})
        return config.model_copy(update={"duties": duties})

    await world.start_node(tolerant)
    world.clock.advance(timedelta(hours=1, minutes=1))
    await until(lambda: "sluicegate_acknowledgements_overdue 1.0" in world.metrics_text())
    lay(world, acknowledge={"within_hours": 1})
    await asked(world)
    world.clock.advance(timedelta(hours=1, minutes=1))
    await until(lambda: "sluicegate_acknowledgements_overdue 2.0" in world.metrics_text())
    caller = world.caller()
    assert await reason_of(caller.query(statement(caller))) == "ACKNOWLEDGEMENT_OVERDUE"


async def test_a_debt_of_nothing_that_left_is_forgotten(own_world: SimulatedWorld) -> None:
    """As after a crash between the ledger's write and the log's. Control: a real one stays."""
    world = own_world
    lay(world, acknowledge={"within_hours": 1})
    page = await asked(world)
    phantom = Debt(
        kind=DebtKind.ACKNOWLEDGEMENT,
        exchange="0195512e-0000-7000-8000-000000000000",
        consumer="harbour-bank",
        provider="registry",
        dataset=COMPANIES,
        until=world.clock() + timedelta(minutes=30),
        subject="",
    )
    with closing(open_ledger(world.config.log.database)) as ledger:
        ledger.owe(phantom)
    assert len(debts(world, DebtKind.ACKNOWLEDGEMENT)) == 2
    world.clock.advance(timedelta(hours=1, minutes=1))
    await until(lambda: "sluicegate_acknowledgements_overdue 1.0" in world.metrics_text())
    [debt] = debts(world, DebtKind.ACKNOWLEDGEMENT)
    assert debt.exchange == page.verified.entry.exchange


# -- many at once ----------------------------------------------------------------------------------


async def test_duties_are_carried_out_together_and_stand_in_the_entry(own_world: SimulatedWorld) -> None:
    world = own_world
    duties: dict[str, dict[str, Any]] = {
        "smallest_cohort": {"records": 3},
        "round_counts": {"to": 5},
        "limit_records": {"records": 12},
        "limit_volume": {"records": 100, "per": "day"},
        "delay": {"seconds": 1},
        "notify_subject": {"within_days": 30},
        "acknowledge": {"within_hours": 24},
        "retention": {"field": "registered_on", "years": 100},
    }
    lay(world, **duties)
    page = await asked(world)
    told = page.verified.entry.duties
    assert told.keys() == duties.keys()
    for name, parameters in duties.items():
        assert told[name].items() >= parameters.items()
    assert (len(page), page.verified.entry.records) == (12, 10)
    text = world.metrics_text()
    for name in duties:
        assert f'sluicegate_duties_total{{duty="{name}"}} 1.0' in text
