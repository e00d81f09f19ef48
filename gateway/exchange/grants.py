"""What a member may ask of a dataset now: policy, asked for each way of asking that it knows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from gateway.clock import Clock
from gateway.errors import GatewayError
from gateway.exchange.contracts import ContractsInForce, contract_facts, is_recipient
from gateway.exchange.providers import Providers
from gateway.exchange.resolution import CAPABILITIES, bound_facts, dataset_facts
from gateway.model import Contract, Dataset, Decision, Member, Operation
from gateway.policy.engine import PolicyEngine
from gateway.policy.policy_input import PartyFacts, PolicyInput, policy_minute

_DOCUMENT: Final = "the document asked for"
"""Grants are those of a member that cites a document where its purpose asks for one."""


@dataclass(frozen=True, slots=True)
class Granted:
    """One way of asking that policy allows, and what it would give."""

    purpose: str
    legal_basis: str
    memorandum: str
    decision: Decision
    contract: str = ""
    """Name of the contract under which it is given; empty when none is needed."""


class Grants:
    """Finds the grants of members by asking policy itself: what is listed is what is enforced."""

    def __init__(
        self,
        policy: PolicyEngine,
        providers: Providers,
        clock: Clock,
        contracts: ContractsInForce,
    ) -> None:
        self._policy = policy
        self._providers = providers
        self._clock = clock
        self._contracts = contracts

    async def of(self, member: Member, dataset: Dataset) -> list[Granted]:
        """Return every grant of `member` on `dataset`, in order of purpose."""
        try:
            provider = self._providers.holder(dataset)
        except GatewayError:
            return []  # nobody can ask a provider that is not connected
        now = self._clock()
        covering = [one for one in self._contracts.covering(dataset.name, now) if is_recipient(one, member)]
        under: Sequence[Contract | None] = covering if covering or dataset.needs_contract else [None]
        return [
            granted
            for contract in under
            for way in ways(self._policy.bundle.data, member, dataset)
            if (
                granted := await grant(self._policy, member, provider, dataset, way, contract, now)
            ).decision.allow
        ]


@dataclass(frozen=True, slots=True)
class Way:
    """One way of asking."""

    purpose: str
    legal_basis: str = ""
    memorandum: str = ""


async def grant(
    policy: PolicyEngine,
    member: Member,
    provider: Member,
    dataset: Dataset,
    way: Way,
    contract: Contract | None,
    now: datetime,
) -> Granted:
    """Return what policy says of `way`, be it an allowance or a denial."""
    decision = await policy.decide(
        PolicyInput(
            operation=Operation.QUERY.value,
            time=policy_minute(now),
            signed=True,
            consumer=PartyFacts(id=member.id, member_class=member.member_class),
            provider=PartyFacts(id=provider.id, member_class=provider.member_class),
            dataset=dataset_facts(dataset) if contract is None else bound_facts(dataset),
            purpose=way.purpose,
            legal_basis=way.legal_basis,
            memorandum=way.memorandum,
            fields=(),
            reads=(),
            capabilities=CAPABILITIES,
            document=_DOCUMENT,
            subjects=1,
            contract=None if contract is None else contract_facts(contract, dataset),
        )
    )
    name = "" if contract is None else contract.terms.contract
    return Granted(way.purpose, way.legal_basis, way.memorandum, decision, name)


def ways(data: Mapping[str, Any], member: Member, dataset: Dataset) -> list[Way]:
    """Return the ways of asking that are worth putting to policy, of which `data` is the data; sorted.

    Of many datasets, each is open for few of the purposes: the others are left out unasked.
    """
    found = _ways(data, member, dataset)
    return sorted(found, key=lambda way: (way.purpose, way.legal_basis, way.memorandum))


def _ways(data: Mapping[str, Any], member: Member, dataset: Dataset) -> Iterator[Way]:
    stated = [name for name, row in data["purposes"].items() if _is_open(row, member, dataset)]
    for purpose in stated:
        yield Way(purpose)
    for name, memorandum in data["memoranda"].items():
        if member.id in memorandum["consumers"] and dataset.name in memorandum["datasets"]:
            for purpose in sorted({*memorandum["purposes"]} & {*stated}):
                for legal_basis in memorandum["legal_bases"]:
                    yield Way(purpose, legal_basis, name)


def _is_open(purpose: Mapping[str, Any], member: Member, dataset: Dataset) -> bool:
    return (
        member.member_class in purpose["member_classes"]
        and dataset.dataset_class in purpose["dataset_classes"]
        and dataset.tier in purpose["tiers"]
    )
