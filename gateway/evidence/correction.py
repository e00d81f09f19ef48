"""Corrections: what a holder announces of records, what a recipient is told, what it answers. Pure.

Three statements, each a DSSE envelope with canonical JSON (RFC 8785), each with a nonce, so that a
digest of it tells nothing to who does not have it. See docs/formats/correction.md.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Final, Generic, Literal, TypeVar

import msgspec

from gateway.clock import parse_rfc3339, rfc3339
from gateway.errors import GatewayError, Reason
from gateway.evidence import dsse
from gateway.evidence.canonical import DECODE_ERRORS, encode_canonical
from gateway.evidence.keys import SignatureError, SigningKey, VerifyKey

CORRECTION_TYPE: Final = dsse.payload_type("correction")
NOTICE_TYPE: Final = dsse.payload_type("correction-notice")
ANSWER_TYPE: Final = dsse.payload_type("correction-acknowledgement")

MAX_RECORDS: Final = 10_000
"""Records that one announcement may name."""
MAX_CORRECTION_BYTES: Final = 960 * 1024
MAX_ANSWER_BYTES: Final = 4 * 1024
MAX_CLOCK_SKEW: Final = timedelta(minutes=5)
"""How far the signer's clock may be off, and how long a statement may be on its way."""
MAX_EXCHANGES: Final = 10_000
"""Exchanges that one notice names in one group, the newest; of the others it tells how many there are."""

_NONCE_BYTES: Final = 16
_ID_PATTERN: Final = r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"

CorrectionId = Annotated[str, msgspec.Meta(pattern=_ID_PATTERN)]
_Origin = Annotated[str, msgspec.Meta(max_length=400)]
_Dataset = Annotated[str, msgspec.Meta(max_length=200)]
_Moment = Annotated[str, msgspec.Meta(max_length=40)]
_Nonce = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{22}$")]
_Value = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
_FieldName = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
_RecordKey = Annotated[dict[_FieldName, _Value], msgspec.Meta(min_length=1, max_length=4)]
_Digest = Annotated[str, msgspec.Meta(min_length=44, max_length=44)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]


class CorrectionKind(StrEnum):
    """What became of the records."""

    CORRECTED = "corrected"
    """They were wrong, and are other now: ask for them again."""
    WITHDRAWN = "withdrawn"
    """They must no longer be used."""


class CorrectionReason(StrEnum):
    """Why; a closed list, as free text would invite names."""

    ERROR = "error"
    """The record was wrong."""
    COURT_ORDER = "court-order"
    DUTY_FULFILLED = "duty-fulfilled"
    """What the record was made for is done, such as a judgment fulfilled."""
    SUBJECT_REQUEST = "subject-request"
    RETENTION = "retention"
    CONTRACT_ENDED = "contract-ended"
    UNLAWFUL = "unlawful"
    """The record should not have been made, or not been shared."""


class AnswerOutcome(StrEnum):
    """What a recipient says it did about a correction."""

    DONE = "done"
    """Its copy was corrected."""
    DELETED = "deleted"
    NOT_HELD = "not-held"
    """It holds no copy."""


class CorrectionError(GatewayError):
    """This is no statement about a correction, or not one for here and now."""

    reason = Reason.STATEMENT_MALFORMED


class Correction(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the holder of a dataset announces (`CORRECTION_TYPE`)."""

    v: Literal[1]
    gateway: _Origin
    """The log's origin."""
    dataset: _Dataset
    kind: CorrectionKind
    reason: CorrectionReason
    records: Annotated[tuple[_RecordKey, ...], msgspec.Meta(min_length=1, max_length=MAX_RECORDS)]
    """The key of each record: field name to value, for the fields that name records of the dataset."""
    effective: _Moment
    """Since when it holds."""
    time: _Moment
    """When it was signed."""
    nonce: _Nonce


class AffectedExchange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An exchange that released affected records to the recipient."""

    exchange: str
    records: _Count
    """How many of them; 1 where the answer was one bit."""


class AffectedReleases(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """Affected records that reached the recipient in one form: for one purpose, under one key epoch."""

    purpose: str
    key_epoch: str = ""
    """The epoch of the pseudonyms among `keys`; empty if there are none."""
    keys: tuple[dict[str, str], ...] = ()
    """What names the records, as the recipient got it, pseudonyms where it got those; empty if it got nothing
    that names them."""
    exchanges: tuple[AffectedExchange, ...]
    """Newest first."""
    more_exchanges: _Count = 0
    """How many more there are than `exchanges` names."""


class Notice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one recipient is told (`NOTICE_TYPE`); signed by the gateway."""

    v: Literal[1]
    gateway: _Origin
    correction: CorrectionId
    recipient: str
    dataset: _Dataset
    kind: CorrectionKind
    reason: CorrectionReason
    effective: _Moment
    announced: _Moment
    releases: tuple[AffectedReleases, ...]
    nonce: _Nonce


class Answer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the recipient answers (`ANSWER_TYPE`)."""

    v: Literal[1]
    gateway: _Origin
    correction: CorrectionId
    notice: _Digest
    """SHA-256 of the notice's payload, base64: what is answered is what was told."""
    outcome: AnswerOutcome
    time: _Moment


_Statement = TypeVar("_Statement", Correction, Answer)


@dataclass(frozen=True, slots=True)
class Opened(Generic[_Statement]):
    """A statement whose envelope has been checked."""

    statement: _Statement
    envelope: dsse.Envelope
    key_id: str
    """The key that signed it."""


def payload_digest(payload: bytes) -> str:
    """Return base64 of the SHA-256 of a statement's payload."""
    return base64.b64encode(hashlib.sha256(payload).digest()).decode()


def new_nonce() -> str:
    """Return 16 random bytes as base64url without padding."""
    return base64.urlsafe_b64encode(secrets.token_bytes(_NONCE_BYTES)).rstrip(b"=").decode()


def sign_correction(
    gateway: str,
    dataset: str,
    kind: CorrectionKind,
    reason: CorrectionReason,
    records: Sequence[Mapping[str, str]],
    key: SigningKey,
    now: datetime,
    effective: datetime | None = None,
) -> dsse.Envelope:
    """Return the signed announcement that `records`, each named by its key, are corrected or withdrawn.

    Raises `CorrectionError` if they are none, or too many, or not such as could be announced.
    """
    statement = Correction(
        v=1,
        gateway=gateway,
        dataset=dataset,
        kind=kind,
        reason=reason,
        records=tuple(dict(record) for record in records),
        effective=rfc3339(effective or now),
        time=rfc3339(now),
        nonce=new_nonce(),
    )
    payload = encode_canonical(statement)
    _parse(payload, Correction, MAX_CORRECTION_BYTES)
    return dsse.sign(payload, CORRECTION_TYPE, [key])


def open_correction(envelope: dsse.Envelope, keys: Mapping[str, VerifyKey]) -> Opened[Correction]:
    """Verify and parse the announcement of the member whose `keys` are given, by key id.

    Raises `CorrectionError` and `SignatureError`.
    """
    return _open(envelope, keys, CORRECTION_TYPE, Correction, MAX_CORRECTION_BYTES)


def sign_answer(
    notice: Notice, payload: bytes, outcome: AnswerOutcome, key: SigningKey, now: datetime
) -> dsse.Envelope:
    """Return the recipient's signed answer to `notice`, which came as `payload`."""
    answer = Answer(
        v=1,
        gateway=notice.gateway,
        correction=notice.correction,
        notice=payload_digest(payload),
        outcome=outcome,
        time=rfc3339(now),
    )
    return dsse.sign(encode_canonical(answer), ANSWER_TYPE, [key])


def open_answer(envelope: dsse.Envelope, keys: Mapping[str, VerifyKey]) -> Opened[Answer]:
    """Verify and parse the answer of the member whose `keys` are given, by key id.

    Raises `CorrectionError` and `SignatureError`.
    """
    return _open(envelope, keys, ANSWER_TYPE, Answer, MAX_ANSWER_BYTES)


def open_notice(envelope: dsse.Envelope, keys: Mapping[str, VerifyKey], gateway: str) -> Notice:
    """Verify and parse a notice that one of the gateway's `keys` signed, for the log `gateway`.

    Raises `CorrectionError` and `SignatureError`.
    """
    payload, _ = dsse.verify(envelope, NOTICE_TYPE, keys)
    try:
        notice = msgspec.json.decode(payload, type=Notice)
    except DECODE_ERRORS as error:
        raise CorrectionError("The notice is malformed.") from error
    if notice.gateway != gateway:
        raise CorrectionError("The notice is of another gateway.", reason=Reason.STATEMENT_AUDIENCE)
    return notice


def verify_made_now(statement: Correction | Answer, origin: str, now: datetime) -> None:
    """Raise unless `statement` was made for the log `origin`, within five minutes of `now`, either way."""
    if statement.gateway != origin:
        raise CorrectionError(
            "The statement was made for another gateway; it must name this log's origin.",
            reason=Reason.STATEMENT_AUDIENCE,
            audience=origin,
        )
    made = parse_rfc3339(statement.time)
    if made < now - MAX_CLOCK_SKEW:
        raise CorrectionError(
            "The statement is more than five minutes old; sign it anew.", reason=Reason.STATEMENT_STALE
        )
    if made > now + MAX_CLOCK_SKEW:
        raise CorrectionError(
            "The statement's time is more than five minutes ahead; set the clock.", reason=Reason.CLOCK_SKEW
        )


def _open(
    envelope: dsse.Envelope,
    keys: Mapping[str, VerifyKey],
    kind_of_payload: str,
    form: type[_Statement],
    limit: int,
) -> Opened[_Statement]:
    if len(envelope.payload) > limit:
        raise CorrectionError(f"Such a statement has at most {limit} bytes.", reason=Reason.MESSAGE_TOO_LARGE)
    if len(envelope.signatures) > 1:
        raise SignatureError("A statement about a correction carries exactly one signature.")
    payload, key_id = dsse.verify(envelope, kind_of_payload, keys)
    return Opened(_parse(payload, form, limit), envelope, key_id)


def _parse(payload: bytes, form: type[_Statement], limit: int) -> _Statement:
    """Return the statement; raise `CorrectionError` unless `payload` is canonical and of its form."""
    if len(payload) > limit:
        raise CorrectionError(
            f"Such a statement has at most {limit} bytes; name fewer records at a time.",
            reason=Reason.MESSAGE_TOO_LARGE,
        )
    try:
        statement: _Statement = msgspec.json.decode(payload, type=form)
        moments: list[Any] = [statement.time, getattr(statement, "effective", statement.time)]
        has_one_form = all(rfc3339(parse_rfc3339(moment)) == moment for moment in moments)
    except (*DECODE_ERRORS, ValueError, OverflowError) as error:
        raise CorrectionError(
            f"The statement is malformed: a member is missing, unknown, or of the wrong form. It names 1 to "
            f"{MAX_RECORDS} records, each by the text of its key fields."
        ) from error
    if not has_one_form or encode_canonical(statement) != payload:
        raise CorrectionError("The statement is not in canonical form.")
    return statement
