"""Disclosures: chosen members of one entry, shown to an outsider who may not read the entry.

The outsider gets the members with their salts, the entry's leaf hash with its proof, and the entry
of kind `entry.disclosed` by which the log itself binds that leaf hash to the root of the members'
digests. Pure; made by the gateway's officers and verified by anybody, offline. See
docs/formats/disclosure.md, also for what the outsider has to trust.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

import msgspec

from gateway.audit.checkpoint import Checkpoint
from gateway.audit.note import Ed25519Verifier
from gateway.audit.proof import TlogProof
from gateway.audit.tree import HASH_BYTES, leaf_hash
from gateway.errors import GatewayError, Reason
from gateway.evidence.canonical import DECODE_ERRORS, encode_canonical
from gateway.evidence.fields import (
    DIGEST_BYTES,
    DIGESTS_MULTIPLE,
    FIELDS,
    SALT_BYTES,
    FieldOpenings,
    field_digest,
    fields_root,
)
from gateway.evidence.trust import Trust
from gateway.model import Entry, EntryKind

MEDIA_TYPE: Final = "application/vnd.sluicegate.disclosure.v1+json"
MAX_DISCLOSURE_BYTES: Final = 256 * 1024
"""An entry of 16 KiB in clear, another one, two proofs and 32 digests stay far below."""
MAX_FIELDS: Final = 256

_Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z_]{1,40}\Z")]


class DisclosureError(GatewayError):
    """The disclosure does not prove what it says."""

    reason = Reason.PROOF_INVALID


class DisclosedField(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One member of the entry."""

    name: _Name
    value: msgspec.Raw
    salt: bytes
    """16 bytes."""


class Disclosure(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """A disclosure, and the form of its file."""

    leaf_hash: bytes
    """Of the entry that members are shown of."""
    proof: str
    """`.tlog-proof` of that leaf hash."""
    fields: Annotated[tuple[DisclosedField, ...], msgspec.Meta(min_length=1, max_length=MAX_FIELDS)]
    digests: Annotated[tuple[bytes, ...], msgspec.Meta(max_length=MAX_FIELDS)]
    """All digests of the entry's members, decoys among them, in rising order."""
    statement: bytes
    """The log's own entry about this disclosure, verbatim."""
    statement_proof: str
    media_type: str = MEDIA_TYPE

    def to_json(self) -> bytes:
        """Return the disclosure's file form."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"

    @classmethod
    def from_json(cls, text: bytes) -> Disclosure:
        """Parse strictly; raise `DisclosureError`."""
        if len(text) > MAX_DISCLOSURE_BYTES:
            raise DisclosureError("The file is too large to be a disclosure.")
        try:
            disclosure = msgspec.json.decode(text, type=cls)
        except DECODE_ERRORS:
            raise DisclosureError("The file is not a disclosure.") from None
        if disclosure.media_type != MEDIA_TYPE:
            raise DisclosureError(f"The file is not a disclosure of type {MEDIA_TYPE}.")
        return disclosure


@dataclass(frozen=True, slots=True)
class VerifiedDisclosure:
    """What a disclosure proves, once it has been verified."""

    index: int
    """Of the entry that members are shown of."""
    fields: Mapping[str, Any]
    """Member name to value."""
    checkpoint: Checkpoint
    """The one that covers both entries."""
    stated: Entry
    """The log's entry about the disclosure: when, by whom, for what reason."""
    stated_index: int


def disclosure_statement(
    entry_leaf_hash: bytes, openings: FieldOpenings, names: Iterable[str]
) -> dict[str, str]:
    """Return what the `detail` of the entry about a disclosure has to say of it."""
    return {
        "leaf": base64.b64encode(entry_leaf_hash).decode(),
        "root": base64.b64encode(openings.root).decode(),
        "fields": ",".join(sorted(names)),
    }


def disclosed_fields(openings: FieldOpenings, names: Iterable[str]) -> tuple[DisclosedField, ...]:
    """Return the members called `names` with their salts; raise `DisclosureError` if one is not there."""
    chosen = sorted(set(names))
    if not chosen:
        raise DisclosureError("A disclosure shows at least one member; name it with --field.")
    missing = [name for name in chosen if name not in openings.values]
    if missing:
        raise DisclosureError(
            f"The entry has no member of that name that could be shown; it has {', '.join(openings.values)}."
        )
    return tuple(
        DisclosedField(name, msgspec.Raw(openings.values[name]), openings.salts[name]) for name in chosen
    )


def verify_disclosure(disclosure: Disclosure, trust: Trust) -> VerifiedDisclosure:
    """Return what `disclosure` proves, or raise `GatewayError`.

    1. The statement stands in the log: its proof leads to a checkpoint signed by a log key of the
       trust file, for its log.
    2. The statement is a canonical entry about a disclosure, and names this leaf hash, this index
       and the root of these digests.
    3. The leaf hash stands in the log at that index, before the statement, under a checkpoint signed
       by a log key of the trust file.
    4. The digests are in rising order without repetition, of the fixed number, and hash to the root.
    5. Each member, under its salt, has a digest among them; none is shown twice, and the statement
       names each.
    """
    verifiers = [Ed25519Verifier.from_vkey(text) for text in trust.log_keys]
    stated_proof = TlogProof.from_text(disclosure.statement_proof)
    stated_proof.verify(leaf_hash(disclosure.statement), verifiers, origin=trust.origin)  # 1
    stated = _parse_statement(disclosure.statement)
    root = fields_root(disclosure.digests)
    proof = TlogProof.from_text(disclosure.proof)
    _verify_binding(stated, disclosure.leaf_hash, proof.index, root)  # 2
    if proof.index >= stated_proof.index:
        raise DisclosureError("The log's statement stands before the entry that it is about.")
    checkpoint = proof.verify(disclosure.leaf_hash, verifiers, origin=trust.origin)  # 3
    _verify_digests(disclosure.digests)  # 4
    fields = _verify_members(disclosure, stated)  # 5
    return VerifiedDisclosure(proof.index, fields, checkpoint, stated, stated_proof.index)


def is_bound(stated: Entry, index: int, data: bytes) -> bool:
    """Whether `stated`, an entry about a disclosure, tells the truth about the entry `data` at `index`.

    For those who may read the log: they need no secret to find a statement that binds a leaf hash to
    another root than the entry itself carries.
    """
    try:
        entry = msgspec.json.decode(data, type=Entry)
    except DECODE_ERRORS:
        return False
    leaf = base64.b64encode(leaf_hash(data)).decode()
    named = (stated.detail.get("leaf"), stated.detail.get("root"), stated.subject)
    return bool(entry.fields) and named == (leaf, entry.fields.get("root"), f"entries/{index}")


def _parse_statement(raw: bytes) -> Entry:
    try:
        entry = msgspec.json.decode(raw, type=Entry)
    except DECODE_ERRORS:
        raise DisclosureError("The log's statement has not the form of an entry.") from None
    if encode_canonical(entry) != raw or entry.kind is not EntryKind.ENTRY_DISCLOSED:
        raise DisclosureError("The log's statement is not one about a disclosure.")
    return entry


def _verify_binding(stated: Entry, entry_leaf_hash: bytes, index: int, root: bytes) -> None:
    named = (stated.detail.get("leaf"), stated.detail.get("root"), stated.subject)
    expected = (
        base64.b64encode(entry_leaf_hash).decode(),
        base64.b64encode(root).decode(),
        f"entries/{index}",
    )
    if len(entry_leaf_hash) != HASH_BYTES or named != expected:
        raise DisclosureError("The log's statement is about another entry, or about other members.")


def _verify_digests(digests: tuple[bytes, ...]) -> None:
    if not digests or len(digests) % DIGESTS_MULTIPLE or any(len(item) != DIGEST_BYTES for item in digests):
        raise DisclosureError(f"A disclosure has a multiple of {DIGESTS_MULTIPLE} digests of 32 bytes.")
    if list(digests) != sorted(set(digests)):
        raise DisclosureError("The digests of a disclosure are in rising order, each once.")


def _verify_members(disclosure: Disclosure, stated: Entry) -> dict[str, Any]:
    told = stated.detail.get("fields", "").split(",")
    shown: dict[str, Any] = {}
    for field in disclosure.fields:
        if field.name in shown or field.name == FIELDS or field.name not in told:
            raise DisclosureError("A member is shown twice, or the log does not say that it was shown.")
        if len(field.salt) != SALT_BYTES:
            raise DisclosureError(f"A salt has {SALT_BYTES} bytes.")
        value = _plain(field.value)
        if field_digest(field.name, encode_canonical(value), field.salt) not in disclosure.digests:
            raise DisclosureError("A member that is shown is not the one that the entry commits to.")
        shown[field.name] = value
    return shown


def _plain(raw: msgspec.Raw) -> Any:
    try:
        return msgspec.json.decode(raw)
    except DECODE_ERRORS:
        raise DisclosureError("The value of a member is not JSON.") from None
