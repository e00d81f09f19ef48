"""What is kept for contributors, in a SQLite file beside the log's, for the workers of one host."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from gateway.clock import rfc3339
from gateway.errors import ConfigError
from gateway.usage.notice import Finding
from gateway.usage.store import (
    MAX_WAITING,
    Delivery,
    KeptNotice,
    UsageStoreUnavailableError,
    Webhook,
    oldest_kept,
    read_notice,
    read_webhook,
    write_finding,
)

APPLICATION_ID: Final = 0x534C_5553
"""`SLUS` in the file's header (`PRAGMA application_id`)."""

SCHEMA_VERSION: Final = 1
"""`PRAGMA user_version`. Other versions are refused, never guessed at."""

LOCK_TIMEOUT_S: Final = 2.0

_TABLES: Final = f"""
BEGIN IMMEDIATE;
CREATE TABLE usage_webhook (
    member TEXT PRIMARY KEY,
    url TEXT NOT NULL,
    moment TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE usage_notice (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    member TEXT NOT NULL,
    key TEXT NOT NULL,
    time TEXT NOT NULL,
    body TEXT NOT NULL,
    UNIQUE (member, key)
) STRICT;
CREATE INDEX usage_notice_member ON usage_notice (member, id);
CREATE TABLE usage_delivery (
    notice INTEGER PRIMARY KEY,
    member TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    due TEXT NOT NULL
) STRICT;
CREATE INDEX usage_delivery_due ON usage_delivery (due);
CREATE TABLE usage_statement (
    member TEXT NOT NULL,
    month TEXT NOT NULL,
    envelope BLOB NOT NULL,
    PRIMARY KEY (member, month)
) STRICT, WITHOUT ROWID;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""

_NOTICE: Final = "n.id, n.member, n.time, n.body"


class SqliteUsageStore:
    """See `gateway.usage.store.UsageStore`. One connection, flushed at every commit."""

    def __init__(self, path: Path) -> None:
        """Open the store at `path`, or make one of mode 0600.

        Raises `UsageStoreUnavailableError`, and `ConfigError` if other users may read or write it.
        """
        self._lock = threading.Lock()
        _create_file(path)
        try:
            self._connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=rw",
                uri=True,
                timeout=LOCK_TIMEOUT_S,
                isolation_level=None,
                check_same_thread=False,
            )
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.execute("PRAGMA trusted_schema = OFF")
            _prepare(self._connection)
        except sqlite3.Error as error:
            raise _unavailable() from error

    def set_webhook(self, member: str, webhook: Webhook) -> bool:
        """Keep `webhook` unless one is kept that was set then or later; return whether it was kept."""
        with self._writing() as connection:
            done = connection.execute(
                "INSERT INTO usage_webhook (member, url, moment) VALUES (?, ?, ?) ON CONFLICT (member)"
                " DO UPDATE SET url = excluded.url, moment = excluded.moment WHERE excluded.moment > moment",
                (member, webhook.url, rfc3339(webhook.set)),
            )
            if done.rowcount == 1 and not webhook.url:
                connection.execute("DELETE FROM usage_delivery WHERE member = ?", (member,))
            return done.rowcount == 1

    def webhook(self, member: str) -> Webhook | None:
        """Return what `member` has set last; None if it never has."""
        with self._guarded() as connection:
            row = connection.execute(
                "SELECT url, moment FROM usage_webhook WHERE member = ?", (member,)
            ).fetchone()
        return None if row is None else read_webhook(*row)

    def add(self, member: str, findings: Iterable[Finding], now: datetime) -> list[KeptNotice]:
        """Keep the findings whose key the member has no notice of; return these, and queue their delivery."""
        time, kept = rfc3339(now), []
        with self._writing() as connection:
            connection.execute("DELETE FROM usage_notice WHERE time < ?", (oldest_kept(now),))
            connection.execute("DELETE FROM usage_delivery WHERE notice NOT IN (SELECT id FROM usage_notice)")
            for finding in findings:
                row = connection.execute(
                    "INSERT INTO usage_notice (member, key, time, body) VALUES (?, ?, ?, ?)"
                    " ON CONFLICT (member, key) DO NOTHING RETURNING id",
                    (member, finding.key, time, write_finding(finding)),
                ).fetchone()
                if row is None:
                    continue
                kept.append(KeptNotice(row[0], member, time, finding))
                connection.execute(
                    "INSERT INTO usage_delivery (notice, member, attempts, due) SELECT ?1, ?2, 0, ?3"
                    " WHERE EXISTS (SELECT 1 FROM usage_webhook WHERE member = ?2 AND url <> '')"
                    " AND (SELECT count(*) FROM usage_delivery WHERE member = ?2) < ?4",
                    (row[0], member, time, MAX_WAITING),
                )
        return kept

    def notices(self, member: str, after: int, limit: int) -> list[KeptNotice]:
        """Return the notices of `member` with an id above `after`, oldest first, at most `limit`."""
        with self._guarded() as connection:
            rows = connection.execute(
                f"SELECT {_NOTICE} FROM usage_notice AS n WHERE n.member = ? AND n.id > ?"  # noqa: S608
                " ORDER BY n.id LIMIT ?",
                (member, after, limit),
            ).fetchall()
        return list(map(read_notice, rows))

    def claim(self, now: datetime, lease: timedelta, limit: int) -> list[Delivery]:
        """Return deliveries that are due at `now`; nobody else is given them before `lease` has passed."""
        with self._writing() as connection:
            rows = connection.execute(
                f"SELECT {_NOTICE}, w.url, d.attempts FROM usage_delivery AS d"  # noqa: S608
                " JOIN usage_notice AS n ON n.id = d.notice JOIN usage_webhook AS w ON w.member = d.member"
                " WHERE d.due <= ? ORDER BY d.due, d.notice LIMIT ?",
                (rfc3339(now), limit),
            ).fetchall()
            connection.executemany(
                "UPDATE usage_delivery SET due = ? WHERE notice = ?",
                [(rfc3339(now + lease), row[0]) for row in rows],
            )
        return [Delivery(read_notice(row[:4]), row[4], row[5]) for row in rows]

    def delivered(self, notice: int) -> None:
        """Forget a delivery: it is made, or given up."""
        with self._writing() as connection:
            connection.execute("DELETE FROM usage_delivery WHERE notice = ?", (notice,))

    def put_off(self, notice: int, until: datetime) -> None:
        """Count a failed attempt; the delivery is due again at `until`."""
        with self._writing() as connection:
            connection.execute(
                "UPDATE usage_delivery SET attempts = attempts + 1, due = ? WHERE notice = ?",
                (rfc3339(until), notice),
            )

    def keep_statement(self, member: str, month: str, envelope: bytes) -> bytes:
        """Keep the statement of a month if none is kept yet; return the one that is."""
        with self._writing() as connection:
            connection.execute(
                "INSERT INTO usage_statement (member, month, envelope) VALUES (?, ?, ?)"
                " ON CONFLICT (member, month) DO NOTHING",
                (member, month, envelope),
            )
            (kept,) = connection.execute(
                "SELECT envelope FROM usage_statement WHERE member = ? AND month = ?", (member, month)
            ).fetchone()
        return bytes(kept)

    def statement(self, member: str, month: str) -> bytes | None:
        """Return the statement that was issued; None if none was."""
        with self._guarded() as connection:
            row = connection.execute(
                "SELECT envelope FROM usage_statement WHERE member = ? AND month = ?", (member, month)
            ).fetchone()
        return None if row is None else bytes(row[0])

    def close(self) -> None:
        """Close the file. May be called twice."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Hold one write transaction; nothing is kept if the block fails."""
        with self._guarded() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    @contextmanager
    def _guarded(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._connection
            except sqlite3.Error as error:
                raise _unavailable() from error


def _create_file(path: Path) -> None:
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise ConfigError(f"The store of usage {path} is open to others; run: chmod 600 {path}") from None
    except OSError as error:
        raise UsageStoreUnavailableError(
            f"The store of usage {path} cannot be made ({error.strerror})."
        ) from error


def _prepare(connection: sqlite3.Connection) -> None:
    if not connection.execute("SELECT 1 FROM sqlite_master").fetchone():
        try:
            connection.executescript(_TABLES)
        except sqlite3.OperationalError:
            # Another worker made them in the same moment.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if (application, version) != (APPLICATION_ID, SCHEMA_VERSION):
        raise UsageStoreUnavailableError("The file beside the log is no store of usage of the known version.")


def _unavailable() -> UsageStoreUnavailableError:
    return UsageStoreUnavailableError(
        "The store of usage cannot be used; the operator must see that its file exists, is writable and its "
        "disk has space."
    )
