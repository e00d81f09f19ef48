"""Pages of records, sealed, and the tokens by which they are found without being read.

    data key    of one contract and dataset, by number; AES-256-GCM over whole pages, with a fresh nonce
                each, bound to contract, dataset, batch and place within the batch
    index key   HKDF-SHA256 (RFC 5869) of the *first* data key: a record that a later batch replaces must
                be found whatever key that batch is sealed under
    token       keyed BLAKE2b (RFC 7693) of a field's name and the value's text, or of a record's key

A batch's number of records, version and fields stand outside the pages; `bind_batch` binds them.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gateway.evidence.canonical import encode_canonical
from gateway.vault.errors import VaultAlteredError

NONCE_BYTES: Final = 12
TOKEN_BYTES: Final = 16
"""Of the token of a record's key: that of another record must never be the same."""

_LOOKUP_BYTES: Final = 8

_LABEL: Final = "sluicegate vault v1"
_KEY_OF_RECORD: Final = b"\x00"
"""Stands where a field's name would: no field is called so."""


@dataclass(frozen=True, slots=True)
class Place:
    """Which batch of which holding."""

    contract: str
    """The contract's name, which all its versions share."""
    dataset: str
    batch: str

    def bound(self, use: str, number: int) -> bytes:
        """Return the bytes that bind part `number` of this batch to one use."""
        return encode_canonical((_LABEL, use, self.contract, self.dataset, self.batch, number))


def seal(key: bytes, content: bytes, place: Place, use: str, number: int) -> bytes:
    """Return nonce (12 bytes), ciphertext and tag (16) of `content`."""
    nonce = os.urandom(NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, content, place.bound(use, number))


def unseal(key: bytes, sealed: bytes, place: Place, use: str, number: int) -> bytes:
    """Return what was sealed; raise `VaultAlteredError` if anything was changed or belongs elsewhere."""
    try:
        return AESGCM(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], place.bound(use, number))
    except (InvalidTag, ValueError) as error:
        raise VaultAlteredError("A page of the vault does not open: it was altered or moved.") from error


def index_key(first_data_key: bytes) -> bytes:
    """Return the key of a holding's tokens."""
    kdf = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=f"{_LABEL} index".encode())
    return kdf.derive(first_data_key)


def bind_batch(key: bytes, place: Place, facts: Sequence[Any]) -> bytes:
    """Return what shows later that `facts` about a committed batch were not changed."""
    return hmac.digest(
        key, encode_canonical((_LABEL, "batch", place.contract, place.dataset, place.batch, *facts)), "sha256"
    )


def verify_batch(key: bytes, place: Place, facts: Sequence[Any], bound: bytes) -> None:
    """Raise `VaultAlteredError` unless `bound` was made of the same."""
    if not hmac.compare_digest(bind_batch(key, place, facts), bound):
        raise VaultAlteredError("What the vault says about a batch was altered.")


def lookup_token(key: bytes, field: str, text: str) -> int:
    """Return the token of a value of a field; both as text."""
    return lookup_tokens(key, field, (text,))[0]


def lookup_tokens(key: bytes, field: str, texts: Sequence[str]) -> tuple[int, ...]:
    """Return the tokens of values of one field, as signed integers of 64 bits.

    So few bits save half the time and the space of an index, and do no harm: whoever looks up compares
    the values of the records found.
    """
    prefix, blake2b, size = field.encode() + b"\x00", hashlib.blake2b, _LOOKUP_BYTES
    tokens = [blake2b(prefix + text.encode(), digest_size=size, key=key).digest() for text in texts]
    return struct.unpack(f">{len(tokens)}q", b"".join(tokens))


def key_tokens(key: bytes, fields: Sequence[str], records: Iterable[Sequence[str]]) -> list[bytes]:
    """Return the tokens of the values that records have in the key `fields`, in their order."""
    prefix = _KEY_OF_RECORD + encode_canonical(fields)
    blake2b, size, encode = hashlib.blake2b, TOKEN_BYTES, msgspec.json.encode
    return [blake2b(prefix + encode(values), digest_size=size, key=key).digest() for values in records]
