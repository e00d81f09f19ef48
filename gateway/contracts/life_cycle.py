"""The life of one version of a contract: a pure state machine.

    draft ──propose──▶ proposed ──sign, by the last party──▶ active ◀──resume── suspended
                          │                                    └────suspend────────▲
                          └─counter─▶ countered

    proposed, active, suspended ──terminate─▶ terminated
    proposed, active, suspended ──expire────▶ expired         once `valid_until` is reached
    active, suspended           ──supersede─▶ superseded      when a later version comes into force

1. Only a party acts, and the operator, who may suspend, and resume what it has suspended.
2. Each party signs once. The last signature brings the contract into force.
3. A suspension is its maker's: several may suspend at once, each takes back its own, and the contract is in
   force again when nobody holds it.
4. From `valid_until` on nothing is possible but to note that it is over.

A draft is a file at its author's; it is nobody else's business and has no state here. Every function takes
where a version stands and returns where it stands then, or raises `ContractError`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Final

import msgspec

from gateway.clock import rfc3339
from gateway.contracts.document import moment
from gateway.contracts.errors import ContractError, ContractOrderError, no_party
from gateway.errors import Reason
from gateway.model import ContractState, Terms

OPERATOR: Final = "@operator"
"""The operator of the gateway where members are named; no member's id begins so."""

MAX_REASON_LENGTH: Final = 500


class Act(StrEnum):
    """What can be done with a version of a contract."""

    PROPOSE = "propose"
    SIGN = "sign"
    COUNTER = "counter"
    SUSPEND = "suspend"
    RESUME = "resume"
    TERMINATE = "terminate"
    EXPIRE = "expire"
    SUPERSEDE = "supersede"


class Standing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where a version of a contract stands."""

    state: ContractState
    signed_by: tuple[str, ...]
    """The parties that have signed, sorted."""
    held_by: tuple[str, ...] = ()
    """Who suspends it, sorted; empty unless it is suspended."""
    reason: str = ""
    changed: str
    """RFC 3339: when it came to stand so."""
    ended: str | None = None
    """RFC 3339: when it was terminated, expired or superseded."""


_S = ContractState

TRANSITIONS: Final[Mapping[tuple[ContractState | None, Act], frozenset[ContractState]]] = MappingProxyType(
    {
        (None, Act.PROPOSE): frozenset({_S.PROPOSED}),
        (_S.PROPOSED, Act.SIGN): frozenset({_S.PROPOSED, _S.ACTIVE}),
        (_S.PROPOSED, Act.COUNTER): frozenset({_S.COUNTERED}),
        (_S.PROPOSED, Act.TERMINATE): frozenset({_S.TERMINATED}),
        (_S.PROPOSED, Act.EXPIRE): frozenset({_S.EXPIRED}),
        (_S.ACTIVE, Act.SUSPEND): frozenset({_S.SUSPENDED}),
        (_S.ACTIVE, Act.TERMINATE): frozenset({_S.TERMINATED}),
        (_S.ACTIVE, Act.EXPIRE): frozenset({_S.EXPIRED}),
        (_S.ACTIVE, Act.SUPERSEDE): frozenset({_S.SUPERSEDED}),
        (_S.SUSPENDED, Act.SUSPEND): frozenset({_S.SUSPENDED}),
        (_S.SUSPENDED, Act.RESUME): frozenset({_S.SUSPENDED, _S.ACTIVE}),
        (_S.SUSPENDED, Act.TERMINATE): frozenset({_S.TERMINATED}),
        (_S.SUSPENDED, Act.EXPIRE): frozenset({_S.EXPIRED}),
        (_S.SUSPENDED, Act.SUPERSEDE): frozenset({_S.SUPERSEDED}),
    }
)
"""Every legal move: from a state (None: a draft) by an act to one of some states. All else is refused."""

ENDED: Final = frozenset({_S.COUNTERED, _S.TERMINATED, _S.EXPIRED, _S.SUPERSEDED})
"""The states that nothing leads out of."""


def propose(terms: Terms, actor: str, now: datetime) -> Standing:
    """Return where new terms stand once `actor` has signed them as the first."""
    _require_party(terms, actor)
    _require_time(terms, now)
    return Standing(state=_S.PROPOSED, signed_by=(actor,), changed=rfc3339(now))


def sign(standing: Standing, terms: Terms, actor: str, now: datetime) -> Standing:
    """Return where a proposed version stands once `actor` has signed, too."""
    _require_party(terms, actor)
    _require_move(standing, Act.SIGN)
    _require_time(terms, now)
    if actor in standing.signed_by:
        raise ContractError(
            "This party has signed the contract before; once is enough.", reason=Reason.CONTRACT_SIGNED_BEFORE
        )
    signed_by = tuple(sorted({*standing.signed_by, actor}))
    is_complete = len(signed_by) == len(terms.parties)
    return Standing(
        state=_S.ACTIVE if is_complete else _S.PROPOSED, signed_by=signed_by, changed=rfc3339(now)
    )


def counter(standing: Standing, terms: Terms, actor: str, now: datetime) -> Standing:
    """Return where a proposed version stands once `actor` has answered it with another."""
    _require_party(terms, actor)
    _require_move(standing, Act.COUNTER)
    return _moved(standing, _S.COUNTERED, now)


def suspend(standing: Standing, terms: Terms, actor: str, reason: str, now: datetime) -> Standing:
    """Return where a version stands once `actor`, a party or the operator, has suspended it."""
    if actor != OPERATOR:
        _require_party(terms, actor)
    _require_move(standing, Act.SUSPEND)
    _require_time(terms, now)
    if actor in standing.held_by:
        raise ContractOrderError("The contract is suspended by the same already; once is enough.")
    _require_reason(reason)
    return _moved(
        standing, _S.SUSPENDED, now, held_by=tuple(sorted({*standing.held_by, actor})), reason=reason
    )


def resume(standing: Standing, terms: Terms, actor: str, now: datetime) -> Standing:
    """Return where a version stands once `actor` has taken back its suspension."""
    if actor != OPERATOR:
        _require_party(terms, actor)
    _require_move(standing, Act.RESUME)
    _require_time(terms, now)
    if actor not in standing.held_by:
        raise ContractError(
            "The contract is suspended by another; only who has suspended it can take that back.",
            reason=Reason.CONTRACT_HELD,
        )
    held_by = tuple(holder for holder in standing.held_by if holder != actor)
    if held_by:
        return _moved(standing, _S.SUSPENDED, now, held_by=held_by, reason=standing.reason)
    return _moved(standing, _S.ACTIVE, now)


def terminate(standing: Standing, terms: Terms, actor: str, reason: str, now: datetime) -> Standing:
    """Return where a version stands once `actor`, a party, has ended it, or rejected the proposal."""
    _require_party(terms, actor)
    _require_move(standing, Act.TERMINATE)
    _require_time(terms, now)
    _require_reason(reason)
    return _moved(standing, _S.TERMINATED, now, reason=reason)


def expire(standing: Standing, terms: Terms, now: datetime) -> Standing:
    """Return where a version stands once its time is over; raise `ContractOrderError` before that."""
    _require_move(standing, Act.EXPIRE)
    if not is_over(terms, now):
        raise ContractOrderError("The contract has not come to its end.")
    return _moved(standing, _S.EXPIRED, now)


def supersede(standing: Standing, now: datetime) -> Standing:
    """Return where a version stands once a later one has come into force."""
    _require_move(standing, Act.SUPERSEDE)
    return _moved(standing, _S.SUPERSEDED, now)


def is_over(terms: Terms, now: datetime) -> bool:
    """Whether the time of a contract is over."""
    return now >= moment(terms.valid_until)


def _moved(
    standing: Standing,
    state: ContractState,
    now: datetime,
    *,
    held_by: tuple[str, ...] = (),
    reason: str = "",
) -> Standing:
    return Standing(
        state=state,
        signed_by=standing.signed_by,
        held_by=held_by,
        reason=reason,
        changed=rfc3339(now),
        ended=rfc3339(now) if state in ENDED - {_S.COUNTERED} else None,
    )


def _require_move(standing: Standing, act: Act) -> None:
    if (standing.state, act) not in TRANSITIONS:
        raise ContractOrderError(
            f"A contract that is {standing.state.value} cannot be acted on so ({act.value}); see where it "
            "stands with `gateway contract show`.",
            state=standing.state.value,
            act=act.value,
        )


def _require_party(terms: Terms, actor: str) -> None:
    if actor not in {party.member for party in terms.parties}:
        raise no_party()


def _require_time(terms: Terms, now: datetime) -> None:
    if is_over(terms, now):
        raise ContractError(
            "The contract's time is over (valid_until); propose a new version with new dates.",
            reason=Reason.CONTRACT_OVER,
        )


def _require_reason(reason: str) -> None:
    if not reason.strip() or len(reason) > MAX_REASON_LENGTH or not reason.isprintable():
        raise ContractError(
            f"A reason is needed: one line of at most {MAX_REASON_LENGTH} characters, naming nobody.",
            reason=Reason.REQUEST_MALFORMED,
        )
