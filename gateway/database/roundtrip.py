"""Several prepared statements in one round trip, with a time limit, on a session of the driver.

The driver's own pipeline mode waits for the network after each statement, and every wait hands the
interpreter to other threads. An append happens under a lock that other nodes wait for, so that what
it sends and receives goes through libpq directly: as much as possible sent at once, one wait.
"""

from __future__ import annotations

import select
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from struct import Struct
from types import TracebackType
from typing import Any, Final, Self

import psycopg
from psycopg import errors, pq

ANSWER_TIMEOUT_S: Final = 8.0
"""Longer than any time limit of the server's own: what takes longer than this is a server that hangs."""

BYTEA: Final = 17
TEXT: Final = 25
BIGINT: Final = 20
"""Type numbers of PostgreSQL (`pg_type.dat`); they never change."""

_BINARY: Final = 1
_ARRAY: Final = Struct("!iiIii")
"""Of an array: dimensions, whether there are NULLs, element type, length, lower bound."""
_NULL: Final = (-1).to_bytes(4, "big", signed=True)
_TRAILER: Final = (pq.ExecStatus.PIPELINE_SYNC,)
_GOOD: Final = (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK)


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement that a session prepares once. Its values are given in PostgreSQL's binary form."""

    name: str
    types: tuple[str, ...]
    """The types of its values, such as `bigint`."""
    text: str
    """With `$1` for the first value."""


def prepare_statements(connection: psycopg.Connection[Any], statements: Iterable[Statement]) -> None:
    """Let the server parse `statements`, for as long as the session lives; raise `psycopg.Error`.

    The driver prepares nothing of its own there any more: after a ROLLBACK it would have the server forget
    everything that is prepared (`DEALLOCATE ALL`), ours too.
    """
    connection.prepare_threshold = None
    for statement in statements:
        types = f" ({', '.join(statement.types)})" if statement.types else ""
        connection.execute(f"PREPARE {statement.name}{types} AS {statement.text}")


class RoundTrips:
    """A block in which statements are sent together; the session is of no other use meanwhile.

    A block that ends before all answers are in, for whatever reason, closes the session.
    """

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self._libpq = connection.pgconn
        self._poll = select.poll()
        self._sent = 0

    def __enter__(self) -> Self:
        if self._connection.closed:
            raise psycopg.OperationalError("the session is closed")
        self._libpq.enter_pipeline_mode()
        self._poll.register(self._libpq.socket, select.POLLIN)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._sent:
            self._connection.close()
        elif not self._connection.closed:
            self._libpq.exit_pipeline_mode()

    def send(self, statement: Statement, *values: bytes) -> None:
        """Send a prepared statement with its values."""
        self._libpq.send_query_prepared(
            statement.name.encode(), values, param_formats=[_BINARY] * len(values), result_format=_BINARY
        )
        self._sent += 1

    def command(self, text: bytes) -> None:
        """Send a command without values, such as BEGIN."""
        self._libpq.send_query_params(text, None)
        self._sent += 1

    def push(self) -> None:
        """Let the server begin with what was sent; do not wait for answers."""
        deadline = time.monotonic() + ANSWER_TIMEOUT_S
        while self._libpq.flush():
            self._wait(deadline, select.POLLIN | select.POLLOUT)

    def receive(self) -> list[pq.abc.PGresult]:
        """Wait for the answers to all that was sent; return one for each.

        Raises the `psycopg.Error` of the first statement that failed; those after it did not run.
        """
        self._libpq.pipeline_sync()
        self.push()
        answers = list(self._answers(time.monotonic() + ANSWER_TIMEOUT_S))
        self._sent = 0
        for answer in answers:
            if answer.status not in _GOOD:
                state = answer.error_field(pq.DiagnosticField.SQLSTATE) or b""
                raise errors.lookup(state.decode())() if state else psycopg.OperationalError("no answer")
        return answers

    def _answers(self, deadline: float) -> Iterator[pq.abc.PGresult]:
        while True:
            while self._libpq.is_busy():
                self._wait(deadline, select.POLLIN)
            answer = self._libpq.get_result()
            # None stands between the answers to two statements.
            if answer is None:
                if self._libpq.status == pq.ConnStatus.BAD:
                    raise psycopg.OperationalError("the connection broke off")
                continue
            if answer.status in _TRAILER:
                return
            yield answer
            if self._libpq.status == pq.ConnStatus.BAD:
                raise psycopg.OperationalError("the connection broke off")

    def _wait(self, deadline: float, events: int) -> None:
        self._poll.modify(self._libpq.socket, events)
        left = deadline - time.monotonic()
        if left <= 0 or not (ready := self._poll.poll(left * 1000)):
            raise errors.ConnectionTimeout("the server does not answer")
        if any(event & ~select.POLLOUT for _, event in ready):
            self._libpq.consume_input()


def to_bigint(value: int) -> bytes:
    """Return a bigint in PostgreSQL's binary form."""
    return value.to_bytes(8, "big", signed=True)


def from_bigint(value: bytes) -> int:
    """Return the number in a bigint's binary form."""
    return int.from_bytes(value, "big", signed=True)


def to_array(element: int, values: Sequence[bytes | None]) -> bytes:
    """Return a one-dimensional array (`array_send` in PostgreSQL's sources); None is a NULL."""
    parts = [_ARRAY.pack(1, None in values, element, len(values), 1)]
    for value in values:
        parts += (_NULL,) if value is None else (len(value).to_bytes(4, "big"), value)
    return b"".join(parts)


def read_rows(answer: pq.abc.PGresult) -> Iterator[list[bytes]]:
    """Yield the rows of an answer that holds no NULL."""
    columns = range(answer.nfields)
    for row in range(answer.ntuples):
        yield [answer.get_value(row, column) or b"" for column in columns]
