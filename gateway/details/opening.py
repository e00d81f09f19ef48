"""Opening details: a request for one entry, approvals by custodians, and what they open together.

    request    says which entry, why and for whom; carries the entry with its proof, so that custodians
               see from the log itself what they are asked to open; holds no secret
    approval   DSSE envelope signed by a custodian, valid for an hour, for exactly this request; carries
               the custodian's share of this one entry, sealed to the key that the request names
    opening    enough approvals, the details as stored, and the request's private key

Pure. The statement is `application/vnd.sluicegate.opening-approval.v1+json`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from gateway.audit.note import Ed25519Verifier
from gateway.audit.proof import TlogProof
from gateway.audit.tree import leaf_hash
from gateway.clock import parse_rfc3339, rfc3339
from gateway.details.content import Details
from gateway.details.custodians import Custodian, CustodianCard
from gateway.details.errors import ApprovalError, DetailsAlteredError
from gateway.details.hpke import PUBLIC_KEY_BYTES, open_sealed, seal
from gateway.details.sealing import (
    BatchKeys,
    Context,
    content_digest,
    entry_share,
    open_content,
    share_info,
    unwrap,
)
from gateway.details.store import StoredDetails
from gateway.evidence import dsse
from gateway.evidence.canonical import DECODE_ERRORS, encode_canonical
from gateway.evidence.trust import Trust
from gateway.model import Entry

APPROVAL_TYPE: Final = dsse.payload_type("opening-approval")
APPROVAL_LIFETIME: Final = timedelta(hours=1)
CLOCK_TOLERANCE: Final = timedelta(minutes=5)
MAX_FILE_BYTES: Final = 128 * 1024

_Key = Annotated[bytes, msgspec.Meta(min_length=PUBLIC_KEY_BYTES, max_length=PUBLIC_KEY_BYTES)]


class OpeningRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What custodians are asked to approve, and the form of its file."""

    v: int
    origin: str
    index: int
    """Of the entry whose details are to be opened."""
    entry: bytes
    """Its leaf, verbatim."""
    proof: str
    """`.tlog-proof` of the entry."""
    kind: str
    """Of the entry that the details were written with; the same exchange's."""
    reason: str
    by: str
    """Who asks."""
    time: str
    reply_to: _Key
    """X25519 public key to which shares are sealed; the private key never leaves who asks."""
    keys: BatchKeys

    @property
    def digest(self) -> str:
        """Hex SHA-256 of the request's canonical JSON: what an approval names."""
        return hashlib.sha256(encode_canonical(self)).hexdigest()

    def context(self, entry: Entry) -> Context:
        """Return the context of the details."""
        return Context(self.origin, entry.exchange, self.kind)

    def to_json(self) -> bytes:
        """Return the text of the request's file."""
        return msgspec.json.format(encode_canonical(self), indent=2) + b"\n"

    @classmethod
    def from_json(cls, text: bytes) -> OpeningRequest:
        """Parse strictly; raise `ApprovalError`."""
        try:
            request = msgspec.json.decode(text[: MAX_FILE_BYTES + 1], type=cls)
        except DECODE_ERRORS:
            raise ApprovalError("The file is not a request to open details.") from None
        if request.v != 1:
            raise ApprovalError("The request is of a version that this release does not know.")
        return request


class Approval(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a custodian signs."""

    v: int
    origin: str
    index: int
    leaf: str
    """Hex leaf hash of the entry."""
    request: str
    """Hex SHA-256 of the request."""
    reason: str
    custodian: str
    time: str
    expires: str
    share: bytes
    """The custodian's share of this entry, sealed to the request's key."""


@dataclass(frozen=True, slots=True)
class VerifiedRequest:
    """A request whose entry stands in the log."""

    request: OpeningRequest
    entry: Entry


def verify_request(request: OpeningRequest, trust: Trust) -> VerifiedRequest:
    """Return the request once the log itself says what it is about.

    1. The entry stands in the log of the trust file, at the index named. 2. It is an entry of an
    exchange, or of a search, whose details are kept. Raises `GatewayError`.
    """
    proof = TlogProof.from_text(request.proof)
    verifiers = [Ed25519Verifier.from_vkey(text) for text in trust.log_keys]
    if request.origin != trust.origin or proof.index != request.index:
        raise ApprovalError("The request is for another log or another entry than its proof.")
    proof.verify(leaf_hash(request.entry), verifiers, origin=trust.origin)  # 1
    return VerifiedRequest(request, parse_entry(request.entry))  # 2


def parse_entry(leaf: bytes) -> Entry:
    """Return the entry in `leaf`; raise `ApprovalError` unless details are kept of it."""
    try:
        entry = msgspec.json.decode(leaf, type=Entry)
    except DECODE_ERRORS:
        raise ApprovalError("The request does not hold an entry of the log.") from None
    if encode_canonical(entry) != leaf or not entry.exchange or "details" not in entry.commitments:
        raise ApprovalError("Of this entry no details are kept.")
    return entry


def approve(verified: VerifiedRequest, custodian: Custodian, now: datetime) -> dsse.Envelope:
    """Return the custodian's approval: the share of this entry and of no other, and a signature.

    Raises `ApprovalError` if the custodian has no share, `DetailsAlteredError` if it does not open.
    """
    request, card = verified.request, custodian.card
    sealed = request.keys.shares.get(card.id)
    if sealed is None:
        raise ApprovalError("These details were not sealed to this custodian; another one has to approve.")
    share = custodian.unseal(sealed, share_info(request.origin, request.keys.id, card.id))
    ours = entry_share(share, request.context(verified.entry))
    approval = Approval(
        v=1,
        origin=request.origin,
        index=request.index,
        leaf=leaf_hash(request.entry).hex(),
        request=request.digest,
        reason=request.reason,
        custodian=card.id,
        time=rfc3339(now),
        expires=rfc3339(now + APPROVAL_LIFETIME),
        share=seal(ours, request.reply_to, _reply_info(request, card.id)),
    )
    return dsse.sign(encode_canonical(approval), APPROVAL_TYPE, [custodian.signing_key])


def verify_approvals(
    request: OpeningRequest,
    envelopes: Iterable[dsse.Envelope],
    cards: Mapping[str, CustodianCard],
    now: datetime,
) -> tuple[Approval, ...]:
    """Return the approvals, one for each custodian, once there are enough; raise `GatewayError`.

    1. Each is signed by a custodian known here, who is the one it names, and to whom these details
    were sealed. 2. It is for exactly this request: log, index, leaf, reason. 3. It is in force: at
    most an hour, beginning at most five minutes ahead. 4. No custodian approves twice, and at least
    as many approve as the details need.
    """
    verify_keys = {card.verify_key.key_id: card.verify_key for card in cards.values()}
    found: dict[str, Approval] = {}
    for envelope in envelopes:
        payload, key_id = dsse.verify(envelope, APPROVAL_TYPE, verify_keys)
        approval = _parse_approval(payload)
        card = cards.get(approval.custodian)
        if card is None or card.verify_key.key_id != key_id or card.id not in request.keys.shares:
            raise ApprovalError("An approval is signed by another custodian than it names.")  # 1
        named = (approval.origin, approval.index, approval.leaf, approval.request, approval.reason)
        asked = (
            request.origin,
            request.index,
            leaf_hash(request.entry).hex(),
            request.digest,
            request.reason,
        )
        if named != asked:
            raise ApprovalError("An approval is for another request, entry or reason.")  # 2
        _verify_in_force(approval, now)  # 3
        if card.id in found:
            raise ApprovalError("A custodian has approved twice; it takes different people.")
        found[card.id] = approval
    if len(found) < request.keys.threshold:
        raise ApprovalError(
            f"It takes the approvals of {request.keys.threshold} custodians to open these details; there are "
            f"{len(found)}."
        )
    return tuple(found.values())


def open_stored(
    request: OpeningRequest,
    secret: X25519PrivateKey,
    approvals: Iterable[Approval],
    stored: StoredDetails,
) -> Details:
    """Return the details once they are proven to be those that the entry commits to.

    Raises `DetailsAlteredError`.
    """
    entry = parse_entry(request.entry)
    verify_content(entry, stored)
    context = request.context(entry)
    shares = {
        approval.custodian: open_sealed(approval.share, secret, _reply_info(request, approval.custodian))
        for approval in approvals
    }
    key = unwrap(stored.wraps, request.keys, shares, context)
    details = Details.decode(open_content(stored.content, key, context))
    details.verify(entry)
    return details


def verify_content(entry: Entry, stored: StoredDetails) -> None:
    """Raise `DetailsAlteredError` unless `stored` is what `entry` commits to as its details."""
    if content_digest(stored.content) != entry.commitments.get("details"):
        raise DetailsAlteredError(
            "The details that are kept are not those that the entry commits to: they were altered."
        )


def _reply_info(request: OpeningRequest, custodian: str) -> bytes:
    return encode_canonical(("sluicegate details v1", "reply", request.digest, custodian))


def _parse_approval(payload: bytes) -> Approval:
    try:
        approval = msgspec.json.decode(payload, type=Approval)
    except DECODE_ERRORS:
        raise ApprovalError("An approval has not the form of one.") from None
    if approval.v != 1:
        raise ApprovalError("An approval is of a version that this release does not know.")
    return approval


def _verify_in_force(approval: Approval, now: datetime) -> None:
    try:
        begins, ends = parse_rfc3339(approval.time), parse_rfc3339(approval.expires)
    except (ValueError, OverflowError):
        raise ApprovalError("The times of an approval are not RFC 3339.") from None
    if ends - begins > APPROVAL_LIFETIME or begins > now + CLOCK_TOLERANCE:
        raise ApprovalError("An approval claims to be in force for longer than an hour, or not yet.")
    if now >= ends:
        raise ApprovalError("An approval is more than an hour old; ask the custodian for a new one.")
