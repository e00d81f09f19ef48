"""A database whose statements fail on demand, before they were done or after."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from gateway.audit.sqlite_schema import connect_for_writing


class StatementFaults:
    """Takes the place of `connect_for_writing`; counts the statements of all its connections."""

    def __init__(self) -> None:
        self.statements: list[str] = []
        self._fails_at: int | None = None
        self._when_done = False
        self._only = ""

    def fail(self, at: int, *, when_done: bool, only: str = "") -> None:
        """Let statement number `at` from now on fail, once; `when_done`: although it was carried out.

        With `only`, no other statement counts.
        """
        self.statements.clear()
        self._fails_at, self._when_done, self._only = at, when_done, only

    def heal(self) -> None:
        """Take back a fault that has not come."""
        self._fails_at = None

    @property
    def struck(self) -> bool:
        """Whether the fault has come."""
        return self._fails_at is None

    def connect(self, path: Path, busy_timeout_s: float) -> Any:
        return _Connection(connect_for_writing(path, busy_timeout_s), self)

    def run(self, connection: sqlite3.Connection, statement: str, *values: Any) -> sqlite3.Cursor:
        """Run a statement, or what becomes of it."""
        if self._only and statement != self._only:
            return connection.execute(statement, *values)
        number = len(self.statements)
        self.statements.append(statement)
        if number != self._fails_at:
            return connection.execute(statement, *values)
        self._fails_at = None
        if self._when_done:
            connection.execute(statement, *values).fetchall()
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR
        raise error


class _Connection:
    def __init__(self, connection: sqlite3.Connection, faults: StatementFaults) -> None:
        self._connection = connection
        self._faults = faults

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        return self._faults.run(self._connection, statement, *values)
