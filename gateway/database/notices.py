"""Hearing of a change that another node has made (PostgreSQL's LISTEN and NOTIFY).

A notice only says when to look. Whoever misses one, while a connection is being opened anew, looks
as often as without notices: nothing depends on hearing them but how soon.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import psycopg

from gateway.database.address import PostgresAddress
from gateway.database.session import session_parameters
from gateway.errors import ConfigError


class Notices:
    """Listens to one channel of the shared database, for one event loop."""

    def __init__(self, address: PostgresAddress, channel: str) -> None:
        """Name the channel; the connection is made when it is first waited for."""
        self._address = address
        self._channel = channel
        self._connection: psycopg.AsyncConnection[Any] | None = None

    async def wait(self, timeout_s: float) -> None:
        """Return at the next notice, at the latest after `timeout_s`; never raises."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        try:
            if self._connection is None or self._connection.closed:
                async with asyncio.timeout_at(deadline):
                    self._connection = await self._listen()
            left = max(0.0, deadline - loop.time())
            async for _ in self._connection.notifies(timeout=left, stop_after=1):
                return
        except (psycopg.Error, ConfigError, TimeoutError):
            await self._hang_up()
            await asyncio.sleep(max(0.0, deadline - loop.time()))

    def close(self) -> None:
        """Close the connection. May be called twice."""
        connection, self._connection = self._connection, None
        if connection is not None:
            # Without a word to the server, for which the loop would have to run on.
            connection.pgconn.finish()

    async def _listen(self) -> psycopg.AsyncConnection[Any]:
        connection = await psycopg.AsyncConnection.connect(
            **session_parameters(self._address, f"hear {self._channel}"), autocommit=True
        )
        try:
            await connection.execute(f"LISTEN {self._channel}")
        except BaseException:
            connection.pgconn.finish()
            raise
        return connection

    async def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                await connection.close()
