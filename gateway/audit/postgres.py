"""Writing an audit log to PostgreSQL: several nodes, one log, no leader.

Each node appends what waits for it in one transaction of two round trips. The first locks the head
row, claims the once-keys, and brings what other nodes have appended since; the second stores entries,
tiles and blocks, moves the head, and commits. The row lock orders the nodes; the head that a node
finds is verified to extend the one it knew before anything is signed over it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Self

import psycopg
from psycopg import errors as pg

from gateway.audit.blocks import BlockSummary
from gateway.audit.errors import LogMismatchError, LogUnavailableError
from gateway.audit.numbering import Pair
from gateway.audit.open_block import OpenBlock
from gateway.audit.postgres_reader import PostgresIndex, PostgresTiles
from gateway.audit.postgres_rows import (
    ADDED_SINCE,
    CLAIM_KEYS,
    FOLLOWED_AT_ONCE,
    INSERT_ENTRIES,
    KEEP_NUMBERS,
    LAST_NUMBERS,
    LOCK_HEAD,
    MOVE_HEAD,
    PROBE,
    PRUNE_KEYS,
    STATEMENTS,
    Claims,
    gather_claims,
    index_columns,
    leaf_columns,
    number_columns,
    pair_columns,
)
from gateway.audit.store import (
    Appended,
    LogIdentity,
    PendingEntry,
    SignHead,
    awaited_pairs,
    give_numbers,
)
from gateway.audit.tiles import TILE_WIDTH
from gateway.audit.transaction import (
    Head,
    StoredHead,
    closes_log,
    contradiction,
    follow_head,
    full_tiles,
    head_after,
    refuse_closed,
    verify_head,
    verify_identity,
)
from gateway.audit.tree import EMPTY_ROOT, Batch, Frontier, append
from gateway.database.address import PostgresAddress
from gateway.database.errors import DatabaseRefusedError, DatabaseUnavailableError
from gateway.database.privileges import require_guards, require_modest_role
from gateway.database.roundtrip import (
    RoundTrips,
    from_bigint,
    prepare_statements,
    read_rows,
    to_bigint,
)
from gateway.database.session import advice_for, connect
from gateway.errors import ConfigError

_PRUNE_INTERVAL_US: Final = 1_000_000
_WRITER: Final = "write the log"
"""What sessions that append are called in the server's list of sessions."""
_CREATION_LOCK: Final = 0x534C_4F47
"""Number of the advisory lock (`SLOG`) under which a log is made."""

_BUSY: Final = (pg.LockNotAvailable,)
_DAMAGED: Final = (pg.IntegrityError, pg.DataCorrupted, pg.IndexCorrupted)

_Connection = psycopg.Connection[Any]


def require_vacant(address: PostgresAddress) -> None:
    """Raise `ConfigError` while any node, wherever it runs, has the log at `address` open for writing.

    Who opens it afterwards is not kept from it, but from what the log no longer takes (`log.closed`).
    Raises `LogUnavailableError` if the database cannot be asked.
    """
    try:
        with connect(address, "look for writers") as connection:
            found = connection.execute(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name = %s",
                (f"sluicegate {_WRITER}",),
            ).fetchone()
    except DatabaseUnavailableError as error:
        raise LogUnavailableError(error.message) from error
    except psycopg.Error as error:
        raise LogUnavailableError(f"The audit log cannot be looked at: {advice_for(error)}.") from None
    if found != (0,):
        raise ConfigError(
            "A gateway or a command has this audit log open: stop the gateway on every node first, and try "
            "again."
        )


@dataclass(frozen=True, slots=True)
class _Locked:
    """What the first round trip brought: the head row as it is now, under our lock."""

    size: int
    frontier: bytes
    note: str
    added: list[tuple[bytes, str]]
    """Leaf hash and kind of the entries since the head we knew."""
    granted: list[bytes]
    """The once-keys that were free."""
    numbers: dict[Pair, int]
    """The last numbers of the pairs asked for, where they have one."""


class PostgresStore:
    """The writing side of an audit log in PostgreSQL.

    After every error but a head that another node held too long, the session is given up. The next
    append opens a new one, looks again at server, schema, role and guards, waits until a transaction of
    ours that may still be running there has ended, and verifies the head before it builds on it. So a
    COMMIT whose answer was lost is settled by reading, never by signing again.
    """

    def __init__(self, address: PostgresAddress) -> None:
        self.address = address
        self._connection: _Connection | None = None
        self._identity: LogIdentity | None = None
        self._head: Head | None = None
        self._block = OpenBlock()
        self._prune_from_us = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self, identity: LogIdentity, sign: SignHead) -> None:
        """Open the log; make it, with a signed checkpoint of size 0, if the database holds none.

        Raises `LogMismatchError` if it holds another log or contradicts its own checkpoint,
        `LogUnavailableError` if the database cannot be reached, and `ConfigError` if the server may lose
        what it acknowledges, the schema is of another version, or the role may do more than it must.
        """
        self._identity = identity
        with self._faults():
            connection = self._connect()
            with connection.transaction():
                # Of two nodes that would make the log at once, the second waits and finds it made.
                connection.execute("SELECT pg_advisory_xact_lock(%s)", (_CREATION_LOCK,))
                if connection.execute("SELECT 1 FROM log UNION ALL SELECT 1 FROM entry").fetchone() is None:
                    _create_log(connection, identity, sign)
                self._head = self._verified_head(connection)
            refuse_closed(self._head)

    def append(self, pending: Sequence[PendingEntry], sign: SignHead, now: datetime) -> Appended:
        """Append entries in one transaction; when it returns, they are durable.

        Entries whose once-key is taken are left out and named in the answer. Raises
        `LogUnavailableError`: then nothing may be taken as logged, though where the answer to a COMMIT
        was lost some of it may turn out to be.
        """
        columns = index_columns(pending)
        claims = gather_claims(pending, now)
        pairs = awaited_pairs(pending)
        with self._writing() as connection:
            with RoundTrips(connection) as trips:
                locked = self._lock(trips, claims, pairs)
            head = self._current_head(connection, locked)
            refuse_closed(head)
            refused = claims.refused(locked.granted) if claims is not None else frozenset()
            if refused:
                pending = [item for at, item in enumerate(pending) if at not in refused]
                if not pending:
                    return Appended(None, head.note, refused)
                columns = index_columns(pending)
            pending, given = give_numbers(pending, lambda pair: locked.numbers.get(pair, 0))
            closed = closes_log(pending)
            batch = append(head.frontier, [item.leaf_hash for item in pending])
            tail = [*head.tail, *[item.leaf_hash for item in pending]]
            if len(tail) >= TILE_WIDTH:
                _insert_tiles(connection, batch, tail)
                _insert_blocks(
                    connection, self._block.summaries(batch, pending, PostgresIndex(connection).rows)
                )
            with RoundTrips(connection) as trips:
                trips.send(INSERT_ENTRIES, to_bigint(batch.first), *leaf_columns(pending), *columns)
                if given:
                    trips.send(KEEP_NUMBERS, *number_columns(given))
                self._prune(trips, claims)
                trips.push()
                # Signed while the server stores the rows.
                note = sign(batch.frontier.size, batch.root)
                trips.send(
                    MOVE_HEAD,
                    to_bigint(batch.frontier.size),
                    batch.frontier.to_bytes(),
                    note.encode(),
                    to_bigint(batch.first),
                )
                trips.command(b"COMMIT")
                *_, moved, _ = trips.receive()
            if moved.command_tuples != 1:
                raise LogMismatchError("The head of the audit log did not move with its entries.")
            self._head = head_after(batch, note, tail, closed=closed)
        self._block.follow(batch, pending)
        return Appended(batch, note, refused, pending)

    def probe(self) -> None:
        """Prove with a durable write that the log can append, opening a new session where need be."""
        with self._writing() as connection:
            with RoundTrips(connection) as trips:
                locked = self._lock(trips, None, ())
            refuse_closed(self._current_head(connection, locked))
            with RoundTrips(connection) as trips:
                trips.send(PROBE)
                trips.command(b"COMMIT")
                trips.receive()

    def maintain(self) -> None:
        """Sum up entries; the server keeps house by itself."""
        self._block.sum_up()

    def close(self) -> None:
        """Close the session. May be called twice."""
        self._give_up()

    @contextmanager
    def _writing(self) -> Iterator[_Connection]:
        """Give a session that can begin a transaction; roll back unless the block commits."""
        with self._faults():
            connection = self._connection
            if connection is None:
                connection = self._reopen()
            try:
                yield connection
            finally:
                if not connection.closed and connection.info.transaction_status != _IDLE:
                    connection.execute("ROLLBACK")

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """Turn faults of the database into our errors; give up the session where its state is unsure."""
        try:
            yield
        except _BUSY as error:
            raise LogUnavailableError(f"The audit log cannot be written: {advice_for(error)}.") from None
        except psycopg.Error as error:
            self._give_up()
            if isinstance(error, _DAMAGED):
                raise LogMismatchError(
                    "The audit log is damaged, or somebody else writes to it; run `gateway audit fsck`."
                ) from None
            raise LogUnavailableError(f"The audit log cannot be written: {advice_for(error)}.") from None
        except DatabaseUnavailableError as error:
            raise LogUnavailableError(error.message) from error
        except (LogUnavailableError, DatabaseRefusedError):
            self._give_up()
            raise

    def _connect(self) -> _Connection:
        self._give_up()
        connection = connect(self.address, _WRITER)
        try:
            require_modest_role(connection)
            require_guards(connection)
            prepare_statements(connection, STATEMENTS)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    def _reopen(self) -> _Connection:
        """Open a new session after a fault; nothing is built on the log before it is verified."""
        try:
            connection = self._connect()
            with connection.transaction():
                # Waits for a transaction of ours whose end we did not hear of.
                connection.execute("SELECT 1 FROM head FOR UPDATE")
                self._head = self._verified_head(connection)
        except DatabaseRefusedError as error:
            raise LogUnavailableError(error.message) from error
        return connection

    def _give_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _lock(self, trips: RoundTrips, claims: Claims | None, pairs: Collection[Pair]) -> _Locked:
        """Begin a transaction, lock the head, claim keys, and read what is new, in one round trip."""
        known = self._head.frontier.size if self._head is not None else 0
        trips.command(b"BEGIN")
        trips.send(LOCK_HEAD)
        trips.send(ADDED_SINCE, to_bigint(known))
        if claims is not None:
            trips.send(CLAIM_KEYS, *claims.values())
        if pairs:
            trips.send(LAST_NUMBERS, *pair_columns(pairs))
        _, head, added, *others = trips.receive()
        numbers = others.pop() if pairs else None
        if head.ntuples != 1:
            raise LogMismatchError("The audit log has no head; run `gateway audit fsck` and restore it.")
        [(size, frontier, note, is_durable)] = read_rows(head)
        if is_durable != _TRUE:
            raise LogUnavailableError(
                "The audit log cannot be written: somebody switched off fsync, full_page_writes or "
                "synchronous_commit on the database server; switch it on, and the gateway goes on by itself."
            )
        return _Locked(
            from_bigint(size),
            frontier,
            note.decode(),
            [(hashed, kind.decode()) for hashed, kind in read_rows(added)],
            [key for answer in others for (key,) in read_rows(answer)],
            {
                (consumer.decode(), provider.decode()): from_bigint(last)
                for consumer, provider, last in (() if numbers is None else read_rows(numbers))
            },
        )

    def _current_head(self, connection: _Connection, locked: _Locked) -> Head:
        """Return the head to build on: the one this process wrote, or a verified one by another."""
        assert self._identity is not None, "the store is opened first"
        known = self._head
        if known is not None and not locked.added:
            if (locked.size, locked.note) == (known.frontier.size, known.note):
                return known
        elif known is not None and len(locked.added) < FOLLOWED_AT_ONCE:
            self._head = follow_head(
                known, locked.size, locked.frontier, locked.note, locked.added, self._identity
            )
            return self._head
        self._head = self._verified_head(connection)
        return self._head

    def _verified_head(self, connection: _Connection) -> Head:
        """Return the stored head once identity, checkpoint, right edge and entries agree."""
        assert self._identity is not None, "the store is opened first"
        identity = connection.execute("SELECT origin, vkey FROM log").fetchone()
        verify_identity(identity, self._identity)
        row = connection.execute(
            "SELECT size, frontier, head.note, last.idx, last.kind, checkpoint.note"
            " FROM head LEFT JOIN checkpoint USING (size)"
            " LEFT JOIN (SELECT idx, kind FROM entry ORDER BY idx DESC LIMIT 1) AS last ON true",
            binary=True,
        ).fetchone()
        if row is None:
            raise contradiction()
        stored = StoredHead(identity, *row)
        verified = verify_head(stored, PostgresTiles(connection), self._identity, self._head)
        rows = connection.execute(
            "SELECT hash FROM entry WHERE idx >= %s ORDER BY idx",
            (stored.size - stored.size % TILE_WIDTH,),
            binary=True,
        )
        return Head(verified, stored.note, tuple(hashed for (hashed,) in rows), stored.closed)

    def _prune(self, trips: RoundTrips, claims: Claims | None) -> None:
        if claims is not None and claims.now >= self._prune_from_us:
            trips.send(PRUNE_KEYS, to_bigint(claims.now))
            self._prune_from_us = claims.now + _PRUNE_INTERVAL_US


_IDLE: Final = psycopg.pq.TransactionStatus.IDLE
_TRUE: Final = b"\x01"


def _create_log(connection: _Connection, identity: LogIdentity, sign: SignHead) -> None:
    note = sign(0, EMPTY_ROOT)
    connection.execute("INSERT INTO log VALUES (1, %s, %s)", (identity.origin, identity.verifier.vkey()))
    connection.execute("INSERT INTO head VALUES (1, 0, %s, %s)", (Frontier().to_bytes(), note))
    connection.execute("INSERT INTO checkpoint VALUES (0, %s)", (note,))


def _insert_tiles(connection: _Connection, batch: Batch, tail: Sequence[bytes]) -> None:
    """Store the tiles that the batch made full. `tail` begins with the first of those of level 0."""
    for tile, root, hashes in full_tiles(batch, tail, PostgresTiles(connection).row):
        connection.execute(
            "INSERT INTO tile (level, number, root, hashes) VALUES (%s, %s, %s, %s)",
            (tile.level, tile.number, root, hashes),
        )


def _insert_blocks(connection: _Connection, full: Iterable[tuple[int, BlockSummary]]) -> None:
    for number, summary in full:
        connection.execute(
            "INSERT INTO block (number, first_time, last_time) VALUES (%s, %s, %s)",
            (number, summary.first_time, summary.last_time),
        )
        terms = sorted(summary.bits)
        connection.execute(
            "INSERT INTO block_term (term, number, bits)"
            " SELECT term, %s, bits FROM unnest(%s::text[], %s::bytea[]) AS found (term, bits)",
            (number, terms, [summary.bits[term] for term in terms]),
        )
