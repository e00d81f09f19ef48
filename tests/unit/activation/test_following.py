"""A process that follows what is in force, with a shelf and a log that a test writes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from gateway.activation import following
from gateway.activation.active import ActivePolicy
from gateway.activation.errors import ActivationError, NotInForceError, ShelfError
from gateway.activation.following import Hooks, PolicyFollower
from gateway.activation.history import Activation
from gateway.activation.shelf import Proposal
from gateway.activation.statement import Action, read_envelope
from gateway.clock import system_clock
from gateway.errors import ConfigError, GatewayError
from gateway.policy import EmbeddedEngine
from gateway.policy.golden import load_cases
from tests.simulators.activation import signed, state
from tests.simulators.waiting import until
from tests.unit.activation.conftest import ORIGIN, POLICIES, recorded


@dataclass
class Shared:
    """Shelf and log in one: what every process sees."""

    proposals: list[Proposal] = field(default_factory=list)
    entries: list[Activation] = field(default_factory=list)
    fails: bool = False

    def latest(self) -> tuple[int, str]:
        if self.fails:
            raise ShelfError("The store was told to fail.")
        return (len(self.proposals), self.proposals[-1].statement) if self.proposals else (0, "")

    def find(self, statement: str) -> Proposal | None:
        return next((each for each in reversed(self.proposals) if each.statement == statement), None)

    async def await_change(self, timeout_s: float) -> None:
        await asyncio.sleep(0.01)

    def newest(self) -> Activation | None:
        return self.entries[-1] if self.entries else None

    def all(self) -> list[Activation]:
        return list(self.entries)


@dataclass
class Heard:
    activated: list[Activation] = field(default_factory=list)
    failed: list[GatewayError] = field(default_factory=list)
    rejected: list[GatewayError] = field(default_factory=list)


@pytest.fixture
def shared() -> Shared:
    return Shared()


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def propose(shared, people, signers):
    """Return a function that lays a bundle down, signed by two, and gives the approval."""

    def propose(packed, previous="", action=Action.ACTIVATE, *, content=None):
        envelope = signed(state(packed, ORIGIN, previous, action), people.li, people.wang)
        approval = signers.verify(read_envelope(envelope))
        number = len(shared.proposals) + 1
        shared.proposals.append(Proposal(number, approval.digest, envelope, content or packed.content))
        return approval

    return propose


@pytest.fixture
def question(bundles):
    cases = load_cases(bundles[1].bundle, POLICIES / "cases")
    return next(case.policy_input for case in cases if case.expect.allow)


@pytest.fixture
async def follow(shared, heard, signers):
    tasks: list[asyncio.Task[None]] = []
    active = ActivePolicy(system_clock)

    async def follow(fits=lambda _: None):
        follower = PolicyFollower(
            active,
            shared,
            shared,
            signers,
            origin=ORIGIN,
            make_engine=EmbeddedEngine,
            fits=fits,
            clock=system_clock,
            hooks=Hooks(heard.activated.append, heard.failed.append, heard.rejected.append),
        )
        await follower.join()
        tasks.append(asyncio.create_task(follower.keep_current()))
        return active

    yield follow
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await active.close()


async def test_a_process_does_not_begin_without_a_policy(follow):
    with pytest.raises(NotInForceError, match="ever activated"):
        await follow()


async def test_a_proposal_counts_with_its_entry_and_not_before(
    follow, shared, propose, bundles, heard, question
):
    shared.entries.append(recorded(propose(bundles[1])))
    active = await follow()
    approval = propose(bundles[2], bundles[1].bundle.digest)
    await asyncio.sleep(0.3)
    assert (await active.decide(question)).bundle_digest == bundles[1].bundle.digest
    shared.entries.append(recorded(approval, "entries/5"))
    await until(lambda: len(heard.activated) == 2)
    assert (await active.decide(question)).bundle_digest == bundles[2].bundle.digest


@pytest.mark.timed
async def test_who_starts_between_a_proposal_and_its_entry_follows_at_once(
    follow, shared, propose, bundles, heard
):
    shared.entries.append(recorded(propose(bundles[1])))
    approval = propose(bundles[2], bundles[1].bundle.digest)
    await follow()
    shared.entries.append(recorded(approval, "entries/5"))
    await until(lambda: len(heard.activated) == 2, within_s=2)


async def test_a_confirmation_lets_the_same_engine_go_on(follow, shared, propose, bundles, heard):
    shared.entries.append(recorded(propose(bundles[1])))
    active = await follow()
    engine = active._current.engine
    confirmed = propose(bundles[1], bundles[1].bundle.digest, Action.CONFIRM)
    shared.entries.append(recorded(confirmed, "entries/5"))
    await until(lambda: len(heard.activated) == 2)
    assert active._current.engine is engine


@pytest.mark.parametrize("attack", ["altered", "one signature", "missing", "unfit"])
async def test_what_cannot_be_loaded_denies_everything(
    attack, follow, shared, propose, bundles, heard, question, people, approve
):
    shared.entries.append(recorded(propose(bundles[1])))

    def fits(bundle):
        if attack == "unfit" and bundle.revision > 1:
            raise ConfigError("The catalogue does not fit.")

    active = await follow(fits)
    await active.decide(question)  # the control
    approval = approve(bundles[2], bundles[1].bundle.digest)
    if attack == "altered":
        approval = propose(bundles[2], bundles[1].bundle.digest, content=bundles[3].content)
    elif attack == "one signature":
        lone = signed(approval.statement, people.li)
        shared.proposals.append(Proposal(2, approval.digest, lone, bundles[2].content))
    elif attack == "unfit":
        approval = propose(bundles[2], bundles[1].bundle.digest)
    shared.entries.append(recorded(approval, "entries/5"))
    await until(lambda: heard.failed, within_s=10)
    with pytest.raises(NotInForceError, match="cannot load"):
        await active.decide(question)
    if attack == "altered":
        shared.proposals.append(
            Proposal(3, approval.digest, shared.proposals[-1].envelope, bundles[2].content)
        )
        await until(lambda: len(heard.activated) == 2)
        assert (await active.decide(question)).bundle_digest == bundles[2].bundle.digest


async def test_an_entry_without_a_proposal_is_seen_too(follow, shared, propose, bundles, heard, monkeypatch):
    """Somebody appends to the log and leaves the store alone: it is noticed, if a little later."""
    monkeypatch.setattr(following, "LOG_INTERVAL_S", 0.05)
    approval = propose(bundles[1])
    shared.entries.append(recorded(approval))
    await follow()
    shared.entries.append(recorded(approval, "entries/5"))
    await until(lambda: heard.failed)
    assert isinstance(heard.failed[0], ActivationError)


async def test_who_cannot_look_decides_nothing(follow, shared, propose, bundles, question, monkeypatch):
    monkeypatch.setattr(following, "STALE_AFTER_S", 0.1)
    shared.entries.append(recorded(propose(bundles[1])))
    active = await follow()
    await active.decide(question)
    shared.fails = True

    async def denied() -> bool:
        try:
            await active.decide(question)
        except NotInForceError:
            return True
        return False

    await until(denied)
    shared.fails = False
    await until(lambda: _allowed(denied))


async def _allowed(denied) -> bool:
    return not await denied()
