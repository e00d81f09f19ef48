"""Envelopes between wire messages and our own type, on the client's side."""

from __future__ import annotations

from gateway.api.v1 import evidence_pb2
from gateway.evidence import dsse


def envelope_to_wire(envelope: dsse.Envelope) -> evidence_pb2.Envelope:
    """Return the message that carries `envelope`."""
    return evidence_pb2.Envelope(
        payload=envelope.payload,
        payload_type=envelope.payload_type,
        signatures=[evidence_pb2.Signature(keyid=item.keyid, sig=item.sig) for item in envelope.signatures],
    )


def envelope_from_wire(message: evidence_pb2.Envelope) -> dsse.Envelope:
    """Return the envelope in `message`; nothing in it has been checked."""
    return dsse.Envelope(
        payload=message.payload,
        payload_type=message.payload_type,
        signatures=tuple(dsse.Signature(item.keyid, item.sig) for item in message.signatures),
    )
