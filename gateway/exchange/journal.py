"""Steps 5 and 8: what the audit log is told about an exchange. Names and counts, never values."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Set as AbstractSet
from typing import Any

from gateway.audit.appender import Log
from gateway.audit.committed import Committed
from gateway.audit.numbering import AWAITED
from gateway.audit.store import Once
from gateway.clock import Clock, rfc3339
from gateway.errors import GatewayError
from gateway.evidence.canonical import encode_canonical
from gateway.evidence.commitment import commit
from gateway.evidence.records import records_root
from gateway.exchange.state import Exchange
from gateway.exchange.transform import ReleasedPage
from gateway.model import ENTRY_VERSION, Entry, EntryKind


class Journal:
    """Writes the entries of exchanges.

    Each method sends its entry on its way at once; what it returns is done when the entry is durable.
    """

    def __init__(self, log: Log, clock: Clock, known_names: AbstractSet[str]) -> None:
        """Take the log and the names (purposes, legal bases, memoranda) that policy knows."""
        self._log = log
        self._clock = clock
        self._known_names = known_names

    def requested(self, exchange: Exchange) -> asyncio.Future[Committed]:
        """Record that an allowed exchange begins; claims the statement's nonce in the same commit.

        Raises `GatewayError`: `REPLAYED` if the nonce was used before, `LOG_UNAVAILABLE`.
        """
        statement = exchange.statement
        if statement is None or exchange.resolved is None or exchange.consumer is None:
            raise RuntimeError("an exchange is recorded as requested after its statement is resolved")
        resolved = exchange.resolved
        subject = {
            "field": resolved.subject_field,
            "subjects": resolved.subjects,
            "filters": resolved.filters,
        }
        for name, value in (("query", statement.payload), ("subject", encode_canonical(subject))):
            exchange.commitments[name], exchange.openings[name] = commit(value)
        once = Once(_nonce_key(exchange.consumer.id, statement.query.nonce), until=statement.expires)
        return self._log.append(
            self._entry(exchange, EntryKind.EXCHANGE_REQUESTED, commitments=exchange.commitments), once
        )

    def page(self, exchange: Exchange, page: ReleasedPage, number: int) -> asyncio.Future[Committed]:
        """Record one page of a stream before it leaves."""
        return self._log.append(
            Entry(
                v=ENTRY_VERSION,
                kind=EntryKind.EXCHANGE_PAGE,
                time=rfc3339(self._clock()),
                exchange=exchange.id,
                consumer=exchange.consumer.id if exchange.consumer else "",
                provider=exchange.provider.id if exchange.provider else "",
                page=number,
                records=page.count,
                bytes=len(page.records),
                commitments={"records": base64.b64encode(page.digest).decode()},
            )
        )

    def released(self, exchange: Exchange) -> asyncio.Future[Committed]:
        """Record the release, with totals and the commitment to every record released; it is numbered."""
        root = base64.b64encode(records_root(exchange.page_digests)).decode()
        return self._log.append(
            self._entry(
                exchange,
                EntryKind.EXCHANGE_RELEASED,
                sequence=AWAITED,
                commitments={**exchange.commitments, "records": root},
                **_outcome(exchange),
            )
        )

    def refused(self, exchange: Exchange, error: GatewayError) -> asyncio.Future[Committed]:
        """Record a denial, or after `requested` a failure, with its reasons and what had left."""
        kind = EntryKind.EXCHANGE_FAILED if exchange.requested else EntryKind.EXCHANGE_DENIED
        detail: dict[str, Any] = {}
        caller = exchange.call.caller
        if exchange.consumer is None and caller is not None:
            detail["detail"] = {"uri": caller.uri[:300], "certificate": caller.fingerprint}
        decision = exchange.decision
        reasons = decision.reasons if decision is not None and decision.reasons else (error.reason.value,)
        return self._log.append(
            self._entry(
                exchange,
                kind,
                reasons=reasons,
                commitments=exchange.commitments,
                withdraws=exchange.withdraws,
                **(_outcome(exchange) if exchange.requested else {}),
                **detail,
            )
        )

    def _entry(self, exchange: Exchange, kind: EntryKind, **members: Any) -> Entry:
        query = exchange.statement.query if exchange.statement else None
        decision = exchange.decision
        dataset = exchange.resolved.dataset if exchange.resolved else None
        return Entry(
            v=ENTRY_VERSION,
            kind=kind,
            time=rfc3339(self._clock()),
            exchange=exchange.id,
            consumer=exchange.consumer.id if exchange.consumer else "",
            provider=dataset.provider if dataset else "",
            operation=exchange.operation.value,
            dataset=dataset.name if dataset else "",
            tier=decision.tier if decision else "",
            purpose=self._name(query.purpose) if query else "",
            legal_basis=self._name(query.legal_basis) if query else "",
            memorandum=self._name(query.memorandum) if query else "",
            decision=decision.id if decision else "",
            bundle=decision.bundle_digest if decision else "",
            envelope_key=exchange.statement.key_id if exchange.statement else "",
            **members,
        )

    def _name(self, text: str) -> str:
        """Return a caller's name for something as it may stand in an entry.

        A name that policy does not know could be anything, an identifier too: only that it was
        unknown is kept.
        """
        return text if not text or text in self._known_names else "(unknown)"


def _nonce_key(consumer: str, nonce: str) -> bytes:
    """Return what is remembered of a nonce: a digest, as callers may have written anything into it."""
    return hashlib.sha256(f"{consumer}/{nonce}".encode()).digest()


def _outcome(exchange: Exchange) -> dict[str, Any]:
    plan = exchange.plan
    return {
        "released": tuple(sorted(plan.fields)) if plan else (),
        "withheld": plan.withheld if plan else (),
        "obligations": dict(plan.treatments) if plan else {},
        "records": exchange.records,
        "pages": exchange.pages,
        "bytes": exchange.bytes,
        "unknown_fields": exchange.unknown_fields,
        "invalid_identifiers": sum(exchange.invalid_identifiers.values()),
        "key_epoch": exchange.key_epoch,
        "provider_key": exchange.provider_key,
        "duration_ms": exchange.duration_ms(),
    }
