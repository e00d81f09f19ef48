"""Who could see what under the draft of a contract: asked of policy itself, before anybody signs.

Each cell is one member, dataset and purpose; what fills it is the decision that a query would get, with the
draft in force and everything else as it is now.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from gateway.clock import parse_rfc3339, rfc3339
from gateway.errors import GatewayError, Reason
from gateway.evidence.canonical import encode_canonical
from gateway.exchange.contributed import contributed_dataset
from gateway.exchange.grants import Granted, Way, grant, ways
from gateway.model import Contract, ContractState, Dataset, Member, Role, Terms, Treatment
from gateway.policy.engine import PolicyEngine

_TIERS: Final = "tier_names"


@dataclass(frozen=True, slots=True)
class Cell:
    """What one member would see of one dataset for one purpose."""

    member: str
    dataset: str
    purpose: str
    allowed: bool
    legal_basis: str
    memorandum: str
    tier: str
    treatments: Mapping[str, str]
    """Field to what becomes of it, with its parameters, in the order of the dataset; empty if denied."""
    reasons: tuple[str, ...]
    """Why not; empty if allowed."""
    valid_until: str


async def simulate(
    terms: Terms, members: Iterable[Member], policy: PolicyEngine, now: datetime
) -> list[Cell]:
    """Return a cell for each consumer among `members`, dataset and purpose of `terms`, in this order.

    Where several ways of asking are allowed, there is a cell for each; where none is, one with the reasons.
    The draft is taken as in force at `now`, or when it begins, if that is later. Raises `CatalogueError` if a
    description is wrong, and `GatewayError` with `MEMBER_UNKNOWN` if a party is no member.
    """
    known = {member.id: member for member in members}
    missing = sorted({party.member for party in terms.parties} - known.keys())
    if missing:
        raise GatewayError(
            "A party of the draft is not a member of this gateway; add it first, or correct its name.",
            reason=Reason.MEMBER_UNKNOWN,
            members=",".join(missing),
        )
    contract = Contract(
        id=f"sha256:{hashlib.sha256(encode_canonical(terms)).hexdigest()}",
        terms=terms,
        state=ContractState.ACTIVE,
        signed_by=tuple(sorted({party.member for party in terms.parties})),
        changed=rfc3339(now),
    )
    moment = max(now.astimezone(UTC), parse_rfc3339(terms.valid_from))
    tiers = policy.bundle.data[_TIERS]
    datasets = [contributed_dataset(terms, dataset, tiers) for dataset in terms.datasets]
    return [
        cell
        for member in sorted(known.values(), key=lambda one: one.id)
        if Role.CONSUMER in member.roles
        for dataset in datasets
        for purpose in terms.purposes
        for cell in await _cells(contract, member, known[terms.contributor], dataset, purpose, policy, moment)
    ]


async def _cells(
    contract: Contract,
    member: Member,
    contributor: Member,
    dataset: Dataset,
    purpose: str,
    policy: PolicyEngine,
    moment: datetime,
) -> list[Cell]:
    asked = [way for way in ways(policy.bundle.data, member, dataset) if way.purpose == purpose]
    answers = [
        await grant(policy, member, contributor, dataset, way, contract, moment)
        for way in asked or [Way(purpose)]
    ]
    # Where nothing is allowed, the fullest way of asking says best what is lacking.
    shown: Sequence[Granted] = [one for one in answers if one.decision.allow] or answers[-1:]
    return [_cell(member, dataset, one) for one in shown]


def _cell(member: Member, dataset: Dataset, granted: Granted) -> Cell:
    decision = granted.decision
    return Cell(
        member=member.id,
        dataset=dataset.name,
        purpose=granted.purpose,
        allowed=decision.allow,
        legal_basis=granted.legal_basis,
        memorandum=granted.memorandum,
        tier=decision.tier,
        treatments={
            name: _told(decision.obligations[name].treatment, decision.obligations[name].params)
            for name in dataset.fields
            if name in decision.obligations
        },
        reasons=decision.reasons,
        valid_until=decision.valid_until or "",
    )


def _told(treatment: Treatment, params: Mapping[str, Any]) -> str:
    match treatment, params:
        case Treatment.GENERALISE, {"method": method}:
            return f"{treatment.value} {method}"
        case Treatment.MASK, {"keep_first": first, "keep_last": last}:
            return f"{treatment.value} first:{first},last:{last}"
    return treatment.value
