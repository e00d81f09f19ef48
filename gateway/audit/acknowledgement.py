"""Acknowledgements: a recipient's signed word that it holds what was released to it.

Pure; used by recipients to make one and to verify that it stands in the log, and by the gateway to
verify one. See docs/formats/acknowledgement.md.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Final, Literal

import msgspec

from gateway.audit.note import Ed25519Verifier
from gateway.audit.proof import TlogProof
from gateway.audit.receipt import Receipt, VerifiedReceipt
from gateway.audit.tree import leaf_hash
from gateway.clock import parse_rfc3339, rfc3339
from gateway.errors import GatewayError, Reason
from gateway.evidence import dsse
from gateway.evidence.canonical import DECODE_ERRORS, encode_canonical
from gateway.evidence.keys import SignatureError, SigningKey, VerifyKey
from gateway.evidence.trust import Trust
from gateway.model import Entry, EntryKind

ACKNOWLEDGEMENT_TYPE: Final = dsse.payload_type("acknowledgement")
MAX_STATEMENT_BYTES: Final = 4 * 1024
MAX_CLOCK_SKEW: Final = timedelta(minutes=5)
"""How far the recipient's clock may be off, and how long a signed acknowledgement may be on its way."""
ACKNOWLEDGEABLE: Final = timedelta(days=7)
"""How long after its release an exchange may be acknowledged."""

_Digest = Annotated[str, msgspec.Meta(min_length=44, max_length=44)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]


class AcknowledgementError(GatewayError):
    """This is no acknowledgement, or not of what was released."""

    reason = Reason.STATEMENT_MALFORMED


class Acknowledgement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The payload of an acknowledgement's envelope (`application/vnd.sluicegate.acknowledgement.v1+json`)."""

    v: Literal[1]
    gateway: Annotated[str, msgspec.Meta(max_length=400)]
    """The log's origin."""
    exchange: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
    """UUIDv7 of the exchange."""
    index: _Count
    """Index of the release's entry."""
    leaf_hash: _Digest
    """Base64 of that entry's leaf hash."""
    receipt: _Digest
    """Base64 of the SHA-256 of the payload of the receipt's statement."""
    records: _Count
    """Records received, of all pages."""
    pages: _Count
    """Pages received, to the last."""
    time: Annotated[str, msgspec.Meta(max_length=40)]
    """RFC 3339 in UTC with microseconds."""


@dataclass(frozen=True, slots=True)
class OpenedAcknowledgement:
    """An acknowledgement whose envelope has been checked."""

    statement: Acknowledgement
    envelope: dsse.Envelope
    key_id: str
    """The key that signed it."""


@dataclass(frozen=True, slots=True)
class AcknowledgedRelease:
    """What is proven once an acknowledgement stands in the log."""

    index: int
    """Index of the entry that holds it."""
    entry: Entry
    tlog_proof: str


def sign_acknowledgement(
    receipt: Receipt, verified: VerifiedReceipt, key: SigningKey, now: datetime
) -> dsse.Envelope:
    """Return the acknowledgement of `receipt`, which `verify_receipt` has found to prove `verified`."""
    statement = Acknowledgement(
        v=1,
        gateway=verified.checkpoint.origin,
        exchange=verified.entry.exchange,
        index=verified.index,
        leaf_hash=base64.b64encode(leaf_hash(encode_canonical(verified.entry))).decode(),
        receipt=base64.b64encode(hashlib.sha256(receipt.statement.payload).digest()).decode(),
        records=verified.entry.records,
        pages=verified.entry.pages,
        time=rfc3339(now),
    )
    return dsse.sign(encode_canonical(statement), ACKNOWLEDGEMENT_TYPE, [key])


def open_acknowledgement(envelope: dsse.Envelope, keys: Mapping[str, VerifyKey]) -> OpenedAcknowledgement:
    """Verify and parse the envelope of an acknowledgement by the member whose `keys` are given, by key id.

    1. Size; exactly one signature, by one of the keys: nothing else may go into the log with it.
    2. Canonical JSON, strictly of the known form. Raises `AcknowledgementError` and `SignatureError`.
    """
    if len(envelope.payload) > MAX_STATEMENT_BYTES:  # 1
        raise AcknowledgementError(f"An acknowledgement has at most {MAX_STATEMENT_BYTES} bytes.")
    if len(envelope.signatures) > 1:
        raise SignatureError("An acknowledgement carries exactly one signature.")
    payload, key_id = dsse.verify(envelope, ACKNOWLEDGEMENT_TYPE, keys)
    try:  # 2
        statement = msgspec.json.decode(payload, type=Acknowledgement)
        for digest in (statement.leaf_hash, statement.receipt):
            dsse.from_base64(digest, length=hashlib.sha256().digest_size)
        has_one_form = rfc3339(parse_rfc3339(statement.time)) == statement.time
    except (*DECODE_ERRORS, ValueError, OverflowError) as error:
        raise AcknowledgementError(
            "The acknowledgement is malformed: a member is missing, unknown, or of the wrong form."
        ) from error
    if not has_one_form or encode_canonical(statement) != payload:
        raise AcknowledgementError("The acknowledgement is not in canonical form.")
    return OpenedAcknowledgement(statement, envelope, key_id)


def verify_made_now(statement: Acknowledgement, origin: str, now: datetime) -> None:
    """Raise unless `statement` was made for the log `origin`, within five minutes of `now`, either way."""
    if statement.gateway != origin:
        raise AcknowledgementError(
            "The acknowledgement was made for another gateway; it must name this log's origin.",
            reason=Reason.STATEMENT_AUDIENCE,
            audience=origin,
        )
    made = parse_rfc3339(statement.time)
    if made < now - MAX_CLOCK_SKEW:
        raise AcknowledgementError(
            "The acknowledgement is more than five minutes old; sign it anew.", reason=Reason.STATEMENT_STALE
        )
    if made > now + MAX_CLOCK_SKEW:
        raise AcknowledgementError(
            "The acknowledgement's time is more than five minutes ahead; set the clock.",
            reason=Reason.CLOCK_SKEW,
        )


def verify_release(statement: Acknowledgement, data: bytes, now: datetime) -> None:
    """Raise unless `statement` says of the release whose leaf is `data` what it was, and in time."""
    released = msgspec.json.decode(data, type=Entry)
    hashed = base64.b64encode(leaf_hash(data)).decode()
    told = statement.exchange, statement.leaf_hash, statement.records, statement.pages
    if told != (released.exchange, hashed, released.records, released.pages):
        raise AcknowledgementError(
            "The acknowledgement says something else of this exchange than the log; verify the receipt, and "
            "show both to the gateway's operator.",
            reason=Reason.RELEASE_MISMATCH,
        )
    if now > parse_rfc3339(released.time) + ACKNOWLEDGEABLE:
        raise AcknowledgementError(
            f"An exchange can be acknowledged for {ACKNOWLEDGEABLE.days} days after its release.",
            reason=Reason.ACKNOWLEDGEMENT_LATE,
            days=ACKNOWLEDGEABLE.days,
        )


def verify_acknowledged(
    envelope: dsse.Envelope, data: bytes, tlog_proof: str, trust: Trust
) -> AcknowledgedRelease:
    """Return what is proven if the leaf `data` holds the acknowledgement `envelope` and stands in the log.

    1. The leaf is an entry `exchange.acknowledged` with this very envelope, and says the same as it.
    2. A log key of the trust file signed the checkpoint, and the proof leads to it. Raises `GatewayError`.
    """
    try:  # 1
        entry = msgspec.json.decode(data, type=Entry)
        statement = msgspec.json.decode(envelope.payload, type=Acknowledgement)
    except DECODE_ERRORS as error:
        raise AcknowledgementError("The entry that should hold the acknowledgement is none.") from error
    if (
        entry.kind is not EntryKind.EXCHANGE_ACKNOWLEDGED
        or entry.acknowledgement.encode() != dsse.envelope_to_json(envelope)
        or (entry.exchange, entry.acknowledges) != (statement.exchange, statement.index)
    ):
        raise AcknowledgementError(
            "The log's entry does not hold this acknowledgement.", reason=Reason.PROOF_INVALID
        )
    return _proven(entry, data, tlog_proof, trust, statement.gateway)  # 2


def verify_answered(
    envelope: dsse.Envelope, data: bytes, tlog_proof: str, trust: Trust
) -> AcknowledgedRelease:
    """Return what is proven if the leaf `data` holds the answer `envelope` to a correction, likewise.

    Raises `GatewayError`.
    """
    try:
        entry = msgspec.json.decode(data, type=Entry)
    except DECODE_ERRORS as error:
        raise AcknowledgementError("The entry that should hold the answer is none.") from error
    if (
        entry.kind is not EntryKind.CORRECTION_ACKNOWLEDGED
        or entry.acknowledgement.encode() != dsse.envelope_to_json(envelope)
    ):
        raise AcknowledgementError("The log's entry does not hold this answer.", reason=Reason.PROOF_INVALID)
    return _proven(entry, data, tlog_proof, trust, trust.origin)


def _proven(entry: Entry, data: bytes, tlog_proof: str, trust: Trust, origin: str) -> AcknowledgedRelease:
    proof = TlogProof.from_text(tlog_proof)
    verifiers = [Ed25519Verifier.from_vkey(text) for text in trust.log_keys]
    proof.verify(leaf_hash(data), verifiers, origin=origin)
    return AcknowledgedRelease(proof.index, entry, tlog_proof)
