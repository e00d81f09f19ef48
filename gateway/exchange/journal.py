"""Steps 5 and 8: what the audit log is told about an exchange. Names and counts, never values."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Set as AbstractSet
from functools import partial
from typing import Any

from gateway.audit.appender import Log
from gateway.audit.committed import Committed
from gateway.audit.numbering import AWAITED
from gateway.audit.store import Once
from gateway.clock import Clock, rfc3339
from gateway.details import (
    Details,
    DetailsKeeper,
    DetailsUnavailableError,
    SealedDetails,
    SubjectDetails,
    Term,
)
from gateway.errors import GatewayError
from gateway.evidence.canonical import encode_canonical
from gateway.evidence.commitment import commit
from gateway.evidence.fields import commit_fields
from gateway.evidence.records import records_root
from gateway.exchange.duties.telling import told_duties, told_outcome, told_size
from gateway.exchange.freshness import days_late
from gateway.exchange.resolution import Resolved, description
from gateway.exchange.state import Exchange
from gateway.exchange.transform import ReleasedPage
from gateway.model import ENTRY_VERSION, NO_DUTIES, Entry, EntryKind, Operation
from gateway.policy.recorded_input import UNKNOWN_NAME, record_input


class Journal:
    """Writes the entries of exchanges.

    Each method sends its entry on its way at once; what it returns is done when the entry is durable.
    """

    def __init__(
        self,
        log: Log,
        clock: Clock,
        known_names: AbstractSet[str],
        *,
        details: DetailsKeeper | None = None,
        fields_key: bytes | None = None,
    ) -> None:
        """Take the log and the names (purposes, legal bases, memoranda) that policy knows.

        `details` keeps what entries only commit to; with `fields_key` (32 bytes) closing entries commit
        to each of their members, so that some can be shown without the others.
        """
        self._log = log
        self._clock = clock
        self._known_names = known_names
        self._details = details
        self._fields_key = fields_key

    def requested(self, exchange: Exchange) -> asyncio.Future[Committed]:
        """Record that an allowed exchange begins; claims the statement's nonce in the same commit.

        Raises `GatewayError`: `REPLAYED` if the nonce was used before, `LOG_UNAVAILABLE`, and
        `DETAILS_UNAVAILABLE` while details are to be kept and cannot be.
        """
        statement = exchange.statement
        if statement is None or exchange.resolved is None or exchange.consumer is None:
            raise RuntimeError("an exchange is recorded as requested after its statement is resolved")
        sealed = self._commit(exchange, EntryKind.EXCHANGE_REQUESTED)
        once = Once(_nonce_key(exchange.consumer.id, statement.query.nonce), until=statement.expires)
        entry = self._entry(
            exchange,
            EntryKind.EXCHANGE_REQUESTED,
            commitments={**exchange.commitments},
            policy_input=_policy_input(exchange),
        )
        return self._append(entry, sealed, once)

    def page(self, exchange: Exchange, page: ReleasedPage, number: int) -> asyncio.Future[Committed]:
        """Record one page of a stream before it leaves."""
        records, size = told_size(page, exchange.plan.duties if exchange.plan else NO_DUTIES)
        return self._log.append(
            Entry(
                v=ENTRY_VERSION,
                kind=EntryKind.EXCHANGE_PAGE,
                time=rfc3339(self._clock()),
                exchange=exchange.id,
                consumer=exchange.consumer.id if exchange.consumer else "",
                provider=exchange.provider.id if exchange.provider else "",
                contract=_contract(exchange),
                page=number,
                records=records,
                bytes=size,
                commitments={"records": base64.b64encode(page.digest).decode()},
            )
        )

    def released(self, exchange: Exchange, once: Once | None = None) -> asyncio.Future[Committed]:
        """Record the release, with totals and the commitment to every record released; it is numbered.

        With `once` it claims that too, in the same commit; see `gateway.audit.appender.Log.append`.
        """
        root = base64.b64encode(records_root(exchange.page_digests)).decode()
        late = days_late(exchange, self._clock().date())
        entry = self._entry(
            exchange,
            EntryKind.EXCHANGE_RELEASED,
            sequence=AWAITED,
            commitments={**exchange.commitments, "records": root},
            detail={"days_late": str(late)} if late is not None else {},
            **_outcome(exchange),
        )
        if self._fields_key is not None:
            entry, seed = commit_fields(entry, self._fields_key)
            exchange.openings["fields"] = base64.b64encode(seed).decode()
        return self._log.append(entry, once)

    def refused(self, exchange: Exchange, error: GatewayError) -> asyncio.Future[Committed]:
        """Record a denial, or after `requested` a failure, with its reasons and what had left."""
        kind = EntryKind.EXCHANGE_FAILED if exchange.requested else EntryKind.EXCHANGE_DENIED
        detail: dict[str, Any] = {}
        caller = exchange.call.caller
        if exchange.consumer is None and caller is not None:
            detail["detail"] = {"uri": caller.uri[:300], "certificate": caller.fingerprint}
        decision = exchange.decision
        reasons = decision.reasons if decision is not None and decision.reasons else (error.reason.value,)
        sealed = None if exchange.requested else self._commit_refused(exchange)
        entry = self._entry(
            exchange,
            kind,
            reasons=reasons,
            commitments={**exchange.commitments},
            withdraws=exchange.withdraws,
            **(_outcome(exchange) if exchange.requested else {"policy_input": _policy_input(exchange)}),
            **detail,
        )
        if self._fields_key is not None:
            entry, _ = commit_fields(entry, self._fields_key)
        return self._append(entry, sealed)

    def _append(
        self, entry: Entry, sealed: SealedDetails | None, once: Once | None = None
    ) -> asyncio.Future[Committed]:
        """Append `entry`; hand over its details unless the log says that there is no such entry."""
        recording = self._log.append(entry, once)
        if sealed is not None:
            recording.add_done_callback(partial(self._keep, sealed))
        return recording

    def _keep(self, sealed: SealedDetails, recording: asyncio.Future[Committed]) -> None:
        # Cancelled: whoever waited is gone, the entry is on its way. With nothing kept of it, cancelling in
        # time would be a way to ask without anybody being able to find out about whom.
        if self._details is not None and (recording.cancelled() or recording.exception() is None):
            self._details.keep(sealed)

    def _commit(self, exchange: Exchange, kind: EntryKind) -> SealedDetails | None:
        """Commit to what was asked; return it sealed, if details are kept."""
        statement, resolved = exchange.statement, exchange.resolved
        if statement is None:
            raise RuntimeError("there is nothing to commit to before the statement is opened")
        values = {"query": statement.payload}
        subject = None
        if resolved is not None:
            subject = SubjectDetails(
                field=resolved.subject_field, subjects=resolved.subjects, filters=resolved.filters
            )
            values["subject"] = encode_canonical(subject)
        for name, value in values.items():
            exchange.commitments[name], exchange.openings[name] = commit(value)
        if self._details is None:
            return None
        details = Details(
            v=1,
            openings={name: exchange.openings[name] for name in values},
            envelope=statement.envelope,
            subject=subject,
        )
        day = rfc3339(self._clock())[:10]
        sealed = self._details.seal(
            exchange.id, kind.value, day, details, () if resolved is None else _terms(resolved)
        )
        exchange.commitments["details"] = sealed.commitment
        return sealed

    def _commit_refused(self, exchange: Exchange) -> SealedDetails | None:
        """Do the same for a denial: whom somebody wanted to know about, and was not let."""
        if self._details is None or exchange.statement is None:
            return None
        exchange.commitments.pop("details", None)
        try:
            return self._commit(exchange, EntryKind.EXCHANGE_DENIED)
        except DetailsUnavailableError:
            # Nothing is released, and every attempt leaves its entry.
            return None

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
            contract=_contract(exchange),
            in_return=exchange.reciprocity.id if exchange.reciprocity is not None else "",
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
        return text if not text or text in self._known_names else UNKNOWN_NAME


def _contract(exchange: Exchange) -> str:
    """Return the identity of the contract under which records are asked for, or else got in return."""
    contract = exchange.contract or exchange.reciprocity
    return contract.id if contract is not None else ""


def _nonce_key(consumer: str, nonce: str) -> bytes:
    """Return what is remembered of a nonce: a digest, as callers may have written anything into it."""
    return hashlib.sha256(f"{consumer}/{nonce}".encode()).digest()


def _terms(resolved: Resolved) -> tuple[Term, ...]:
    """Return the identifiers that a query asks about, by which officers can find its entry."""
    asked = [(resolved.subject_field, value) for value in resolved.subjects]
    asked += [*resolved.filters.items(), *resolved.match.items()]
    fields = resolved.dataset.fields
    return tuple(Term(kind, value) for name, value in asked if (kind := fields[name].identifier) is not None)


def _policy_input(exchange: Exchange) -> dict[str, Any]:
    """Return what policy was asked, from which its decision can be made again; empty if it gave none."""
    if exchange.policy_input is None or exchange.decision is None or exchange.resolved is None:
        return {}
    return record_input(exchange.policy_input, description(exchange.resolved.dataset))


def _outcome(exchange: Exchange) -> dict[str, Any]:
    plan = exchange.plan
    duties = exchange.duties
    outcome = {
        "released": tuple(sorted(plan.fields)) if plan else exchange.told,
        "withheld": plan.withheld if plan else (),
        "obligations": dict(plan.treatments) if plan else {},
        "records": exchange.records,
        "pages": exchange.pages,
        "bytes": exchange.bytes,
        "unknown_fields": exchange.unknown_fields,
        "invalid_identifiers": sum(exchange.invalid_identifiers.values()),
        "key_epoch": exchange.key_epoch,
        "provider_key": exchange.provider_key,
        # How long a list's provider took could tell what it found.
        "duration_ms": 0 if exchange.operation is Operation.LIST else exchange.duration_ms(),
    }
    if duties is NO_DUTIES:
        return outcome
    return {**told_outcome(outcome, duties), "duties": told_duties(duties, exchange.expired, exchange.due)}
