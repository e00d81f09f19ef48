"""Reading a version of a dataset: page by page, or the records that a look-up finds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.vault.engine import Engine, Session
from gateway.vault.errors import RecordsDestroyedError
from gateway.vault.keys import DataKeys
from gateway.vault.sealing import Place, lookup_token, unseal, verify_batch
from gateway.vault.tables import (
    BATCH_COLUMNS,
    PLACES,
    Batch,
    Holding,
    WrappedKey,
    read_batch,
    read_holding,
    read_layout,
)
from gateway.vault.writer import batch_facts

_PAGES_AT_ONCE: Final = 500
_PLACES_AT_ONCE: Final = 1000


@dataclass(frozen=True, slots=True)
class OpenPage:
    """A page in clear."""

    number: int
    place: int
    """Its number within the batch."""
    records: int
    """How many it has; fewer than `lines` where some were purged."""
    batch: Batch
    lines: list[bytes]
    """By position; empty where a record was purged."""


@dataclass(frozen=True, slots=True)
class Found:
    """Where a look-up found something."""

    run: int
    place: int


class VaultReader:
    """Reads the vault. Safe from any thread; every method blocks, and raises `VaultUnavailableError`.

    Keys are unwrapped anew for each page: a key destroyed by another process is gone at once.
    """

    def __init__(self, engine: Engine, keys: DataKeys) -> None:
        self._engine = engine
        self._keys = keys

    def newest(self, holding: Holding) -> Holding:
        """Return the holding as it is now; raise `RecordsDestroyedError` if nobody can read it any more."""
        with self._engine.reading() as session:
            row = session.rows(
                "SELECT number, contract, dataset, version, alive, retention, destroyed, time"
                " FROM vault_holding WHERE number = :holding",
                {"holding": holding.number},
            )[0]
        found = read_holding(row)
        if found.destroyed is not None:
            raise RecordsDestroyedError(
                "The records of this dataset cannot be read any more: their keys were destroyed."
            )
        return found

    def pages(self, holding: Holding, version: int, after: int = 0) -> Iterator[int]:
        """Yield the numbers of the pages that have records in a version, behind page `after`, in order."""
        values = {"holding": holding.number, "version": version, "limit": _PAGES_AT_ONCE}
        while True:
            with self._engine.reading() as session:
                rows = session.rows(
                    "SELECT page.number, page.records FROM vault_batch AS batch"
                    " JOIN vault_page AS page ON page.batch = batch.number"
                    " WHERE batch.holding = :holding AND batch.version <= :version AND page.number > :after"
                    " ORDER BY page.number LIMIT :limit",
                    {**values, "after": after},
                )
                if not rows:
                    return
                dead = _dead_by_page(session, rows[0][0], rows[-1][0], version)
            yield from (number for number, records in rows if records > dead.get(number, 0))
            after = rows[-1][0]

    def open_page(self, holding: Holding, number: int) -> OpenPage | None:
        """Return a page in clear; None if a purge has removed it."""
        with self._engine.reading() as session:
            rows = session.rows(
                f"SELECT page.place, page.records, page.content, {BATCH_COLUMNS} FROM vault_page AS page"  # noqa: S608
                " JOIN vault_batch AS batch ON batch.number = page.batch"
                " WHERE page.number = :page AND batch.holding = :holding",
                {"page": number, "holding": holding.number},
            )
            wrapped = _wrapped(session, holding)
        keys = self._keys.unwrap(wrapped)
        if not rows:
            return None
        at, records, content, *row = rows[0]
        batch = read_batch(tuple(row))
        place = Place(holding.contract, holding.dataset, batch.name)
        if batch.version is not None:
            verify_batch(keys.index, place, batch_facts(batch, batch.version), batch.bound)
        lines = unseal(keys.key(batch.key), content, place, "page", at).split(b"\n")
        return OpenPage(number, at, records, batch, lines)

    def all_pages(self, holding: Holding) -> Iterator[int]:
        """Yield the numbers of the pages of every version, in order."""
        after = 0
        while True:
            with self._engine.reading() as session:
                rows = session.rows(
                    "SELECT page.number FROM vault_batch AS batch JOIN vault_page AS page"
                    " ON page.batch = batch.number WHERE batch.holding = :holding"
                    " AND batch.version IS NOT NULL AND page.number > :after"
                    " ORDER BY page.number LIMIT :limit",
                    {"holding": holding.number, "after": after, "limit": _PAGES_AT_ONCE},
                )
            yield from (number for (number,) in rows)
            if len(rows) < _PAGES_AT_ONCE:
                return
            after = rows[-1][0]

    def identity(self, holding: Holding) -> str:
        """Return the identity of the contract under which the newest version came; empty without one."""
        with self._engine.reading() as session:
            rows = session.rows(
                "SELECT identity FROM vault_batch WHERE holding = :holding AND version IS NOT NULL"
                " ORDER BY version DESC LIMIT 1",
                {"holding": holding.number},
            )
        return str(rows[0][0]) if rows else ""

    def alive(self, page: int, positions: Sequence[int], version: int) -> list[int]:
        """Return those of the positions whose records were not replaced or withdrawn by `version`."""
        with self._engine.reading() as session:
            rows = session.rows(
                "SELECT place FROM vault_dead WHERE place BETWEEN :first AND :last AND version <= :version",
                {"first": page * PLACES, "last": page * PLACES + PLACES - 1, "version": version},
            )
        dead = {place % PLACES for (place,) in rows}
        return [position for position in positions if position not in dead] if dead else list(positions)

    def places(self, holding: Holding, version: int, field: str, text: str, after: Found) -> Iterator[Found]:
        """Yield where records may have this value, as its text, in order; who reads them compares."""
        with self._engine.reading() as session:
            wrapped = _wrapped(session, holding)
        token = lookup_token(self._keys.unwrap(wrapped).index, field, text)
        values = {"holding": holding.number, "version": version, "token": token, "limit": _PLACES_AT_ONCE}
        while True:
            with self._engine.reading() as session:
                rows = session.rows(
                    "SELECT run.number, found.place FROM vault_batch AS batch"
                    " JOIN vault_run AS run ON run.batch = batch.number"
                    " JOIN vault_token AS found ON found.run = run.number AND found.token = :token"
                    " WHERE batch.holding = :holding AND batch.version <= :version"
                    " AND (run.number > :run OR (run.number = :run AND found.place > :place))"
                    " ORDER BY run.number, found.place LIMIT :limit",
                    {**values, "run": after.run, "place": after.place},
                )
            for row in rows:
                after = Found(*row)
                yield after
            if len(rows) < _PLACES_AT_ONCE:
                return

    def is_indexed(self, holding: Holding, version: int, field: str) -> bool:
        """Whether every batch up to a version has tokens for this field."""
        with self._engine.reading() as session:
            rows = session.rows(
                "SELECT DISTINCT layout FROM vault_batch WHERE holding = :holding AND version <= :version"
                " AND records > 0",
                {"holding": holding.number, "version": version},
            )
        return all(field in read_layout(layout).lookup for (layout,) in rows)

    def evidence(self, holding: Holding) -> list[tuple[int, str, bytes]]:
        """Return (version, batch, evidence) of each version that came with evidence, oldest first."""
        with self._engine.reading() as session:
            rows = session.rows(
                "SELECT version, name, evidence FROM vault_batch WHERE holding = :holding"
                " AND version IS NOT NULL AND length(evidence) > 0 ORDER BY version",
                {"holding": holding.number},
            )
        return [(int(version), str(name), bytes(evidence)) for version, name, evidence in rows]

    def digests(self, holding: Holding, batch: Batch) -> Iterator[bytes]:
        """Yield what was staged as digests with each piece of a batch, in order, joined."""
        with self._engine.reading() as session:
            runs = session.rows(
                "SELECT number FROM vault_run WHERE batch = :batch ORDER BY number", {"batch": batch.number}
            )
            keys = self._keys.unwrap(_wrapped(session, holding))
        place = Place(holding.contract, holding.dataset, batch.name)
        for (run,) in runs:
            with self._engine.reading() as session:
                ((first, sealed),) = session.rows(
                    "SELECT first, digests FROM vault_run WHERE number = :run", {"run": run}
                )
            yield unseal(keys.key(batch.key), sealed, place, "digests", first)


def _wrapped(session: Session, holding: Holding) -> list[WrappedKey]:
    rows = session.rows(
        "SELECT number, kek, wrapped FROM vault_key WHERE holding = :holding ORDER BY number",
        {"holding": holding.number},
    )
    return [WrappedKey(*row) for row in rows]


def _dead_by_page(session: Session, first: int, last: int, version: int) -> dict[int, int]:
    counts: dict[int, int] = defaultdict(int)
    for page, count in session.rows(
        f"SELECT place / {PLACES}, count(*) FROM vault_dead"  # noqa: S608 - our number
        " WHERE place BETWEEN :first AND :last AND version <= :version GROUP BY 1",
        {"first": first * PLACES, "last": last * PLACES + PLACES - 1, "version": version},
    ):
        counts[page] += count
    return counts
