"""The key-encryption key: a file of mode 0600 under which the vault's data keys are wrapped.

While it is being replaced there are two files: the old one under its name, and the next one beside it
(`NAME.next`). Whoever unwraps takes whichever a data key says it is wrapped under, so a rotation may be
cut short anywhere and be taken up again, and running gateways follow by themselves.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import threading
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from gateway.errors import ConfigError
from gateway.evidence.keys import read_secret, write_secret
from gateway.pki.example_keys import refuse_example_keys
from gateway.vault.errors import VaultUnavailableError

KEK_BYTES: Final = 32
DATA_KEY_BYTES: Final = 32
NEXT_SUFFIX: Final = ".next"


class KeyEncryptionKey:
    """One key-encryption key. Never printed; `repr` shows only its id."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self.id: Final = kek_fingerprint(secret)

    def __repr__(self) -> str:
        return f"KeyEncryptionKey({self.id[:16]}…)"

    def wrap(self, key: bytes) -> bytes:
        """Return `key` (32 bytes) wrapped (RFC 3394; 40 bytes)."""
        return aes_key_wrap(self._secret, key)

    def unwrap(self, wrapped: bytes) -> bytes:
        """Return the key in `wrapped`; raise `VaultUnavailableError` if it is not wrapped under this one."""
        try:
            return aes_key_unwrap(self._secret, wrapped)
        except (InvalidUnwrap, ValueError) as error:
            raise VaultUnavailableError(
                "A data key of the vault does not unwrap: its row was changed. Restore the vault from its "
                "backup."
            ) from error


class KeyFile:
    """The file of the key-encryption key and, during a rotation, the next one. Safe from any thread."""

    def __init__(self, path: Path, *, demo: bool = False) -> None:
        """Read the key at `path`.

        Raises `ConfigError` if it is missing, open to others, not 32 bytes, or an example key outside
        the demo.
        """
        self.path: Final = path
        self.next_path: Final = path.with_name(path.name + NEXT_SUFFIX)
        self._demo = demo
        self._lock = threading.Lock()
        self._known: dict[str, KeyEncryptionKey] = {}
        self._current = self._read(path)
        if self.next_path.exists():
            self._read(self.next_path)

    @property
    def current(self) -> KeyEncryptionKey:
        """The key under which new data keys are wrapped."""
        return self._current

    def key(self, kek_id: str) -> KeyEncryptionKey:
        """Return the key of this id; raise `VaultUnavailableError` if neither file holds it."""
        with self._lock:
            if kek_id not in self._known:
                self._reload()
            found = self._known.get(kek_id)
        if found is None:
            raise VaultUnavailableError(
                "The vault's data keys are wrapped under another key-encryption key than this node has. Copy "
                "the key file from the node where `gateway vault rotate` ran, or restore it from its backup."
            )
        return found

    def prepare_next(self) -> KeyEncryptionKey:
        """Return the next key, made now and kept beside the current one, or by an earlier attempt."""
        with self._lock:
            if not self.next_path.exists():
                write_secret(self.next_path, secrets.token_bytes(KEK_BYTES))
                _flush_folder(self.path.parent)
            return self._read(self.next_path)

    def adopt_next(self) -> None:
        """Put the next key in the current one's place, which is gone then: nothing is wrapped under it."""
        with self._lock:
            # One rename: there is no moment without a key under the name.
            self.next_path.replace(self.path)
            _flush_folder(self.path.parent)
            self._current = self._read(self.path)
            self._known = {self._current.id: self._current}

    def _reload(self) -> None:
        if self.next_path.exists():
            self._read(self.next_path)
        self._current = self._read(self.path)

    def _read(self, path: Path) -> KeyEncryptionKey:
        secret = read_secret(path)
        if len(secret) != KEK_BYTES:
            raise ConfigError(f"{path} must hold exactly {KEK_BYTES} random bytes; `gateway init` makes it.")
        key = KeyEncryptionKey(secret)
        refuse_example_keys([key.id], demo=self._demo)
        self._known[key.id] = key
        return key


def kek_fingerprint(secret: bytes) -> str:
    """Return the hex SHA-256 that names a key-encryption key without telling it."""
    return hashlib.sha256(b"sluicegate-vault-kek\x00" + secret).hexdigest()


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
