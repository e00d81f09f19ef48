"""What is written into the vault: keys, staged pages, versions. Nothing here sees anything in clear."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol, TypeVar

from gateway.vault.engine import Engine, Session
from gateway.vault.errors import BatchError, RecordsDestroyedError, VaultUnavailableError
from gateway.vault.tables import (
    BATCH_COLUMNS,
    PLACES,
    Batch,
    Holding,
    Layout,
    WrappedKey,
    read_batch,
    read_holding,
    write_layout,
)

_HOLDING: Final = (
    "SELECT number, contract, dataset, version, alive, retention, destroyed, time FROM vault_holding"
)
_OF_BATCH: Final = (
    "FROM vault_keyed AS keyed JOIN vault_run AS run ON run.number = keyed.run WHERE run.batch = :batch"
)

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class SealedPage:
    """A page on its way into the vault."""

    records: int
    content: bytes
    tokens: tuple[tuple[int, int], ...]
    """Look-up tokens, each with the position of its record within the page."""
    keyed: tuple[tuple[bytes, int], ...]
    """Key tokens, likewise."""


@dataclass(frozen=True, slots=True)
class Purged:
    """A record that goes from a page: its place, and the tokens that led there."""

    place: int
    tokens: tuple[int, ...]
    keyed: bytes | None


class Bind(Protocol):
    """Returns what binds the facts about a batch that becomes a version."""

    def __call__(self, version: int) -> bytes:
        """Return it for `version`."""
        ...


class VaultStore:
    """Writes the vault. Safe from any thread; each method is one durable transaction and blocks.

    All raise `VaultUnavailableError`, having changed nothing.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine: Final = engine

    def close(self) -> None:
        """Release everything. May be called twice."""
        self.engine.close()

    # -- holdings and their keys -----------------------------------------------------------------

    def holdings(self) -> list[Holding]:
        """Return all holdings, destroyed ones too, by contract and dataset."""
        with self.engine.reading() as session:
            return [read_holding(row) for row in session.rows(f"{_HOLDING} ORDER BY contract, dataset", {})]

    def holding(self, contract: str, dataset: str) -> Holding | None:
        """Return the holding of a dataset under the contract of this name; None if there is none."""
        with self.engine.reading() as session:
            return _holding(session, contract, dataset)

    def add_holding(
        self, contract: str, dataset: str, retention: str, first_key: WrappedKey, time: str
    ) -> Holding:
        """Return the holding, made with its first key if there is none; its retention is the one given."""
        with self.engine.writing() as session:
            session.change(
                "INSERT INTO vault_holding (contract, dataset, version, alive, retention, time)"
                " VALUES (:contract, :dataset, 0, 0, :retention, '')"
                " ON CONFLICT (contract, dataset) DO UPDATE SET retention = excluded.retention",
                {"contract": contract, "dataset": dataset, "retention": retention},
            )
            holding = _present(_holding(session, contract, dataset))
            if holding.destroyed is None and not _keys(session, holding.number):
                _add_key(session, holding.number, first_key, time)
        return holding

    def keys(self, holding: int) -> list[WrappedKey]:
        """Return the data keys of a holding, oldest first; none if they were destroyed."""
        with self.engine.reading() as session:
            return _keys(session, holding)

    def add_key(self, holding: int, make: Callable[[int], WrappedKey], time: str) -> int:
        """Add the data key that `make` returns for its number; new batches are sealed under it."""
        with self.engine.writing() as session:
            keys = _keys(session, holding)
            if not keys:
                raise _destroyed()
            number = keys[-1].number + 1
            _add_key(session, holding, make(number), time)
        return number

    def rewrap(self, rewrap: Callable[[WrappedKey], WrappedKey]) -> int:
        """Replace every data key's wrapping; return how many changed. All or none."""
        changed = 0
        with self.engine.writing() as session:
            for holding, *row in session.rows("SELECT holding, number, kek, wrapped FROM vault_key", {}):
                old = WrappedKey(*row)
                new = rewrap(old)
                if new == old:
                    continue
                changed += session.change(
                    "UPDATE vault_key SET kek = :kek, wrapped = :wrapped"
                    " WHERE holding = :holding AND number = :number",
                    {"kek": new.kek, "wrapped": new.wrapped, "holding": holding, "number": new.number},
                )
        return changed

    def destroy_keys(self, contract: str, record: Callable[[Holding], int], time: str) -> list[Holding]:
        """Destroy the data keys of every holding of a contract, each once `record` has told the log.

        Each is overwritten, then deleted; call `Engine.scrub` afterwards, for what is left of them
        elsewhere, and `sweep`, for the pages that nobody can read any more. Returns the holdings.
        """
        destroyed = []
        for known in self.holdings():
            if known.contract != contract:
                continue
            with self.engine.writing() as session:
                # An update takes the row's lock: one node destroys, and one entry says so.
                session.change(
                    "UPDATE vault_holding SET version = version WHERE number = :holding",
                    {"holding": known.number},
                )
                holding = _present(_holding(session, contract, known.dataset))
                if holding.destroyed is not None:
                    continue
                entry = record(holding)
                for key in _keys(session, holding.number):
                    session.change(
                        "UPDATE vault_key SET wrapped = :noise WHERE holding = :holding AND number = :number",
                        {
                            "noise": os.urandom(len(key.wrapped)),
                            "holding": holding.number,
                            "number": key.number,
                        },
                    )
                session.change("DELETE FROM vault_key WHERE holding = :holding", {"holding": holding.number})
                session.change(
                    "UPDATE vault_holding SET destroyed = :entry, time = :time, alive = 0"
                    " WHERE number = :holding",
                    {"entry": entry, "time": time, "holding": holding.number},
                )
                session.change(
                    "UPDATE vault_batch SET discarded = 1 WHERE holding = :holding",
                    {"holding": holding.number},
                )
            destroyed.append(holding)
        return destroyed

    # -- batches ---------------------------------------------------------------------------------

    def batch(self, holding: int, name: str) -> Batch | None:
        """Return the batch of this name, staged or committed; None if there is none."""
        with self.engine.reading() as session:
            return _batch(session, holding, name)

    def open_batch(
        self, holding: Holding, name: str, identity: str, key: int, layout: Layout, time: str
    ) -> Batch:
        """Return the batch of this name, begun if there is none."""
        with self.engine.writing() as session:
            if holding.destroyed is not None or not _keys(session, holding.number):
                raise _destroyed()
            session.change(
                "INSERT INTO vault_batch (holding, name, identity, key, layout, records, pages, resume,"
                " evidence, touched, bound, discarded) VALUES (:holding, :name, :identity, :key, :layout, 0,"
                " 0, :nothing, :nothing, :time, :nothing, 0) ON CONFLICT (holding, name) DO NOTHING",
                {
                    "holding": holding.number,
                    "name": name,
                    "identity": identity,
                    "key": key,
                    "layout": write_layout(layout),
                    "nothing": b"",
                    "time": time,
                },
            )
            return _present(_batch(session, holding.number, name))

    def stage(
        self, batch: Batch, pages: Sequence[SealedPage], digests: bytes, resume: bytes, time: str
    ) -> Batch:
        """Add pages to a staged batch; when this returns they are durable, and still invisible.

        Raises `BatchError` if the batch is not as `batch` says: another upload of it goes on, or it ended.
        """
        records = batch.records + sum(page.records for page in pages)
        with self.engine.writing() as session:
            changed = session.change(
                "UPDATE vault_batch SET records = :records, pages = :pages, resume = :resume, touched = :time"
                " WHERE number = :batch AND records = :before AND pages = :pages_before"
                " AND version IS NULL AND discarded = 0",
                {
                    "records": records,
                    "pages": batch.pages + len(pages),
                    "resume": resume,
                    "time": time,
                    "batch": batch.number,
                    "before": batch.records,
                    "pages_before": batch.pages,
                },
            )
            if changed != 1:
                raise _closed()
            _add_pages(session, batch, pages, digests)
        return replace(batch, records=records, pages=batch.pages + len(pages), resume=resume)

    def commit(self, batch: Batch, evidence: bytes, bind: Bind, time: str) -> int:
        """Make a staged batch the newest version of its holding, all of it at once; return the version."""
        at = {"batch": batch.number, "holding": batch.holding}
        with self.engine.writing() as session:
            version = _next_version(session, batch.holding)
            facts = {**at, "version": version}
            changed = session.change(
                "UPDATE vault_batch SET version = :version, bound = :bound, evidence = :evidence,"
                " touched = :time WHERE number = :batch AND records = :records AND pages = :pages"
                " AND version IS NULL AND discarded = 0",
                {
                    **facts,
                    "bound": bind(version),
                    "evidence": evidence,
                    "time": time,
                    "records": batch.records,
                    "pages": batch.pages,
                },
            )
            del facts["batch"]
            if changed != 1:
                raise _closed()
            # Of records with one key the last counts; of those before this batch, none.
            dead = session.change(
                "INSERT INTO vault_dead (place, holding, version) SELECT place, :holding, :version FROM"  # noqa: S608
                " (SELECT place, row_number() OVER (PARTITION BY token ORDER BY place DESC) AS rank"
                f" {_OF_BATCH}) AS ranked WHERE rank > 1",
                {**facts, "batch": batch.number},
            )
            dead += session.change(
                "INSERT INTO vault_dead (place, holding, version)"  # noqa: S608
                " SELECT live.place, :holding, :version"
                f" FROM (SELECT DISTINCT token {_OF_BATCH}) AS added"
                " JOIN vault_live AS live ON live.holding = :holding AND live.token = added.token",
                {**facts, "batch": batch.number},
            )
            session.change(
                "INSERT INTO vault_live (holding, token, place) SELECT :holding, token, max(place)"
                f" {_OF_BATCH} GROUP BY token"
                " ON CONFLICT (holding, token) DO UPDATE SET place = excluded.place",
                at,
            )
            session.change(
                "UPDATE vault_holding SET version = :version, alive = alive + :added WHERE number = :holding",
                {**facts, "added": batch.records - dead},
            )
        return version

    def withdraw(
        self, holding: int, tokens: Sequence[bytes], name: str, identity: str, bind: Bind, time: str
    ) -> tuple[int, int]:
        """Make a version without the records of these key tokens; return it, and how many went.

        If there is none of them, the newest version stays as it is.
        """
        with self.engine.writing() as session:
            version = _next_version(session, holding)
            gone = 0
            for token in tokens:
                values = {"holding": holding, "token": token}
                gone += session.change(
                    "INSERT INTO vault_dead (place, holding, version) SELECT place, holding, :version"
                    " FROM vault_live WHERE holding = :holding AND token = :token",
                    {**values, "version": version},
                )
                session.change("DELETE FROM vault_live WHERE holding = :holding AND token = :token", values)
            if not gone:
                return version - 1, 0
            session.change(
                "INSERT INTO vault_batch (holding, name, identity, key, layout, records, pages, resume,"
                " evidence, touched, version, bound, discarded) VALUES (:holding, :name, :identity, 1,"
                " :layout, 0, 0, :nothing, :nothing, :time, :version, :bound, 0)",
                {
                    "holding": holding,
                    "name": f"{name}/{version}",
                    "identity": identity,
                    "layout": write_layout(Layout()),
                    "nothing": b"",
                    "time": time,
                    "version": version,
                    "bound": bind(version),
                },
            )
            session.change(
                "UPDATE vault_holding SET version = :version, alive = alive - :gone WHERE number = :holding",
                {"version": version, "gone": gone, "holding": holding},
            )
        return version, gone

    def discard(self, batch: Batch) -> bool:
        """Let a staged batch go; return whether it was there. Its pages go with the next `sweep`."""
        with self.engine.writing() as session:
            # Its name is free again at once.
            return (
                session.change(
                    "UPDATE vault_batch SET discarded = 1, name = :name WHERE number = :batch"
                    " AND version IS NULL AND discarded = 0",
                    {"name": f"{batch.name}/discarded/{batch.number}", "batch": batch.number},
                )
                == 1
            )

    def staged(self) -> list[tuple[Holding, Batch, str]]:
        """Return the batches that are neither committed nor discarded, and when each was last added to."""
        with self.engine.reading() as session:
            holdings = {row[0]: read_holding(row) for row in session.rows(_HOLDING, {})}
            rows = session.rows(
                f"SELECT touched, {BATCH_COLUMNS} FROM vault_batch AS batch"  # noqa: S608
                " WHERE batch.version IS NULL AND discarded = 0 ORDER BY touched, batch.number",
                {},
            )
        found = [(read_batch(tuple(row)), touched) for touched, *row in rows]
        return [(holdings[batch.holding], batch, touched) for batch, touched in found]

    # -- removing --------------------------------------------------------------------------------

    def rewrite(self, holding: int, page: int, records: int, content: bytes, gone: Sequence[Purged]) -> bool:
        """Replace a page of so many records by one without those that go, and remove what led to them.

        Returns whether it was done: not if somebody else did meanwhile.
        """
        places = [record.place for record in gone]
        if any(place // PLACES != page for place in places):
            raise ValueError("a record that goes is not in the page")
        with self.engine.writing() as session:
            changed = session.change(
                "UPDATE vault_page SET content = :content, records = records - :gone"
                " WHERE number = :page AND records = :records",
                {"content": content, "gone": len(gone), "page": page, "records": records},
            )
            if not changed:
                return False
            ((run,),) = session.rows("SELECT run FROM vault_page WHERE number = :page", {"page": page})
            for record in gone:
                for token in record.tokens:
                    session.change(
                        "DELETE FROM vault_token WHERE run = :run AND token = :token AND place = :place",
                        {"run": run, "place": record.place, "token": token},
                    )
                if record.keyed is None:
                    continue
                session.change(
                    "DELETE FROM vault_keyed WHERE run = :run AND token = :token AND place = :place",
                    {"run": run, "place": record.place, "token": record.keyed},
                )
                session.change(
                    "DELETE FROM vault_live WHERE holding = :holding AND token = :token AND place = :place",
                    {"holding": holding, "token": record.keyed, "place": record.place},
                )
            was_dead = sum(
                session.change("DELETE FROM vault_dead WHERE place = :place", {"place": place})
                for place in places
            )
            session.change("DELETE FROM vault_page WHERE number = :page AND records = 0", {"page": page})
            session.change(
                "UPDATE vault_holding SET alive = alive - :gone WHERE number = :holding",
                {"gone": len(gone) - was_dead, "holding": holding},
            )
        return True

    def sweep(self) -> int:
        """Remove the pages of discarded batches and destroyed holdings, run by run; return how many pages."""
        removed = 0
        while True:
            with self.engine.writing() as session:
                found = session.rows(
                    "SELECT batch.number, run.number FROM vault_batch AS batch LEFT JOIN vault_run AS run"
                    " ON run.batch = batch.number WHERE discarded = 1"
                    " AND (batch.version IS NULL OR run.number IS NOT NULL) ORDER BY batch.number LIMIT 1",
                    {},
                )
                if not found:
                    break
                ((batch, run),) = found
                if run is None:
                    # A batch that became a version keeps its row: its evidence outlives its records.
                    session.change("DELETE FROM vault_batch WHERE number = :batch", {"batch": batch})
                    continue
                removed += _remove_run(session, run)
        with self.engine.writing() as session:
            for (holding,) in session.rows(
                "SELECT number FROM vault_holding WHERE destroyed IS NOT NULL", {}
            ):
                session.change("DELETE FROM vault_live WHERE holding = :holding", {"holding": holding})
                session.change("DELETE FROM vault_dead WHERE holding = :holding", {"holding": holding})
        return removed


def _remove_run(session: Session, run: int) -> int:
    at = {"run": run}
    session.change("DELETE FROM vault_token WHERE run = :run", at)
    session.change("DELETE FROM vault_keyed WHERE run = :run", at)
    removed = session.change("DELETE FROM vault_page WHERE run = :run", at)
    session.change("DELETE FROM vault_run WHERE number = :run", at)
    return removed


def _add_pages(session: Session, batch: Batch, pages: Sequence[SealedPage], digests: bytes) -> None:
    run, numbers = 0, []
    for index, page in enumerate(pages):
        ((number,),) = session.rows(
            "INSERT INTO vault_page (run, batch, place, records, content)"
            " VALUES (:run, :batch, :place, :records, :content) RETURNING number",
            {
                "run": run,
                "batch": batch.number,
                "place": batch.pages + index,
                "records": page.records,
                "content": page.content,
            },
        )
        if not run:
            run = number
            session.change("UPDATE vault_page SET run = :run WHERE number = :run", {"run": run})
        numbers.append(number)
    session.change(
        "INSERT INTO vault_run (number, batch, first, digests) VALUES (:run, :batch, :first, :digests)",
        {"run": run, "batch": batch.number, "first": batch.pages, "digests": digests},
    )
    # In the order of their tables, so that this only ever appends to them.
    at = [number * PLACES for number in numbers]
    columns = ("run", "token", "place")
    looked_up = {
        (run, token, first + position)
        for first, page in zip(at, pages, strict=True)
        for token, position in page.tokens
    }
    session.insert("vault_token", columns, sorted(looked_up))
    keyed = [
        (run, token, first + position)
        for first, page in zip(at, pages, strict=True)
        for token, position in page.keyed
    ]
    keyed.sort()
    session.insert("vault_keyed", columns, keyed)


def _next_version(session: Session, holding: int) -> int:
    # An update takes the row's lock: versions are made one after the other.
    session.change("UPDATE vault_holding SET version = version WHERE number = :holding", {"holding": holding})
    ((version, destroyed),) = session.rows(
        "SELECT version, destroyed FROM vault_holding WHERE number = :holding", {"holding": holding}
    )
    if destroyed is not None:
        raise _destroyed()
    return int(version) + 1


def _holding(session: Session, contract: str, dataset: str) -> Holding | None:
    rows = session.rows(
        f"{_HOLDING} WHERE contract = :contract AND dataset = :dataset",
        {"contract": contract, "dataset": dataset},
    )
    return read_holding(rows[0]) if rows else None


def _batch(session: Session, holding: int, name: str) -> Batch | None:
    rows = session.rows(
        f"SELECT {BATCH_COLUMNS} FROM vault_batch AS batch WHERE batch.holding = :holding AND name = :name",  # noqa: S608
        {"holding": holding, "name": name},
    )
    return read_batch(rows[0]) if rows else None


def _keys(session: Session, holding: int) -> list[WrappedKey]:
    rows = session.rows(
        "SELECT number, kek, wrapped FROM vault_key WHERE holding = :holding ORDER BY number",
        {"holding": holding},
    )
    return [WrappedKey(*row) for row in rows]


def _add_key(session: Session, holding: int, key: WrappedKey, time: str) -> None:
    session.change(
        "INSERT INTO vault_key (holding, number, kek, wrapped, made)"
        " VALUES (:holding, :number, :kek, :wrapped, :time)",
        {"holding": holding, "number": key.number, "kek": key.kek, "wrapped": key.wrapped, "time": time},
    )


def _present(value: _Value | None) -> _Value:
    if value is None:
        raise VaultUnavailableError("The vault does not hold what was written a moment before.")
    return value


def _closed() -> BatchError:
    return BatchError(
        "The batch is no longer as this upload left it: another upload of it goes on, or it was committed or "
        "discarded. Ask for its state and go on from there."
    )


def _destroyed() -> RecordsDestroyedError:
    return RecordsDestroyedError(
        "The keys of this dataset under this contract were destroyed, as its retention clause says; "
        "contribute under a contract of another name."
    )
