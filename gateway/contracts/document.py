"""Terms as bytes: canonical JSON (RFC 8785), of which the digest is the contract's identity.

One contract has one text: members that have their default are left out, nothing stands twice, and there
are no fractions, whose text differs between programs.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

import msgspec

from gateway.contracts.errors import ContractError
from gateway.errors import Reason
from gateway.evidence.canonical import DECODE_ERRORS, NotCanonicalError, check_canonical, encode_canonical
from gateway.model import Terms

MAX_TERMS_BYTES: Final = 1_000_000
"""With its envelope it fits into one message of gRPC; the largest description in use has a tenth of it."""

MAX_DEPTH: Final = 50
"""Levels of nesting; a description in use has ten."""

_PLACE: Final = re.compile(r" - at `(\$[^`]{0,100})`")

_decode: Final = msgspec.json.Decoder(Terms).decode


def encode_terms(terms: Terms) -> bytes:
    """Return the canonical text of `terms`; raise `ContractError` if they have none, or it is too long."""
    payload = encode_canonical(terms)
    _check_size(payload)
    _check_values(payload)
    return payload


def decode_terms(payload: bytes) -> Terms:
    """Return the terms in `payload`; raise `ContractError` unless it is their one canonical text."""
    _check_size(payload)
    try:
        terms = _decode(payload)
    except DECODE_ERRORS as error:
        raise _malformed(f"cannot be read{_place(error)}") from error
    _check_values(payload)
    if encode_canonical(terms) != payload:
        raise _malformed("is not canonical JSON (RFC 8785), or has members with their default value")
    return terms


def read_terms(content: Any) -> Terms:
    """Return the terms in `content`, plain values as parsed from YAML or JSON; raise `ContractError`.

    Dates and times are taken as their text (RFC 3339).
    """
    try:
        terms = msgspec.convert(_as_json(content), Terms)
    except (msgspec.ValidationError, RecursionError) as error:
        # Told in full to whoever wrote it: this side is not a server.
        raise _malformed(f"cannot be read: {error}") from error
    return decode_terms(encode_terms(terms))


def identity(payload: bytes) -> str:
    """Return the identity of the terms with this text: `sha256:` and the hex digest."""
    return "sha256:" + hashlib.sha256(payload).hexdigest()


def moment(text: str) -> datetime:
    """Return the time that a member of the terms names; raise `ContractError` if there is no such time."""
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise _malformed("names a time that does not exist") from error


def _check_size(payload: bytes) -> None:
    if len(payload) > MAX_TERMS_BYTES:
        raise ContractError(
            f"The terms of a contract have at most {MAX_TERMS_BYTES} bytes; shorten the descriptions.",
            reason=Reason.MESSAGE_TOO_LARGE,
            limit=MAX_TERMS_BYTES,
        )


def _check_values(payload: bytes) -> None:
    try:
        content = msgspec.json.decode(payload)
        _check_depth(content)
        check_canonical(content)
    except (NotCanonicalError, *DECODE_ERRORS) as error:
        raise _malformed(
            "holds what has no canonical form: a fraction (write it as text), a number beyond 2^53, a name "
            "that is not ASCII, or absurd nesting"
        ) from error


def _check_depth(content: Any) -> None:
    """Raise `NotCanonicalError` beyond `MAX_DEPTH`, so that all readers take the same texts."""
    level = [content]
    for _ in range(MAX_DEPTH):
        level = [item for value in level for item in _inside(value)]
        if not level:
            return
    raise NotCanonicalError("nested too deep")


def _inside(value: Any) -> Iterable[Any]:
    match value:
        case dict():
            return value.values()
        case list():
            return value
    return ()


def _as_json(value: Any) -> Any:
    """Return `value` with dates and times as text: YAML reads them where they are not quoted."""
    match value:
        case dict():
            return {name: _as_json(item) for name, item in value.items()}
        case list():
            return [_as_json(item) for item in value]
        case _ if hasattr(value, "isoformat"):
            return value.isoformat().replace("+00:00", "Z")
    return value


def _place(error: Exception) -> str:
    """Return where a decoder stopped, without what it found there."""
    found = _PLACE.search(str(error))
    return f" at {found[1]}" if found else ""


def _malformed(what: str) -> ContractError:
    return ContractError(f"The contract's text {what}; see docs/formats/contract.md.")
