"""A log that answers before it has committed: the control of tests that kill it."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import gateway.audit.sqlite
from gateway.audit.sqlite_schema import connect_for_writing

_APPENDS_AT_ONCE = 500


class _LateConnection:
    """A connection that takes COMMIT for done, and does it only now and then."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._held = 0
        self._inside = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    @property
    def in_transaction(self) -> bool:
        return self._inside

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        if statement in {"BEGIN IMMEDIATE", "COMMIT", "ROLLBACK"}:
            self._inside = statement == "BEGIN IMMEDIATE"
            # What is held is one transaction, in which each of theirs is a savepoint.
            if self._held:
                statement = {"BEGIN IMMEDIATE": "SAVEPOINT one", "ROLLBACK": "ROLLBACK TO one"}.get(
                    statement, "RELEASE one"
                )
            if statement in {"COMMIT", "RELEASE one"}:
                self._held = (self._held + 1) % _APPENDS_AT_ONCE
                if not self._held:
                    statement = "COMMIT"
                elif statement == "COMMIT":
                    statement = "SELECT 1"
        return self._connection.execute(statement, *values)


def commit_late() -> None:
    """Make every log that this process opens from now on answer before it has committed."""

    def connect(path: Path, busy_timeout_s: float) -> Any:
        return _LateConnection(connect_for_writing(path, busy_timeout_s))

    gateway.audit.sqlite.connect_for_writing = connect
