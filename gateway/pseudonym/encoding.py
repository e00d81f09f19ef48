"""One unambiguous byte string for several parts, and the text of tokens."""

from __future__ import annotations

from typing import Final

_LENGTH_BYTES: Final = 2

TOKEN_LENGTH: Final = 32
"""Characters of a token: 160 bits."""

_BASE32: Final = b"abcdefghijklmnopqrstuvwxyz234567"
"""RFC 4648 section 6, in lower case."""

_LOW_FIVE_BITS: Final = bytes(_BASE32[byte & 31] for byte in range(256))


def length_prefixed(*parts: str) -> bytes:
    """Return the parts as ASCII, each after its length in two bytes (big-endian).

    No two different lists of parts give the same bytes. ASCII, because canonical identifiers and
    resource names are.
    """
    return b"".join(_length(len(part)) + part.encode("ascii") for part in parts)


def open_prefix(*parts: str, last_length: int) -> bytes:
    """Return what stands before the bytes of a last part of `last_length` in `length_prefixed`."""
    return length_prefixed(*parts) + _length(last_length)


def tokens_text(outputs: list[bytes]) -> str:
    """Return the tokens of PRF outputs of 32 bytes each, one after the other, 32 characters each.

    Each character stands for the low five bits of one output byte, so a token is a 160-bit
    truncation of the output: any fixed 160 of its 256 bits are as good as any other, and these come
    by one `bytes.translate` over the whole column, where `base64.b32encode` costs more than the PRF.
    """
    return b"".join(outputs).translate(_LOW_FIVE_BITS).decode("ascii")


def _length(count: int) -> bytes:
    return count.to_bytes(_LENGTH_BYTES, "big")
