"""Golden cases: questions and the answers that the law wants, written so that a lawyer can read them.

`cases/world.yaml` says what the datasets of the cases look like; every other file holds a list of cases.
Where `given` has a list for `purpose` or `operation`, the case stands for each of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Final, TypeVar

import msgspec

from gateway.errors import Reason
from gateway.model import Decision, Mask, Retention, Treatment, dataset_name
from gateway.policy.bundle import Bundle
from gateway.policy.documents import DUTY_NAMES, Document
from gateway.policy.engine import PolicyEngine
from gateway.policy.errors import BundleError
from gateway.policy.policy_input import (
    ContractFacts,
    DatasetFacts,
    FieldFacts,
    PartyFacts,
    PolicyInput,
    RecipientFacts,
    TermFacts,
)
from gateway.policy.strict_yaml import read_yaml

CAPABILITIES: Final = tuple(sorted([*Treatment, *(f"duty:{name}" for name in DUTY_NAMES)]))
"""What a gateway can do in a case that does not say: everything."""
WORLD_FILE: Final = "world.yaml"

_File = TypeVar("_File")


class WorldField(Document, frozen=True):
    """A field of a dataset in `world.yaml`."""

    tier: str
    identifier: str | None = None
    generalise: str | None = None
    mask: Mask | None = None
    link: str | None = None


class WorldDataset(Document, frozen=True):
    """A dataset in `world.yaml`."""

    provider: str
    tier: str
    dataset_class: str = msgspec.field(name="class")
    fields: dict[str, WorldField]
    owner: str = ""
    """Left out: the provider."""
    catalogue: str = ""
    retention: Retention | None = None
    cohort: int = 0
    needs_contract: bool = False


class WorldContract(Document, frozen=True, kw_only=True):
    """A contract in `world.yaml`; its parties are the contributor and the members named as recipients."""

    contributor: str
    purposes: tuple[str, ...]
    members: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    fields: dict[str, TermFacts] = msgspec.field(default_factory=dict)
    valid_from: str
    valid_until: str


class World(Document, frozen=True):
    """`world.yaml`: what the cases take for granted."""

    time: str
    """When a case happens that does not say."""
    datasets: dict[str, WorldDataset]
    """By the last segment of their names, or by `PROVIDER/DATASET`."""
    contracts: dict[str, WorldContract] = msgspec.field(default_factory=dict)
    """By name."""
    strangers: dict[str, str] = msgspec.field(default_factory=dict)
    """Members that the bundle does not name, with their classes."""


class Given(Document, frozen=True):
    """What is asked in a case."""

    consumer: str
    dataset: str
    operation: str | tuple[str, ...]
    purpose: str | tuple[str, ...]
    legal_basis: str = ""
    memorandum: str = ""
    contract: str = ""
    """Name of the contract in force that the gateway found; left out: none."""
    fields: tuple[str, ...] = ()
    reads: tuple[str, ...] = ("uscc",)
    signed: bool = True
    time: str | None = None
    document: str = ""
    subjects: int | None = None
    """Left out: one where the query chooses by a field, else none."""
    capabilities: tuple[str, ...] = CAPABILITIES


class Expected(Document, frozen=True):
    """What policy must answer. Fields that `treatments` does not list must be dropped."""

    allow: bool
    reasons: tuple[Reason, ...] = ()
    tier: str = ""
    treatments: dict[Treatment, tuple[str, ...]] = msgspec.field(default_factory=dict)
    params: dict[str, dict[str, str | int]] = msgspec.field(default_factory=dict)
    """How a field is masked or coarsened; of a field that is left out nothing is said."""
    duties: dict[str, dict[str, str | int]] = msgspec.field(default_factory=dict)
    until: str | msgspec.UnsetType | None = msgspec.UNSET
    """When the decision ends; null: never. Left out: not said."""
    rules: tuple[str, ...] = ()
    """Rule ids that must be among those given."""


class CaseRow(Document, frozen=True):
    """One case as it stands in a file."""

    title: Annotated[str, msgspec.Meta(min_length=1)]
    given: Given
    expect: Expected


class CaseFile(Document, frozen=True):
    """One file of cases."""

    title: str
    cases: Annotated[tuple[CaseRow, ...], msgspec.Meta(min_length=1)]


@dataclass(frozen=True, slots=True)
class GoldenCase:
    """One question with its answer."""

    title: str
    asked_tier: str
    """The tier of the memorandum stated, or else of the dataset."""
    policy_input: PolicyInput
    expect: Expected


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A case that policy answers differently."""

    case: GoldenCase
    decision: Decision
    differences: tuple[str, ...]


def load_cases(bundle: Bundle, directory: Path) -> tuple[GoldenCase, ...]:
    """Return the cases in `directory` about `bundle`; raise `BundleError` if a file is wrong."""
    world = _read(directory / WORLD_FILE, World)
    rows = [
        (row, f"{path.stem}: {row.title}")
        for path in sorted(directory.glob("*.yaml"))
        if path.name != WORLD_FILE
        for row in _read(path, CaseFile).cases
    ]
    return tuple(case for row, title in rows for case in _expand(bundle, world, row, title))


async def run_cases(engine: PolicyEngine, cases: Iterable[GoldenCase]) -> tuple[Mismatch, ...]:
    """Return the cases that `engine` answers differently; raise `PolicyError` if it cannot answer one."""
    mismatches: list[Mismatch] = []
    for case in cases:
        decision = await engine.decide(case.policy_input)
        differences = tuple(_differences(case, decision))
        if differences:
            mismatches.append(Mismatch(case, decision, differences))
    return tuple(mismatches)


def _read(path: Path, kind: type[_File]) -> _File:
    try:
        return msgspec.convert(read_yaml(path), kind)
    except msgspec.ValidationError as fault:
        raise BundleError(f"cases/{path.name} does not fit its schema: {fault}.") from fault


def _expand(bundle: Bundle, world: World, row: CaseRow, title: str) -> Iterable[GoldenCase]:
    given = row.given
    if given.dataset not in world.datasets:
        raise BundleError(f"The case '{title}' names a dataset that {WORLD_FILE} does not describe.")
    dataset = world.datasets[given.dataset]
    memorandum = bundle.data["memoranda"].get(given.memorandum)
    classes = {name: member["class"] for name, member in bundle.data["members"].items()} | world.strangers
    purposes, operations = _as_list(given.purpose), _as_list(given.operation)
    for purpose, operation in product(purposes, operations):
        several = len(purposes) * len(operations) > 1
        yield GoldenCase(
            title=f"{title} ({purpose}, {operation})" if several else title,
            asked_tier=dataset.tier if memorandum is None else memorandum["tier"],
            policy_input=PolicyInput(
                operation=operation,
                time=given.time or world.time,
                signed=given.signed,
                consumer=PartyFacts(given.consumer, _class_of(given.consumer, classes, title)),
                provider=PartyFacts(dataset.provider, _class_of(dataset.provider, classes, title)),
                dataset=DatasetFacts(
                    dataset_name(dataset.provider, given.dataset.rpartition("/")[2]),
                    dataset.tier,
                    dataset.dataset_class,
                    {
                        name: FieldFacts(
                            field.tier, field.identifier, field.generalise, field.mask, field.link
                        )
                        for name, field in dataset.fields.items()
                    },
                    dataset.owner or dataset.provider,
                    dataset.catalogue,
                    dataset.retention,
                    dataset.cohort,
                    "required" if dataset.needs_contract else "",
                ),
                purpose=purpose,
                legal_basis=given.legal_basis,
                memorandum=given.memorandum,
                fields=tuple(sorted(given.fields)),
                reads=tuple(sorted(given.reads)),
                capabilities=tuple(sorted(given.capabilities)),
                document=given.document,
                subjects=min(len(given.reads), 1) if given.subjects is None else given.subjects,
                contract=_contract(world, dataset, given.contract, title),
            ),
            expect=row.expect,
        )


def _contract(world: World, dataset: WorldDataset, name: str, title: str) -> ContractFacts | None:
    if not name:
        return None
    if name not in world.contracts:
        raise BundleError(f"The case '{title}' names a contract that {WORLD_FILE} does not know.")
    if not dataset.needs_contract:
        raise BundleError(f"The case '{title}' names a contract for a dataset that needs none.")
    contract = world.contracts[name]
    return ContractFacts(
        id=f"sha256:{hashlib.sha256(name.encode()).hexdigest()}",
        name=name,
        version=1,
        contributor=contract.contributor,
        parties=tuple(sorted({contract.contributor, *contract.members})),
        purposes=tuple(sorted(contract.purposes)),
        recipients=RecipientFacts(tuple(sorted(contract.members)), tuple(sorted(contract.classes))),
        fields=contract.fields,
        valid_from=contract.valid_from,
        valid_until=contract.valid_until,
        onward_sharing="forbidden",
    )


def _as_list(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value


def _class_of(member: str, classes: Mapping[str, str], title: str) -> str:
    if member not in classes:
        raise BundleError(
            f"The case '{title}' names a member that neither the bundle nor {WORLD_FILE} knows."
        )
    return classes[member]


def _differences(case: GoldenCase, decision: Decision) -> Iterable[str]:
    expect = case.expect
    for name, wanted, got in (
        ("allow", expect.allow, decision.allow),
        ("reasons", tuple(sorted(expect.reasons)), decision.reasons),
        ("tier", expect.tier, decision.tier),
        ("duties", expect.duties, decision.duties),
    ):
        if wanted != got:
            yield f"{name}: expected {wanted}, got {got}"
    if expect.until is not msgspec.UNSET and expect.until != decision.valid_until:
        yield f"until: expected {expect.until}, got {decision.valid_until}"
    if expect.allow and decision.allow:
        yield from _differences_of_allowed(case, decision)
    missing = sorted({*expect.rules} - {*decision.rule_ids})
    if missing:
        yield f"rules: expected {missing} among {list(decision.rule_ids)}"


def _differences_of_allowed(case: GoldenCase, decision: Decision) -> Iterable[str]:
    expect = case.expect
    asked = case.policy_input
    contract = "" if asked.contract is None else asked.contract.name
    stated = {asked.purpose, asked.legal_basis, asked.memorandum, contract}
    named = {rule.partition(".")[2] for rule in decision.rule_ids} - {decision.tier}
    if named != stated - {""}:
        yield f"rules: expected what is stated to carry it, got {list(decision.rule_ids)}"
    wanted_fields = {name: treatment for treatment, names in expect.treatments.items() for name in names}
    considered = case.policy_input.fields or case.policy_input.dataset.fields
    for name in sorted({*considered, *decision.obligations}):
        wanted_treatment = wanted_fields.get(name, Treatment.DROP)
        obligation = decision.obligations.get(name)
        if obligation is None or obligation.treatment is not wanted_treatment:
            yield f"{name}: expected {wanted_treatment}, got {obligation and obligation.treatment}"
    for name, params in expect.params.items():
        obligation = decision.obligations.get(name)
        if obligation is None or obligation.params != params:
            yield f"{name}: expected {params}, got {obligation and obligation.params}"
