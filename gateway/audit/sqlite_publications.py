"""Keeping what was published in the SQLite file of the log, beside the process that appends to it."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

from gateway.audit.errors import LogUnavailableError, NoteError
from gateway.audit.note import parse_note
from gateway.audit.publication import Grade, Publication
from gateway.audit.sqlite_schema import (
    check_schema,
    connect_for_reading,
    connect_for_writing,
)
from gateway.audit.store import MAX_PAGE_SIZE
from gateway.clock import parse_rfc3339, rfc3339

LOCK_TIMEOUT_S: Final = 5.0
_LOCK_POLL_S: Final = 0.002

_COLUMNS: Final = "size, note, time, grade"


class SqlitePublications:
    """The publications of the log at `path`; rows are only ever added. Safe from any thread.

    Writing takes the lock file that the log's writers take. Every method raises `LogUnavailableError` if the
    file cannot be used now, and `LogMismatchError` if it is not an audit log of a version known here.
    """

    def __init__(self, path: Path, *, lock_timeout_s: float = LOCK_TIMEOUT_S) -> None:
        self.path = path
        self._lock_timeout_s = lock_timeout_s
        self._lock = threading.Lock()
        self._reading: sqlite3.Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def record(self, publication: Publication) -> None:
        """Keep a publication; when this returns, it is durable."""
        with self._faults("written"), self._writers_turn():
            connection = connect_for_writing(self.path, self._lock_timeout_s)
            try:
                check_schema(connection)
                connection.execute(
                    "INSERT INTO published (size, note, time, grade) VALUES (?, ?, ?, ?)",
                    (
                        publication.size,
                        publication.note,
                        rfc3339(publication.moment),
                        publication.grade.value,
                    ),
                )
            finally:
                connection.close()

    def latest(self, grade: Grade | None = None) -> Publication | None:
        """Return the newest publication, or the newest of a grade; None if there is none."""
        condition, values = ("", ()) if grade is None else ("WHERE grade = ?", (grade.value,))
        found = self._select(f"{condition} ORDER BY id DESC LIMIT 1", values)
        return found[0] if found else None

    def at(self, size: int) -> Publication | None:
        """Return the publication of exactly `size` entries with the best evidence; None if there is none."""
        found = self._select("WHERE size = ? ORDER BY grade = 'witnessed' DESC, id DESC LIMIT 1", (size,))
        return found[0] if found else None

    def page(self, limit: int, below: int | None = None) -> list[Publication]:
        """Return at most `limit` publications, newest first, of fewer entries than `below`."""
        if not 1 <= limit <= MAX_PAGE_SIZE:
            raise ValueError(f"a page holds 1 to {MAX_PAGE_SIZE} publications")
        condition, values = ("", (limit,)) if below is None else ("WHERE size < ?", (below, limit))
        return self._select(f"{condition} ORDER BY id DESC LIMIT ?", values)

    def close(self) -> None:
        """Close the file. May be called twice."""
        with self._lock:
            self._give_up()

    def _select(self, clauses: str, values: tuple[object, ...]) -> list[Publication]:
        with self._lock, self._faults("read"):
            if self._reading is None:
                self._reading = connect_for_reading(self.path)
                check_schema(self._reading)
            rows = self._reading.execute(f"SELECT {_COLUMNS} FROM published {clauses}", values)  # noqa: S608
            return [_publication(*row) for row in rows]

    @contextmanager
    def _faults(self, what: str) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            self._give_up()
            raise LogUnavailableError(
                f"The published checkpoints cannot be {what}; check the audit log's file and its disk."
            ) from error

    @contextmanager
    def _writers_turn(self) -> Iterator[None]:
        """Hold the lock file of the log's writers, which is fairer than SQLite's own lock."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(f"{self.path}.lock", flags, 0o600)
        try:
            deadline = time.monotonic() + self._lock_timeout_s
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as error:
                    if time.monotonic() >= deadline:
                        raise LogUnavailableError(
                            "The published checkpoint cannot be kept: another process holds the log's lock."
                        ) from error
                    time.sleep(_LOCK_POLL_S)
            yield
        finally:
            os.close(descriptor)

    def _give_up(self) -> None:
        connection, self._reading = self._reading, None
        if connection is not None:
            connection.close()


def contradictions(connection: sqlite3.Connection) -> Iterator[tuple[int, str]]:
    """Yield (size, what is wrong) for each publication that does not carry the log's own checkpoint.

    The log's checkpoints are examined elsewhere; here only whether what was published is one of them. Works
    on a connection with any text factory.
    """
    rows = connection.execute(
        "SELECT published.size, published.note, checkpoint.note FROM published "
        "LEFT JOIN checkpoint ON checkpoint.size = published.size ORDER BY published.id"
    )
    for size, published, committed in rows:
        if committed is None:
            yield size, "published, but the log has no checkpoint of this size"
        elif not _carries(_text(published), _text(committed)):
            yield size, "the published checkpoint is not the one that the log signed"


def _carries(published: str, committed: str) -> bool:
    """Return whether the published note has the text and all signature lines of the committed one."""
    try:
        outer, inner = parse_note(published), parse_note(committed)
    except NoteError:
        return False
    return outer.text == inner.text and set(inner.signatures) <= set(outer.signatures)


def _text(raw: object) -> str:
    return raw.decode(errors="replace") if isinstance(raw, bytes) else str(raw)


def _publication(size: int, note: str, moment: str, grade: str) -> Publication:
    return Publication(size, note, parse_rfc3339(moment), Grade(grade))
