"""Answering: the recipient says what it did, signed, and the log keeps its word.

Then what it was told is erased.
"""

from __future__ import annotations

import asyncio
import hashlib
from datetime import timedelta
from typing import Final

from gateway.audit.errors import OnceTakenError
from gateway.audit.store import Once
from gateway.corrections.attempt import Attempt, CorrectionLog
from gateway.corrections.errors import CorrectionNotFoundError
from gateway.corrections.notices import Announced, Notices
from gateway.errors import GatewayError, Reason
from gateway.evidence import dsse
from gateway.evidence.correction import Answer, Opened, open_answer, verify_made_now
from gateway.exchange.call import Call
from gateway.model import EntryKind, Member, Role

METHOD: Final = "AcknowledgeCorrection"
CLAIMED_FOR: Final = timedelta(days=3650)
"""For so long a second answer to the same correction is found out by the log alone."""


class Answering:
    """Takes answers. One instance serves all calls of a process, on its event loop."""

    def __init__(self, log: CorrectionLog, stored: Notices) -> None:
        self._log = log
        self._stored = stored

    async def answer(self, call: Call, envelope: dsse.Envelope) -> tuple[bytes, int, str]:
        """Record the answer in `envelope`; return (entry, its index, its proof).

        Raises `GatewayError`, whose details name the entry that tells of the refusal.
        """
        attempt = Attempt(call, METHOD)
        try:
            member = self._log.admit(attempt, Role.CONSUMER)
            opened = open_answer(envelope, self._log.directory.signing_keys(member.id))
            attempt.key_id = opened.key_id
            verify_made_now(opened.statement, self._log.origin, self._log.clock())
            correction = await self._find(attempt, member, opened.statement)
            return await self._record(correction, member, opened)
        except Exception as error:
            refusal = await self._log.refuse(attempt, error)
            if refusal is error:
                raise
            raise refusal from error

    async def _find(self, attempt: Attempt, member: Member, answer: Answer) -> Announced:
        found = await asyncio.to_thread(self._stored.find, answer.correction, member.id)
        if found is None:
            raise CorrectionNotFoundError("No correction of this id waits for this member.")
        correction, state, digest = found
        attempt.correction, attempt.dataset = correction.id, correction.dataset
        if digest != answer.notice:
            raise GatewayError(
                "The answer is to another notice than was sent; verify the notice, and answer that.",
                reason=Reason.RELEASE_MISMATCH,
            )
        if state.outcome:
            raise _answered_before()
        return correction

    async def _record(
        self, correction: Announced, member: Member, opened: Opened[Answer]
    ) -> tuple[bytes, int, str]:
        outcome = opened.statement.outcome.value
        entry = self._log.entry(
            EntryKind.CORRECTION_ACKNOWLEDGED,
            correction.id,
            consumer=member.id,
            provider=correction.announcer,
            dataset=correction.dataset,
            commitments={"notice": opened.statement.notice},
            envelope_key=opened.key_id,
            acknowledgement=dsse.envelope_to_json(opened.envelope).decode(),
            detail={"outcome": outcome},
        )
        now = self._log.clock()
        key = f"correction-answer/{self._log.origin}/{correction.id}/{member.id}"
        once = Once(hashlib.sha256(key.encode()).digest(), now + CLAIMED_FOR)
        try:
            committed = await self._log.log.append(entry, once)
        except OnceTakenError as error:
            await self._catch_up(correction, member)
            raise _answered_before() from error
        await asyncio.to_thread(self._stored.settle, correction.id, member.id, outcome, now)
        return committed.data, committed.index, committed.tlog_proof()

    async def _catch_up(self, correction: Announced, member: Member) -> None:
        """Settle what the log has and the store has not: a crash came between the two."""
        found = await asyncio.to_thread(
            self._log.recorded, EntryKind.CORRECTION_ACKNOWLEDGED, correction.id, member.id
        )
        if found is not None:
            outcome = found[1].detail["outcome"]
            await asyncio.to_thread(self._stored.settle, correction.id, member.id, outcome, self._log.clock())


def _answered_before() -> GatewayError:
    return GatewayError("This correction was answered before; once is enough.", reason=Reason.REPLAYED)
