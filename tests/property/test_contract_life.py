"""Whatever parties, operator and time do, and in whatever order, the promises of contracts hold."""

from __future__ import annotations

from datetime import timedelta

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from gateway.contracts import negotiation
from gateway.contracts.life_cycle import ENDED, OPERATOR, TRANSITIONS
from gateway.contracts.signing import verified_version
from gateway.errors import GatewayError
from gateway.model import ContractState, EntryKind
from tests.simulators.negotiated import AGENCY, BANK, COMPANY, NOW, following, signed, terms_of

MEMBERS = st.sampled_from([COMPANY, AGENCY, BANK])
ACTORS = st.sampled_from([COMPANY, AGENCY, BANK, OPERATOR])
NUMBERS = st.integers(1, 4)

MOVES = {(start, target) for (start, _), targets in TRANSITIONS.items() for target in targets}


class ContractLife(RuleBasedStateMachine):
    """Acts on one contract at random; whatever is refused must change nothing."""

    drafts = Bundle("drafts")

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.history: tuple = ()
        self.holders: dict[str, set[str]] = {}

    def act(self, function, *arguments) -> list:
        before = {version.id: version.standing.state for version in self.history}
        try:
            changes = function(self.history, *arguments)
        except GatewayError:
            return []
        for change in changes:
            assert (before.get(change.version.id), change.version.standing.state) in MOVES
        kept = {version.id: version for version in self.history}
        kept |= {change.version.id: change.version for change in changes}
        self.history = tuple(sorted(kept.values(), key=lambda version: version.terms.version))
        return changes

    @rule(target=drafts, title=st.sampled_from("abc"))
    def draft(self, title):
        if not self.history:
            return terms_of(title=title)
        return following(self.history[-1], title=title)

    @rule(terms=drafts, member=MEMBERS)
    def propose(self, terms, member):
        self.hand_in(negotiation.propose, terms, member)

    @rule(terms=drafts, member=MEMBERS)
    def counter(self, terms, member):
        self.hand_in(negotiation.counter, terms, member)

    @rule(number=NUMBERS, member=MEMBERS)
    def sign(self, number, member):
        if number <= len(self.history):
            self.hand_in(negotiation.sign, self.history[number - 1].terms, member)

    def hand_in(self, act, terms, member):
        try:
            handed_in = signed(terms, member)
        except GatewayError:
            assert member == BANK
            return
        self.act(act, handed_in, self.now)

    @rule(number=NUMBERS, actor=ACTORS)
    def suspend(self, number, actor):
        for change in self.act(negotiation.suspend, number, actor, "a doubt", self.now):
            self.holders.setdefault(change.version.id, set()).add(actor)

    @rule(number=NUMBERS, actor=ACTORS)
    def resume(self, number, actor):
        for change in self.act(negotiation.resume, number, actor, self.now):
            self.holders[change.version.id].remove(actor)

    @rule(number=NUMBERS, actor=ACTORS)
    def terminate(self, number, actor):
        for _ in self.act(negotiation.terminate, number, actor, "over", self.now):
            assert actor in {COMPANY, AGENCY}

    @rule(days=st.sampled_from([1, 200]))
    def wait(self, days):
        self.now += timedelta(days=days)

    @rule()
    def settle(self):
        kinds = {EntryKind.CONTRACT_EXPIRED, EntryKind.CONTRACT_SUPERSEDED}
        assert {change.kind for change in self.act(negotiation.settle, self.now)} <= kinds
        for version in self.history:
            assert version.standing.state in ENDED or self.now < self.end_of(version)

    def end_of(self, version):
        return negotiation.life_cycle.moment(version.terms.valid_until)

    @invariant()
    def what_runs_is_signed_by_all_and_the_only_one(self):
        running = [version for version in self.history if negotiation.is_running(version)]
        assert len(running) <= 1
        for version in running:
            assert set(version.standing.signed_by) == version.members

    @invariant()
    def only_who_suspends_it_is_named_and_only_while_it_is_suspended(self):
        for version in self.history:
            held = version.standing.held_by
            assert bool(held) is (version.standing.state is ContractState.SUSPENDED)
            if held:
                assert set(held) == self.holders[version.id]

    @invariant()
    def every_version_verifies_and_follows_the_one_before(self):
        for before, version in zip((None, *self.history), self.history, strict=False):
            verified_version(version.payload, version.signatures, version.standing)
            assert version.terms.predecessor == (before.id if before is not None else None)
        names = [version.terms.version for version in self.history]
        assert names == list(range(1, len(names) + 1))
        assert msgspec.to_builtins(names) == names


ContractLife.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestContractLife = ContractLife.TestCase
