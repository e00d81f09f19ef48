"""Contributions: what a company signs over a batch of records, and the receipt it gets for it.

Pure; used by contributors to sign and to verify, by the gateway to verify and to issue, and by anybody
who is shown a record's provenance. See docs/formats/contribution.md.

    record digest   SHA-256(0x00 || salt || line), salts by SHAKE-256 of the page's seed
    page digest     SHA-256(0x01 || record digest 0 || record digest 1 || …)
    page seed       HMAC-SHA256(batch seed, "page" || number as 8 bytes, big-endian)
    batch root      root of the Merkle tree (RFC 6962) whose leaf hashes are those of the page digests
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Final, Literal, TypeVar

import msgspec

from gateway.audit.checkpoint import Checkpoint
from gateway.audit.committed import Committed
from gateway.audit.note import Ed25519Verifier
from gateway.audit.proof import TlogProof
from gateway.audit.tree import Frontier, append, leaf_hash
from gateway.clock import parse_rfc3339, rfc3339
from gateway.errors import GatewayError, Reason
from gateway.evidence import dsse
from gateway.evidence.canonical import DECODE_ERRORS, decode_bytes_strictly, encode_canonical
from gateway.evidence.commitment import verify_commitment
from gateway.evidence.keys import SignatureError, SigningKey, VerifyKey
from gateway.evidence.quality import Choice, QualityReport
from gateway.evidence.records import digest_of_page, record_digests
from gateway.evidence.trust import Trust
from gateway.model import Entry, EntryKind

CONTRIBUTION_TYPE: Final = dsse.payload_type("contribution")
WITHDRAWAL_TYPE: Final = dsse.payload_type("withdrawal")
RECEIPT_TYPE: Final = dsse.payload_type("contribution-receipt")
MEDIA_TYPE: Final = RECEIPT_TYPE

BATCH_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
"""A batch's id, chosen by the company: no identifier of anybody, as it stands in the log."""
MAX_PAGE_BYTES: Final = 256 * 1024
"""Of the records of one page, with their line ends."""
MAX_PAGE_RECORDS: Final = 2048
SEED_BYTES: Final = 32
MAX_STATEMENT_BYTES: Final = 4 * 1024
MAX_WITHDRAWAL_BYTES: Final = 64 * 1024
MAX_WITHDRAWN_KEYS: Final = 500
MAX_CLOCK_SKEW: Final = timedelta(minutes=5)
MAX_RECEIPT_BYTES: Final = 1024 * 1024

_EMPTY: Final = Frontier()

_Batch = Annotated[str, msgspec.Meta(pattern=BATCH_PATTERN)]
_Identity = Annotated[str, msgspec.Meta(pattern=r"^sha256:[0-9a-f]{64}$")]
_Digest = Annotated[str, msgspec.Meta(min_length=44, max_length=44)]
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=400)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]
_Form = TypeVar("_Form", "ContributionStatement", "WithdrawalStatement")
_Key = Annotated[tuple[str | int | bool, ...], msgspec.Meta(min_length=1, max_length=8)]


class ContributionError(GatewayError):
    """This is no statement over a contribution, or not over the one at hand."""

    reason = Reason.STATEMENT_MALFORMED


class ContributionStatement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a company signs over a batch (`application/vnd.sluicegate.contribution.v1+json`)."""

    v: Literal[1]
    gateway: _Name
    """The log's origin."""
    contract: _Identity
    dataset: _Name
    batch: _Batch
    choice: Choice
    records: _Count
    """Lines of the batch, those that stand for unreadable rows too."""
    pages: _Count
    bytes: _Count
    """Of all lines with their line ends."""
    root: _Digest
    """Base64 of the batch root."""
    time: Annotated[str, msgspec.Meta(max_length=40)]
    """RFC 3339 in UTC with microseconds."""


class WithdrawalStatement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a company signs to take back records (`application/vnd.sluicegate.withdrawal.v1+json`)."""

    v: Literal[1]
    gateway: _Name
    contract: _Identity
    dataset: _Name
    keys: Annotated[tuple[_Key, ...], msgspec.Meta(min_length=1, max_length=MAX_WITHDRAWN_KEYS)]
    """Values of the key fields, in the order of the contract, of each record."""
    nonce: Annotated[str, msgspec.Meta(min_length=16, max_length=64)]
    time: Annotated[str, msgspec.Meta(max_length=40)]


@dataclass(frozen=True, slots=True)
class BatchDigest:
    """The digest of a batch so far. Its size grows with the logarithm of the batch's."""

    records: int = 0
    size_bytes: int = 0
    """Of all lines with their line ends."""
    frontier: Frontier = _EMPTY

    @property
    def pages(self) -> int:
        """How many pages it is over."""
        return self.frontier.size

    @property
    def root(self) -> str:
        """The batch root, base64."""
        return base64.b64encode(self.frontier.root()).decode()

    def add_page(self, lines: Sequence[bytes], seed: bytes) -> tuple[BatchDigest, list[bytes]]:
        """Return the digest with one more page, and the digest of each of its records.

        `lines` (at least one) are without line ends; `seed` is the batch's.
        """
        digests = record_digests(lines, page_seed(seed, self.pages))
        grown = append(self.frontier, [leaf_hash(digest_of_page(digests))]).frontier
        size = sum(map(len, lines)) + len(lines)
        return BatchDigest(self.records + len(lines), self.size_bytes + size, grown), digests


def page_seed(seed: bytes, page: int) -> bytes:
    """Return the seed of a page of the batch whose seed is `seed` (32 bytes)."""
    return hmac.digest(seed, b"page" + page.to_bytes(8, "big"), "sha256")


def sign_contribution(
    digest: BatchDigest,
    *,
    gateway: str,
    contract: str,
    dataset: str,
    batch: str,
    choice: Choice,
    key: SigningKey,
    now: datetime,
) -> dsse.Envelope:
    """Return the envelope of the statement over the batch that `digest` is of."""
    statement = ContributionStatement(
        v=1,
        gateway=gateway,
        contract=contract,
        dataset=dataset,
        batch=batch,
        choice=choice,
        records=digest.records,
        pages=digest.pages,
        bytes=digest.size_bytes,
        root=digest.root,
        time=rfc3339(now),
    )
    return dsse.sign(encode_canonical(statement), CONTRIBUTION_TYPE, [key])


def open_contribution(
    envelope: dsse.Envelope, keys: Mapping[str, VerifyKey]
) -> tuple[ContributionStatement, str]:
    """Return the statement in `envelope` and the id of the key that signed it, one of `keys`.

    1. Size; exactly one signature, by one of the keys. 2. Canonical JSON, strictly of the known form.
    Raises `ContributionError` and `SignatureError`.
    """
    payload, key_id = _verified(envelope, CONTRIBUTION_TYPE, MAX_STATEMENT_BYTES, keys)
    return _parsed(payload, ContributionStatement), key_id


def open_withdrawal(
    envelope: dsse.Envelope, keys: Mapping[str, VerifyKey]
) -> tuple[WithdrawalStatement, str]:
    """Return the statement in `envelope` and the id of the key that signed it; as `open_contribution`."""
    payload, key_id = _verified(envelope, WITHDRAWAL_TYPE, MAX_WITHDRAWAL_BYTES, keys)
    return _parsed(payload, WithdrawalStatement), key_id


def verify_made_now(
    statement: ContributionStatement | WithdrawalStatement, origin: str, now: datetime
) -> None:
    """Raise unless `statement` was made for the log `origin`, within five minutes of `now`, either way."""
    if statement.gateway != origin:
        raise ContributionError(
            "The statement was signed for another gateway; it must name this log's origin.",
            reason=Reason.STATEMENT_AUDIENCE,
            audience=origin,
        )
    made = parse_rfc3339(statement.time)
    if made < now - MAX_CLOCK_SKEW:
        raise ContributionError(
            "The statement is more than five minutes old; sign it anew.", reason=Reason.STATEMENT_STALE
        )
    if made > now + MAX_CLOCK_SKEW:
        raise ContributionError(
            "The statement's time is more than five minutes ahead; set the clock.", reason=Reason.CLOCK_SKEW
        )


class ContributionReceiptStatement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the gateway signs: the entry as it stands in the log, where, and the quality report."""

    v: Literal[1]
    gateway: str
    index: int
    entry: msgspec.Raw
    """The entry's canonical bytes, verbatim."""
    report: QualityReport


class ContributionReceipt(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"
):
    """A receipt for a batch, accepted or refused for its quality, and the form of its file."""

    statement: dsse.Envelope
    tlog_proof: str
    contribution: dsse.Envelope
    """What the company signed."""
    media_type: str = MEDIA_TYPE

    def to_json(self) -> bytes:
        """Return the receipt's file form."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"

    @classmethod
    def from_json(cls, text: bytes) -> ContributionReceipt:
        """Parse strictly; raise `ContributionError`."""
        if len(text) > MAX_RECEIPT_BYTES:
            raise ContributionError("The file is too large to be a receipt for a contribution.")
        try:
            receipt = decode_bytes_strictly(text, cls)
        except DECODE_ERRORS as error:
            raise ContributionError("The file is no receipt for a contribution.") from error
        if receipt.media_type != MEDIA_TYPE:
            raise ContributionError(f"The file is no receipt of type {MEDIA_TYPE}.")
        return receipt


@dataclass(frozen=True, slots=True)
class VerifiedContribution:
    """What a receipt for a contribution proves, once it has been verified."""

    entry: Entry
    index: int
    checkpoint: Checkpoint
    statement: ContributionStatement
    report: QualityReport

    @property
    def accepted(self) -> bool:
        """Whether records of the batch were taken in."""
        return self.entry.kind is EntryKind.CONTRIBUTION_ACCEPTED


@dataclass(frozen=True, slots=True)
class WithdrawnContribution:
    """What is proven once a withdrawal stands in the log."""

    index: int
    entry: Entry
    tlog_proof: str


def sign_withdrawal(
    keys: Sequence[tuple[str | int | bool, ...]],
    *,
    gateway: str,
    contract: str,
    dataset: str,
    nonce: str,
    key: SigningKey,
    now: datetime,
) -> dsse.Envelope:
    """Return the envelope of the statement that takes back the records of `keys`."""
    statement = WithdrawalStatement(
        v=1,
        gateway=gateway,
        contract=contract,
        dataset=dataset,
        keys=tuple(keys),
        nonce=nonce,
        time=rfc3339(now),
    )
    return dsse.sign(encode_canonical(statement), WITHDRAWAL_TYPE, [key])


def verify_withdrawn(
    envelope: dsse.Envelope, data: bytes, tlog_proof: str, salt: str, trust: Trust
) -> WithdrawnContribution:
    """Return what is proven if the leaf `data` tells of the withdrawal `envelope` and stands in the log.

    1. The leaf is an entry `contribution.withdrawn` that commits to the statement, which `salt` opens.
    2. A log key of the trust file signed the checkpoint, and the proof leads to it. Raises `GatewayError`.
    """
    try:  # 1
        entry = msgspec.json.decode(data, type=Entry)
    except DECODE_ERRORS as error:
        raise ContributionError("The entry that should tell of the withdrawal is none.") from error
    if entry.kind is not EntryKind.CONTRIBUTION_WITHDRAWN:
        raise ContributionError("The log's entry tells of no withdrawal.", reason=Reason.PROOF_INVALID)
    verify_commitment(entry.commitments.get("statement", ""), salt, envelope.payload)
    proof = TlogProof.from_text(tlog_proof)  # 2
    verifiers = [Ed25519Verifier.from_vkey(text) for text in trust.log_keys]
    proof.verify(leaf_hash(data), verifiers, origin=trust.origin)
    return WithdrawnContribution(proof.index, entry, tlog_proof)


def statement_digest(envelope: dsse.Envelope) -> str:
    """Return what the log's entry commits to of a signed statement: base64 of its payload's SHA-256."""
    return base64.b64encode(hashlib.sha256(envelope.payload).digest()).decode()


def issue_contribution_receipt(
    committed: Committed,
    *,
    origin: str,
    contribution: dsse.Envelope,
    report: QualityReport,
    signer: SigningKey,
) -> ContributionReceipt:
    """Return the receipt of a batch whose entry has been committed."""
    statement = ContributionReceiptStatement(
        v=1, gateway=origin, index=committed.index, entry=msgspec.Raw(committed.data), report=report
    )
    return ContributionReceipt(
        statement=dsse.sign(encode_canonical(statement), RECEIPT_TYPE, [signer]),
        tlog_proof=committed.tlog_proof(),
        contribution=contribution,
    )


def verify_contribution_receipt(receipt: ContributionReceipt, trust: Trust) -> VerifiedContribution:
    """Return what `receipt` proves, or raise `GatewayError`.

    1. The statement is signed by a gateway key of the trust file and names one of its logs.
    2. The entry in it is canonical and tells of a contribution accepted, or refused after its end.
    3. The checkpoint is signed by a log key of the trust file, for this log, and the inclusion proof
       leads from the entry's leaf hash, at the stated index, to it.
    4. The company that the entry names signed its statement, and the entry commits to that.
    5. Entry, statement and report agree: contract, dataset, records, root.
    """
    payload, _ = dsse.verify(receipt.statement, RECEIPT_TYPE, trust.gateway_verify_keys)  # 1
    try:
        signed = msgspec.json.decode(payload, type=ContributionReceiptStatement)
        entry = msgspec.json.decode(signed.entry, type=Entry)
    except DECODE_ERRORS as error:
        raise ContributionError("The receipt's statement has not the form of one.") from error
    verifiers = [Ed25519Verifier.from_vkey(text) for text in trust.log_keys]
    if not {signed.gateway, trust.origin} <= {verifier.name for verifier in verifiers}:
        raise ContributionError("The receipt is of another gateway than the trust file.")
    kinds = {EntryKind.CONTRIBUTION_ACCEPTED, EntryKind.CONTRIBUTION_REFUSED}
    if entry.kind not in kinds or encode_canonical(entry) != bytes(signed.entry):  # 2
        raise ContributionError("The entry in the receipt tells of no contribution in canonical form.")
    proof = TlogProof.from_text(receipt.tlog_proof)  # 3
    if proof.index != signed.index:
        raise ContributionError("Statement and proof name different entries.")
    checkpoint = proof.verify(leaf_hash(bytes(signed.entry)), verifiers, origin=signed.gateway)
    statement, key_id = open_contribution(receipt.contribution, trust.member_verify_keys(entry.provider))  # 4
    committed = entry.commitments.get("statement", ""), entry.envelope_key
    if committed != (statement_digest(receipt.contribution), key_id):
        raise ContributionError("The entry does not commit to what the company signed.")
    said = statement.contract, statement.dataset, statement.root, statement.gateway
    found = entry.contract, entry.dataset, entry.commitments.get("records", ""), signed.gateway
    accepted = signed.report.accepted if entry.kind is EntryKind.CONTRIBUTION_ACCEPTED else 0
    if said != found or (statement.records, accepted) != (signed.report.rows, entry.records):  # 5
        raise ContributionError("Entry, statement and report of the receipt tell of different batches.")
    return VerifiedContribution(entry, signed.index, checkpoint, statement, signed.report)


def _verified(
    envelope: dsse.Envelope, kind: str, limit: int, keys: Mapping[str, VerifyKey]
) -> tuple[bytes, str]:
    if len(envelope.payload) > limit:
        raise ContributionError(f"A statement of this kind has at most {limit} bytes.")
    if len(envelope.signatures) > 1:
        raise SignatureError("The statement carries exactly one signature.")
    return dsse.verify(envelope, kind, keys)


def _parsed(payload: bytes, form: type[_Form]) -> _Form:
    try:
        statement = msgspec.json.decode(payload, type=form)
        has_one_form = rfc3339(parse_rfc3339(statement.time)) == statement.time
        if isinstance(statement, ContributionStatement):
            dsse.from_base64(statement.root, length=hashlib.sha256().digest_size)
    except (*DECODE_ERRORS, ValueError, OverflowError) as error:
        raise ContributionError(
            "The statement is malformed: a member is missing, unknown, or of the wrong form."
        ) from error
    if not has_one_form or encode_canonical(statement) != payload:
        raise ContributionError("The statement is not in canonical form.")
    return statement
