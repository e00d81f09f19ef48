"""Canonical JSON (RFC 8785) for everything that is hashed or signed.

Our statements hold strings, integers, booleans, null, lists and objects with ASCII member names;
for these, sorting members and leaving out white space is all that RFC 8785 asks. Floating point
numbers, whose text form the RFC takes from ECMAScript, are refused rather than approximated.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar

import msgspec

_MAX_SAFE_INTEGER: Final = 2**53 - 1
"""RFC 8785 section 3.2.2.3 (I-JSON, RFC 7493 section 2.2): larger integers lose digits elsewhere."""

_encoder: Final = msgspec.json.Encoder(order="sorted")


DECODE_ERRORS: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""Everything msgspec raises on bytes that are not what they should be (`ValidationError` is a
`DecodeError`; invalid UTF-8 and absurd nesting are told by Python's own exceptions)."""


_Form = TypeVar("_Form")


class NotCanonicalError(ValueError):
    """The value has no canonical form here: a float, an unsafe integer, a non-ASCII member name."""


def encode_canonical(value: Any) -> bytes:
    """Return the RFC 8785 form of `value` (a msgspec struct or plain JSON value) as UTF-8.

    Structs are trusted to hold no floats (their types say so). For values of unknown make use
    `check_canonical` first.
    """
    return _encoder.encode(value)


def check_canonical(value: Any) -> None:
    """Raise `NotCanonicalError` unless `encode_canonical` writes `value` exactly as RFC 8785 does."""
    match value:
        case None | bool() | str():
            return
        case int():
            if abs(value) > _MAX_SAFE_INTEGER:
                raise NotCanonicalError("integer beyond 2^53-1")
        case list() | tuple():
            for item in value:
                check_canonical(item)
        case dict():
            for name, item in value.items():
                if not isinstance(name, str) or not name.isascii():
                    raise NotCanonicalError("member name is not ASCII text")
                check_canonical(item)
        case _:
            raise NotCanonicalError("not a JSON value without floats")


def decode_bytes_strictly(text: bytes, form: type[_Form]) -> _Form:
    """Decode JSON into `form`, whose bytes stand in canonical base64; raise one of `DECODE_ERRORS`.

    A decoder alone ignores the last bits of base64 that end no byte: one value would have several texts.
    """
    value = msgspec.json.decode(text, type=form)
    if not _is_written_so(msgspec.json.decode(text), msgspec.to_builtins(value)):
        raise msgspec.ValidationError("base64 is not canonical")
    return value


def _is_written_so(given: Any, meant: Any) -> bool:
    """Whether `given` says what `meant` does; what either leaves out is a default."""
    match given:
        case dict():
            return all(_is_written_so(item, meant.get(name, item)) for name, item in given.items())
        case list():
            pairs = zip(given, meant, strict=True)
            return all(_is_written_so(item, other) for item, other in pairs)
    return bool(given == meant)
