"""The log's rows as they travel to PostgreSQL: whole columns, in its own binary form for arrays.

One statement takes a batch of any size, and is planned once. The driver would turn each value of a
list by itself, in Python, while the head of the log is locked; a column is joined here before that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from struct import Struct
from typing import Any, Final

import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format

from gateway.audit.growth import microseconds
from gateway.audit.search import IndexRow
from gateway.audit.store import PendingEntry

_BYTEA, _BYTEA_ARRAY = 17, 1001
_TEXT, _TEXT_ARRAY = 25, 1009
_BIGINT, _BIGINT_ARRAY = 20, 1016
"""Type numbers of PostgreSQL (`pg_type.dat`); they never change."""

_HEADER: Final = Struct("!iiIii")
"""Dimensions, whether there are NULLs, element type, length, lower bound."""

INDEX_COLUMNS: Final = ", ".join(IndexRow._fields)

INSERT_ENTRIES: Final = (
    f"INSERT INTO entry (idx, hash, data, {INDEX_COLUMNS})"  # noqa: S608 - names of our own columns
    f" SELECT %s::bigint + n - 1, hash, data, {INDEX_COLUMNS}"
    f" FROM unnest(%s, %s{', %s' * len(IndexRow._fields)})"
    f" WITH ORDINALITY AS batch (hash, data, {INDEX_COLUMNS}, n)"
)
"""Parameters: the first index, then the columns."""

CLAIM_KEYS: Final = (
    "INSERT INTO once (key, until) SELECT * FROM unnest(%s, %s)"
    " ON CONFLICT (key) DO UPDATE SET until = excluded.until WHERE once.until <= %s RETURNING key"
)
"""Parameters: keys, until, now. Returns the keys that were free or expired."""


@dataclass(frozen=True, slots=True)
class _Column:
    """An array as PostgreSQL reads it (`array_send` in its sources)."""

    encoded: bytes


class _Bytes(_Column):
    """An array of bytea."""


class _Texts(_Column):
    """An array of text."""


class _Numbers(_Column):
    """An array of bigint."""


class _ColumnDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: _Column) -> bytes:
        return obj.encoded


class _BytesDumper(_ColumnDumper):
    oid = _BYTEA_ARRAY


class _TextsDumper(_ColumnDumper):
    oid = _TEXT_ARRAY


class _NumbersDumper(_ColumnDumper):
    oid = _BIGINT_ARRAY


def teach_columns(connection: psycopg.Connection[Any]) -> None:
    """Let the connection take columns as parameters."""
    connection.adapters.register_dumper(_Bytes, _BytesDumper)
    connection.adapters.register_dumper(_Texts, _TextsDumper)
    connection.adapters.register_dumper(_Numbers, _NumbersDumper)


def entry_columns(pending: Sequence[PendingEntry]) -> list[_Column]:
    """Return the columns that `INSERT_ENTRIES` takes."""
    texts = zip(*[item.row for item in pending], strict=True)
    return [
        bytes_column([item.leaf_hash for item in pending]),
        bytes_column([item.data for item in pending]),
        *(texts_column(values) for values in texts),
    ]


@dataclass(frozen=True, slots=True)
class Claims:
    """The once-keys of a batch, each asked for once, and who asks for it."""

    keys: list[bytes]
    untils: list[int]
    now: int
    """The time of the claim, in microseconds, as `untils` are."""
    waiting: dict[bytes, list[tuple[int, int]]]
    """Key to (position in the batch, until) of each entry that claims it, in order."""

    def parameters(self) -> tuple[object, ...]:
        """Return what `CLAIM_KEYS` takes."""
        return bytes_column(self.keys), _numbers_column(self.untils), self.now

    def refused(self, granted: Iterable[bytes]) -> frozenset[int]:
        """Return the positions of the entries whose key was taken, by an earlier append or in this batch."""
        free = set(granted)
        refused: set[int] = set()
        for key, claims in self.waiting.items():
            taken = key not in free
            for position, until in claims:
                if taken:
                    refused.add(position)
                else:
                    taken = until > self.now
        return frozenset(refused)


def gather_claims(pending: Sequence[PendingEntry], now: datetime) -> Claims | None:
    """Return the once-keys that the batch claims at `now`; None if it claims none."""
    at = microseconds(now)
    waiting: dict[bytes, list[tuple[int, int]]] = {}
    for position, item in enumerate(pending):
        if item.once is not None:
            waiting.setdefault(item.once.key, []).append((position, microseconds(item.once.until)))
    if not waiting:
        return None
    # As if one claim came after the other: the first that is still in force at `now` is the one kept.
    untils = [
        next((until for _, until in claims if until > at), claims[-1][1]) for claims in waiting.values()
    ]
    return Claims(list(waiting), untils, at, waiting)


def bytes_column(values: Sequence[bytes]) -> _Bytes:
    """Return an array of bytea."""
    return _Bytes(_encode(_BYTEA, values))


def texts_column(values: Sequence[str]) -> _Texts:
    """Return an array of text."""
    return _Texts(_encode(_TEXT, [value.encode() for value in values]))


def _numbers_column(values: Sequence[int]) -> _Numbers:
    return _Numbers(_encode(_BIGINT, [value.to_bytes(8, "big", signed=True) for value in values]))


def _encode(element: int, values: Sequence[bytes]) -> bytes:
    if not values:
        return _HEADER.pack(0, 0, element, 0, 1)[:12]
    parts = [_HEADER.pack(1, 0, element, len(values), 1)]
    for value in values:
        parts.append(len(value).to_bytes(4, "big"))
        parts.append(value)
    return b"".join(parts)
