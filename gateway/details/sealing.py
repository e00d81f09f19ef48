"""Sealing the details of one entry so that whoever sealed them cannot read them back.

    data key     fresh for each entry; AES-256-GCM over the details, bound to log, exchange and kind
    share        for each custodian a fresh secret of a batch of entries, sealed to the custodian
    entry share  HMAC-SHA256(share, context): what a custodian gives away to open *one* entry
    wrap         the data key under HKDF of the entry shares of some `threshold` custodians (RFC 3394)

There is a wrap for each group of `threshold` custodians, in the order of their ids. When a batch has
been written, its shares are gone from memory, and only custodians can make entry shares again.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Annotated, Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from gateway.details.custodians import MAX_CUSTODIANS, MIN_THRESHOLD, Custodians
from gateway.details.errors import DetailsAlteredError
from gateway.details.hpke import seal
from gateway.evidence.canonical import encode_canonical

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
WRAP_BYTES: Final = KEY_BYTES + 8
BATCH_ID_BYTES: Final = 16

_LABEL: Final = "sluicegate details v1"


@dataclass(frozen=True, slots=True)
class Context:
    """Which details: those of the entry of `kind` of one exchange in one log."""

    origin: str
    exchange: str
    kind: str

    def bound(self, use: str) -> bytes:
        """Return the bytes that bind something of this context to one use."""
        return encode_canonical((_LABEL, use, self.origin, self.exchange, self.kind))


@dataclass(frozen=True, slots=True)
class SealedContent:
    """The details of one entry as they are kept, and the key that must not be kept beside them."""

    content: bytes
    """Nonce (12 bytes), ciphertext, tag (16)."""
    key: bytes = field(repr=False)


def seal_content(plaintext: bytes, context: Context) -> SealedContent:
    """Return `plaintext` sealed under a fresh key."""
    fresh = os.urandom(KEY_BYTES + NONCE_BYTES)
    key, nonce = fresh[:KEY_BYTES], fresh[KEY_BYTES:]
    return SealedContent(nonce + AESGCM(key).encrypt(nonce, plaintext, context.bound("content")), key)


def open_content(content: bytes, key: bytes, context: Context) -> bytes:
    """Return the plaintext; raise `DetailsAlteredError` if anything was changed or belongs elsewhere."""
    try:
        return AESGCM(key).decrypt(content[:NONCE_BYTES], content[NONCE_BYTES:], context.bound("content"))
    except (InvalidTag, ValueError) as error:
        raise DetailsAlteredError("The details do not open: they were altered.") from error


def content_digest(content: bytes) -> str:
    """Return base64 of SHA-256 of the details as they are kept: the entry's commitment `details`.

    No salt is needed: the content is unpredictable, as its key and nonce are.
    """
    return base64.b64encode(hashlib.sha256(content).digest()).decode()


class BatchKeys(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The shares of one batch as they are kept: each readable by its custodian only."""

    id: bytes
    threshold: Annotated[int, msgspec.Meta(ge=MIN_THRESHOLD, le=MAX_CUSTODIANS)]
    shares: Annotated[dict[str, bytes], msgspec.Meta(max_length=MAX_CUSTODIANS)]
    """Custodian id to the share, sealed."""


class Batch:
    """The shares of one batch while it is being written. Drop it as soon as it is."""

    def __init__(self, origin: str, custodians: Custodians) -> None:
        self.id: Final = os.urandom(BATCH_ID_BYTES)
        self._threshold = custodians.threshold
        self._shares = {card.id: os.urandom(KEY_BYTES) for card in custodians.cards}
        self.keys: Final = BatchKeys(
            id=self.id,
            threshold=custodians.threshold,
            shares={
                card.id: seal(self._shares[card.id], card.sealing, share_info(origin, self.id, card.id))
                for card in custodians.cards
            },
        )

    def wrap(self, key: bytes, context: Context) -> bytes:
        """Return the wraps of a data key, one after the other."""
        entry_shares = [entry_share(share, context) for share in self._shares.values()]
        return b"".join(
            aes_key_wrap(_wrapping_key(group, context), key)
            for group in combinations(entry_shares, self._threshold)
        )


def share_info(origin: str, batch: bytes, custodian: str) -> bytes:
    """Return what a share is sealed under."""
    return encode_canonical((_LABEL, "share", origin, batch.hex(), custodian))


def entry_share(share: bytes, context: Context) -> bytes:
    """Return the part of a custodian's share that helps to open one entry and no other."""
    return hmac.digest(share, context.bound("entry share"), "sha256")


def unwrap(wraps: bytes, keys: BatchKeys, entry_shares: Mapping[str, bytes], context: Context) -> bytes:
    """Return the data key from the entry shares of custodians, by custodian id.

    Raises `DetailsAlteredError` if they are too few, or if no wrap opens.
    """
    ids = sorted(keys.shares)
    present = [custodian for custodian in ids if custodian in entry_shares]
    if len(present) < keys.threshold:
        raise DetailsAlteredError(f"It takes the shares of {keys.threshold} custodians to open this entry.")
    group = tuple(present[: keys.threshold])
    at = list(combinations(ids, keys.threshold)).index(group) * WRAP_BYTES
    try:
        return aes_key_unwrap(
            _wrapping_key([entry_shares[custodian] for custodian in group], context),
            wraps[at : at + WRAP_BYTES],
        )
    except (InvalidUnwrap, ValueError) as error:
        raise DetailsAlteredError(
            "The key of these details does not open: what is kept of it was altered."
        ) from error


def _wrapping_key(entry_shares: Sequence[bytes] | Iterable[bytes], context: Context) -> bytes:
    derivation = HKDF(
        algorithm=hashes.SHA256(), length=KEY_BYTES, salt=None, info=context.bound("wrapping key")
    )
    return derivation.derive(b"".join(entry_shares))
