"""Waiting for witnesses before something leaves: for the tiers at which policy wants that.

All who wait share the rounds in which the witnesses are asked. A round reads the head of the log when
it begins, so that whoever comes while one runs waits for the next.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Final

from gateway.audit.committed import Committed
from gateway.audit.errors import LogMismatchError, LogUnavailableError, WitnessUnavailableError
from gateway.audit.publication import Grade, Publication, Publisher
from gateway.audit.store import AuditReader

_PAUSE_S: Final = 0.1
"""Between two rounds that brought no quorum, so that witnesses that refuse are not asked without pause."""


class ReleaseWitnessing:
    """Has entries witnessed at once, for callers that wait. One event loop."""

    def __init__(self, publisher: Publisher, reader: AuditReader, timeout: timedelta) -> None:
        """Take who asks the witnesses, the log, and how long a release may wait at most."""
        self._publisher = publisher
        self._reader = reader
        self._timeout_s = timeout.total_seconds()
        self._turn = asyncio.Lock()
        self._coming: asyncio.Task[Publication | None] | None = None

    async def witnessed(self, committed: Committed, timeout_s: float) -> Committed:
        """Return the entry's place under a checkpoint that a quorum of witnesses has cosigned.

        Raises `WitnessUnavailableError` if there is none in time, and `LogMismatchError` if a witness has
        seen another history of the log: in either case nothing may leave on this entry's account.
        """
        try:
            async with asyncio.timeout(max(0.0, min(self._timeout_s, timeout_s))):
                publication = await self._covering(committed.index)
        except TimeoutError as error:
            raise WitnessUnavailableError(
                "This tier asks for witnesses, and too few of them answered in time. Nothing was released; "
                "try again later."
            ) from error
        hashes = await asyncio.to_thread(self._reader.inclusion_proof, committed.index, publication.size)
        return replace(committed, size=publication.size, checkpoint_note=publication.note, proof=hashes)

    async def _covering(self, index: int) -> Publication:
        """Return a witnessed publication with the entry at `index`, however long it takes."""
        while True:
            published = await asyncio.shield(self._round())
            # Another process may have had a larger tree witnessed, which made ours come too late.
            for publication in (published, await asyncio.to_thread(self._publisher.newest_witnessed)):
                if (
                    publication is not None
                    and publication.grade is Grade.WITNESSED
                    and publication.size > index
                ):
                    return publication
            await asyncio.sleep(_PAUSE_S)

    def _round(self) -> asyncio.Task[Publication | None]:
        """Return the round that begins next; all who come before it begins share it."""
        if self._coming is None:
            self._coming = asyncio.create_task(self._ask())
            # Its error is for those who wait, of whom none may be left.
            self._coming.add_done_callback(lambda done: done.cancelled() or done.exception())
        return self._coming

    async def _ask(self) -> Publication | None:
        """Ask the witnesses once; return None if the log could not be read or the answer not be kept."""
        async with self._turn:
            # The log's head is read now: who comes later may be too late for this round.
            self._coming = None
            try:
                return await self._publisher.publish(in_haste=True)
            except LogMismatchError:
                raise
            except LogUnavailableError:
                return None
