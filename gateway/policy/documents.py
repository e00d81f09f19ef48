"""The data of a policy bundle: what may stand in each YAML file, and what the rules get to see of it.

People edit `policies/data/*.yaml`; each file has one type here, decoded strictly (unknown keys refuse).
`gateway.policy.references` checks what they say of one another, `gateway.policy.compilation` turns them
into the `data` document of the rules. `policies/schemas/` holds the same shapes as JSON Schema, for editors.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Final, Literal

import msgspec

from gateway.model import NAME_PATTERN, Role
from gateway.policy.errors import BundleError

Name = Annotated[str, msgspec.Meta(pattern=rf"^{NAME_PATTERN}$", description="Lower case, digits, hyphens.")]
Title = Annotated[str, msgspec.Meta(min_length=1, max_length=200, description="What people call it.")]
Names = Annotated[tuple[Name, ...], msgspec.Meta(min_length=1)]
DatasetClass = Literal["record", "list", "score"]
Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000_000)]


class Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of everything that stands in a data file."""


class Duties(Document, frozen=True, omit_defaults=True):
    """What binds every exchange that this carries. Where several lay down the same duty, the strictest holds."""

    smallest_cohort: Count | msgspec.UnsetType = msgspec.UNSET
    """Records; of fewer, none leave."""
    round_counts: Count | msgspec.UnsetType = msgspec.UNSET
    """Every count told outside is rounded to a multiple of this."""
    limit_records: Count | msgspec.UnsetType = msgspec.UNSET
    """Records in one exchange."""
    limit_volume: Count | msgspec.UnsetType = msgspec.UNSET
    """Records for each consumer, purpose and day."""
    delay: Count | msgspec.UnsetType = msgspec.UNSET
    """Seconds to wait before anything leaves."""
    notify_subject: Count | msgspec.UnsetType = msgspec.UNSET
    """Days within which the subject must be told."""
    acknowledge: Count | msgspec.UnsetType = msgspec.UNSET
    """Hours within which the recipient must acknowledge the receipt."""
    one_bit: Literal[1] | msgspec.UnsetType = msgspec.UNSET
    """1: the answer is one bit, and no record."""


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
    duties: Duties = Duties()


class MemberClass(Document, frozen=True):
    """One class of members."""

    title: Title
    coarse: bool
    duties: Duties = Duties()


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
    dataset_classes: Annotated[tuple[DatasetClass, ...], msgspec.Meta(min_length=1)]
    member_classes: Names
    operations: Annotated[tuple[Literal["query", "stream", "match", "list"], ...], msgspec.Meta(min_length=1)]
    enforcement: bool
    """Whether a measure against somebody may follow."""
    broader: Name | None = None
    """The purpose that includes this one: what may serve it may serve this, and this reaches no further."""
    document: bool = False
    """Whether a query must cite an official document; an enforcing purpose always asks for one."""
    subjects: Count | None = None
    """How many subjects a query names at most, and then at least one; None: any number, or none."""
    duties: Duties = Duties()


class Emergency(Document, frozen=True):
    """What makes a legal basis an emergency rule."""

    review_by: date
    """The day by which it must be reviewed. Unreviewed, it ends on that day, if not before."""
    reviewed_on: date | None = None


class LegalBasis(Document, frozen=True):
    """One article of law."""

    title: Title
    act: Title
    article: Title
    valid_from: date
    purposes: Names
    datasets: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)] | None = None
    """The datasets that it opens; None: any that holds no persons."""
    links: tuple[Name, ...] = ()
    """The links to other subjects that it opens, such as `company-representative`."""
    valid_until: date | None = None
    """The last day on which it holds."""
    emergency: Emergency | None = None
    """An emergency rule has a `valid_until`, its sunset."""
    duties: Duties = Duties()


class Memorandum(Document, frozen=True):
    """One agreement between the owner of a list or register and those who receive it."""

    title: Title
    provider: Name
    """The member that holds what is shared."""
    datasets: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    consumers: Names
    purposes: Names
    """What it is received for. The enforcing ones among them are the measures that the memorandum permits."""
    tier: Name
    legal_bases: Names
    valid_from: date
    citation: Title
    valid_until: date | None = None
    """The last day on which it holds."""
    duties: Duties = Duties()


class CatalogueEntry(Document, frozen=True):
    """One entry of the published catalogue: what may be recorded at all. A dataset cites it by `citation`."""

    citation: Title
    title: Title
    dataset_class: DatasetClass = msgspec.field(name="class")
    persons: bool
    """Whether the records are about natural persons; then a legal basis must name the dataset."""
    retention_years: Count | None = None
    """The longest time for which a record may be given out."""
    freshness_days: Count | None = None
    """The longest time until a record must be to be had."""
    duties: Duties = Duties()


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


class CatalogueFile(Document, frozen=True):
    """`catalogue.yaml`."""

    catalogue: tuple[CatalogueEntry, ...]


DUTY_NAMES: Final = frozenset({*Duties.__struct_fields__, "retention"})
"""Every duty that a decision may lay down; `retention` comes from catalogue and dataset."""

DATA_FILES: Final[dict[str, type[Document]]] = {
    "catalogue": CatalogueFile,
    "identifiers": IdentifiersFile,
    "legal_bases": LegalBasesFile,
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
    catalogue: tuple[CatalogueEntry, ...]


def decode_documents(files: dict[str, object]) -> Documents:
    """Return the documents in `files` (file name without `.yaml` to its content as plain objects).

    Raise `BundleError` if a file is missing or surplus, or does not fit its type. What the files say of one
    another is for `gateway.policy.references`.
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
    return Documents(**content)  # type: ignore[arg-type]
