"""Details of exchanges as a keeper seals and stores them."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.details import Custodians, Details, SubjectDetails
from gateway.details.sealing import Batch, BatchKeys, Context, seal_content
from gateway.details.store import StoredDetails
from gateway.evidence.canonical import encode_canonical
from gateway.evidence.commitment import commit


def details_about(subject: str) -> tuple[Details, dict[str, str]]:
    """Return details about a subject, and the commitments of their entry."""
    content = SubjectDetails(field="uscc", subjects=(subject,), filters={})
    commitment, salt = commit(encode_canonical(content))
    return Details(v=1, openings={"subject": salt}, subject=content), {"subject": commitment}


def sealed_details(
    origin: str,
    custodians: Custodians,
    exchange: str,
    *,
    day: str = "2026-03-01",
    kind: str = "exchange.requested",
    tokens: Iterable[bytes] = (),
    subject: str = "X",
) -> tuple[BatchKeys, StoredDetails]:
    """Return details of an exchange ready to be stored, as the only ones of their batch."""
    context = Context(origin, exchange, kind)
    sealed = seal_content(details_about(subject)[0].encode(), context)
    batch = Batch(origin, custodians)
    wraps = batch.wrap(sealed.key, context)
    return batch.keys, StoredDetails(exchange, kind, day, sealed.content, wraps, tuple(tokens))
