"""Acknowledging: the recipient says that it holds what was released to it, and the log keeps its word.

    1 admit     who calls               3 find      the release, which must be this member's
    2 open      its signed statement    4 record    once, with the envelope itself

Whatever goes wrong leaves an entry, as with exchanges.
"""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

from gateway.audit.acknowledgement import (
    ACKNOWLEDGEABLE,
    MAX_CLOCK_SKEW,
    OpenedAcknowledgement,
    open_acknowledgement,
    verify_made_now,
    verify_release,
)
from gateway.audit.appender import Log
from gateway.audit.committed import Committed
from gateway.audit.errors import EntryNotFoundError, OnceTakenError
from gateway.audit.store import AuditReader, Once
from gateway.clock import Clock, parse_rfc3339, rfc3339
from gateway.errors import GatewayError, Reason
from gateway.evidence import dsse
from gateway.exchange.admission import admit
from gateway.exchange.call import Call
from gateway.ledger import DebtKind, Ledger, LedgerUnavailableError
from gateway.members import Directory
from gateway.model import ENTRY_VERSION, Entry, EntryKind, Member
from gateway.telemetry.faults import record_fault

_decode_entry: Final = msgspec.json.Decoder(Entry).decode


@dataclass(frozen=True, slots=True)
class _Attempt:
    """What is known so far of one acknowledgement."""

    call: Call
    member: Member | None = None
    opened: OpenedAcknowledgement | None = None
    release: Entry | None = None
    """The entry that it names, if there is one and it is of the exchange that it names."""


class Acknowledging:
    """Takes acknowledgements. One instance serves all calls of a process, on its event loop."""

    def __init__(
        self,
        origin: str,
        clock: Clock,
        directory: Directory,
        reader: AuditReader,
        log: Log,
        ledger: Ledger,
    ) -> None:
        self._origin = origin
        self._clock = clock
        self._directory = directory
        self._reader = reader
        self._log = log
        self._ledger = ledger

    async def acknowledge(self, call: Call, envelope: dsse.Envelope) -> Committed:
        """Record the acknowledgement in `envelope`; return the place of its entry.

        Raises `GatewayError`, whose details name the entry that tells of the refusal.
        """
        attempt = _Attempt(call)
        try:
            attempt = self._admit(attempt)
            attempt = self._open(attempt, envelope)
            attempt, data = await self._find(attempt)
            self._verify(attempt, data)
            return await self._record(attempt)
        except Exception as error:
            refusal = _refusal(error)
            await self._refuse(attempt, refusal)
            if refusal is error:
                raise
            raise refusal from error

    def _admit(self, attempt: _Attempt) -> _Attempt:
        member = admit(attempt.call, self._directory, self._clock())
        if attempt.call.fault is not None:
            raise attempt.call.fault
        return replace(attempt, member=member)

    def _open(self, attempt: _Attempt, envelope: dsse.Envelope) -> _Attempt:
        assert attempt.member is not None
        opened = open_acknowledgement(envelope, self._directory.signing_keys(attempt.member.id))
        verify_made_now(opened.statement, self._origin, self._clock())
        return replace(attempt, opened=opened)

    async def _find(self, attempt: _Attempt) -> tuple[_Attempt, bytes]:
        """Return the attempt with the entry it names, and that entry's leaf."""
        assert attempt.opened is not None
        statement = attempt.opened.statement
        try:
            data = (await asyncio.to_thread(self._reader.entry, statement.index)).data
        except EntryNotFoundError as error:
            raise _not_found() from error
        release = _decode_entry(data)
        if release.exchange == statement.exchange:
            attempt = replace(attempt, release=release)
        return attempt, data

    def _verify(self, attempt: _Attempt, data: bytes) -> None:
        assert attempt.member is not None
        assert attempt.opened is not None
        entry = _decode_entry(data)
        # Whether there is another member's exchange at this index is nobody's business.
        if entry.kind is not EntryKind.EXCHANGE_RELEASED or entry.consumer != attempt.member.id:
            raise _not_found()
        verify_release(attempt.opened.statement, data, self._clock())

    async def _record(self, attempt: _Attempt) -> Committed:
        opened, release = attempt.opened, attempt.release
        assert opened is not None
        assert release is not None
        entry = self._entry(
            attempt,
            EntryKind.EXCHANGE_ACKNOWLEDGED,
            provider=release.provider,
            dataset=release.dataset,
            tier=release.tier,
            purpose=release.purpose,
            commitments={"receipt": opened.statement.receipt},
            envelope_key=opened.key_id,
            acknowledgement=dsse.envelope_to_json(opened.envelope).decode(),
        )
        until = parse_rfc3339(release.time) + ACKNOWLEDGEABLE + 2 * MAX_CLOCK_SKEW
        try:
            committed = await self._log.append(entry, Once(_once_key(self._origin, release.exchange), until))
        except OnceTakenError as error:
            raise GatewayError(
                "This exchange was acknowledged before; once is enough.", reason=Reason.REPLAYED
            ) from error
        # The log has it now, and whoever finds it overdue in the ledger asks the log.
        with suppress(LedgerUnavailableError):
            await asyncio.to_thread(self._ledger.settle, DebtKind.ACKNOWLEDGEMENT, release.exchange)
        return committed

    async def _refuse(self, attempt: _Attempt, error: GatewayError) -> None:
        """Record the refusal; while the log cannot be written, the caller is told that and nothing else."""
        if error.reason is Reason.LOG_UNAVAILABLE:
            return
        detail: dict[str, Any] = {}
        caller = attempt.call.caller
        if attempt.member is None and caller is not None:
            detail["detail"] = {"uri": caller.uri[:300], "certificate": caller.fingerprint}
        committed = await self._log.append(
            self._entry(attempt, EntryKind.ACKNOWLEDGEMENT_REFUSED, reasons=(error.reason.value,), **detail)
        )
        error.details["entry"] = str(committed.index)

    def _entry(self, attempt: _Attempt, kind: EntryKind, **members: Any) -> Entry:
        return Entry(
            v=ENTRY_VERSION,
            kind=kind,
            time=rfc3339(self._clock()),
            exchange=attempt.release.exchange if attempt.release else "",
            consumer=attempt.member.id if attempt.member else "",
            acknowledges=attempt.opened.statement.index if attempt.opened else None,
            **members,
        )


def _refusal(error: Exception) -> GatewayError:
    """Return what the caller is told of `error`; of a fault of ours, nothing but a reference to it."""
    if isinstance(error, GatewayError) and error.reason is not Reason.INTERNAL:
        return error
    return GatewayError(
        "The gateway failed; give the reference to its operator.",
        reason=Reason.INTERNAL,
        reference=record_fault(error, method="AcknowledgeExchange"),
    )


def _not_found() -> GatewayError:
    return GatewayError(
        "No exchange was released to this member under this index.", reason=Reason.ENTRY_NOT_FOUND
    )


def _once_key(origin: str, exchange: str) -> bytes:
    return hashlib.sha256(f"acknowledgement/{origin}/{exchange}".encode()).digest()
