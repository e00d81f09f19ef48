"""What is kept for contributors, in the PostgreSQL that holds the log, for several nodes."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, Final

import psycopg

from gateway.clock import rfc3339
from gateway.database.address import PostgresAddress
from gateway.database.errors import DatabaseRefusedError, DatabaseUnavailableError
from gateway.database.session import advice_for, connect
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

STATEMENT_TIMEOUT_S: Final = 5.0

_NOTICE: Final = "n.id, n.member, n.time, n.body"


class PostgresUsageStore:
    """See `gateway.usage.store.UsageStore`. One session, opened when it is needed and again after a fault."""

    def __init__(self, address: PostgresAddress) -> None:
        """Name the store; nothing is opened yet."""
        self._address = address
        self._lock = threading.Lock()
        self._connection: psycopg.Connection[Any] | None = None

    def set_webhook(self, member: str, webhook: Webhook) -> bool:
        """Keep `webhook` unless one is kept that was set then or later; return whether it was kept."""
        with self._transaction() as connection:
            done = connection.execute(
                "INSERT INTO usage_webhook AS w (member, url, moment) VALUES (%s, %s, %s)"
                " ON CONFLICT (member) DO UPDATE SET url = excluded.url, moment = excluded.moment"
                " WHERE excluded.moment > w.moment",
                (member, webhook.url, rfc3339(webhook.set)),
            )
            if done.rowcount == 1 and not webhook.url:
                connection.execute("DELETE FROM usage_delivery WHERE member = %s", (member,))
            return done.rowcount == 1

    def webhook(self, member: str) -> Webhook | None:
        """Return what `member` has set last; None if it never has."""
        with self._transaction() as connection:
            row = connection.execute(
                "SELECT url, moment FROM usage_webhook WHERE member = %s", (member,)
            ).fetchone()
        return None if row is None else read_webhook(*row)

    def add(self, member: str, findings: Iterable[Finding], now: datetime) -> list[KeptNotice]:
        """Keep the findings whose key the member has no notice of; return these, and queue their delivery."""
        time, kept = rfc3339(now), []
        with self._transaction() as connection:
            connection.execute("DELETE FROM usage_notice WHERE time < %s", (oldest_kept(now),))
            for finding in findings:
                row = connection.execute(
                    "INSERT INTO usage_notice (member, key, time, body) VALUES (%s, %s, %s, %s)"
                    " ON CONFLICT (member, key) DO NOTHING RETURNING id",
                    (member, finding.key, time, write_finding(finding)),
                ).fetchone()
                if row is None:
                    continue
                kept.append(KeptNotice(int(row[0]), member, time, finding))
                connection.execute(
                    "INSERT INTO usage_delivery (notice, member, attempts, due)"
                    " SELECT %(notice)s, %(member)s, 0, %(due)s"
                    " WHERE EXISTS (SELECT 1 FROM usage_webhook WHERE member = %(member)s AND url <> '')"
                    " AND (SELECT count(*) FROM usage_delivery WHERE member = %(member)s) < %(limit)s",
                    {"notice": row[0], "member": member, "due": time, "limit": MAX_WAITING},
                )
        return kept

    def notices(self, member: str, after: int, limit: int) -> list[KeptNotice]:
        """Return the notices of `member` with an id above `after`, oldest first, at most `limit`."""
        with self._transaction() as connection:
            rows = connection.execute(
                f"SELECT {_NOTICE} FROM usage_notice AS n WHERE n.member = %s AND n.id > %s"  # noqa: S608
                " ORDER BY n.id LIMIT %s",
                (member, after, limit),
            ).fetchall()
        return list(map(read_notice, rows))

    def claim(self, now: datetime, lease: timedelta, limit: int) -> list[Delivery]:
        """Return deliveries that are due at `now`; nobody else is given them before `lease` has passed."""
        with self._transaction() as connection:
            rows = connection.execute(
                f"SELECT {_NOTICE}, w.url, d.attempts FROM usage_delivery AS d"  # noqa: S608
                " JOIN usage_notice AS n ON n.id = d.notice JOIN usage_webhook AS w ON w.member = d.member"
                " WHERE d.due <= %s ORDER BY d.due, d.notice LIMIT %s FOR UPDATE OF d SKIP LOCKED",
                (rfc3339(now), limit),
            ).fetchall()
            connection.execute(
                "UPDATE usage_delivery SET due = %s WHERE notice = ANY(%s)",
                (rfc3339(now + lease), [row[0] for row in rows]),
            )
        return [Delivery(read_notice(row[:4]), str(row[4]), int(row[5])) for row in rows]

    def delivered(self, notice: int) -> None:
        """Forget a delivery: it is made, or given up."""
        with self._transaction() as connection:
            connection.execute("DELETE FROM usage_delivery WHERE notice = %s", (notice,))

    def put_off(self, notice: int, until: datetime) -> None:
        """Count a failed attempt; the delivery is due again at `until`."""
        with self._transaction() as connection:
            connection.execute(
                "UPDATE usage_delivery SET attempts = attempts + 1, due = %s WHERE notice = %s",
                (rfc3339(until), notice),
            )

    def keep_statement(self, member: str, month: str, envelope: bytes) -> bytes:
        """Keep the statement of a month if none is kept yet; return the one that is."""
        with self._transaction() as connection:
            connection.execute(
                "INSERT INTO usage_statement (member, month, envelope) VALUES (%s, %s, %s)"
                " ON CONFLICT (member, month) DO NOTHING",
                (member, month, envelope),
            )
            row = connection.execute(
                "SELECT envelope FROM usage_statement WHERE member = %s AND month = %s", (member, month)
            ).fetchone()
        return envelope if row is None else bytes(row[0])

    def statement(self, member: str, month: str) -> bytes | None:
        """Return the statement that was issued; None if none was."""
        with self._transaction() as connection:
            row = connection.execute(
                "SELECT envelope FROM usage_statement WHERE member = %s AND month = %s", (member, month)
            ).fetchone()
        return None if row is None else bytes(row[0])

    def close(self) -> None:
        """Close the session. May be called twice."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    @contextmanager
    def _transaction(self) -> Iterator[psycopg.Connection[Any]]:
        """Hold one transaction; nothing is kept if the block fails."""
        with self._lock:
            try:
                connection = self._open()
                with connection.transaction():
                    yield connection
            except (DatabaseUnavailableError, DatabaseRefusedError) as error:
                raise UsageStoreUnavailableError(error.message) from error
            except psycopg.Error as error:
                if self._connection is not None:
                    self._connection.close()
                raise UsageStoreUnavailableError(
                    f"The store of usage cannot be used: {advice_for(error)}."
                ) from None

    def _open(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = connect(self._address, "usage", statement_timeout_s=STATEMENT_TIMEOUT_S)
        return self._connection
