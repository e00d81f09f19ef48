"""The data of a policy bundle: what may stand in each YAML file, and what the rules get to see of it.

People edit `policies/data/*.yaml`; each file has one type here, decoded strictly (unknown keys refuse).
`compile_documents` turns them into the `data` document of the rules: lists become objects by name, days
become instants. `policies/schemas/` holds the same shapes as JSON Schema, for editors.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta
from itertools import combinations
from typing import Annotated, Any, Final, Literal

import msgspec

from gateway.model import NAME_PATTERN, Role, member_name
from gateway.policy.errors import BundleError

Name = Annotated[str, msgspec.Meta(pattern=rf"^{NAME_PATTERN}$", description="Lower case, digits, hyphens.")]
Title = Annotated[str, msgspec.Meta(min_length=1, max_length=200, description="What people call it.")]
Names = Annotated[tuple[Name, ...], msgspec.Meta(min_length=1)]


class Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of everything that stands in a data file."""


class Tier(Document, frozen=True):
    """One sharing tier and what a query must bring to be answered at it."""

    name: Name
    title: Title
    signature: bool
    legal_basis: bool
    memorandum: bool
    member_classes: Names
    person_identifiers: Literal["release", "pseudonymise", "drop"]
    cacheable: bool
    evidence: Literal["committed", "witnessed"] | msgspec.UnsetType = msgspec.UNSET
    """What the log must have of a release before it leaves; `committed` where this is left out."""


class MemberClass(Document, frozen=True):
    """One class of members."""

    title: Title
    coarse: bool


class Party(Document, frozen=True):
    """One member that memoranda may name."""

    title: Title
    member_class: Name = msgspec.field(name="class")
    roles: Annotated[tuple[Role, ...], msgspec.Meta(min_length=1)]


class IdentifierClass(Document, frozen=True):
    """One kind of identifier."""

    title: Title
    person: bool


class Purpose(Document, frozen=True):
    """One purpose and what may serve it."""

    title: Title
    tiers: Names
    dataset_classes: Annotated[tuple[Literal["record", "list", "score"], ...], msgspec.Meta(min_length=1)]
    member_classes: Names
    operations: Annotated[tuple[Literal["query", "stream", "match", "list"], ...], msgspec.Meta(min_length=1)]
    enforcement: bool


class LegalBasis(Document, frozen=True):
    """One article of law."""

    title: Title
    act: Title
    article: Title
    valid_from: date
    purposes: Names
    valid_until: date | None = None
    """The last day on which it holds."""


class Memorandum(Document, frozen=True):
    """One agreement between a provider and its consumers."""

    title: Title
    provider: Name
    datasets: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    consumers: Names
    purposes: Names
    tier: Name
    legal_bases: Names
    valid_from: date
    citation: Title
    valid_until: date | None = None
    """The last day on which it holds."""


class ListSet(Document, frozen=True):
    """Lists that are asked together and answered with one bit: is the subject on so many of them."""

    title: Title
    lists: Annotated[dict[str, Name], msgspec.Meta(min_length=2, max_length=100)]
    """Each list (a dataset's name) with the memorandum under which it is asked."""
    at_least: Annotated[int, msgspec.Meta(ge=1)]
    citation: Title


class TiersFile(Document, frozen=True):
    """`tiers.yaml`: the list runs from the most open tier to the most closed."""

    tiers: Annotated[tuple[Tier, ...], msgspec.Meta(min_length=1)]


class MemberClassesFile(Document, frozen=True):
    """`member_classes.yaml`."""

    member_classes: dict[Name, MemberClass]


class MembersFile(Document, frozen=True):
    """`members.yaml`."""

    members: dict[Name, Party]


class IdentifiersFile(Document, frozen=True):
    """`identifiers.yaml`."""

    identifiers: dict[Name, IdentifierClass]


class PurposesFile(Document, frozen=True):
    """`purposes.yaml`."""

    purposes: dict[Name, Purpose]


class LegalBasesFile(Document, frozen=True):
    """`legal_bases.yaml`."""

    legal_bases: dict[Name, LegalBasis]


class MemorandaFile(Document, frozen=True):
    """`memoranda.yaml`."""

    memoranda: dict[Name, Memorandum]


class ListSetsFile(Document, frozen=True):
    """`list_sets.yaml`."""

    list_sets: dict[Name, ListSet]


DATA_FILES: Final[dict[str, type[Document]]] = {
    "identifiers": IdentifiersFile,
    "legal_bases": LegalBasesFile,
    "list_sets": ListSetsFile,
    "member_classes": MemberClassesFile,
    "members": MembersFile,
    "memoranda": MemorandaFile,
    "purposes": PurposesFile,
    "tiers": TiersFile,
}
"""File name without `.yaml` to the type of its content. Every file must be there, and no other."""


class Documents(msgspec.Struct, frozen=True, kw_only=True):
    """All data files of a bundle."""

    tiers: tuple[Tier, ...]
    member_classes: dict[str, MemberClass]
    members: dict[str, Party]
    identifiers: dict[str, IdentifierClass]
    purposes: dict[str, Purpose]
    legal_bases: dict[str, LegalBasis]
    memoranda: dict[str, Memorandum]
    list_sets: dict[str, ListSet]


def decode_documents(files: dict[str, object]) -> Documents:
    """Return the documents in `files` (file name without `.yaml` to its content as plain objects).

    Raise `BundleError` if a file is missing or surplus, does not fit its type, or names something that
    no other file defines.
    """
    surplus, missing = sorted(files.keys() - DATA_FILES.keys()), sorted(DATA_FILES.keys() - files.keys())
    if surplus or missing:
        raise BundleError(
            f"The data files of the bundle are wrong: missing {missing}, not known {surplus}. "
            f"There must be exactly {sorted(DATA_FILES)}."
        )
    content: dict[str, object] = {}
    for name, kind in DATA_FILES.items():
        try:
            content[name] = getattr(msgspec.convert(files[name], kind), name)
        except msgspec.ValidationError as fault:
            raise BundleError(f"data/{name}.yaml does not fit its schema: {fault}.") from fault
    documents = Documents(**content)  # type: ignore[arg-type]
    verify_references(documents)
    return documents


def verify_references(documents: Documents) -> None:
    """Raise `BundleError`, listing all, if a name points nowhere or a period ends before it begins."""
    faults = [
        *_faults_in_vocabulary(documents),
        *_faults_in_agreements(documents),
        *_faults_in_list_sets(documents),
    ]
    if faults:
        raise BundleError("The data files contradict each other: " + "; ".join(faults) + ".")


def _unknown(where: str, names: Iterable[str], known: Iterable[str], what: str) -> list[str]:
    return [
        f"{where} names the {what} '{name}', which is not defined" for name in sorted({*names} - {*known})
    ]


def _faults_in_vocabulary(documents: Documents) -> list[str]:
    faults: list[str] = []
    tiers = [tier.name for tier in documents.tiers]
    faults += [
        f"tier '{name}' is defined twice"
        for name in sorted({name for name in tiers if tiers.count(name) > 1})
    ]
    for tier in documents.tiers:
        faults += _unknown(
            f"tier '{tier.name}'", tier.member_classes, documents.member_classes, "member class"
        )
    for name, party in documents.members.items():
        faults += _unknown(f"member '{name}'", [party.member_class], documents.member_classes, "member class")
    for name, purpose in documents.purposes.items():
        faults += _unknown(f"purpose '{name}'", purpose.tiers, tiers, "tier")
        faults += _unknown(
            f"purpose '{name}'", purpose.member_classes, documents.member_classes, "member class"
        )
    for name, basis in documents.legal_bases.items():
        faults += _unknown(f"legal basis '{name}'", basis.purposes, documents.purposes, "purpose")
        faults += _faults_in_period(f"legal basis '{name}'", basis)
    return faults


def _faults_in_agreements(documents: Documents) -> list[str]:
    faults: list[str] = []
    tiers = {tier.name: tier for tier in documents.tiers}
    for name, memorandum in documents.memoranda.items():
        where = f"memorandum '{name}'"
        faults += _unknown(where, [memorandum.provider, *memorandum.consumers], documents.members, "member")
        faults += _unknown(where, memorandum.purposes, documents.purposes, "purpose")
        faults += _unknown(where, [memorandum.tier], tiers, "tier")
        faults += _unknown(where, memorandum.legal_bases, documents.legal_bases, "legal basis")
        faults += [
            f"{where} lists the dataset '{dataset}', which its provider does not hold"
            for dataset in memorandum.datasets
            if not dataset.startswith(f"{member_name(memorandum.provider)}/datasets/")
        ]
        faults += _faults_in_roles(where, memorandum, documents)
        served = {
            purpose
            for basis in memorandum.legal_bases
            if basis in documents.legal_bases
            for purpose in documents.legal_bases[basis].purposes
        }
        faults += [
            f"{where} names the purpose '{purpose}', which none of its legal bases allows"
            for purpose in sorted({*memorandum.purposes} - served)
        ]
        faults += _faults_in_period(where, memorandum)
    return faults


def _faults_in_list_sets(documents: Documents) -> list[str]:
    faults: list[str] = []
    memoranda = documents.memoranda
    for name, list_set in documents.list_sets.items():
        where = f"list set '{name}'"
        faults += _unknown(where, list_set.lists.values(), memoranda, "memorandum")
        faults += [
            f"{where} asks the list '{dataset}' under the memorandum '{memorandum}', which is not about it"
            for dataset, memorandum in list_set.lists.items()
            if memorandum in memoranda and dataset not in memoranda[memorandum].datasets
        ]
        if list_set.at_least >= len(list_set.lists):
            faults.append(f"{where} needs more lists than at_least: a yes would name all of them")
    for one, other in combinations(documents.list_sets, 2):
        lists = [documents.list_sets[name].lists for name in (one, other)]
        both = set.intersection(*(_consumers(documents, name) for name in (one, other)))
        if both and lists[0].keys() & lists[1].keys():
            # Two answers that differ in a list would tell whether the subject is on it.
            faults.append(
                f"the list sets '{one}' and '{other}' share a list and the consumers {sorted(both)}"
            )
    return faults


def _consumers(documents: Documents, list_set: str) -> set[str]:
    """Return who may ask `list_set`: the consumers of all its memoranda."""
    memoranda = documents.list_sets[list_set].lists.values()
    return set.intersection(
        *(
            {*documents.memoranda[name].consumers} if name in documents.memoranda else set()
            for name in memoranda
        )
    )


def _faults_in_period(where: str, row: LegalBasis | Memorandum) -> list[str]:
    if row.valid_until is None:
        return []
    if row.valid_until == date.max:
        return [f"{where} ends on the last day there is; leave out valid_until where no end is known"]
    return [f"{where} ends before it begins"] if row.valid_until < row.valid_from else []


def _faults_in_roles(where: str, memorandum: Memorandum, documents: Documents) -> list[str]:
    wanted = [(memorandum.provider, Role.PROVIDER), *((one, Role.CONSUMER) for one in memorandum.consumers)]
    return [
        f"{where} needs the member '{member}' to be a {role.value}"
        for member, role in wanted
        if member in documents.members and role not in documents.members[member].roles
    ]


def compile_documents(documents: Documents) -> dict[str, Any]:
    """Return the `data` document of the rules.

    Tiers get their `rank` (0 is the most open) and the list `tier_names` by rank; `valid_from` and
    `valid_until` become instants (RFC 3339, UTC), the second one exclusive, or null for no end.
    """
    # Through JSON, so that the document holds what every engine sees: lists, never tuples.
    compiled: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(documents))
    compiled["tiers"] = {tier["name"]: {**tier, "rank": rank} for rank, tier in enumerate(compiled["tiers"])}
    compiled["tier_names"] = [tier.name for tier in documents.tiers]
    for chapter, rows in (("legal_bases", documents.legal_bases), ("memoranda", documents.memoranda)):
        for name, row in rows.items():
            compiled[chapter][name]["valid_from"] = _instant(row.valid_from)
            compiled[chapter][name]["valid_until"] = (
                None if row.valid_until is None else _instant(row.valid_until + timedelta(days=1))
            )
    return compiled


def _instant(day: date) -> str:
    return f"{day.isoformat()}T00:00:00Z"
