"""What announcing and answering have in common: a member's signed statement, and an entry in any case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from gateway.audit.appender import Log
from gateway.audit.filter import Field, Has
from gateway.audit.store import MAX_PAGE_SIZE, AuditReader
from gateway.clock import Clock, rfc3339
from gateway.errors import GatewayError, Reason
from gateway.exchange.admission import admit
from gateway.exchange.call import Call
from gateway.members import Directory
from gateway.model import ENTRY_VERSION, Entry, EntryKind, Member, Role
from gateway.telemetry.faults import record_fault

_decode = msgspec.json.Decoder(Entry).decode


@dataclass(slots=True)
class Attempt:
    """What is known so far of one call."""

    call: Call
    method: str
    member: Member | None = None
    key_id: str = ""
    correction: str = ""
    dataset: str = ""


@dataclass(frozen=True, slots=True)
class CorrectionLog:
    """Admits members and writes the entries of corrections."""

    origin: str
    clock: Clock
    directory: Directory
    log: Log
    readers: Sequence[AuditReader]
    """Of the log and the closed ones before it, the newest first."""

    def admit(self, attempt: Attempt, role: Role | None) -> Member:
        """Return the member that calls, noted in `attempt`; raise `GatewayError`."""
        member = admit(attempt.call, self.directory, self.clock(), role)
        attempt.member = member
        if attempt.call.fault is not None:
            raise attempt.call.fault
        return member

    def entry(self, kind: EntryKind, correction: str, **members: Any) -> Entry:
        """Return an entry about a correction, made now."""
        return Entry(
            v=ENTRY_VERSION,
            kind=kind,
            time=rfc3339(self.clock()),
            subject=correction_name(correction) if correction else "",
            **members,
        )

    async def refuse(self, attempt: Attempt, error: Exception) -> GatewayError:
        """Record that `attempt` was refused for `error`; return what the caller is told.

        While the log cannot be written, the caller is told that and nothing else.
        """
        refusal = _refusal(error, attempt.method)
        if refusal.reason is Reason.LOG_UNAVAILABLE:
            return refusal
        caller, detail = attempt.call.caller, {"method": attempt.method}
        if attempt.member is None and caller is not None:
            detail |= {"uri": caller.uri[:300], "certificate": caller.fingerprint}
        committed = await self.log.append(
            self.entry(
                EntryKind.CORRECTION_REFUSED,
                attempt.correction,
                consumer=attempt.member.id if attempt.member else "",
                dataset=attempt.dataset,
                envelope_key=attempt.key_id,
                reasons=(refusal.reason.value,),
                detail=detail,
            )
        )
        refusal.details["entry"] = str(committed.index)
        return refusal

    def recorded(self, kind: EntryKind, correction: str, consumer: str = "") -> tuple[int, Entry] | None:
        """Return (index, entry) of what the log says of a correction; None if it says nothing. Blocks.

        Raises `LogUnavailableError`.
        """
        wanted, subject = Has(Field.KIND, kind.value), correction_name(correction)
        for reader in self.readers:
            before: int | None = None
            while stored := reader.find(wanted, MAX_PAGE_SIZE, before):
                for one in stored:
                    entry = _decode(one.data)
                    if entry.subject == subject and entry.consumer == consumer:
                        return one.index, entry
                before = stored[-1].index
        return None


def correction_name(correction: str) -> str:
    """Return the resource name of a correction."""
    return f"corrections/{correction}"


def _refusal(error: Exception, method: str) -> GatewayError:
    """Return what the caller is told of `error`; of a fault of ours, nothing but a reference to it."""
    if isinstance(error, GatewayError) and error.reason is not Reason.INTERNAL:
        return error
    return GatewayError(
        "The gateway failed; give the reference to its operator.",
        reason=Reason.INTERNAL,
        reference=record_fault(error, method=method),
    )
