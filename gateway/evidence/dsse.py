"""DSSE envelopes (Dead Simple Signing Envelope, protocol version 1.0.2).

The bytes signed are the bytes parsed: `verify` returns the payload it has verified, and nothing
else in the product reads an envelope's payload.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from gateway.errors import Reason
from gateway.evidence.canonical import DECODE_ERRORS, decode_bytes_strictly
from gateway.evidence.keys import SignatureError, SigningKey, VerifyKey

MAX_SIGNATURES: Final = 8
"""More signatures on one statement than any of our kinds needs; a bound on hostile work."""


def payload_type(kind: str) -> str:
    """Return the media type of statements of `kind`, such as `query` or `receipt`."""
    return f"application/vnd.sluicegate.{kind}.v1+json"


class Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One signature with the id of its key."""

    keyid: str
    sig: bytes


class Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """A payload, its media type, and signatures over both. Its JSON form is DSSE's (base64 text)."""

    payload: bytes
    payload_type: str
    signatures: tuple[Signature, ...]


def pae(payload: bytes, kind_of_payload: str) -> bytes:
    """Return the pre-authentication encoding: what is signed (DSSE protocol, "PAE")."""
    media_type = kind_of_payload.encode()
    return b"DSSEv1 %d %b %d %b" % (len(media_type), media_type, len(payload), payload)


def sign(payload: bytes, kind_of_payload: str, signers: Iterable[SigningKey]) -> Envelope:
    """Return the envelope of `payload` with one signature of each signer."""
    message = pae(payload, kind_of_payload)
    return Envelope(
        payload=payload,
        payload_type=kind_of_payload,
        signatures=tuple(Signature(signer.key_id, signer.sign(message)) for signer in signers),
    )


def verify(envelope: Envelope, expected_type: str, keys: Mapping[str, VerifyKey]) -> tuple[bytes, str]:
    """Return (payload, key id) when one of `keys` (by key id) has signed the envelope.

    Every signature by a known key must verify, so that a broken one is never hidden by a good one;
    signatures by unknown keys are ignored. Raises `SignatureError` with reason `SIGNATURE_MISSING`
    (there is none), `SIGNATURE_FOREIGN` (none by a known key) or `SIGNATURE_INVALID`.
    """
    if envelope.payload_type != expected_type:
        raise SignatureError(f"The envelope's payload type must be {expected_type}.")
    if not envelope.signatures:
        raise SignatureError("The envelope carries no signature.", reason=Reason.SIGNATURE_MISSING)
    if len(envelope.signatures) > MAX_SIGNATURES:
        raise SignatureError(f"An envelope carries at most {MAX_SIGNATURES} signatures.")
    message = pae(envelope.payload, envelope.payload_type)
    signed_by = ""
    for signature in envelope.signatures:
        key = keys.get(signature.keyid)
        if key is None:
            continue
        key.verify(signature.sig, message)
        signed_by = signed_by or signature.keyid
    if not signed_by:
        raise SignatureError(
            "No signature is by a key registered for this member; register the key or sign with the "
            "right one.",
            reason=Reason.SIGNATURE_FOREIGN,
        )
    return envelope.payload, signed_by


def envelope_to_json(envelope: Envelope) -> bytes:
    """Return the DSSE JSON form."""
    return msgspec.json.encode(envelope)


def envelope_from_json(text: bytes) -> Envelope:
    """Parse the DSSE JSON form strictly; raise `SignatureError` if it is not one."""
    try:
        return decode_bytes_strictly(text, Envelope)
    except DECODE_ERRORS as error:
        raise SignatureError("This is not a DSSE envelope.") from error


def from_base64(text: str, *, length: int) -> bytes:
    """Decode canonical padded base64 of exactly `length` bytes; raise `ValueError` otherwise."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("not base64") from error
    if len(raw) != length or base64.b64encode(raw).decode() != text:
        raise ValueError(f"not the canonical base64 of {length} bytes")
    return raw
