"""Stamping the latest checkpoint now and then, for as long as the process runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from gateway.audit.checkpoint import open_checkpoint
from gateway.audit.errors import LogUnavailableError, NoteError
from gateway.audit.note import Ed25519Verifier
from gateway.clock import Clock, system_clock
from gateway.errors import GatewayError
from gateway.timestamps.store import Timestamp, TimestampStore
from gateway.timestamps.token import MAX_CLOCK_DIFFERENCE, Authorities, TimestampError, make_request


class AskedAuthority(Protocol):
    """A time-stamping authority."""

    async def ask(self, request: bytes) -> bytes:
        """Return its answer, unverified; raise `TimestampUnavailableError`."""
        ...


def _ignore(*_: object) -> None:
    """Take no notice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StamperHooks:
    """Callbacks for the operators' log; they must be quick."""

    stamped: Callable[[Timestamp], None] = _ignore
    failed: Callable[[GatewayError], None] = _ignore


class Stamper:
    """Has the latest checkpoint stamped whenever the log has grown."""

    def __init__(
        self,
        checkpoint: Callable[[], str],
        verifier: Ed25519Verifier,
        authority: AskedAuthority,
        authorities: Authorities,
        store: TimestampStore,
        *,
        clock: Clock = system_clock,
        hooks: StamperHooks | None = None,
    ) -> None:
        """Take what reads the log's latest checkpoint (it may block), whom to ask and whom to believe."""
        self._checkpoint = checkpoint
        self._verifier = verifier
        self._authority = authority
        self._authorities = authorities
        self._store = store
        self._clock = clock
        self._hooks = hooks or StamperHooks()

    async def stamp(self) -> Timestamp | None:
        """Stamp the latest checkpoint and keep the token; None if that one has been stamped already.

        Raises `TimestampUnavailableError`, `TimestampError` if the answer does not verify,
        `LogUnavailableError` and `TimestampStoreError`.
        """
        note = await asyncio.to_thread(self._checkpoint)
        try:
            size = open_checkpoint(note, [self._verifier], origin=self._verifier.name).size
        except NoteError as error:
            raise LogUnavailableError(
                "The log's checkpoint is not signed by its key; run `gateway audit fsck`."
            ) from error
        known = await asyncio.to_thread(self._store.latest)
        if known is not None and known.note == note:
            return None
        request = make_request(note)
        token = await self._authority.ask(request.data)
        time = self._authorities.verify(token, note, nonce=request.nonce)
        if abs(time - self._clock()) > MAX_CLOCK_DIFFERENCE:
            raise TimestampError(
                "The authority's time differs from ours by more than 5 minutes; one of the clocks is wrong."
            )
        timestamp = Timestamp(size, time, note, token)
        await asyncio.to_thread(self._store.add, timestamp)
        self._hooks.stamped(timestamp)
        return timestamp

    async def run(self, interval_s: float, retry_s: float) -> None:
        """Stamp every `interval_s`, after a failure already in `retry_s`, until cancelled. Failures pass."""
        while True:
            wait_s = interval_s
            try:
                await self.stamp()
            except GatewayError as error:
                self._hooks.failed(error)
                wait_s = min(interval_s, retry_s)
            await asyncio.sleep(wait_s)
