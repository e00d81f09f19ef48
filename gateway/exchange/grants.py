"""What a member may ask of a dataset now: policy, asked for each way of asking that it knows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.clock import Clock
from gateway.errors import GatewayError
from gateway.exchange.providers import EntrustedRecords, provider_of
from gateway.exchange.resolution import CAPABILITIES, dataset_facts
from gateway.members import Directory
from gateway.model import Dataset, Decision, Member, Operation
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


class Grants:
    """Finds the grants of members by asking policy itself: what is listed is what is enforced."""

    def __init__(
        self,
        policy: PolicyEngine,
        directory: Directory,
        clock: Clock,
        entrusted: EntrustedRecords | None = None,
    ) -> None:
        self._entrusted = entrusted
        self._policy = policy
        self._directory = directory
        self._clock = clock

    async def of(self, member: Member, dataset: Dataset) -> list[Granted]:
        """Return every grant of `member` on `dataset`, in order of purpose."""
        try:
            provider = provider_of(dataset, self._directory, self._entrusted)
        except GatewayError:
            return []  # nobody can ask a provider that is not connected
        found = []
        for purpose, legal_basis, memorandum in sorted(self._ways(member, dataset)):
            decision = await self._policy.decide(
                PolicyInput(
                    operation=Operation.QUERY.value,
                    time=policy_minute(self._clock()),
                    signed=True,
                    consumer=PartyFacts(id=member.id, member_class=member.member_class),
                    provider=PartyFacts(id=provider.id, member_class=provider.member_class),
                    dataset=dataset_facts(dataset),
                    purpose=purpose,
                    legal_basis=legal_basis,
                    memorandum=memorandum,
                    fields=(),
                    reads=(),
                    capabilities=CAPABILITIES,
                    document=_DOCUMENT,
                    subjects=1,
                )
            )
            if decision.allow:
                found.append(Granted(purpose, legal_basis, memorandum, decision))
        return found

    def _ways(self, member: Member, dataset: Dataset) -> Iterator[tuple[str, str, str]]:
        """Yield (purpose, legal basis, memorandum) worth asking policy about.

        Of many datasets, each is open for few of the purposes: the others are left out unasked.
        """
        data = self._policy.bundle.data
        stated = [name for name, row in data["purposes"].items() if _is_open(row, member, dataset)]
        for purpose in stated:
            yield purpose, "", ""
        for name, memorandum in data["memoranda"].items():
            if member.id in memorandum["consumers"] and dataset.name in memorandum["datasets"]:
                for purpose in sorted({*memorandum["purposes"]} & {*stated}):
                    for legal_basis in memorandum["legal_bases"]:
                        yield purpose, legal_basis, name


def _is_open(purpose: Mapping[str, Any], member: Member, dataset: Dataset) -> bool:
    return (
        member.member_class in purpose["member_classes"]
        and dataset.dataset_class in purpose["dataset_classes"]
        and dataset.tier in purpose["tiers"]
    )
