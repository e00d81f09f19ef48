"""Cursors: where a page ended, sealed.

A cursor holds the key of the last record, which may be an identifier, and it travels through the
gateway to the consumer and back. Therefore it is encrypted, and bound to the subjects and filters
it was made for: nobody outside the provider can read one, make one, or use it for another query.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gateway.errors import GatewayError, Reason
from gateway.evidence.canonical import encode_canonical

MAX_CURSOR_BYTES: Final = 8 * 1024
_NONCE_BYTES: Final = 12
_VERSION: Final = b"\x01"


class CursorError(GatewayError):
    """The cursor is not one of this source's, or belongs to another query."""

    reason = Reason.PAGE_TOKEN_INVALID


class KeyValueError(ValueError):
    """A key value that no cursor can hold: too long, or of a type without an exact text form."""


class CursorSeal:
    """Seals and opens cursors (AES-256-GCM, key by HKDF-SHA256, RFC 5869). Safe for several threads."""

    def __init__(self, secret: bytes | None = None) -> None:
        """Take at least 32 secret bytes; without them cursors live as long as this object."""
        if secret is None:
            secret = os.urandom(32)
        if len(secret) < 32:  # noqa: PLR2004
            raise ValueError("a cursor secret has at least 32 bytes")
        kdf = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=b"sluicegate/source-cursor/v1")
        self._cipher = AESGCM(kdf.derive(secret))

    def seal(self, key: Sequence[Any], scope: bytes) -> bytes:
        """Return the cursor after the record with the values `key`, for queries of `scope`.

        Raises `KeyValueError`.
        """
        nonce = os.urandom(_NONCE_BYTES)
        content = msgspec.json.encode([_write_value(value) for value in key])
        cursor = _VERSION + nonce + self._cipher.encrypt(nonce, content, _VERSION + scope)
        if len(cursor) > MAX_CURSOR_BYTES:
            raise KeyValueError("a key value is too long")
        return cursor

    def open(self, cursor: bytes, scope: bytes) -> tuple[Any, ...]:
        """Return the key values in `cursor`; raise `CursorError` unless it was sealed for `scope`."""
        start = len(_VERSION)
        nonce, sealed = cursor[start : start + _NONCE_BYTES], cursor[start + _NONCE_BYTES :]
        if not cursor.startswith(_VERSION) or len(cursor) > MAX_CURSOR_BYTES or len(nonce) != _NONCE_BYTES:
            raise CursorError("This is not a cursor of this provider; start again without one.")
        try:
            content = self._cipher.decrypt(nonce, sealed, _VERSION + scope)
        except InvalidTag:
            raise CursorError(
                "The cursor is damaged, of another query, or older than the provider's last restart; "
                "start again without one."
            ) from None
        return tuple(_READ[tag](text) for tag, text in msgspec.json.decode(content))


def cursor_scope(
    dataset: str, subject_field: str, subject_values: Sequence[str], filters: dict[str, str]
) -> bytes:
    """Return 32 bytes that stand for a choice of records. The fields wanted are no part of it."""
    content = [dataset, subject_field, sorted(set(subject_values)), filters]
    return hashlib.sha256(encode_canonical(content)).digest()


def _write_value(value: Any) -> tuple[str, str]:
    for kind, tag, write in _WRITE:
        if type(value) is kind:
            return tag, write(value)
    raise KeyValueError(f"a key value of type {type(value).__name__} has no exact text form")


_WRITE: Final[tuple[tuple[type, str, Callable[[Any], str]], ...]] = (
    (str, "text", str),
    (int, "integer", str),
    (date, "date", date.isoformat),
    (datetime, "moment", datetime.isoformat),
    (uuid.UUID, "uuid", str),
    (Decimal, "decimal", str),
)
_READ: Final[dict[str, Callable[[str], Any]]] = {
    "text": str,
    "integer": int,
    "date": date.fromisoformat,
    "moment": datetime.fromisoformat,
    "uuid": uuid.UUID,
    "decimal": Decimal,
}
