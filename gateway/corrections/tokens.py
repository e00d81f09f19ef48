"""Record tokens: who received a record can be found again by the record's key, and nothing else by them.

    token = HMAC-SHA256(token key, dataset | value | value …), the first 16 bytes

each part after its length. Values are identifiers in canonical form where they are valid, and else the
text as the provider has it. Whoever has the store and not the key sees that two pages hold the same record
of a dataset, and not which; whoever has the key too can test guesses, so it is a secret of the gateway's.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gateway.corrections.errors import CorrectionsUnavailableError
from gateway.errors import ConfigError
from gateway.evidence.canonical import encode_canonical
from gateway.evidence.keys import read_secret

KEY_BYTES: Final = 32
TOKEN_BYTES: Final = 16
_NONCE_BYTES: Final = 12
_LENGTH_BYTES: Final = 4

Column = Sequence[str | None]
"""The texts of one key field, record by record; None where a record has none."""


class RecordNamer:
    """Makes the tokens of one dataset's records. Immutable; threads may share it."""

    def __init__(self, key: bytes, dataset: str) -> None:
        started = hmac.HMAC(key, hashes.SHA256())
        started.update(_prefixed(dataset))
        self._started: Final = started

    def __call__(self, columns: Sequence[Column]) -> bytes:
        """Return the tokens of the records whose key fields are `columns`, one after the other.

        A record that lacks a part of its key gets random bytes: nobody can name it.
        """
        parts = [_parts(column) for column in columns]
        inputs = parts[0] if len(parts) == 1 else [_joined(row) for row in zip(*parts, strict=True)]
        copy, made = self._started.copy, []
        for text in inputs:
            if text is None:
                made.append(secrets.token_bytes(TOKEN_BYTES))
                continue
            function = copy()
            function.update(text)
            made.append(function.finalize()[:TOKEN_BYTES])
        return b"".join(made)

    def token(self, values: Sequence[str]) -> bytes:
        """Return the token of the record whose key fields have `values`."""
        return self([[value] for value in values])


class CorrectionKeys:
    """What the secret file gives: a key for tokens, and one for notices that wait."""

    def __init__(self, key: bytes) -> None:
        """Raise `ConfigError` unless `key` has 32 bytes."""
        if len(key) != KEY_BYTES:
            raise ConfigError(f"The key of corrections must have exactly {KEY_BYTES} random bytes.")
        self._token_key: Final = _derived(key, "tokens")
        self._sealing: Final = AESGCM(_derived(key, "notices"))
        self.fingerprint: Final = hashlib.sha256(b"sluicegate-corrections\x00" + key).hexdigest()
        """Names the key without telling it."""

    @classmethod
    def load(cls, path: Path) -> CorrectionKeys:
        """Read the key at `path` (mode 0600); raise `ConfigError`."""
        return cls(read_secret(path))

    def namer(self, dataset: str) -> RecordNamer:
        """Return what names the records of `dataset`."""
        return RecordNamer(self._token_key, dataset)

    def seal(self, notice: bytes, correction: str, recipient: str) -> bytes:
        """Return `notice` encrypted (AES-256-GCM), for this correction and recipient only."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._sealing.encrypt(nonce, notice, _context(correction, recipient))

    def open(self, sealed: bytes, correction: str, recipient: str) -> bytes:
        """Return the notice in `sealed`; raise `CorrectionsUnavailableError` if it is not of this key."""
        nonce, text = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        try:
            return self._sealing.decrypt(nonce, text, _context(correction, recipient))
        except InvalidTag as error:
            raise CorrectionsUnavailableError(
                "A waiting notice cannot be opened: it was changed, or sealed under another key."
            ) from error


def _parts(column: Column) -> list[bytes | None]:
    return [None if text is None else _prefixed(text) for text in column]


def _joined(row: tuple[bytes | None, ...]) -> bytes | None:
    present = [part for part in row if part is not None]
    return b"".join(present) if len(present) == len(row) else None


def _prefixed(text: str) -> bytes:
    encoded = text.encode()
    return len(encoded).to_bytes(_LENGTH_BYTES, "big") + encoded


def _context(correction: str, recipient: str) -> bytes:
    return encode_canonical(("sluicegate correction notice v1", correction, recipient))


def _derived(key: bytes, use: str) -> bytes:
    info = encode_canonical(("sluicegate corrections v1", use))
    return HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=None, info=info).derive(key)
