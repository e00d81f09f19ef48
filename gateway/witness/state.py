"""What a witness remembers: the logs it knows, and the latest checkpoint it cosigned of each.

One SQLite file. A checkpoint is durable before its cosignature leaves, so that neither a crash nor a second
process makes the witness cosign two histories. The file must never be restored from a copy: a witness that
forgets is a witness that can be asked to cosign a fork.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self
from urllib.parse import quote

from gateway.audit.cosignature import LogVerifier, log_verifier_of
from gateway.audit.errors import LogUnavailableError
from gateway.errors import ConfigError
from gateway.witness.judgement import TreeHead
from gateway.witness.submission import origin_digest

APPLICATION_ID: Final = 0x534C_5557
"""`SLUW` in the file's header (`PRAGMA application_id`)."""
SCHEMA_VERSION: Final = 1
BUSY_TIMEOUT_S: Final = 5.0

_TABLES: Final = """
CREATE TABLE log_key (
    vkey TEXT PRIMARY KEY,
    origin TEXT NOT NULL
) STRICT;
CREATE INDEX log_key_origin ON log_key (origin);

CREATE TABLE cosigned (
    origin TEXT PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    size INTEGER NOT NULL,
    root BLOB NOT NULL,
    time_s INTEGER NOT NULL,
    note TEXT NOT NULL
) STRICT;

CREATE TRIGGER cosigned_never_shrinks BEFORE UPDATE ON cosigned
WHEN new.size < old.size OR (new.size = old.size AND new.root <> old.root) OR new.time_s < old.time_s
BEGIN SELECT RAISE(ABORT, 'a witness never goes back'); END;
CREATE TRIGGER cosigned_keeps_delete BEFORE DELETE ON cosigned
BEGIN SELECT RAISE(ABORT, 'a witness never forgets'); END;
"""


@dataclass(frozen=True, slots=True)
class Cosigned:
    """A checkpoint that the witness has cosigned."""

    head: TreeHead
    time_s: int
    """POSIX time of the cosignature; 0 for the empty tree that nobody has cosigned."""
    note: str
    """The checkpoint with the log's signatures and the witness's own."""

    @property
    def moment(self) -> datetime | None:
        """When it was cosigned; None for what nobody has cosigned."""
        return datetime.fromtimestamp(self.time_s, UTC) if self.time_s else None


NEVER: Final = Cosigned(TreeHead(), 0, "")
"""Stands for a log of which nothing has been cosigned."""


@dataclass(frozen=True, slots=True)
class WitnessedLog:
    """A log that the witness knows."""

    origin: str
    vkeys: tuple[str, ...]
    latest: Cosigned


class WitnessState:
    """The state in the file at `path`. Safe from any thread; several processes may share the file.

    Every method raises `LogUnavailableError` if the file cannot be read or written now; then nothing may be
    taken as cosigned. Opening raises `ConfigError` if it is open to others or not a witness's.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self.latest("")  # opens the file, and refuses what is no witness's state

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @classmethod
    def create(cls, path: Path) -> Self:
        """Make a new, empty state of mode 0600; raise `ConfigError` if `path` exists already."""
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise ConfigError(f"The witness's state {path} cannot be made ({error.strerror}).") from error
        connection = _connect(path)
        try:
            connection.executescript(
                f"BEGIN IMMEDIATE;\n{_TABLES}\nPRAGMA application_id = {APPLICATION_ID};\n"
                f"PRAGMA user_version = {SCHEMA_VERSION};\nCOMMIT;"
            )
        finally:
            connection.close()
        descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return cls(path)

    def add_key(self, origin: str, vkey: str) -> None:
        """Trust a key for the log `origin` from now on; raise `ConfigError` if it is known already."""
        with self._transaction() as connection:
            if connection.execute("SELECT 1 FROM log_key WHERE vkey = ?", (vkey,)).fetchone():
                raise ConfigError(
                    "The witness knows this key already; `gateway witness show` lists its logs."
                )
            connection.execute("INSERT INTO log_key VALUES (?, ?)", (vkey, origin))

    def verifiers(self, origin: str) -> tuple[LogVerifier, ...]:
        """Return the keys trusted for `origin`; none for an unknown log."""
        with self._transaction() as connection:
            rows = connection.execute("SELECT vkey FROM log_key WHERE origin = ?", (origin,)).fetchall()
        return tuple(log_verifier_of(vkey) for (vkey,) in rows)

    def logs(self) -> tuple[WitnessedLog, ...]:
        """Return every log known, by origin."""
        with self._transaction() as connection:
            rows = connection.execute("SELECT origin, vkey FROM log_key ORDER BY origin, rowid").fetchall()
            keys: dict[str, list[str]] = {}
            for origin, vkey in rows:
                keys.setdefault(origin, []).append(vkey)
            return tuple(
                WitnessedLog(origin, tuple(vkeys), _latest(connection, origin))
                for origin, vkeys in keys.items()
            )

    def latest(self, origin: str) -> Cosigned:
        """Return what was cosigned last of `origin`; `NEVER` if nothing was."""
        with self._transaction() as connection:
            return _latest(connection, origin)

    def note(self, digest: str) -> str | None:
        """Return the latest note of the log whose origin has this digest; None if nothing was cosigned."""
        with self._transaction() as connection:
            row = connection.execute("SELECT note FROM cosigned WHERE digest = ?", (digest,)).fetchone()
        return None if row is None else str(row[0])

    def advance(self, origin: str, decide: Callable[[Cosigned], Cosigned]) -> Cosigned:
        """Replace what was cosigned last by what `decide` makes of it, in one transaction; return that.

        When this returns, it is durable. What `decide` raises passes through, and nothing has changed.
        """
        with self._transaction() as connection:
            decided = decide(_latest(connection, origin))
            connection.execute(
                "INSERT INTO cosigned VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (origin) DO UPDATE SET "
                "size = excluded.size, root = excluded.root, time_s = excluded.time_s, note = excluded.note",
                (
                    origin,
                    origin_digest(origin),
                    decided.head.size,
                    decided.head.root,
                    decided.time_s,
                    decided.note,
                ),
            )
        return decided

    def close(self) -> None:
        """Close the file. May be called twice."""
        with self._lock:
            self._give_up()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Hold the only writer's place; commit at the end of the block, or roll back what failed.

        After a fault the connection is given up: what it holds in memory is no proof of what the disk has.
        """
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = _open(self.path)
                connection = self._connection
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield connection
                except BaseException:
                    connection.execute("ROLLBACK")
                    raise
                connection.execute("COMMIT")
            except sqlite3.Error as error:
                self._give_up()
                raise LogUnavailableError(
                    "The witness's state cannot be read or written; check its file, disk and space."
                ) from error

    def _give_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _latest(connection: sqlite3.Connection, origin: str) -> Cosigned:
    row = connection.execute(
        "SELECT size, root, time_s, note FROM cosigned WHERE origin = ?", (origin,)
    ).fetchone()
    if row is None:
        return NEVER
    size, root, time_s, note = row
    return Cosigned(TreeHead(size, root), time_s, note)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"file:{quote(str(path.absolute()))}?mode=rw",
        uri=True,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
    )
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


def _open(path: Path) -> sqlite3.Connection:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        raise ConfigError(
            f"The witness's state {path} cannot be opened ({error.strerror}). If this is a new witness, run "
            "`gateway witness init`. If its state is lost, make a witness with a new key: one that "
            "forgot what it cosigned must not go on under the old."
        ) from error
    if mode & 0o077:
        raise ConfigError(f"The witness's state {path} is open to others; run: chmod 600 {path}")
    connection = _connect(path)
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if (application, version) != (APPLICATION_ID, SCHEMA_VERSION):
        connection.close()
        raise ConfigError(f"{path} is not the state of a witness of this version; check the path.")
    return connection
