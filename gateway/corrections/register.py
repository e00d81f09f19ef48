"""The register of recipients: which member got which record, by tokens, a row for each page released."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from struct import Struct
from typing import Any, Final

from gateway.clock import rfc3339
from gateway.corrections.database import Statements, Tables
from gateway.corrections.tokens import TOKEN_BYTES

FEW: Final = 8
"""Up to so many tokens the database itself looks for them; more are found in pages read."""
FORGET_AT_ONCE: Final = 2000
"""Rows that one transaction deletes, so that nobody waits long for the lock."""

BIT: Final = "bit"
"""The form of an answer of one bit: it names no record."""

_COLUMNS: Final = "exchange, page, consumer, provider, dataset, purpose, key_epoch, form, time"
_ADD: Final = (
    f"INSERT INTO recipient ({_COLUMNS}, records, tokens) VALUES (:exchange, :page, :consumer, :provider,"  # noqa: S608
    " :dataset, :purpose, :key_epoch, :form, :time, :records, :tokens)"
)
_OF_ONE: Final = (
    f"SELECT {_COLUMNS}, tokens FROM recipient WHERE records = 1 AND dataset = :dataset AND tokens = :token"  # noqa: S608
)
_OF_MANY: Final = f"SELECT {_COLUMNS}, tokens FROM recipient WHERE records > 1 AND dataset = :dataset"  # noqa: S608
_FORGET: Final = (
    "DELETE FROM recipient WHERE id IN"
    " (SELECT id FROM recipient WHERE time < :before ORDER BY time LIMIT :limit) RETURNING id"
)


@dataclass(frozen=True, slots=True)
class ReceivedPage:
    """A page that was released, or was about to be when the gateway crashed."""

    exchange: str
    page: int
    """Its number in the exchange, from 0."""
    consumer: str
    provider: str
    dataset: str
    purpose: str
    key_epoch: str
    """The epoch of its pseudonyms; empty if it has none."""
    form: str
    """How the recipient got each key field (a treatment), with commas between; `bit` for an answer of one."""
    time: str
    """RFC 3339 in UTC with microseconds."""


@dataclass(frozen=True, slots=True)
class NamedPage:
    """A page, and the records in it that were looked for."""

    page: ReceivedPage
    tokens: frozenset[bytes]


class Register:
    """Keeps and searches the rows. Each method is one transaction or a few, and blocks.

    All raise `CorrectionsUnavailableError`.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def add(self, pages: Sequence[tuple[ReceivedPage, bytes]]) -> None:
        """Keep pages with the tokens of their records; durable when this returns."""
        rows = [
            {
                **{name: getattr(page, name) for name in ReceivedPage.__slots__},
                "records": len(tokens) // TOKEN_BYTES,
                "tokens": tokens,
            }
            for page, tokens in pages
        ]
        with self._tables.transaction() as statements:
            statements.execute_many(_ADD, rows)

    def holding(self, dataset: str, tokens: AbstractSet[bytes]) -> list[NamedPage]:
        """Return the pages of `dataset` that hold one of `tokens`."""
        wanted = frozenset(tokens)
        with self._tables.reading() as statements:
            found = [
                _page(row)
                for token in wanted
                for row in statements.execute(_OF_ONE, {"dataset": dataset, "token": token})
            ]
            found += _in_pages(statements, dataset, wanted)
        return found

    def forget(self, before: datetime) -> int:
        """Delete the rows of pages released before a moment; return how many there were."""
        gone = 0
        while True:
            with self._tables.transaction() as statements:
                rows = len(statements.execute(_FORGET, {"before": rfc3339(before), "limit": FORGET_AT_ONCE}))
            gone += rows
            if rows < FORGET_AT_ONCE:
                return gone


def _in_pages(statements: Statements, dataset: str, wanted: frozenset[bytes]) -> Iterator[NamedPage]:
    values: dict[str, Any] = {"dataset": dataset}
    statement = _OF_MANY
    if len(wanted) <= FEW:
        names = {f"token_{'abcdefgh'[at]}": token for at, token in enumerate(wanted)}
        values |= names
        statement += " AND (" + " OR ".join(statements.contains("tokens", name) for name in names) + ")"
    for row in statements.iterate(statement, values):
        text: bytes = row[-1]
        if len(wanted) <= FEW and not any(token in text for token in wanted):
            continue
        # Bytes that were found may lie across two tokens.
        there = wanted.intersection(_split(len(text) // TOKEN_BYTES).unpack(text))
        if there:
            yield NamedPage(ReceivedPage(*row[:-1]), there)


@lru_cache(maxsize=256)
def _split(count: int) -> Struct:
    """Return what takes `count` tokens apart: a third of the time that slices take."""
    return Struct(f"{TOKEN_BYTES}s" * count)


def _page(row: tuple[Any, ...]) -> NamedPage:
    return NamedPage(ReceivedPage(*row[:-1]), frozenset({row[-1]}))
