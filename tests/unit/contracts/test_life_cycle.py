"""The life of a version: every legal move is possible, every other is refused with its own reason."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from gateway.clock import rfc3339
from gateway.contracts import life_cycle
from gateway.contracts.errors import ContractError, ContractOrderError
from gateway.contracts.life_cycle import ENDED, OPERATOR, TRANSITIONS, Act, Standing
from gateway.errors import Reason
from gateway.model import ContractState
from tests.simulators.negotiated import AGENCY, BANK, COMPANY, NOW, later, reason_of, terms_of

TERMS = terms_of()
OVER = datetime(2027, 11, 1, tzinfo=UTC)


def standing(state, *, signed_by=(COMPANY, AGENCY), held_by=(), now=NOW):
    if state is ContractState.SUSPENDED and not held_by:
        held_by = (COMPANY,)
    return Standing(state=state, signed_by=signed_by, held_by=held_by, changed=rfc3339(now))


ACTS = {
    Act.SIGN: lambda at, actor: life_cycle.sign(at, TERMS, actor, NOW),
    Act.COUNTER: lambda at, actor: life_cycle.counter(at, TERMS, actor, NOW),
    Act.SUSPEND: lambda at, actor: life_cycle.suspend(at, TERMS, actor, "a doubt", NOW),
    Act.RESUME: lambda at, actor: life_cycle.resume(at, TERMS, actor, NOW),
    Act.TERMINATE: lambda at, actor: life_cycle.terminate(at, TERMS, actor, "over", NOW),
    Act.EXPIRE: lambda at, _: life_cycle.expire(at, TERMS, OVER),
    Act.SUPERSEDE: lambda at, _: life_cycle.supersede(at, NOW),
}


@pytest.mark.parametrize("state", ContractState)
@pytest.mark.parametrize("act", ACTS)
def test_each_move_is_as_the_table_says(state, act):
    """The actor is whom the move needs: who has not signed, who has not suspended, or who has."""
    signed_by = (COMPANY,) if state is ContractState.PROPOSED else (COMPANY, AGENCY)
    actor = COMPANY if act is Act.RESUME else AGENCY
    at = standing(state, signed_by=signed_by)
    wanted = TRANSITIONS.get((state, act))
    if wanted is None:
        with pytest.raises(ContractOrderError) as raised:
            ACTS[act](at, actor)
        assert raised.value.reason is Reason.CONTRACT_ORDER
    else:
        assert ACTS[act](at, actor).state in wanted


def test_nothing_leads_out_of_an_end_and_everything_else_has_a_way_there():
    for state in ContractState:
        targets = {target for (start, _), found in TRANSITIONS.items() if start is state for target in found}
        assert bool(targets) is (state not in ENDED)
        assert state in ENDED or targets & ENDED


def test_the_last_signature_brings_it_into_force():
    at = life_cycle.propose(TERMS, AGENCY, NOW)
    assert (at.state, at.signed_by) == (ContractState.PROPOSED, (AGENCY,))
    at = life_cycle.sign(at, TERMS, COMPANY, later(hours=1))
    assert (at.state, at.signed_by) == (ContractState.ACTIVE, (COMPANY, AGENCY))
    assert at.changed == rfc3339(later(hours=1))


def test_the_same_party_signs_once():
    at = life_cycle.propose(TERMS, COMPANY, NOW)
    assert reason_of(life_cycle.sign, at, TERMS, COMPANY, NOW) is Reason.CONTRACT_SIGNED_BEFORE


def test_who_is_no_party_does_nothing():
    proposed = life_cycle.propose(TERMS, COMPANY, NOW)
    active = standing(ContractState.ACTIVE)
    assert reason_of(life_cycle.propose, TERMS, BANK, NOW) is Reason.CONTRACT_NOT_PARTY
    for act, at in (
        (Act.SIGN, proposed),
        (Act.COUNTER, proposed),
        (Act.SUSPEND, active),
        (Act.RESUME, standing(ContractState.SUSPENDED)),
        (Act.TERMINATE, active),
    ):
        assert reason_of(ACTS[act], at, BANK) is Reason.CONTRACT_NOT_PARTY


def test_each_takes_back_only_its_own_suspension():
    at = life_cycle.suspend(standing(ContractState.ACTIVE), TERMS, COMPANY, "a doubt", NOW)
    assert reason_of(ACTS[Act.RESUME], at, AGENCY) is Reason.CONTRACT_HELD
    assert reason_of(ACTS[Act.RESUME], at, OPERATOR) is Reason.CONTRACT_HELD
    assert reason_of(ACTS[Act.SUSPEND], at, COMPANY) is Reason.CONTRACT_ORDER
    at = ACTS[Act.SUSPEND](at, OPERATOR)
    assert at.held_by == (OPERATOR, COMPANY)
    at = ACTS[Act.RESUME](at, COMPANY)
    assert (at.state, at.held_by, at.reason) == (ContractState.SUSPENDED, (OPERATOR,), "a doubt")
    at = ACTS[Act.RESUME](at, OPERATOR)
    assert (at.state, at.held_by, at.reason) == (ContractState.ACTIVE, (), "")


@pytest.mark.parametrize("act", [Act.TERMINATE, Act.SIGN, Act.COUNTER])
def test_the_operator_signs_and_ends_nothing(act):
    at = standing(ContractState.PROPOSED, signed_by=(COMPANY,))
    assert reason_of(ACTS[act], at, OPERATOR) is Reason.CONTRACT_NOT_PARTY


def test_after_its_end_nothing_is_possible_but_to_note_it():
    """Control: a second before, all of it is."""
    proposed = life_cycle.propose(TERMS, COMPANY, NOW)
    active = standing(ContractState.ACTIVE)
    suspended = standing(ContractState.SUSPENDED)
    calls = (
        lambda now: life_cycle.propose(TERMS, COMPANY, now),
        lambda now: life_cycle.sign(proposed, TERMS, AGENCY, now),
        lambda now: life_cycle.suspend(active, TERMS, COMPANY, "a doubt", now),
        lambda now: life_cycle.resume(suspended, TERMS, COMPANY, now),
        lambda now: life_cycle.terminate(active, TERMS, COMPANY, "over", now),
    )
    for call in calls:
        call(datetime(2027, 10, 31, 23, 59, 59, tzinfo=UTC))
        assert reason_of(call, OVER) is Reason.CONTRACT_OVER
    assert life_cycle.expire(active, TERMS, OVER).ended == rfc3339(OVER)
    assert reason_of(life_cycle.expire, active, TERMS, NOW) is Reason.CONTRACT_ORDER


def test_before_it_begins_it_can_be_signed_and_suspended():
    early = datetime(2026, 1, 1, tzinfo=UTC)
    at = life_cycle.sign(life_cycle.propose(TERMS, COMPANY, early), TERMS, AGENCY, early)
    assert life_cycle.suspend(at, TERMS, AGENCY, "a doubt", early).state is ContractState.SUSPENDED


@pytest.mark.parametrize("reason", ["", " ", "x" * 501, "two\nlines", "a \x1b[31mcolour"])
def test_a_reason_is_one_line_of_text(reason):
    active = standing(ContractState.ACTIVE)
    for act in (life_cycle.suspend, life_cycle.terminate):
        with pytest.raises(ContractError) as raised:
            act(active, TERMS, COMPANY, reason, NOW)
        assert raised.value.reason is Reason.REQUEST_MALFORMED


def test_only_what_was_in_force_or_proposed_and_ended_has_an_end():
    assert ACTS[Act.TERMINATE](standing(ContractState.ACTIVE), COMPANY).ended == rfc3339(NOW)
    assert ACTS[Act.SUPERSEDE](standing(ContractState.SUSPENDED), "").ended == rfc3339(NOW)
    assert ACTS[Act.COUNTER](standing(ContractState.PROPOSED), COMPANY).ended is None
    assert ACTS[Act.SUSPEND](standing(ContractState.ACTIVE), COMPANY).ended is None
