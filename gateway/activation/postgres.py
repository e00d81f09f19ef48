"""Bundle files and approvals in PostgreSQL, for several nodes: every node hears of a proposal at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg

from gateway.activation.errors import ShelfError
from gateway.activation.shelf import Proposal
from gateway.database.address import PostgresAddress
from gateway.database.errors import DatabaseRefusedError, DatabaseUnavailableError
from gateway.database.notices import Notices
from gateway.database.session import advice_for, connect

CHANNEL: Final = "sluicegate_policy"

STATEMENT_TIMEOUT_S: Final = 0.8
"""Shorter than what is in force stays known: what takes longer is as good as no answer."""

_PUT_LOCK: Final = 0x504F_4C59
"""Advisory lock (`POLY`): one proposal is put there after the other."""


class PostgresShelf:
    """A shelf in the shared database. Safe from any thread; one session, opened when it is needed."""

    def __init__(self, address: PostgresAddress) -> None:
        """Name the shelf; nothing is opened yet."""
        self._address = address
        self._lock = threading.Lock()
        self._connection: psycopg.Connection[Any] | None = None
        self._notices = Notices(address, CHANNEL)

    def latest(self) -> tuple[int, str]:
        """Return (number, digest of the statement) of the newest proposal; (0, "") without any."""
        with self._transaction() as connection:
            row = connection.execute(
                "SELECT sequence, statement FROM policy_proposal ORDER BY sequence DESC LIMIT 1"
            ).fetchone()
        return (0, "") if row is None else (int(row[0]), str(row[1]))

    def put(self, statement: str, envelope: bytes, bundle: str, file_digest: str, file: bytes) -> None:
        """Keep an approval and its bundle file; see `Shelf.put`."""
        with self._transaction() as connection:
            # So that numbers are seen in their order: a node that has seen one has seen those before it.
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (_PUT_LOCK,))
            connection.execute(
                "INSERT INTO policy_file (digest, bundle, content) VALUES (%s, %s, %s)"
                " ON CONFLICT DO NOTHING",
                (file_digest, bundle, file),
            )
            connection.execute(
                "INSERT INTO policy_proposal (sequence, statement, file, envelope)"
                " SELECT coalesce(max(sequence), 0) + 1, %s, %s, %s FROM policy_proposal",
                (statement, file_digest, envelope),
            )

    def find(self, statement: str) -> Proposal | None:
        """Return the newest proposal with the statement of this digest."""
        with self._transaction() as connection:
            row = connection.execute(
                "SELECT sequence, envelope, content FROM policy_proposal"
                " JOIN policy_file ON policy_file.digest = policy_proposal.file"
                " WHERE statement = %s ORDER BY sequence DESC LIMIT 1",
                (statement,),
            ).fetchone()
        return None if row is None else Proposal(int(row[0]), statement, bytes(row[1]), bytes(row[2]))

    def file_of(self, bundle: str) -> bytes | None:
        """Return the newest bundle file whose bundle has this digest, unverified."""
        with self._transaction() as connection:
            row = connection.execute(
                "SELECT content FROM policy_file JOIN policy_proposal ON policy_proposal.file = digest"
                " WHERE bundle = %s ORDER BY sequence DESC LIMIT 1",
                (bundle,),
            ).fetchone()
        return None if row is None else bytes(row[0])

    async def await_change(self, timeout_s: float) -> None:
        """Return at a notice of a proposal, at the latest after `timeout_s`."""
        await self._notices.wait(timeout_s)

    def close(self) -> None:
        """Close the sessions. May be called twice."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None
        self._notices.close()

    @contextmanager
    def _transaction(self) -> Iterator[psycopg.Connection[Any]]:
        with self._lock:
            try:
                if self._connection is None or self._connection.closed:
                    self._connection = connect(
                        self._address, "policy", statement_timeout_s=STATEMENT_TIMEOUT_S
                    )
                with self._connection.transaction():
                    yield self._connection
            except (DatabaseUnavailableError, DatabaseRefusedError) as error:
                raise ShelfError(error.message) from error
            except psycopg.Error as error:
                if self._connection is not None:
                    self._connection.close()
                raise ShelfError(f"The policy store cannot be used: {advice_for(error)}.") from None
