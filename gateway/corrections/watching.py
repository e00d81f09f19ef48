"""Watching: a recipient's stream of the corrections that it must answer.

What waits comes first, then what is announced, in order. A stream that was cut goes on after the last
position that its reader has dealt with; without one it begins anew with everything not answered.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Final

from gateway.corrections.attempt import Attempt, CorrectionLog
from gateway.corrections.database import Tables
from gateway.corrections.notices import Notices, WaitingNotice
from gateway.corrections.tokens import CorrectionKeys
from gateway.errors import GatewayError, Reason
from gateway.evidence import dsse
from gateway.evidence.correction import NOTICE_TYPE
from gateway.evidence.keys import SigningKey
from gateway.exchange.admission import admit
from gateway.exchange.call import Call
from gateway.model import EntryKind, Role

LOOK_INTERVAL_S: Final = 0.25
"""How often somebody else's announcement is looked for, if nothing tells of it sooner."""
ADMIT_INTERVAL_S: Final = 0.25
"""How often a waiting stream asks whether its member is still served: a suspension bites within a second."""
KEEP_ALIVE_S: Final = 15.0
END_BEFORE_S: Final = 0.5
"""So long before its deadline a stream ends by itself, so that its end is no error."""
MAX_STREAMS: Final = 4
"""Open streams of one member at one process."""
BATCH: Final = 20

METHOD: Final = "WatchCorrections"


@dataclass(frozen=True, slots=True)
class Delivery:
    """A notice on its way."""

    position: int
    envelope: dsse.Envelope
    """The notice, signed by the gateway."""
    entry: int
    """Index of `correction.announced`."""


class Bulletin:
    """Knows of the latest publication, whichever process made it. For one event loop."""

    def __init__(self, tables: Tables, stored: Notices) -> None:
        self._tables = tables
        self._stored = stored
        self._changed = asyncio.Event()
        self.revision = 0

    async def keep_fresh(self, on_error: Callable[[GatewayError], None]) -> None:
        """Look again and again, until cancelled; `on_error` hears of each look that failed."""
        while True:
            try:
                revision = await asyncio.to_thread(self._stored.revision)
            except GatewayError as error:
                on_error(error)
            else:
                if revision != self.revision:
                    self.revision = revision
                    self._changed.set()
                    self._changed = asyncio.Event()
            await self._tables.await_change(LOOK_INTERVAL_S)

    async def wait_beyond(self, revision: int, timeout_s: float) -> None:
        """Return when there is more than at `revision`, at the latest after `timeout_s`."""
        if self.revision != revision:
            return
        try:
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
        except TimeoutError:
            return


class Watching:
    """Serves recipients' streams. One instance serves all calls of a process, on its event loop."""

    def __init__(
        self,
        log: CorrectionLog,
        stored: Notices,
        keys: CorrectionKeys,
        signing_key: SigningKey,
        bulletin: Bulletin,
    ) -> None:
        self._log = log
        self._stored = stored
        self._keys = keys
        self._signing_key = signing_key
        self._bulletin = bulletin
        self._streams: Counter[str] = Counter()

    async def watch(self, call: Call, after: int) -> AsyncGenerator[Delivery | None, None]:
        """Yield what the caller must answer, from after position `after` on.

        None says that all that waited has been sent, and later keeps the stream alive. Ends a little before
        the caller's deadline. Raises `GatewayError`, also when the member is suspended meanwhile.
        """
        attempt = Attempt(call, METHOD)
        try:
            member = self._log.admit(attempt, Role.CONSUMER)
            self._require_room(member.id, after)
        except GatewayError as error:
            raise await self._log.refuse(attempt, error) from error
        self._streams[member.id] += 1
        try:
            async for item in self._items(call, member.id, after):
                yield item
        finally:
            self._streams[member.id] -= 1

    def _require_room(self, member: str, after: int) -> None:
        if after < 0:
            raise GatewayError("after must not be negative.", reason=Reason.REQUEST_MALFORMED)
        if self._streams[member] >= MAX_STREAMS:
            raise GatewayError(
                f"This member has {MAX_STREAMS} streams of corrections open; close one.",
                reason=Reason.OVERLOADED,
            )

    async def _items(self, call: Call, member: str, after: int) -> AsyncGenerator[Delivery | None, None]:
        loop = asyncio.get_running_loop()
        until = loop.time() + call.timeout_s - END_BEFORE_S
        spoke, caught_up = loop.time(), False
        while loop.time() < until:
            revision = self._bulletin.revision
            found = await asyncio.to_thread(self._stored.waiting, member, after, BATCH)
            for waiting in found:
                yield await self._deliver(call, waiting)
                after, spoke = waiting.position, loop.time()
            if len(found) == BATCH:
                continue
            if not caught_up:
                yield None
                caught_up = True
            while self._bulletin.revision == revision and loop.time() < until:
                self._admit(call)
                if loop.time() - spoke >= KEEP_ALIVE_S:
                    yield None
                    spoke = loop.time()
                await self._bulletin.wait_beyond(revision, min(ADMIT_INTERVAL_S, max(until - loop.time(), 0)))

    async def _deliver(self, call: Call, waiting: WaitingNotice) -> Delivery:
        """Return the notice to send, once the log says that it was."""
        correction, notice = waiting.correction, waiting.notice
        payload = self._keys.open(notice.content, correction.id, notice.recipient)
        if not waiting.delivered:
            entry = self._log.entry(
                EntryKind.CORRECTION_DELIVERED,
                correction.id,
                consumer=notice.recipient,
                provider=correction.announcer,
                dataset=correction.dataset,
                commitments={"notice": notice.digest},
            )
            await self._log.log.append(entry)
            await asyncio.to_thread(
                self._stored.note_delivered, correction.id, notice.recipient, self._log.clock()
            )
        self._admit(call)
        envelope = dsse.sign(payload, NOTICE_TYPE, [self._signing_key])
        return Delivery(waiting.position, envelope, correction.entry or 0)

    def _admit(self, call: Call) -> None:
        admit(call, self._log.directory, self._log.clock(), Role.CONSUMER)
