"""A vault in one SQLite file, unencrypted: what contributions need of a vault, and nothing else."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from gateway.errors import GatewayError, Reason
from gateway.model import Contract


@dataclass(frozen=True)
class StagedRecords:
    batch: str
    dataset: str
    records: int
    resume: bytes
    version: int | None


@dataclass(frozen=True)
class WithdrawnRecords:
    records: int


class FileVault:
    """`RecordVault`, durable against SIGKILL. `fault` is raised by every call that would write."""

    def __init__(self, path: Path) -> None:
        self.fault: Exception | None = None
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.executescript(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
            "CREATE TABLE IF NOT EXISTS batch (name TEXT PRIMARY KEY, contract TEXT, dataset TEXT,"
            " records INTEGER, resume BLOB, version INTEGER, evidence BLOB);"
            "CREATE TABLE IF NOT EXISTS record (batch TEXT, at INTEGER, line BLOB, digest BLOB,"
            " PRIMARY KEY (batch, at)) WITHOUT ROWID;"
            "CREATE TABLE IF NOT EXISTS gone (dataset TEXT, key BLOB, version INTEGER);"
        )

    def begin(self, contract: Contract, dataset: str, batch: str) -> StagedRecords:
        with self._writing() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO batch VALUES (?, ?, ?, 0, x'', NULL, x'')",
                (batch, contract.terms.contract, dataset),
            )
        found = self.staged(contract, dataset, batch)
        assert found is not None
        return found

    def staged(self, contract: Contract, dataset: str, batch: str) -> StagedRecords | None:
        with self._lock:
            row = self._connection.execute(
                "SELECT name, dataset, records, resume, version FROM batch WHERE name = ?", (batch,)
            ).fetchone()
        return None if row is None else StagedRecords(*row)

    def stage(
        self, batch: StagedRecords, records: Sequence[bytes], digests: Sequence[bytes], resume: bytes
    ) -> StagedRecords:
        assert len(records) == len(digests) > 0
        with self._writing() as connection:
            done = connection.execute(
                "UPDATE batch SET records = records + ?, resume = ?"
                " WHERE name = ? AND records = ? AND version IS NULL",
                (len(records), resume, batch.batch, batch.records),
            )
            if done.rowcount != 1:
                raise GatewayError("The batch has moved on.", reason=Reason.CONTRIBUTION_BUSY)
            connection.executemany(
                "INSERT INTO record VALUES (?, ?, ?, ?)",
                [
                    (batch.batch, batch.records + at, line, digest)
                    for at, (line, digest) in enumerate(zip(records, digests, strict=True))
                ],
            )
        return StagedRecords(batch.batch, batch.dataset, batch.records + len(records), resume, None)

    def commit(self, batch: StagedRecords, evidence: bytes) -> int:
        with self._writing() as connection:
            (version,) = connection.execute("SELECT ifnull(max(version), 0) + 1 FROM batch").fetchone()
            connection.execute(
                "UPDATE batch SET version = ?, evidence = ? WHERE name = ?", (version, evidence, batch.batch)
            )
        return int(version)

    def discard(self, batch: StagedRecords) -> bool:
        with self._writing() as connection:
            connection.execute("DELETE FROM record WHERE batch = ?", (batch.batch,))
            return connection.execute("DELETE FROM batch WHERE name = ?", (batch.batch,)).rowcount == 1

    def withdraw(
        self, contract: Contract, dataset: str, keys: Sequence[tuple[str | int | bool, ...]]
    ) -> WithdrawnRecords:
        terms = contract.terms.dataset(dataset)
        assert terms is not None
        wanted = set(keys)
        before = len(self.visible(dataset))
        with self._writing() as connection:
            for name, at, line in connection.execute(
                "SELECT batch, at, line FROM record JOIN batch ON batch.name = record.batch"
                " WHERE dataset = ? AND version IS NOT NULL",
                (dataset,),
            ).fetchall():
                record = msgspec.json.decode(line)
                if tuple(record[field] for field in terms.key) in wanted:
                    connection.execute("DELETE FROM record WHERE batch = ? AND at = ?", (name, at))
        return WithdrawnRecords(before - len(self.visible(dataset)))

    # -- for tests -------------------------------------------------------------------------------

    def visible(self, dataset: str) -> list[bytes]:
        """Return the lines that anybody could get, in the order of versions and of batches."""
        return [line for line, _ in self.evidence(dataset)]

    def evidence(self, dataset: str) -> list[tuple[bytes, bytes]]:
        """Return those lines with their digests."""
        with self._lock:
            return self._connection.execute(
                "SELECT line, digest FROM record JOIN batch ON batch.name = record.batch"
                " WHERE dataset = ? AND version IS NOT NULL ORDER BY version, at",
                (dataset,),
            ).fetchall()

    def hidden(self) -> int:
        """Return how many records are staged in batches that were not committed."""
        with self._lock:
            [(count,)] = self._connection.execute(
                "SELECT count(*) FROM record JOIN batch ON batch.name = record.batch WHERE version IS NULL"
            )
        return int(count)

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    @contextmanager
    def _writing(self) -> Iterator[Any]:
        if self.fault is not None:
            raise self.fault
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield self._connection
                self._connection.execute("COMMIT")
            except sqlite3.Error as error:
                raise GatewayError("The vault cannot be used.", reason=Reason.VAULT_UNAVAILABLE) from error
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
