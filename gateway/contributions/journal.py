"""What the audit log is told about contributions: names, counts and digests, never values."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

import msgspec

from gateway.audit.appender import Log
from gateway.audit.checkpoint import parse_checkpoint
from gateway.audit.committed import Committed
from gateway.audit.errors import OnceTakenError
from gateway.audit.filter import Field, Has
from gateway.audit.note import parse_note
from gateway.audit.store import AuditReader, Once
from gateway.audit.tree import leaf_hash
from gateway.clock import Clock, rfc3339
from gateway.contributions.threads import in_thread
from gateway.errors import GatewayError, Reason
from gateway.evidence.quality import QualityReport
from gateway.exchange.call import Call
from gateway.model import ENTRY_VERSION, Entry, EntryKind

MAX_COUNTS: Final = 60
"""Counts of rejected records by field and reason that an entry holds, the largest; the receipt has all."""

_ONCE_FOR: Final = timedelta(days=30)
_ENDS: Final = frozenset({EntryKind.CONTRIBUTION_ACCEPTED, EntryKind.CONTRIBUTION_REFUSED})
_decode_entry: Final = msgspec.json.Decoder(Entry).decode


class ContributionJournal:
    """Writes the entries of contributions; each method returns when its entry is durable."""

    def __init__(self, log: Log, reader: AuditReader, clock: Clock) -> None:
        self._log = log
        self._reader = reader
        self._clock = clock

    async def record(self, kind: EntryKind, once: bytes | None = None, **members: Any) -> Committed:
        """Append an entry; with `once`, raise `OnceTakenError` if one with this claim was appended before."""
        now = self._clock()
        entry = Entry(v=ENTRY_VERSION, kind=kind, time=rfc3339(now), **members)
        return await self._log.append(entry, None if once is None else Once(once, now + _ONCE_FOR))

    async def record_end(self, kind: EntryKind, exchange: str, **members: Any) -> Committed:
        """Append the entry that ends a batch, or find the one that was appended before a crash."""
        found = await in_thread(self._find_end, exchange)
        if found is not None:
            return found
        once = hashlib.sha256(f"contribution/{exchange}".encode()).digest()
        try:
            return await self.record(kind, once, exchange=exchange, **members)
        except OnceTakenError:
            # By another process, since we looked.
            found = await in_thread(self._find_end, exchange)
            if found is None:
                raise
            return found

    async def record_refusal(
        self, error: GatewayError, *, call: Call, known: bool, members: Mapping[str, Any]
    ) -> None:
        """Append the entry of a refusal, and name it in the error's details.

        While the log cannot be written, the caller is told that and nothing else.
        """
        if error.reason is Reason.LOG_UNAVAILABLE:
            return
        detail = dict(members.get("detail", {}))
        if not known and call.caller is not None:
            detail |= {"uri": call.caller.uri[:300], "certificate": call.caller.fingerprint}
        told = {**members, "detail": detail}
        committed = await self.record(EntryKind.CONTRIBUTION_REFUSED, reasons=(error.reason.value,), **told)
        error.details["entry"] = str(committed.index)

    def _find_end(self, exchange: str) -> Committed | None:
        for stored in self._reader.find(Has(Field.EXCHANGE, exchange), 20):
            entry = _decode_entry(stored.data)
            if entry.kind in _ENDS and entry.commitments:
                return self._proven(stored.index, stored.data)
        return None

    def _proven(self, index: int, data: bytes) -> Committed:
        note = self._reader.checkpoint()
        size = parse_checkpoint(parse_note(note).text).size
        return Committed(index, data, leaf_hash(data), size, note, self._reader.inclusion_proof(index, size))


def told_quality(report: QualityReport) -> dict[str, str]:
    """Return the counts of a report as an entry tells them."""
    counts = sorted(
        (
            (-count, field or "record", reason)
            for field, reasons in report.problems.items()
            for reason, count in reasons.items()
        )
    )
    told = {
        "rows": str(report.rows),
        "accepted": str(report.accepted),
        "rejected": str(report.rejected),
        "duplicates": str(report.duplicates),
    }
    if report.flagged:
        told["flagged"] = str(sum(report.flagged.values()))
    if report.days_late is not None:
        told["days_late"] = str(report.days_late)
    if report.late is not None:
        told["late"] = str(report.late)
    return told | {f"rejected.{field}.{reason}": str(-count) for count, field, reason in counts[:MAX_COUNTS]}
