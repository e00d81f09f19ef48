"""Step 2: the signed query statement. Bytes signed are bytes parsed, once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import msgspec

from gateway.clock import parse_rfc3339
from gateway.errors import GatewayError, Reason
from gateway.evidence import dsse
from gateway.evidence.canonical import DECODE_ERRORS, encode_canonical
from gateway.evidence.keys import SignatureError, VerifyKey
from gateway.model import Operation, Query

QUERY_TYPE: Final = dsse.payload_type("query")

MAX_STATEMENT_BYTES: Final = 64 * 1024
MAX_SUBJECTS: Final = 500
MAX_NAMES: Final = 200
"""Fields, filters or match attributes in one query."""
MAX_CLOCK_SKEW: Final = timedelta(minutes=5)
"""How far the consumer's clock may be off, and how long a signed statement lives."""

MAX_DOCUMENT_LENGTH: Final = 200
"""Characters in the reference of an official document."""

_DOCUMENT: Final = re.compile(rf"(?!\s)[^\x00-\x1f\x7f-\x9f\u2028\u2029]{{0,{MAX_DOCUMENT_LENGTH}}}(?<!\s)")
_NONCE: Final = re.compile(r"[A-Za-z0-9_-]{22}")
_decode_query: Final = msgspec.json.Decoder(Query).decode
_decode_any: Final = msgspec.json.Decoder().decode


@dataclass(frozen=True, slots=True)
class OpenedStatement:
    """A query statement whose envelope has been checked."""

    query: Query
    payload: bytes
    key_id: str
    """The key that signed it; empty for an unsigned statement."""
    expires: datetime
    """Until when its nonce must be remembered."""
    envelope: dsse.Envelope
    """As it came, with its signatures."""


def open_statement(
    envelope: dsse.Envelope,
    keys: Mapping[str, VerifyKey],
    audience: str,
    operation: Operation,
    now: datetime,
) -> OpenedStatement:
    """Verify and parse a query envelope.

    1. Size and payload type. 2. Signature by a key of the calling member, if there is any signature.
    3. Canonical JSON, strictly of the Query's shape. 4. Made for this gateway and this operation.
    5. Fresh: within five minutes of `now`, either way. Raises `GatewayError`.
    """
    if len(envelope.payload) > MAX_STATEMENT_BYTES:
        raise GatewayError(
            f"A query statement has at most {MAX_STATEMENT_BYTES} bytes; ask for fewer subjects at once.",
            reason=Reason.MESSAGE_TOO_LARGE,
            limit=MAX_STATEMENT_BYTES,
        )
    key_id = ""
    if envelope.signatures:
        _, key_id = dsse.verify(envelope, QUERY_TYPE, keys)
    elif envelope.payload_type != QUERY_TYPE:
        raise SignatureError(f"The envelope's payload type must be {QUERY_TYPE}.")
    query = _parse(envelope.payload)
    if query.audience != audience:
        raise GatewayError(
            "The statement was made for another gateway; its audience must be this log's origin.",
            reason=Reason.STATEMENT_AUDIENCE,
            audience=audience,
        )
    if query.operation is not operation:
        raise GatewayError(
            f"The statement's operation must be {operation} for this method.",
            reason=Reason.STATEMENT_MALFORMED,
            operation=operation.value,
        )
    signed_at = _time(query)
    if signed_at < now - MAX_CLOCK_SKEW:
        raise GatewayError(
            "The statement is more than five minutes old; sign the query anew.",
            reason=Reason.STATEMENT_STALE,
        )
    if signed_at > now + MAX_CLOCK_SKEW:
        raise GatewayError(
            "The statement's time is more than five minutes ahead; set the clock.",
            reason=Reason.CLOCK_SKEW,
        )
    return OpenedStatement(query, envelope.payload, key_id, signed_at + MAX_CLOCK_SKEW, envelope)


def _parse(payload: bytes) -> Query:
    try:
        query = _decode_query(payload)
        canonical = encode_canonical(_decode_any(payload)) == payload
    except DECODE_ERRORS as error:
        raise _malformed("The statement is not JSON of the form of a query statement") from error
    if not canonical:
        # A second member of the same name, or any other text with two readings, would let the
        # signer and us see different statements.
        raise _malformed("The statement is not canonical JSON (RFC 8785; `jq -cjS .` makes it so)")
    if not _NONCE.fullmatch(query.nonce):
        raise _malformed("The nonce must be 16 random bytes as base64url without padding")
    if not _DOCUMENT.fullmatch(query.document):
        raise _malformed(
            f"The reference of a document has at most {MAX_DOCUMENT_LENGTH} printing characters, none of "
            "them white space at either end"
        )
    if len(query.subjects) > MAX_SUBJECTS:
        raise _malformed(f"A query names at most {MAX_SUBJECTS} subjects")
    if max(len(query.fields), len(query.filters), len(query.match)) > MAX_NAMES:
        raise _malformed(f"A query names at most {MAX_NAMES} fields, filters or attributes")
    return query


def _time(query: Query) -> datetime:
    try:
        return parse_rfc3339(query.time)
    # OverflowError: an offset that leads out of the calendar.
    except (ValueError, OverflowError) as error:
        raise _malformed("The statement's time must be RFC 3339 with an offset") from error


def _malformed(problem: str) -> GatewayError:
    return GatewayError(f"{problem}.", reason=Reason.STATEMENT_MALFORMED)
