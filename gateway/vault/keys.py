"""Data keys: made, wrapped and unwrapped. None is kept in memory: a key that is destroyed is gone at once."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from gateway.vault.errors import RecordsDestroyedError, VaultUnavailableError
from gateway.vault.kek import DATA_KEY_BYTES, KeyFile
from gateway.vault.sealing import index_key
from gateway.vault.store import VaultStore
from gateway.vault.tables import WrappedKey


@dataclass(frozen=True, slots=True)
class HoldingKeys:
    """The keys of one holding, in clear. Drop it as soon as it is used."""

    by_number: Mapping[int, bytes] = field(repr=False)
    index: bytes = field(repr=False)
    """The key of tokens and of what binds batches."""

    @property
    def newest(self) -> int:
        """The number of the key that new batches are sealed under."""
        return max(self.by_number)

    def key(self, number: int) -> bytes:
        """Return a data key; raise `VaultUnavailableError` if there is none of this number."""
        if number not in self.by_number:
            raise VaultUnavailableError(
                "A data key of the vault is missing. Restore the vault from a backup."
            )
        return self.by_number[number]


class DataKeys:
    """Wraps and unwraps data keys under the key-encryption key. Safe from any thread."""

    def __init__(self, key_file: KeyFile) -> None:
        self.key_file: Final = key_file

    def make(self, number: int) -> WrappedKey:
        """Return a fresh data key, wrapped."""
        kek = self.key_file.current
        return WrappedKey(number, kek.id, kek.wrap(secrets.token_bytes(DATA_KEY_BYTES)))

    def unwrap(self, wrapped: Sequence[WrappedKey]) -> HoldingKeys:
        """Return the keys of a holding; raise `RecordsDestroyedError` if there are none any more."""
        if not wrapped:
            raise RecordsDestroyedError(
                "The records of this dataset cannot be read any more: their keys were destroyed."
            )
        keys = {key.number: self.key_file.key(key.kek).unwrap(key.wrapped) for key in wrapped}
        return HoldingKeys(keys, index_key(keys[min(keys)]))


def rotate_kek(store: VaultStore, keys: DataKeys) -> int:
    """Wrap every data key under the next key-encryption key, and put that in the place of the current one.

    The old file stands until nothing is wrapped under it. Return how many data keys were wrapped anew: none
    where another node has done it. May be repeated after it was cut short.
    """
    key_file = keys.key_file
    following = key_file.prepare_next()

    def rewrap(old: WrappedKey) -> WrappedKey:
        if old.kek == following.id:
            return old
        return WrappedKey(old.number, following.id, following.wrap(key_file.key(old.kek).unwrap(old.wrapped)))

    changed = store.rewrap(rewrap)
    key_file.adopt_next()
    store.engine.scrub()
    return changed
