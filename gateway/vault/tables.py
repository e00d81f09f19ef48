"""The tables of the vault, the same in SQLite and in PostgreSQL, and what a row of them says.

holding   a dataset under a contract: its newest version, and whether its keys were destroyed
key       the data keys of a holding, wrapped
batch     an upload or a withdrawal; staged until it has a version
run       the records that one call staged: what tokens are sorted by, so that staging only ever appends
page      some records of a run, sealed
token     look-up tokens of a run's records          keyed   key tokens of a run's records
live      the place of the newest record of each key  dead    places whose record was replaced or withdrawn

A *place* is a record's: number of the page, times 65,536, plus the position within the page.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import msgspec

PLACES: Final = 65_536
"""Places of one page."""

COLUMNS: Final[dict[str, tuple[str, ...]]] = {
    "vault_holding": ("number", "contract", "dataset", "version", "alive", "retention", "destroyed", "time"),
    "vault_key": ("holding", "number", "kek", "wrapped", "made"),
    "vault_batch": (
        *("number", "holding", "name", "identity", "key", "layout", "records", "pages", "resume", "evidence"),
        *("touched", "version", "bound", "discarded"),
    ),
    "vault_run": ("number", "batch", "first", "digests"),
    "vault_page": ("number", "run", "batch", "place", "records", "content"),
    "vault_token": ("run", "token", "place"),
    "vault_keyed": ("run", "token", "place"),
    "vault_live": ("holding", "token", "place"),
    "vault_dead": ("place", "holding", "version"),
}
"""The tables in the order in which their rows refer to each other, with their columns."""


@dataclass(frozen=True, slots=True)
class Holding:
    """A dataset under a contract, as the vault holds it."""

    number: int
    contract: str
    """The contract's name."""
    dataset: str
    version: int
    """The newest; 0 while nothing was committed."""
    alive: int
    """Records of the newest version."""
    retention: str
    """`FIELD:YEARS` as the newest contract says; empty: for as long as the contract."""
    destroyed: int | None
    """Index of the entry that says that the keys were destroyed."""
    time: str
    """When they were; empty: they were not."""


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A data key as it is kept."""

    number: int
    """From 1 within its holding."""
    kek: str
    """Id of the key-encryption key it is wrapped under."""
    wrapped: bytes


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """By what the records of a batch are found."""

    lookup: tuple[str, ...] = ()
    """Fields whose values have tokens."""
    key: tuple[str, ...] = ()
    """The fields that name a record; empty: none does, and no record replaces another."""


@dataclass(frozen=True, slots=True)
class Batch:
    """An upload, or a withdrawal, in one holding."""

    number: int
    holding: int
    name: str
    identity: str
    """`sha256:<hex>` of the version of the contract under which it came."""
    key: int
    """Number of the data key it is sealed under."""
    layout: Layout
    records: int
    pages: int
    resume: bytes
    """What the uploader asked to keep with the last records staged."""
    evidence: bytes
    """The contributor's signature over the batch, as it came."""
    version: int | None
    """None while it is staged."""
    bound: bytes


BATCH_COLUMNS: Final = (
    "batch.number, batch.holding, name, identity, batch.key, layout, batch.records, batch.pages, resume,"
    " evidence, batch.version, bound"
)


def read_holding(row: tuple[Any, ...]) -> Holding:
    """Return the holding that a row tells of."""
    return Holding(*row)


def read_batch(row: tuple[Any, ...]) -> Batch:
    """Return the batch that a row of `BATCH_COLUMNS` tells of."""
    number, holding, name, identity, key, layout, *rest = row
    return Batch(number, holding, name, identity, key, read_layout(layout), *rest)


@lru_cache(maxsize=256)
def read_layout(text: str) -> Layout:
    """Return the layout that stands in a row."""
    return msgspec.json.decode(text, type=Layout)


def write_layout(layout: Layout) -> str:
    """Return the layout as it stands in a row."""
    return msgspec.json.encode(layout).decode()
