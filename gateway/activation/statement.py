"""What author and approver sign: which bundle is to be in force, in the place of which, and until when.

Format: docs/formats/policy-bundle.md.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final

import msgspec

from gateway.activation.errors import ActivationError
from gateway.clock import parse_rfc3339, rfc3339
from gateway.evidence import dsse
from gateway.evidence.canonical import DECODE_ERRORS, encode_canonical
from gateway.evidence.keys import SigningKey

ACTIVATION_TYPE: Final = dsse.payload_type("policy-activation")
STATEMENT_VERSION: Final = 1
MAX_ENVELOPE_BYTES: Final = 16 * 1024
MAX_REASON_LENGTH: Final = 500

_Digest = Annotated[str, msgspec.Meta(pattern=r"^sha256:[0-9a-f]{64}$")]


class Action(StrEnum):
    """What is to be done."""

    ACTIVATE = "activate"
    """Put a bundle of a higher revision than any before into force."""
    ROLLBACK = "rollback"
    """Put a bundle that was in force before into force again."""
    CONFIRM = "confirm"
    """Let the bundle that is in force stay so: its age counts anew."""


class ActivationStatement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The payload of the envelope that author and approver sign."""

    v: int
    origin: str
    """The log of the deployment that it is for."""
    action: Action
    bundle: _Digest
    """Digest of rules and data; what decisions name."""
    file: _Digest
    """Digest of the bundle file's bytes."""
    revision: Annotated[int, msgspec.Meta(ge=1)]
    previous: Annotated[str, msgspec.Meta(pattern=r"^(sha256:[0-9a-f]{64})?$")]
    """Digest of the bundle in force until then; empty for the first."""
    not_before: str
    """RFC 3339 in UTC: from when on it holds."""
    not_after: str
    """RFC 3339 in UTC: when it ceases to hold; then everything is denied."""
    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_REASON_LENGTH)]

    @property
    def starts(self) -> datetime:
        """`not_before` as a time."""
        return parse_rfc3339(self.not_before)

    @property
    def ends(self) -> datetime:
        """`not_after` as a time."""
        return parse_rfc3339(self.not_after)


def make_statement(
    *,
    origin: str,
    action: Action,
    bundle: str,
    file: str,
    revision: int,
    previous: str,
    not_before: datetime,
    not_after: datetime,
    reason: str,
) -> ActivationStatement:
    """Return the statement; raise `ActivationError` if it could not be parsed again."""
    statement = ActivationStatement(
        v=STATEMENT_VERSION,
        origin=origin,
        action=action,
        bundle=bundle,
        file=file,
        revision=revision,
        previous=previous,
        not_before=rfc3339(not_before),
        not_after=rfc3339(not_after),
        reason=reason,
    )
    return parse_statement(encode_statement(statement))


def encode_statement(statement: ActivationStatement) -> bytes:
    """Return the bytes that are signed: canonical JSON (RFC 8785)."""
    return encode_canonical(msgspec.to_builtins(statement))


def parse_statement(payload: bytes) -> ActivationStatement:
    """Parse strictly; raise `ActivationError`."""
    try:
        statement = msgspec.json.decode(payload, type=ActivationStatement)
        starts, ends = statement.starts, statement.ends
    except (*DECODE_ERRORS, ValueError) as error:
        raise ActivationError("The approval does not hold an activation statement.") from error
    if statement.v != STATEMENT_VERSION:
        raise ActivationError(
            f"The approval holds a statement of version {statement.v}; "
            f"this release reads {STATEMENT_VERSION}."
        )
    if starts >= ends:
        raise ActivationError("The approval ends before it begins; sign a new one.")
    return statement


def statement_digest(payload: bytes) -> str:
    """Return `sha256:<hex>` over the signed bytes: the name of a statement in the log."""
    return "sha256:" + hashlib.sha256(payload).hexdigest()


def sign_statement(statement: ActivationStatement, key: SigningKey) -> dsse.Envelope:
    """Return the envelope with the first signature, the author's."""
    return dsse.sign(encode_statement(statement), ACTIVATION_TYPE, [key])


def countersign(envelope: dsse.Envelope, key: SigningKey) -> dsse.Envelope:
    """Return `envelope` with one signature more; raise `ActivationError` if `key` has signed already."""
    if any(signature.keyid == key.key_id for signature in envelope.signatures):
        raise ActivationError("This key has signed the approval already; another person must sign it.")
    added = dsse.sign(envelope.payload, ACTIVATION_TYPE, [key]).signatures
    return msgspec.structs.replace(envelope, signatures=envelope.signatures + added)


def read_envelope(content: bytes) -> dsse.Envelope:
    """Parse an approval file; raise `ActivationError` or `SignatureError`."""
    if len(content) > MAX_ENVELOPE_BYTES:
        raise ActivationError(f"An approval has at most {MAX_ENVELOPE_BYTES} bytes.")
    return dsse.envelope_from_json(content)
