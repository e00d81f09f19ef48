"""Between wire messages and our own types."""

from __future__ import annotations

from gateway.api.v1 import evidence_pb2, exchange_service_pb2
from gateway.audit.receipt import Receipt
from gateway.evidence.dsse import Envelope, Signature
from gateway.exchange.transform import ReleasedPage


def envelope_from_wire(message: evidence_pb2.Envelope) -> Envelope:
    """Return the envelope in `message`; nothing in it has been checked."""
    return Envelope(
        payload=message.payload,
        payload_type=message.payload_type,
        signatures=tuple(Signature(item.keyid, item.sig) for item in message.signatures),
    )


def envelope_to_wire(envelope: Envelope) -> evidence_pb2.Envelope:
    """Return the message that carries `envelope`."""
    return evidence_pb2.Envelope(
        payload=envelope.payload,
        payload_type=envelope.payload_type,
        signatures=[evidence_pb2.Signature(keyid=item.keyid, sig=item.sig) for item in envelope.signatures],
    )


def receipt_to_wire(receipt: Receipt) -> evidence_pb2.Receipt:
    """Return the message that carries `receipt`."""
    return evidence_pb2.Receipt(
        statement=envelope_to_wire(receipt.statement),
        tlog_proof=receipt.tlog_proof,
        deliveries=[envelope_to_wire(item) for item in receipt.deliveries],
    )


def page_to_wire(page: ReleasedPage, fields: tuple[str, ...]) -> exchange_service_pb2.RecordPage:
    """Return the message that carries `page`, whose records have `fields` in this order."""
    # Bytes that are valid UTF-8 are taken for a string field as they are.
    return exchange_service_pb2.RecordPage(
        records=page.records,  # type: ignore[arg-type]
        record_count=page.count if page.told is None else page.told,
        fields=fields,
        salt_seed=page.seed,
    )
