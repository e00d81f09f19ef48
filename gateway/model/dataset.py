"""Datasets as the catalogue describes them."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from gateway.model.contract import Held


class FieldType(StrEnum):
    """Logical types (ODCS 3.1) that a field may have; values travel as their JSON form."""

    STRING = "string"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    DATE = "date"
    """`YYYY-MM-DD`."""


class Mask(msgspec.Struct, frozen=True, kw_only=True):
    """What a mask leaves of a text; both are numbers of characters."""

    keep_first: int
    keep_last: int


class Retention(msgspec.Struct, frozen=True, kw_only=True):
    """How long a record may be given out: `years` from the day in its date field `field`."""

    field: str
    years: int


class Freshness(msgspec.Struct, frozen=True, kw_only=True):
    """The provider's promise: a record is to be had `days` after the day in its date field `field`."""

    field: str
    days: int


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """One field of a dataset's records."""

    name: str
    type: FieldType
    tier: str
    """The sharing tier of this field (ODCS `classification`)."""
    title: str = ""
    required: bool = False
    """Whether every record must have it; otherwise it may be absent or null."""
    identifier: str | None = None
    """The identifier kind its values are of, such as `uscc`; None for plain values."""
    lookup: bool = False
    """Whether a query may name subjects or filter by it."""
    restriction: bool = False
    """Of a list: whether it tells the class of restriction that being on the list brings."""
    generalise: str | None = None
    """How it can be coarsened: `year`, `month`, `decade`, `province`, `band:N`; None if it cannot."""
    mask: Mask | None = None
    """How it can be masked; None if it cannot."""
    link: str | None = None
    """The name of the link to another subject that its value reveals, such as `company-representative`."""


class Dataset(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A dataset: who holds it, what its records look like, how far each field may travel."""

    name: str
    """`members/{member}/datasets/{dataset}`."""
    provider: str
    """The id of the member that holds it."""
    owner: str = ""
    """The id of the member that a dataset of class `score` is made for; empty: the provider."""
    title: str
    description: str = ""
    version: str
    tier: str
    """The lowest tier at which the dataset may be asked for at all."""
    dataset_class: str = "record"
    """`record`, `list` or `score`; policy gives a `score` to its owner alone, and never for enforcement."""
    citation: str = ""
    """The catalogue entry that allows the records to exist, as the policy's catalogue cites it."""
    retention: Retention | None = None
    freshness: Freshness | None = None
    cohort: int = 0
    """The fewest records that may be told about where no subject is named; 0: no such limit."""
    corrections: tuple[str, ...] = ()
    """The fields that name a record, if it is remembered who received which record, so that corrections
    reach them; empty if it is not."""
    needs_contract: bool = False
    """Whether its records are given under a contract in force only."""
    held: Held = Held.PROVIDER
    """Where its records are."""
    fields: dict[str, Field]
    """By field name, in the order of the description."""
