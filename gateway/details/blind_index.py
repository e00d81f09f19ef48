"""The blind index: finding the entries that concern a known identifier, without writing it down.

    token = HMAC-SHA256(key of the kind, period | identifier), the first 16 bytes

Each kind of identifier has a key of its own, and each day other tokens: who has the store and not
the key sees at most that two exchanges of one day concerned the same subject. Who has the key can
test guesses, so it is a secret of the gateway's, and searching with it stands in the log.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from datetime import date, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gateway.errors import ConfigError
from gateway.evidence.canonical import encode_canonical
from gateway.evidence.keys import read_secret

KEY_BYTES: Final = 32
TOKEN_BYTES: Final = 16

_LABEL: Final = "sluicegate blind index v1"
_SEARCH: Final = "search"


class BlindIndex:
    """Makes tokens under one key."""

    def __init__(self, key: bytes) -> None:
        """Raise `ConfigError` unless `key` has 32 bytes."""
        if len(key) != KEY_BYTES:
            raise ConfigError(f"The key of the blind index must have exactly {KEY_BYTES} random bytes.")
        self._key_of: Final = lru_cache(maxsize=64)(_key_of_kind)
        self._key: Final = key

    @classmethod
    def load(cls, path: Path) -> BlindIndex:
        """Read the key at `path` (mode 0600); raise `ConfigError`."""
        return cls(read_secret(path))

    def token(self, kind: str, day: str, value: str) -> bytes:
        """Return the token of `value`, normalised, for entries of `day` (`YYYY-MM-DD`)."""
        return self._digest(kind, day, value)[:TOKEN_BYTES]

    def tokens(self, kind: str, first: str, last: str, value: str) -> Iterator[bytes]:
        """Yield the tokens of `value` for each day from `first` to `last`."""
        begin = date.fromisoformat(first)
        for number in range((date.fromisoformat(last) - begin).days + 1):
            yield self.token(kind, (begin + timedelta(days=number)).isoformat(), value)

    def search_token(self, kind: str, value: str) -> bytes:
        """Return the 32 bytes that stand for `value` in the commitment of a search for it."""
        return self._digest(kind, _SEARCH, value)

    def _digest(self, kind: str, period: str, value: str) -> bytes:
        key = self._key_of(self._key, kind)
        return hmac.digest(key, encode_canonical((period, value)), "sha256")


def _key_of_kind(key: bytes, kind: str) -> bytes:
    info = encode_canonical((_LABEL, kind))
    return HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=None, info=info).derive(key)
