"""Receipts: proof for a recipient, verifiable with no network and no gateway.

Pure; used by the gateway to issue and by anybody to verify. See docs/formats/receipt.md.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from gateway.audit.checkpoint import Checkpoint
from gateway.audit.committed import Committed
from gateway.audit.note import Ed25519Verifier
from gateway.audit.proof import TlogProof
from gateway.audit.tree import leaf_hash
from gateway.audit.witness_policy import Cosignature, WitnessPolicy
from gateway.errors import GatewayError, Reason
from gateway.evidence import dsse
from gateway.evidence.canonical import DECODE_ERRORS, decode_bytes_strictly, encode_canonical
from gateway.evidence.commitment import verify_commitment
from gateway.evidence.delivery import DELIVERY_TYPE, DeliveryStatement, parse_delivery, verify_sequence
from gateway.evidence.fields import SEED_BYTES, verify_fields
from gateway.evidence.keys import SigningKey
from gateway.evidence.records import page_digest, records_root, split_lines
from gateway.evidence.trust import Trust
from gateway.model import Entry, EntryKind, Operation
from gateway.model.duties import DELIVERIES_WITHHELD

RECEIPT_TYPE: Final = dsse.payload_type("receipt")
MEDIA_TYPE: Final = "application/vnd.sluicegate.receipt.v1+json"
MAX_RECEIPT_BYTES: Final = 32 * 1024 * 1024
"""A receipt grows by about 700 bytes a page; this is over 40,000 pages."""


class ReceiptError(GatewayError):
    """The receipt does not prove what it says."""

    reason = Reason.SIGNATURE_INVALID


class ReceiptStatement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the gateway signs: the entry as it stands in the log, where, and the recipient's openings."""

    v: int
    gateway: str
    """The log's origin."""
    index: int
    entry: msgspec.Raw
    """The entry's canonical bytes, verbatim: its leaf hash is taken over them."""
    openings: dict[str, str]
    """Name of a commitment in the entry to its salt (base64)."""
    pages: tuple[str, ...]
    """Digest of each page released (base64), in order; the entry commits to them as `records`."""


class Receipt(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """A receipt, and the form of its file."""

    statement: dsse.Envelope
    tlog_proof: str
    deliveries: tuple[dsse.Envelope, ...] = ()
    media_type: str = MEDIA_TYPE

    def to_json(self) -> bytes:
        """Return the receipt's file form."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"

    @classmethod
    def from_json(cls, text: bytes) -> Receipt:
        """Parse strictly; raise `ReceiptError`."""
        if len(text) > MAX_RECEIPT_BYTES:
            raise ReceiptError("The file is too large to be a receipt.")
        try:
            receipt = decode_bytes_strictly(text, cls)
        except DECODE_ERRORS as error:
            raise ReceiptError("The file is not a receipt.") from error
        if receipt.media_type != MEDIA_TYPE:
            raise ReceiptError(f"The file is not a receipt of type {MEDIA_TYPE}.")
        return receipt


@dataclass(frozen=True, slots=True)
class VerifiedReceipt:
    """What a receipt proves, once it has been verified."""

    entry: Entry
    index: int
    checkpoint: Checkpoint
    page_digests: tuple[bytes, ...]
    openings: Mapping[str, str]
    deliveries: tuple[DeliveryStatement, ...]
    from_vault: bool = False
    """Whether the gateway's vault signed the deliveries, on behalf of the provider, and not the provider."""
    witnessed: tuple[Cosignature, ...] = ()
    """The cosignatures that make up the quorum of the witness policy, if it was verified with one."""

    def verify_query(self, payload: bytes) -> None:
        """Raise unless the receipt is for the query statement `payload` (the signed bytes)."""
        salt = self.openings.get("query")
        if salt is None:
            raise ReceiptError("The receipt does not open the commitment to the query.")
        verify_commitment(self.entry.commitments.get("query", ""), salt, payload)

    def verify_page(self, number: int, records: bytes, seed: bytes) -> None:
        """Raise unless `records` (JSON Lines) with `seed` is page `number` of what was released."""
        if not 0 <= number < len(self.page_digests):
            raise ReceiptError("The receipt knows no page of this number.")
        if page_digest(split_lines(records), seed) != self.page_digests[number]:
            raise ReceiptError("The records are not those that the log entry commits to.")


def issue_receipt(
    committed: Committed,
    *,
    origin: str,
    openings: Mapping[str, str],
    page_digests: Iterable[bytes],
    deliveries: Iterable[dsse.Envelope],
    signer: SigningKey,
) -> Receipt:
    """Return the receipt of a release that has been committed."""
    statement = ReceiptStatement(
        v=1,
        gateway=origin,
        index=committed.index,
        entry=msgspec.Raw(committed.data),
        openings=dict(openings),
        pages=tuple(base64.b64encode(digest).decode() for digest in page_digests),
    )
    return Receipt(
        statement=dsse.sign(encode_canonical(statement), RECEIPT_TYPE, [signer]),
        tlog_proof=committed.tlog_proof(),
        deliveries=tuple(deliveries),
    )


def verify_receipt(receipt: Receipt, trust: Trust, policy: WitnessPolicy | None = None) -> VerifiedReceipt:
    """Return what `receipt` proves, or raise `GatewayError`.

    1. The statement is signed by a gateway key of the trust file and names one of its logs: the present
       one, or one that was closed.
    2. The entry in it is canonical and a release.
    3. The checkpoint is signed by a log key of the trust file, for this log.
    4. The inclusion proof leads from the entry's leaf hash, at the stated index, to the checkpoint.
    5. The pages' digests make up the records root that the entry commits to.
    6. Each delivery is signed by the provider named in the entry, for this exchange, in order, and
       the last says that it is the last. Where the entry names a key of the gateway's vault as the one
       that signed, the provider had put its records there, and the vault signed in its stead: `from_vault`.
       Under a duty that keeps exact counts back, there may be none. With the answer to a list question
       there is none: it would tell which list has the subject.
    7. If the entry commits to its members one by one, it does so to the members that it has: what the
       gateway shows others of this exchange is what stands in this entry.
    8. With a witness policy: a quorum of its witnesses has cosigned the checkpoint.
    """
    payload, _ = dsse.verify(receipt.statement, RECEIPT_TYPE, trust.gateway_verify_keys)  # 1
    statement = _parse_statement(payload)
    verifiers = [Ed25519Verifier.from_vkey(text) for text in trust.log_keys]
    if not {statement.gateway, trust.origin} <= {verifier.name for verifier in verifiers}:
        raise ReceiptError("The receipt is of another gateway than the trust file.")
    entry = _parse_entry(statement.entry)  # 2
    proof = TlogProof.from_text(receipt.tlog_proof)
    if proof.index != statement.index:
        raise ReceiptError("Statement and proof name different entries.")
    checkpoint = proof.verify(leaf_hash(bytes(statement.entry)), verifiers, origin=statement.gateway)  # 3, 4
    digests = _page_digests(statement, entry)  # 5
    deliveries = _verify_deliveries(receipt.deliveries, entry, trust)  # 6
    _verify_fields(entry, statement.openings)  # 7
    witnessed: tuple[Cosignature, ...] = ()
    if policy is not None:  # 8
        witnessed = policy.verify(proof.checkpoint, origin=trust.origin, log_verifiers=verifiers).cosignatures
    return VerifiedReceipt(
        entry,
        statement.index,
        checkpoint,
        digests,
        statement.openings,
        deliveries,
        from_vault=_is_from_vault(entry, trust),
        witnessed=witnessed,
    )


def _is_from_vault(entry: Entry, trust: Trust) -> bool:
    return entry.provider_key in trust.vault_keys


def _parse_statement(payload: bytes) -> ReceiptStatement:
    try:
        statement = msgspec.json.decode(payload, type=ReceiptStatement)
    except DECODE_ERRORS as error:
        raise ReceiptError("The receipt's statement has not the form of one.") from error
    if statement.v != 1:
        raise ReceiptError("The receipt's statement is of a version this release does not know.")
    return statement


def _parse_entry(raw: msgspec.Raw) -> Entry:
    try:
        entry = msgspec.json.decode(raw, type=Entry)
    except DECODE_ERRORS as error:
        raise ReceiptError("The entry in the receipt has not the form of one.") from error
    if encode_canonical(entry) != bytes(raw):
        raise ReceiptError("The entry in the receipt is not in canonical form.")
    if entry.kind is not EntryKind.EXCHANGE_RELEASED or (entry.sequence is not None and entry.sequence < 1):
        raise ReceiptError("The entry in the receipt is not of a release as it stands in a log.")
    return entry


def _verify_fields(entry: Entry, openings: Mapping[str, str]) -> None:
    if not entry.fields:
        return
    try:
        seed = dsse.from_base64(openings.get("fields", ""), length=SEED_BYTES)
    except ValueError as error:
        raise ReceiptError("The receipt does not open the entry's commitment to its members.") from error
    verify_fields(entry, seed)


def _page_digests(statement: ReceiptStatement, entry: Entry) -> tuple[bytes, ...]:
    try:
        digests = tuple(dsse.from_base64(text, length=32) for text in statement.pages)
    except ValueError as error:
        raise ReceiptError("A page digest in the receipt is not base64 of 32 bytes.") from error
    root = base64.b64encode(records_root(digests)).decode()
    if entry.commitments.get("records") != root or entry.pages != len(digests):
        raise ReceiptError("The pages in the receipt are not those that the log entry commits to.")
    return digests


def _verify_deliveries(
    deliveries: Sequence[dsse.Envelope], entry: Entry, trust: Trust
) -> tuple[DeliveryStatement, ...]:
    if entry.operation == Operation.LIST:
        if deliveries:
            raise ReceiptError("A receipt for the answer to a list question holds no deliveries.")
        return ()
    if not deliveries and DELIVERIES_WITHHELD & entry.duties.keys():
        return ()
    keys = trust.member_verify_keys(entry.provider)
    if _is_from_vault(entry, trust):
        keys = trust.vault_verify_keys
    if not keys:
        raise ReceiptError(
            "The trust file does not know the provider's signing key; ask the operator for a new trust file."
        )
    statements = []
    for envelope in deliveries:
        payload, _ = dsse.verify(envelope, DELIVERY_TYPE, keys)
        statement = parse_delivery(payload)
        if (statement.exchange, statement.dataset) != (entry.exchange, entry.dataset):
            raise ReceiptError("A delivery statement belongs to another exchange.")
        statements.append(statement)
    verify_sequence(statements)
    return tuple(statements)
