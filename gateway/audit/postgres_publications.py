"""Keeping what was published in the database of the log, beside the nodes that append to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Self

import psycopg

from gateway.audit.errors import LogMismatchError, LogUnavailableError
from gateway.audit.publication import Grade, Publication
from gateway.audit.store import MAX_PAGE_SIZE
from gateway.clock import parse_rfc3339, rfc3339
from gateway.database.address import PostgresAddress
from gateway.database.errors import DatabaseRefusedError, DatabaseUnavailableError
from gateway.database.session import advice_for, connect

_PUBLISHING_LOCK: Final = 0x534C_5055
"""Number of the advisory lock (`SLPU`) under which a publication gets its number."""

_COLUMNS: Final = "size, note, time, grade"


class PostgresPublications:
    """The publications of the log in PostgreSQL; rows are only ever added. Safe from any thread.

    Each call has a session of its own: they are few, and none is idle between them. Every method raises
    `LogUnavailableError` if the database cannot be used now, and `LogMismatchError` if it is not one that
    this release may use.
    """

    def __init__(self, address: PostgresAddress) -> None:
        self.address = address

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def record(self, publication: Publication) -> None:
        """Keep a publication; when this returns, it is durable."""
        with self._session("written") as connection, connection.transaction():
            # Of two nodes that publish at once, the second takes the next number.
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (_PUBLISHING_LOCK,))
            connection.execute(
                f"INSERT INTO published (id, {_COLUMNS})"  # noqa: S608 - our own columns
                " SELECT coalesce((SELECT max(id) FROM published), 0) + 1, %s, %s, %s, %s",
                (
                    publication.size,
                    publication.note,
                    rfc3339(publication.moment),
                    publication.grade.value,
                ),
            )

    def latest(self, grade: Grade | None = None) -> Publication | None:
        """Return the newest publication, or the newest of a grade; None if there is none."""
        condition, values = ("", ()) if grade is None else ("WHERE grade = %s", (grade.value,))
        found = self._select(f"{condition} ORDER BY id DESC LIMIT 1", values)
        return found[0] if found else None

    def at(self, size: int) -> Publication | None:
        """Return the publication of exactly `size` entries with the best evidence; None if there is none."""
        found = self._select("WHERE size = %s ORDER BY grade = 'witnessed' DESC, id DESC LIMIT 1", (size,))
        return found[0] if found else None

    def page(self, limit: int, below: int | None = None) -> list[Publication]:
        """Return at most `limit` publications, newest first, of fewer entries than `below`."""
        if not 1 <= limit <= MAX_PAGE_SIZE:
            raise ValueError(f"a page holds 1 to {MAX_PAGE_SIZE} publications")
        condition, values = ("", (limit,)) if below is None else ("WHERE size < %s", (below, limit))
        return self._select(f"{condition} ORDER BY id DESC LIMIT %s", values)

    def close(self) -> None:
        """Do nothing: no session outlives its call."""

    def _select(self, clauses: str, values: tuple[object, ...]) -> list[Publication]:
        with self._session("read") as connection:
            rows = connection.execute(f"SELECT {_COLUMNS} FROM published {clauses}", values)  # noqa: S608
            return [
                Publication(size, note, parse_rfc3339(moment), Grade(grade))
                for size, note, moment, grade in rows
            ]

    @contextmanager
    def _session(self, what: str) -> Iterator[psycopg.Connection[Any]]:
        try:
            with connect(self.address, "publish") as connection:
                yield connection
        except DatabaseUnavailableError as error:
            raise LogUnavailableError(error.message) from error
        except DatabaseRefusedError as error:
            raise LogMismatchError(error.message) from error
        except psycopg.Error as error:
            raise LogUnavailableError(
                f"The published checkpoints cannot be {what}: {advice_for(error)}."
            ) from None
