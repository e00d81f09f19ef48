"""The erasable store in a SQLite file beside the audit log: for one host."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

from gateway.details.errors import DetailsUnavailableError
from gateway.details.sealing import BatchKeys
from gateway.details.sqlite_schema import connect, create_file, prepare, unavailable
from gateway.details.store import (
    SALT_BYTES,
    Erased,
    Record,
    Selection,
    StoredDetails,
    check_days,
    commit_erasure,
    read_keys,
)
from gateway.evidence.canonical import encode_canonical

BUSY_TIMEOUT_S: Final = 5.0
"""How long a writer waits for another, such as one that erases."""

_TOKENS_AT_ONCE: Final = 500


class SqliteDetailsStore:
    """Details in one SQLite file of mode 0600, which several processes may use at a time.

    Every method raises `DetailsUnavailableError` if the file cannot be used now.
    """

    def __init__(self, path: Path, origin: str, *, busy_timeout_s: float = BUSY_TIMEOUT_S) -> None:
        """Open the store of the log `origin`, making it if there is none; raise `ConfigError`."""
        self.path: Final = path
        self._lock = threading.Lock()
        create_file(path)
        try:
            self._connection = connect(path, busy_timeout_s)
            prepare(self._connection, origin)
        except sqlite3.Error as error:
            raise unavailable(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. May be called twice."""
        with self._lock:
            self._connection.close()

    def add(self, keys: BatchKeys, batch: Iterable[StoredDetails]) -> None:
        """Write a batch; when this returns, it is durable."""
        with self._transaction() as connection:
            number = connection.execute(
                "INSERT INTO batch (keys) VALUES (?)", (encode_canonical(keys),)
            ).lastrowid
            for item in batch:
                row = connection.execute(
                    "INSERT INTO details (exchange, kind, day, batch, content, wraps)"
                    " VALUES (?, ?, ?, ?, ?, ?)",
                    (item.exchange, item.kind, item.day, number, item.content, item.wraps),
                ).lastrowid
                connection.executemany(
                    "INSERT INTO token VALUES (?, ?)", [(token, row) for token in set(item.tokens)]
                )

    def of_exchange(self, exchange: str) -> list[tuple[StoredDetails, BatchKeys]]:
        """Return what is kept of an exchange, in the order in which it was written."""
        with self._reading() as connection:
            rows = connection.execute(
                "SELECT exchange, kind, day, content, wraps, keys FROM details JOIN batch"
                " ON batch.number = details.batch WHERE exchange = ? ORDER BY details.number",
                (exchange,),
            ).fetchall()
        return [(StoredDetails(*row), read_keys(keys)) for *row, keys in rows]

    def erased_of(self, exchange: str) -> list[Erased]:
        """Return what was erased of an exchange, the newest erasing first."""
        with self._reading() as connection:
            return [
                Erased(*row)
                for row in connection.execute(
                    "SELECT erased.entry, time FROM erased JOIN erasure ON erasure.entry = erased.entry"
                    " WHERE exchange = ? ORDER BY erased.entry DESC",
                    (exchange,),
                )
            ]

    def erasure(self, entry: int) -> tuple[int, str] | None:
        """Return (count, commitment) of the details that entry `entry` says were erased; None if none.

        The commitment is the base64 of HMAC-SHA256 under the erasure's salt over a line
        `exchange SP kind LF` for each, in rising order.
        """
        with self._reading() as connection:
            row = connection.execute("SELECT salt FROM erasure WHERE entry = ?", (entry,)).fetchone()
            if row is None:
                return None
            lines = connection.execute(
                "SELECT exchange, kind FROM erased WHERE entry = ? ORDER BY exchange, kind", (entry,)
            )
            return commit_erasure(row[0], lines)

    def days(self) -> tuple[str, str] | None:
        """Return the first and the last day of which anything is kept; None if nothing is."""
        with self._reading() as connection:
            first, last = connection.execute("SELECT min(day), max(day) FROM details").fetchone()
        return None if first is None else check_days(first, last)

    def exchanges_with(self, tokens: Sequence[bytes]) -> list[tuple[str, str]]:
        """Return (exchange, kind) of the entries that any of `tokens` stands for, oldest first."""
        with self._reading() as connection:
            numbers = sorted(_numbers_with(connection, tokens))
            found = []
            for number in numbers:
                found += connection.execute(
                    "SELECT exchange, kind FROM details WHERE number = ?", (number,)
                ).fetchall()
            # Of a write whose success was not heard of, and which was repeated, there are two.
            return list(dict.fromkeys(found))

    def count(self) -> int:
        """Return of how many entries details are kept."""
        with self._reading() as connection:
            return int(connection.execute("SELECT count(*) FROM details").fetchone()[0])

    def erase(self, selection: Selection, record: Record) -> int:
        """Erase what is selected, once `record` has told the log; return how many.

        When this returns, neither the file nor its write-ahead log holds a byte of it; `scrub` says
        how. Nothing is recorded when nothing is selected.
        """
        with self._transaction() as connection:
            # If anything fails, the table goes with the transaction.
            connection.execute("CREATE TEMP TABLE chosen (number INTEGER PRIMARY KEY)")
            count = self._erase(connection, selection, record)
            connection.execute("DROP TABLE chosen")
        self.scrub()
        return count

    def _erase(self, connection: sqlite3.Connection, selection: Selection, record: Record) -> int:
        _choose(connection, selection)
        salt = os.urandom(SALT_BYTES)
        lines = connection.execute(
            "SELECT DISTINCT exchange, kind FROM details JOIN chosen USING (number) ORDER BY exchange, kind"
        )
        count, commitment = commit_erasure(salt, lines)
        if not count:
            return 0
        entry, time = record(count, commitment)
        connection.execute("INSERT INTO erasure VALUES (?, ?, ?)", (entry, time, salt))
        connection.execute(
            "INSERT INTO erased SELECT DISTINCT exchange, kind, ? FROM details JOIN chosen USING (number)",
            (entry,),
        )
        connection.execute("DELETE FROM token WHERE details IN (SELECT number FROM chosen)")
        connection.execute("DELETE FROM details WHERE number IN (SELECT number FROM chosen)")
        connection.execute("DELETE FROM batch WHERE number NOT IN (SELECT batch FROM details)")
        connection.execute("UPDATE store SET scrub = 1")
        return count

    @property
    def scrub_pending(self) -> bool:
        """Whether an erasing was cut short before its traces were removed."""
        with self._reading() as connection:
            return bool(connection.execute("SELECT scrub FROM store").fetchone()[0])

    def scrub(self) -> None:
        """Remove what is left of deleted rows: the older pages in the write-ahead log.

        In the file itself `secure_delete` has overwritten them. Raises `DetailsUnavailableError` while
        another process reads; it may be called again.
        """
        with self._lock:
            try:
                (busy, *_) = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                if not busy:
                    self._connection.execute("UPDATE store SET scrub = 0")
            except sqlite3.Error as error:
                raise unavailable(error) from error
        if busy:
            raise DetailsUnavailableError(
                "The details are erased, but another process reads the store and keeps traces of them in its "
                "write-ahead log. End it and run the command again."
            )

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    yield self._connection
                except BaseException:
                    # Some faults end the transaction by themselves.
                    if self._connection.in_transaction:
                        self._connection.execute("ROLLBACK")
                    raise
                self._connection.execute("COMMIT")
            except sqlite3.Error as error:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise unavailable(error) from error

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._connection
            except sqlite3.Error as error:
                raise unavailable(error) from error


def _choose(connection: sqlite3.Connection, selection: Selection) -> None:
    if selection.exchange is not None:
        connection.execute(
            "INSERT INTO chosen SELECT number FROM details WHERE exchange = ?", (selection.exchange,)
        )
    elif selection.before is not None:
        connection.execute(
            "INSERT INTO chosen SELECT number FROM details WHERE day < ?", (selection.before.isoformat(),)
        )
    else:
        numbers = _numbers_with(connection, selection.tokens or ())
        connection.executemany("INSERT INTO chosen VALUES (?)", [(number,) for number in numbers])


def _numbers_with(connection: sqlite3.Connection, tokens: Sequence[bytes]) -> set[int]:
    numbers: set[int] = set()
    for at in range(0, len(tokens), _TOKENS_AT_ONCE):
        some = tokens[at : at + _TOKENS_AT_ONCE]
        places = ", ".join("?" * len(some))
        rows = connection.execute(f"SELECT details FROM token WHERE token IN ({places})", some)  # noqa: S608
        numbers.update(number for (number,) in rows)
    return numbers
