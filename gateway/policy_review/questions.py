"""Questions to policy: every way in which a member could ask for a dataset, as canonical input.

A *way* is a legal basis and a memorandum under which a purpose is stated. Only ways that can matter are
asked: without a memorandum, and under each one that names the member, the dataset and the purpose.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Final

import msgspec

from gateway.catalogue import Catalogue
from gateway.errors import Reason
from gateway.exchange.resolution import CAPABILITIES, dataset_facts
from gateway.model import Decision, Operation
from gateway.policy.bundle import Bundle
from gateway.policy.policy_input import DatasetFacts, PartyFacts, PolicyInput
from gateway.policy.recorded_input import STATED

_ENCODER: Final = msgspec.json.Encoder(order="sorted")
_FIELDS: Final = msgspec.structs.fields(PolicyInput)
_OF_BASES: Final = frozenset(
    {
        Reason.LEGAL_BASIS_MISSING.value,
        Reason.LEGAL_BASIS_NOT_PERMITTED.value,
        Reason.NOTHING_PERMITTED.value,
    }
)
"""Reasons that a legal basis can remove: with any other the question is denied whatever is stated."""
_NO_FACTS: Final = DatasetFacts("", "", "", {})


class Way(msgspec.Struct, frozen=True, array_like=True, order=True):
    """One way of asking for a dataset."""

    member: str
    dataset: str
    purpose: str
    operation: str
    legal_basis: str
    memorandum: str


@dataclass(frozen=True, slots=True)
class World:
    """Who could ask, for what, when: all that a bundle alone does not say."""

    members: Mapping[str, str]
    """Id to class, of those who may ask."""
    providers: Mapping[str, str]
    """Id to class, of those who hold datasets."""
    datasets: Mapping[str, DatasetFacts]
    """By name."""
    time: str
    """The minute for which everything is asked (`policy_minute`)."""
    operations: tuple[str, ...] = (Operation.QUERY.value,)

    @classmethod
    def of(
        cls,
        bundles: Sequence[Bundle],
        catalogue: Catalogue,
        time: str,
        operations: Sequence[str],
        extra_members: Mapping[str, str] | None = None,
    ) -> World:
        """Return the world of the members that `bundles` name, `extra_members`, and the catalogue."""
        classes = {
            name: member["class"] for bundle in bundles for name, member in bundle.data["members"].items()
        }
        roles: dict[str, set[str]] = {}
        for bundle in bundles:
            for name, member in bundle.data["members"].items():
                roles.setdefault(name, set()).update(member["roles"])
        consumers = {name: kind for name, kind in classes.items() if "consumer" in roles[name]}
        return cls(
            members=dict(sorted({**(extra_members or {}), **consumers}.items())),
            providers=classes,
            datasets={dataset.name: dataset_facts(dataset) for dataset in catalogue},
            time=time,
            operations=tuple(operations),
        )

    def purposes(self, bundles: Iterable[Bundle]) -> tuple[str, ...]:
        """Return all purposes that one of `bundles` knows, sorted."""
        return tuple(sorted({purpose for bundle in bundles for purpose in bundle.data["purposes"]}))


class Questions:
    """Writes ways as canonical input; the facts of a dataset are encoded once."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._datasets: dict[str, tuple[str, msgspec.Raw]] = {}

    def encode(self, way: Way) -> bytes:
        """Return the input of a signed query for all fields of one subject that cites a document."""
        held = self._datasets.get(way.dataset)
        if held is None:
            facts = self._world.datasets[way.dataset]
            held = self._datasets[way.dataset] = (
                way.dataset.split("/")[1],
                msgspec.Raw(_ENCODER.encode(facts)),
            )
        provider, facts_text = held
        asked = PolicyInput(
            operation=way.operation,
            time=self._world.time,
            signed=True,
            consumer=PartyFacts(way.member, self._world.members[way.member]),
            provider=PartyFacts(provider, self._world.providers.get(provider, "")),
            dataset=_NO_FACTS,
            purpose=way.purpose,
            legal_basis=way.legal_basis,
            memorandum=way.memorandum,
            fields=(),
            reads=(),
            capabilities=CAPABILITIES,
            document=STATED,
            subjects=1,
        )
        plain: dict[str, Any] = {field.encode_name: getattr(asked, field.name) for field in _FIELDS}
        return _ENCODER.encode({**plain, "dataset": facts_text})


class Agreements:
    """The legal bases and memoranda of a bundle under which a purpose can be stated."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._bases = {
            purpose: tuple(
                name for name, basis in data["legal_bases"].items() if purpose in basis["purposes"]
            )
            for purpose in data["purposes"]
        }
        self._agreed: dict[tuple[str, str, str], list[tuple[str, str]]] = {}
        for name, memorandum in data["memoranda"].items():
            for key in product(memorandum["consumers"], memorandum["datasets"], memorandum["purposes"]):
                bases = [basis for basis in memorandum["legal_bases"] if basis in self._bases.get(key[2], ())]
                self._agreed.setdefault(key, []).extend((basis, name) for basis in bases)

    def under_memoranda(self, member: str, dataset: str, purpose: str) -> Sequence[tuple[str, str]]:
        """Return (legal basis, memorandum) of every memorandum that speaks of the three."""
        return self._agreed.get((member, dataset, purpose), ())

    def bases(self, purpose: str) -> tuple[str, ...]:
        """Return the legal bases that allow `purpose`, for asking without a memorandum."""
        return self._bases.get(purpose, ())


def may_need_basis(decision: Decision) -> bool:
    """Return whether stating a legal basis could turn the denial of a question that states none."""
    return Reason.LEGAL_BASIS_MISSING.value in decision.reasons and _OF_BASES.issuperset(decision.reasons)
