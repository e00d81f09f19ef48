"""Where time-stamps are kept: a small database of their own beside the audit log.

The process that gets them holds no secret and writes nothing else; the log's file stays the log
process's alone.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from gateway.clock import parse_rfc3339, rfc3339
from gateway.errors import ConfigError

SCHEMA_VERSION: Final = 1
"""`PRAGMA user_version`. Other versions are refused, never guessed at."""

_TIMEOUT_S: Final = 5.0

_SCHEMA: Final = f"""
BEGIN IMMEDIATE;
CREATE TABLE timestamp (
    id INTEGER PRIMARY KEY,
    size INTEGER NOT NULL,
    time TEXT NOT NULL,
    note TEXT NOT NULL,
    token BLOB NOT NULL
) STRICT;
CREATE INDEX timestamp_size ON timestamp (size);
CREATE TRIGGER timestamp_keeps_update BEFORE UPDATE ON timestamp BEGIN
    SELECT RAISE(ABORT, 'time-stamps are only added');
END;
CREATE TRIGGER timestamp_keeps_delete BEFORE DELETE ON timestamp BEGIN
    SELECT RAISE(ABORT, 'time-stamps are only added');
END;
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""


class TimestampStoreError(ConfigError):
    """The store of time-stamps cannot be used."""


@dataclass(frozen=True, slots=True)
class Timestamp:
    """A checkpoint and the token over it."""

    size: int
    """Entries that the checkpoint covers."""
    time: datetime
    """The time that the authority tells."""
    note: str
    """The checkpoint, as it was stamped."""
    token: bytes
    """TimeStampResp, DER."""


class TimestampStore:
    """Time-stamps in a SQLite file of mode 0600, only ever added. Every method blocks."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def create(self) -> None:
        """Make the file if it is not there; raise `TimestampStoreError`."""
        try:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            return
        except OSError as error:
            raise TimestampStoreError(f"{self.path} cannot be created ({error.strerror}).") from error
        os.close(descriptor)
        with self._faults(), closing(self._connect()) as connection:
            connection.executescript(_SCHEMA)

    def add(self, timestamp: Timestamp) -> None:
        """Keep a time-stamp; when this returns, it is durable."""
        with self._reading() as connection:
            connection.execute(
                "INSERT INTO timestamp (size, time, note, token) VALUES (?, ?, ?, ?)",
                (timestamp.size, rfc3339(timestamp.time), timestamp.note, timestamp.token),
            )

    def latest(self) -> Timestamp | None:
        """Return the newest; None if there is none."""
        found = self._select("ORDER BY id DESC LIMIT 1")
        return found[0] if found else None

    def covering(self, size: int) -> Timestamp | None:
        """Return the earliest whose checkpoint covers at least `size` entries; None if there is none."""
        found = self._select("WHERE size >= ? ORDER BY time, id LIMIT 1", size)
        return found[0] if found else None

    def page(self, limit: int) -> list[Timestamp]:
        """Return the newest, newest first."""
        return self._select("ORDER BY id DESC LIMIT ?", limit)

    def __iter__(self) -> Iterator[Timestamp]:
        """All of them, oldest first."""
        return iter(self._select("ORDER BY id"))

    def _select(self, rest: str, *values: int) -> list[Timestamp]:
        with self._reading() as connection:
            rows = connection.execute(
                f"SELECT size, time, note, token FROM timestamp {rest}",  # noqa: S608 - fixed texts
                values,
            ).fetchall()
        try:
            return [Timestamp(size, parse_rfc3339(time), note, token) for size, time, note, token in rows]
        except ValueError as error:
            raise TimestampStoreError(f"{self.path} holds a time that is none; restore the file.") from error

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._faults(), closing(self._connect()) as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version != SCHEMA_VERSION:
                raise TimestampStoreError(
                    f"{self.path} has schema version {version}; this release knows {SCHEMA_VERSION}."
                )
            yield connection

    def _connect(self) -> sqlite3.Connection:
        # `mode=rw`: a store that is missing is an error, never a new and empty one.
        uri = f"{self.path.absolute().as_uri()}?mode=rw"
        connection = sqlite3.connect(uri, uri=True, timeout=_TIMEOUT_S, isolation_level=None)
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise TimestampStoreError(
                f"The store of time-stamps {self.path} cannot be used ({type(error).__name__}); check that "
                "it exists and that this user may write it."
            ) from error
