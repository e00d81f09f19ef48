"""Ed25519 signing keys and their ids.

A key id is the lower-case hex SHA-256 of the key's SubjectPublicKeyInfo (RFC 8410), so that it
names algorithm and key together and tools such as OpenSSL can compute it.
"""

from __future__ import annotations

import hashlib
import os
import stat
from functools import cached_property
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey as _NaclSigningKey
from nacl.signing import VerifyKey as _NaclVerifyKey

from gateway.errors import ConfigError, GatewayError, Reason

_SPKI_PREFIX: Final = bytes.fromhex("302a300506032b6570032100")
"""DER of the Ed25519 SubjectPublicKeyInfo up to the key itself (RFC 8410 section 4)."""

PUBLIC_KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64

_LOW_ORDER_POINTS: Final = frozenset(
    bytes.fromhex(text)
    for text in (
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "0100000000000000000000000000000000000000000000000000000000000080",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    )
)
"""Every encoding of the eight points of small order on edwards25519: keys under which one signature
can verify for many messages. Refused when a key is registered."""


class SignatureError(GatewayError):
    """A signature does not verify, or is missing where one is needed."""

    reason = Reason.SIGNATURE_INVALID


class VerifyKey:
    """An Ed25519 public key."""

    def __init__(self, public: bytes) -> None:
        """Take the 32-byte key; raise `ConfigError` if it is not one or is of small order."""
        if len(public) != PUBLIC_KEY_BYTES:
            raise ConfigError("An Ed25519 public key has 32 bytes.")
        if public in _LOW_ORDER_POINTS:
            raise ConfigError("This Ed25519 public key is of small order; make a new key pair.")
        self.public = public
        self._key = _NaclVerifyKey(public)

    @cached_property
    def key_id(self) -> str:
        """Hex SHA-256 of the SubjectPublicKeyInfo."""
        return hashlib.sha256(_SPKI_PREFIX + self.public).hexdigest()

    def verify(self, signature: bytes, message: bytes) -> None:
        """Raise `SignatureError` unless `signature` (64 bytes) is this key's over `message`."""
        if len(signature) != SIGNATURE_BYTES:
            raise SignatureError("An Ed25519 signature has 64 bytes.")
        try:
            self._key.verify(message, signature)
        except BadSignatureError as error:
            raise SignatureError("The signature does not fit the signed bytes and the key.") from error

    def to_pem(self) -> bytes:
        """Return the key as PEM SubjectPublicKeyInfo."""
        return ed25519.Ed25519PublicKey.from_public_bytes(self.public).public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    @classmethod
    def from_pem(cls, pem: bytes) -> VerifyKey:
        """Read a PEM SubjectPublicKeyInfo; raise `ConfigError` if it is not an Ed25519 public key."""
        try:
            key = serialization.load_pem_public_key(pem)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise ConfigError("This is not a public key in PEM form.") from error
        if not isinstance(key, ed25519.Ed25519PublicKey):
            raise ConfigError("This public key is not an Ed25519 key.")
        return cls(key.public_bytes_raw())


class SigningKey:
    """An Ed25519 private key. Never printed; `repr` shows only the key id."""

    def __init__(self, seed: bytes) -> None:
        self._key = _NaclSigningKey(seed)
        self.verify_key = VerifyKey(bytes(self._key.verify_key))
        self.key_id = self.verify_key.key_id

    def __repr__(self) -> str:
        return f"SigningKey({self.key_id[:16]}…)"

    @classmethod
    def generate(cls) -> SigningKey:
        """Return a fresh key from the system's randomness."""
        return cls(bytes(_NaclSigningKey.generate()))

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature over `message`."""
        return self._key.sign(message).signature

    def seed(self) -> bytes:
        """Return the 32-byte secret, for signers of other formats (signed notes)."""
        return bytes(self._key)

    def to_pem(self) -> bytes:
        """Return the private key as unencrypted PEM PKCS #8; store it with `write_secret`."""
        return ed25519.Ed25519PrivateKey.from_private_bytes(bytes(self._key)).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    @classmethod
    def load(cls, path: Path) -> SigningKey:
        """Read a PEM PKCS #8 key file of mode 0600; raise `ConfigError` if anything is wrong with it."""
        try:
            key = serialization.load_pem_private_key(read_secret(path), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise ConfigError(f"{path} is not an unencrypted private key in PEM form.") from error
        if not isinstance(key, ed25519.Ed25519PrivateKey):
            raise ConfigError(f"{path} is not an Ed25519 key.")
        return cls(key.private_bytes_raw())


def read_secret(path: Path) -> bytes:
    """Return the bytes of a secret file; raise `ConfigError` unless only its owner may read it.

    The file must be a regular file (no link), owned by the user that runs the process, with no
    permission for group or others.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigError(
            f"The secret file {path} cannot be opened ({error.strerror}); it must exist, be readable, "
            "and not be a symbolic link."
        ) from error
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"The secret file {path} is not a regular file.")
        if status.st_uid != os.geteuid():
            raise ConfigError(
                f"The secret file {path} belongs to another user; chown it to the service's user."
            )
        if status.st_mode & 0o077:
            raise ConfigError(
                f"The secret file {path} is open to others (mode {stat.S_IMODE(status.st_mode):04o}); "
                f"run: chmod 600 {path}"
            )
        return file.read()


def write_secret(path: Path, content: bytes) -> None:
    """Write `content` to a new file of mode 0600; raise `ConfigError` if `path` exists already."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(f"The secret file {path} cannot be created ({error.strerror}).") from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)
