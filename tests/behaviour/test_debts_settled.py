"""What is owed after releases is listed for the operator, and settling it stands in the log first."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta

import pytest

from gateway.demo.world import COMPANIES
from gateway.deployment.debts import owed, settle
from gateway.errors import ConfigError
from gateway.ledger import Debt, DebtKind, open_ledger
from gateway.model import EntryKind, Subject
from tests.simulators.outcome import reason_of
from tests.simulators.waiting import until
from tests.simulators.world import SimulatedWorld

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def released(world: SimulatedWorld) -> str:
    """Release something that must be told and acknowledged; return the exchange."""
    world.node.scripted.duties = {"notify_subject": {"within_days": 3}, "acknowledge": {"within_hours": 1}}
    page = await world.client().query(
        COMPANIES, purpose="public-lookup", subjects=[Subject("uscc", world.companies[0].uscc)]
    )
    return str(page.verified.entry.exchange)


async def test_a_notice_that_was_given_is_logged_and_no_longer_owed(own_world: SimulatedWorld) -> None:
    world = own_world
    exchange = await released(world)
    [debt] = owed(world.config, DebtKind.NOTICE, clock=world.clock)
    assert debt.exchange == exchange
    assert owed(world.config, DebtKind.NOTICE, overdue=True, clock=world.clock) == []
    world.clock.advance(timedelta(days=3, minutes=1))
    assert owed(world.config, DebtKind.NOTICE, overdue=True, clock=world.clock) == [debt]
    index = settle(
        world.config, DebtKind.NOTICE, exchange, reason="by letter", by="officer", clock=world.clock
    )
    [entry] = world.log.entries(index)[:1]
    assert (entry.kind, entry.exchange, entry.subject) == (
        EntryKind.SUBJECT_NOTIFIED,
        exchange,
        f"exchanges/{exchange}",
    )
    assert (entry.detail["by"], entry.detail["reason"]) == ("officer", "by letter")
    assert entry.commitments == {"subject": debt.subject}
    assert world.companies[0].uscc not in str(entry)
    assert owed(world.config, DebtKind.NOTICE, clock=world.clock) == []
    with pytest.raises(ConfigError, match="No notice is owed"):
        settle(world.config, DebtKind.NOTICE, exchange, reason="again", by="officer", clock=world.clock)
    world.log.verify()


async def test_a_waived_acknowledgement_lets_its_consumer_ask_again(own_world: SimulatedWorld) -> None:
    """Control: before that, it is refused."""
    world = own_world
    exchange = await released(world)
    world.clock.advance(timedelta(days=8))
    caller = world.caller()

    async def is_refused() -> bool:
        question = caller.statement(COMPANIES, "public-lookup")
        return await reason_of(caller.query(question)) == "ACKNOWLEDGEMENT_OVERDUE"

    await until(is_refused)
    index = settle(
        world.config, DebtKind.ACKNOWLEDGEMENT, exchange, reason="too old", by="officer", clock=world.clock
    )
    assert world.log.entries(index)[0].kind is EntryKind.ACKNOWLEDGEMENT_WAIVED

    async def is_served() -> bool:
        return not await is_refused()

    await until(is_served)


async def test_what_the_log_settled_is_not_owed_though_the_ledger_says_so(own_world: SimulatedWorld) -> None:
    """As after a crash between the log's write and the ledger's, and for what nobody released."""
    world = own_world
    exchange = await released(world)
    [debt] = owed(world.config, DebtKind.NOTICE, clock=world.clock)
    settle(world.config, DebtKind.NOTICE, exchange, reason="by letter", by="officer", clock=world.clock)
    never = "0195512e-0000-7000-8000-000000000000"
    with closing(open_ledger(world.config.log.database)) as ledger:
        ledger.owe(debt)
        ledger.owe(Debt(DebtKind.NOTICE, never, "harbour-bank", "registry", COMPANIES, debt.until, ""))
        assert len(ledger.debts(DebtKind.NOTICE)) == 2
    assert owed(world.config, DebtKind.NOTICE, clock=world.clock) == []


@pytest.mark.parametrize("text", ["", "two\nlines", "about 110101199003070134", "x" * 301])
async def test_a_reason_that_may_not_stand_in_the_log_is_refused(own_world: SimulatedWorld, text) -> None:
    exchange = await released(own_world)
    size = own_world.log.size()
    with pytest.raises(ConfigError):
        settle(own_world.config, DebtKind.NOTICE, exchange, reason=text, by="officer", clock=own_world.clock)
    assert own_world.log.size() == size
