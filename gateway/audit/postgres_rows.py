"""The log's statements and rows as they travel to PostgreSQL: whole columns, in its own binary form.

One statement takes a batch of any size, and is planned once. Most columns of a batch are encoded
before the head of the log is locked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from gateway.audit.blocks import COLUMNS
from gateway.audit.numbering import Pair
from gateway.audit.store import PendingEntry
from gateway.audit.transaction import microseconds
from gateway.database.roundtrip import BIGINT, BYTEA, TEXT, Statement, to_array, to_bigint
from gateway.database.session import DURABILITY

FOLLOWED_AT_ONCE: Final = 5000
"""Entries by other nodes that are followed one by one; beyond, the head is verified from the tiles."""

PRUNED_AT_ONCE: Final = 10_000
"""Expired once-keys that go in one transaction: more than come in a second, and a few milliseconds."""

INDEX_COLUMNS: Final = ", ".join(COLUMNS)
_PLACES: Final = ", ".join(f"${at}" for at in range(2, 4 + len(COLUMNS)))

LOCK_HEAD: Final = Statement(
    "lock_head",
    (),
    f"SELECT size, frontier, note, {DURABILITY} FROM head FOR UPDATE",  # noqa: S608 - our own columns
)
ADDED_SINCE: Final = Statement(
    "added_since",
    ("bigint",),
    f"SELECT hash, kind FROM entry WHERE idx >= $1 ORDER BY idx LIMIT {FOLLOWED_AT_ONCE}",  # noqa: S608
)
CLAIM_KEYS: Final = Statement(
    "claim_keys",
    ("bytea[]", "bigint[]", "bigint"),
    "INSERT INTO once (key, until) SELECT * FROM unnest($1, $2)"
    " ON CONFLICT (key) DO UPDATE SET until = excluded.until WHERE once.until <= $3 RETURNING key",
)
"""Takes keys, until, now; returns the keys that were free or expired."""
PRUNE_KEYS: Final = Statement(
    "prune_keys",
    ("bigint",),
    "DELETE FROM once WHERE ctid = ANY(ARRAY(SELECT ctid FROM once WHERE until <= $1"  # noqa: S608
    f" ORDER BY until LIMIT {PRUNED_AT_ONCE}))",
)
INSERT_ENTRIES: Final = Statement(
    "insert_entries",
    ("bigint", "bytea[]", "bytea[]", *["text[]"] * len(COLUMNS)),
    f"INSERT INTO entry (idx, hash, data, {INDEX_COLUMNS})"  # noqa: S608
    f" SELECT $1 + n - 1, hash, data, {INDEX_COLUMNS}"
    f" FROM unnest({_PLACES}) WITH ORDINALITY AS batch (hash, data, {INDEX_COLUMNS}, n)",
)
"""Takes the first index, then the columns of the leaves and of the index."""
LAST_NUMBERS: Final = Statement(
    "last_numbers",
    ("text[]", "text[]"),
    "SELECT consumer, provider, last FROM pair WHERE (consumer, provider) IN (SELECT * FROM unnest($1, $2))",
)
"""Takes consumers and providers; returns the last number of each pair that has one."""
KEEP_NUMBERS: Final = Statement(
    "keep_numbers",
    ("text[]", "text[]", "bigint[]"),
    "INSERT INTO pair (consumer, provider, last) SELECT * FROM unnest($1, $2, $3)"
    " ON CONFLICT (consumer, provider) DO UPDATE SET last = excluded.last",
)
MOVE_HEAD: Final = Statement(
    "move_head",
    ("bigint", "bytea", "text", "bigint"),
    "UPDATE head SET size = $1, frontier = $2, note = $3 WHERE size = $4",
)
PROBE: Final = Statement("probe", (), "UPDATE probe SET count = count + 1")

STATEMENTS: Final = (
    LOCK_HEAD,
    ADDED_SINCE,
    CLAIM_KEYS,
    PRUNE_KEYS,
    INSERT_ENTRIES,
    LAST_NUMBERS,
    KEEP_NUMBERS,
    MOVE_HEAD,
    PROBE,
)


def leaf_columns(pending: Sequence[PendingEntry]) -> list[bytes]:
    """Return the columns of `INSERT_ENTRIES` that stand only once every number is given."""
    return [
        to_array(BYTEA, [item.leaf_hash for item in pending]),
        to_array(BYTEA, [item.data for item in pending]),
    ]


def index_columns(pending: Sequence[PendingEntry]) -> list[bytes]:
    """Return the columns that `INSERT_ENTRIES` takes after those of the leaves."""
    columns = list(zip(*[item.row for item in pending], strict=True))[: len(COLUMNS)]
    return [to_array(TEXT, [value.encode() for value in column]) for column in columns]


def pair_columns(pairs: Collection[Pair]) -> list[bytes]:
    """Return the columns that `LAST_NUMBERS` takes, and `KEEP_NUMBERS` first."""
    return [to_array(TEXT, [one.encode() for one in column]) for column in zip(*pairs, strict=True)]


def number_columns(given: Mapping[Pair, int]) -> list[bytes]:
    """Return the columns that `KEEP_NUMBERS` takes."""
    return [*pair_columns(given), to_array(BIGINT, [to_bigint(number) for number in given.values()])]


@dataclass(frozen=True, slots=True)
class Claims:
    """The once-keys of a batch, each asked for once, and who asks for it."""

    keys: list[bytes]
    untils: list[int]
    now: int
    """The time of the claim, in microseconds, as `untils` are."""
    waiting: dict[bytes, list[tuple[int, int]]]
    """Key to (position in the batch, until) of each entry that claims it, in order."""

    def values(self) -> tuple[bytes, bytes, bytes]:
        """Return what `CLAIM_KEYS` takes."""
        return (
            to_array(BYTEA, self.keys),
            to_array(BIGINT, [to_bigint(until) for until in self.untils]),
            to_bigint(self.now),
        )

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
