"""What all nodes must have in common: one policy, one keyring. A node that differs serves nobody.

Policy and keyring are files of each node. Two nodes with different ones would decide differently, or
give one subject two pseudonyms, depending on which of them is asked. So the deployment's fingerprints
stand in the database: the first node to start writes them, every other compares, and a change is
made known with `gateway database adopt`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import psycopg

from gateway.database.address import PostgresAddress
from gateway.database.errors import DatabaseRefusedError, DatabaseUnavailableError
from gateway.database.notices import Notices
from gateway.database.session import connect, unavailable
from gateway.errors import ConfigError, GatewayError, Reason

CHANNEL: Final = "sluicegate_state"
LOOK_INTERVAL_S: Final = 0.25
STALE_AFTER_S: Final = 1.0


class Agreement:
    """Compares what this node holds with what the deployment has agreed on."""

    def __init__(self, address: PostgresAddress, held: Mapping[str, str]) -> None:
        """Take what this node holds: fingerprints by name."""
        self._address = address
        self._held = dict(held)
        self._notices = Notices(address, CHANNEL)
        self._lock = threading.Lock()
        self._connection: psycopg.Connection[Any] | None = None
        self._differing: tuple[str, ...] = ()
        self._read_at: float | None = None

    def join(self) -> None:
        """Agree to what stands there, or write it if nothing does.

        Raises `ConfigError` if this node holds something else, and `DatabaseUnavailableError`.
        """
        self._execute(
            "INSERT INTO shared_state (name, value, generation)"
            " SELECT name, value, 1 FROM unnest(%s::text[], %s::text[]) AS held (name, value)"
            " ON CONFLICT (name) DO NOTHING"
        )
        self.look()
        if self._differing:
            raise ConfigError(
                f"This node's {' and '.join(self._differing)} is not that of the deployment's other nodes. "
                "Bring the same files here; or, if this node has the new ones, run `gateway database adopt` "
                "here, and restart the others with them."
            )

    def adopt(self) -> tuple[str, ...]:
        """Make what this node holds that of the deployment; return what is new in it.

        Nodes that hold something else serve nobody from then on, until they are restarted with it.
        """
        changed = self._execute(
            "INSERT INTO shared_state (name, value, generation)"
            " SELECT name, value, 1 FROM unnest(%s::text[], %s::text[]) AS held (name, value)"
            " ON CONFLICT (name) DO UPDATE SET value = excluded.value,"
            " generation = shared_state.generation + 1 WHERE shared_state.value <> excluded.value"
            " RETURNING name"
        )
        return tuple(sorted(name for (name,) in changed))

    def look(self) -> None:
        """Compare once more; raise `DatabaseUnavailableError` or `DatabaseRefusedError`."""
        differing = self._execute(
            "SELECT name FROM unnest(%s::text[], %s::text[]) AS held (name, value)"
            " LEFT JOIN shared_state AS agreed USING (name)"
            " WHERE agreed.value IS DISTINCT FROM held.value ORDER BY name"
        )
        self._differing = tuple(name for (name,) in differing)

    def require(self) -> None:
        """Raise `GatewayError` unless this node holds what all hold, as of a moment ago."""
        if self._differing:
            raise GatewayError(
                f"This node runs another {' and another '.join(self._differing)} than the deployment's other "
                "nodes, and serves nobody until its operator restarts it with theirs; try another node.",
                reason=Reason.POLICY_STALE,
            )
        if self._read_at is not None and _now() - self._read_at > STALE_AFTER_S:
            raise GatewayError(
                "This node cannot tell whether it runs the deployment's policy; try again later.",
                reason=Reason.POLICY_STALE,
            )

    async def keep_current(self) -> None:
        """Compare again and again, until cancelled."""
        self._read_at = _now()
        while True:
            await self._notices.wait(LOOK_INTERVAL_S)
            # What fails here is told by `require`, to everybody who asks for something.
            with suppress(DatabaseUnavailableError, DatabaseRefusedError):
                await asyncio.to_thread(self.look)
                self._read_at = _now()

    def close(self) -> None:
        """Close the session. May be called twice."""
        self._notices.close()
        with self._lock:
            if self._connection is not None:
                self._connection.close()

    def _execute(self, statement: str) -> list[tuple[Any, ...]]:
        values = (list(self._held), list(self._held.values()))
        with self._lock:
            try:
                if self._connection is None or self._connection.closed:
                    self._connection = connect(self._address, "agree", statement_timeout_s=STALE_AFTER_S)
                cursor = self._connection.execute(statement, values)
                return cursor.fetchall() if cursor.description else []
            except psycopg.Error as error:
                if self._connection is not None:
                    self._connection.close()
                raise unavailable(error) from None


def _now() -> float:
    return asyncio.get_running_loop().time()
