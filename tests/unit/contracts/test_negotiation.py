"""Versions of one contract: one line of them, nobody left out, and one in force at most."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from gateway.contracts import negotiation
from gateway.contracts.errors import ContractError
from gateway.contracts.life_cycle import OPERATOR
from gateway.errors import Reason
from gateway.model import ContractState, EntryKind, Party, PartyRole
from tests.simulators.negotiated import (
    AGENCY,
    BANK,
    COMPANY,
    NOW,
    following,
    reason_of,
    signed,
    terms_of,
)


class Table:
    """A contract on the table: carries out acts on its history, as a store would."""

    def __init__(self):
        self.history = ()

    def __call__(self, act, *arguments):
        changes = act(self.history, *arguments)
        kept = {version.id: version for version in self.history}
        kept |= {change.version.id: change.version for change in changes}
        self.history = tuple(sorted(kept.values(), key=lambda version: version.terms.version))
        return [change.kind for change in changes]

    def propose(self, terms, member=COMPANY):
        return self(negotiation.propose, signed(terms, member), NOW)

    def counter(self, terms, member=AGENCY):
        return self(negotiation.counter, signed(terms, member), NOW)

    def sign(self, terms, member=AGENCY):
        return self(negotiation.sign, signed(terms, member), NOW)

    def suspend(self, number=1, actor=COMPANY):
        return self(negotiation.suspend, number, actor, "a doubt", NOW)

    def states(self):
        return [version.standing.state.value for version in self.history]

    @property
    def newest(self):
        return self.history[-1]


@pytest.fixture
def table():
    return Table()


@pytest.fixture
def in_force(table):
    table.propose(terms_of())
    table.sign(terms_of())
    return table


def test_a_contract_is_proposed_and_signed(table):
    assert table.propose(terms_of()) == [EntryKind.CONTRACT_PROPOSED]
    assert table.sign(terms_of()) == [EntryKind.CONTRACT_ACTIVATED]
    assert table.states() == ["active"]


def test_of_three_parties_each_must_sign(table):
    parties = [
        {"member": COMPANY, "role": "contributor"},
        *({"member": member, "role": "recipient"} for member in (AGENCY, BANK)),
    ]
    terms = terms_of(parties=parties)
    table.propose(terms, BANK)
    assert table.sign(terms) == [EntryKind.CONTRACT_SIGNED]
    assert table.states() == ["proposed"]
    assert table.sign(terms, COMPANY) == [EntryKind.CONTRACT_ACTIVATED]


def test_terms_that_were_altered_after_the_first_signature_are_told(table):
    """Control: unaltered they are signed."""
    table.propose(terms_of())
    for altered in (terms_of(purposes=["advertising"]), terms_of(title="Another")):
        assert reason_of(table.sign, altered) is Reason.CONTRACT_ALTERED
    assert table.sign(terms_of()) == [EntryKind.CONTRACT_ACTIVATED]


def test_what_is_not_there_is_not_signed_or_ended(table):
    assert reason_of(table.sign, terms_of()) is Reason.CONTRACT_UNKNOWN
    assert reason_of(table.suspend) is Reason.CONTRACT_UNKNOWN
    assert reason_of(table.counter, terms_of()) is Reason.CONTRACT_UNKNOWN


def test_a_counter_proposal_takes_the_place_of_the_proposal(table):
    table.propose(terms_of())
    other = following(table.newest, title="For less")
    assert table.counter(other) == [EntryKind.CONTRACT_PROPOSED, EntryKind.CONTRACT_COUNTERED]
    assert table.states() == ["countered", "proposed"]
    assert reason_of(table.sign, terms_of(), AGENCY) is Reason.CONTRACT_ORDER
    assert table.sign(other, COMPANY) == [EntryKind.CONTRACT_ACTIVATED]
    assert table.states() == ["countered", "active"]


def test_a_proposal_is_countered_and_not_just_followed(table):
    table.propose(terms_of())
    assert reason_of(table.propose, following(table.newest)) is Reason.CONTRACT_ORDER


def test_what_is_in_force_is_followed_and_not_countered(in_force):
    assert reason_of(in_force.counter, following(in_force.newest)) is Reason.CONTRACT_ORDER


def test_a_new_version_takes_the_place_of_the_one_in_force(in_force):
    newer = following(in_force.newest, title="For another year")
    in_force.propose(newer)
    assert in_force.states() == ["active", "proposed"]
    assert in_force.sign(newer) == [EntryKind.CONTRACT_ACTIVATED, EntryKind.CONTRACT_SUPERSEDED]
    assert in_force.states() == ["superseded", "active"]


def test_a_rejected_change_leaves_in_force_what_was(in_force):
    in_force.propose(following(in_force.newest, title="For nothing"))
    in_force(negotiation.terminate, 2, AGENCY, "no", NOW)
    assert in_force.states() == ["active", "terminated"]
    third = following(in_force.newest, title="For something")
    in_force.propose(third)
    in_force.sign(third)
    assert in_force.states() == ["superseded", "terminated", "active"]


def test_who_is_late_is_told(in_force):
    stale = following(in_force.newest, title="Late")
    in_force.propose(following(in_force.newest, title="First"))
    in_force(negotiation.terminate, 2, AGENCY, "no", NOW)
    assert reason_of(in_force.propose, stale) is Reason.CONTRACT_OUTDATED
    assert reason_of(in_force.propose, terms_of(title="Again the first")) is Reason.CONTRACT_OUTDATED
    assert reason_of(in_force.propose, terms_of()) is Reason.CONTRACT_SIGNED_BEFORE
    skipping = following(in_force.newest, version=9)
    assert reason_of(in_force.propose, skipping) is Reason.CONTRACT_OUTDATED
    first_of_all = terms_of(contract="other", predecessor="sha256:" + "0" * 64, version=2)
    assert reason_of(Table().propose, first_of_all) is Reason.CONTRACT_OUTDATED


def test_nobody_is_left_out_of_a_new_version(in_force):
    """Nobody's contract is changed without its signature. Control: a party may be added."""
    other = (Party(COMPANY, PartyRole.CONTRIBUTOR), Party(BANK, PartyRole.RECIPIENT))
    assert reason_of(in_force.propose, following(in_force.newest, parties=other)) is Reason.CONTRACT_MALFORMED
    turned = (Party(COMPANY, PartyRole.RECIPIENT), Party(AGENCY, PartyRole.CONTRIBUTOR))
    assert (
        reason_of(in_force.propose, following(in_force.newest, parties=turned)) is Reason.CONTRACT_MALFORMED
    )
    more = (*in_force.newest.terms.parties, Party(BANK, PartyRole.RECIPIENT))
    in_force.propose(following(in_force.newest, parties=more))


def test_a_stranger_cannot_follow_a_contract_of_others(in_force):
    parties = (Party(BANK, PartyRole.CONTRIBUTOR), Party(COMPANY, PartyRole.RECIPIENT))
    terms = following(in_force.newest, parties=parties)
    with pytest.raises(ContractError, match="taken") as raised:
        in_force.propose(terms, BANK)
    assert raised.value.reason is Reason.CONTRACT_OUTDATED


def test_a_suspension_by_the_operator_is_not_got_rid_of_by_a_new_version(in_force):
    """Control: a party's own is, as that party signs."""
    newer = following(in_force.newest)
    in_force.propose(newer)
    in_force.suspend(1, COMPANY)
    in_force.suspend(1, OPERATOR)
    assert reason_of(in_force.sign, newer) is Reason.CONTRACT_HELD
    in_force(negotiation.resume, 1, OPERATOR, NOW)
    assert in_force.sign(newer) == [EntryKind.CONTRACT_ACTIVATED, EntryKind.CONTRACT_SUPERSEDED]


def test_to_who_is_no_party_a_contract_does_not_exist(in_force):
    for act, more in (
        (negotiation.suspend, ("a doubt", NOW)),
        (negotiation.resume, (NOW,)),
        (negotiation.terminate, ("over", NOW)),
    ):
        assert reason_of(in_force, act, 1, BANK, *more) is Reason.CONTRACT_UNKNOWN


def test_what_is_over_expires_whatever_it_was(in_force):
    in_force.propose(following(in_force.newest))
    assert in_force(negotiation.settle, NOW) == []
    over = datetime(2027, 11, 1, tzinfo=UTC)
    assert in_force(negotiation.settle, over) == [EntryKind.CONTRACT_EXPIRED] * 2
    assert in_force(negotiation.settle, over) == []
    assert in_force.states() == ["expired", "expired"]


def test_of_two_in_force_the_earlier_makes_way(in_force):
    """As after a crash between the two entries of one act."""
    newer = following(in_force.newest)
    in_force.propose(newer)
    before = in_force.history[0]
    in_force.sign(newer)
    in_force.history = (before, in_force.newest)
    assert in_force.states() == ["active", "active"]
    assert in_force(negotiation.settle, NOW) == [EntryKind.CONTRACT_SUPERSEDED]
    assert in_force.states() == ["superseded", "active"]
    assert in_force.newest.standing.state is ContractState.ACTIVE
