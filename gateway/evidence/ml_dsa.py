"""ML-DSA-44 keys (FIPS 204), for the cosignatures of logs and witnesses.

They come from the `cryptography` library. Where its OpenSSL has no ML-DSA, every use raises `ConfigError`,
so that whoever needs it is told, and nobody else.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import mldsa

from gateway.errors import ConfigError
from gateway.evidence.keys import SignatureError, read_secret

PUBLIC_KEY_BYTES: Final = 1312
SIGNATURE_BYTES: Final = 2420
SEED_BYTES: Final = 32

_ABSENT: Final = (
    "This installation has no ML-DSA-44: its `cryptography` is built on an OpenSSL without it. "
    "Install the `cryptography` wheel from PyPI, or use an Ed25519 key."
)


def is_ml_dsa_available() -> bool:
    """Return whether this installation can sign and verify with ML-DSA-44."""
    try:
        mldsa.MLDSA44PrivateKey.from_seed_bytes(bytes(SEED_BYTES))
    except UnsupportedAlgorithm:
        return False
    return True


class MlDsaVerifyKey:
    """An ML-DSA-44 public key."""

    def __init__(self, public: bytes) -> None:
        """Take the 1312-byte key; raise `ConfigError` if it is none or this installation has no ML-DSA."""
        if len(public) != PUBLIC_KEY_BYTES:
            raise ConfigError("An ML-DSA-44 public key has 1312 bytes.")
        try:
            self._key = mldsa.MLDSA44PublicKey.from_public_bytes(public)
        except UnsupportedAlgorithm as error:
            raise ConfigError(_ABSENT) from error
        except ValueError as error:
            raise ConfigError("This is not an ML-DSA-44 public key.") from error
        self.public = public

    def verify(self, signature: bytes, message: bytes) -> None:
        """Raise `SignatureError` unless `signature` (2420 bytes) is this key's over `message`."""
        if len(signature) != SIGNATURE_BYTES:
            raise SignatureError("An ML-DSA-44 signature has 2420 bytes.")
        try:
            self._key.verify(signature, message)
        except InvalidSignature as error:
            raise SignatureError("The signature does not fit the signed bytes and the key.") from error


class MlDsaSigningKey:
    """An ML-DSA-44 private key. Never printed."""

    def __init__(self, seed: bytes) -> None:
        """Take the 32-byte secret; raise `ConfigError` if this installation has no ML-DSA."""
        if len(seed) != SEED_BYTES:
            raise ConfigError("The seed of an ML-DSA-44 key has 32 bytes.")
        try:
            self._key = mldsa.MLDSA44PrivateKey.from_seed_bytes(seed)
        except UnsupportedAlgorithm as error:
            raise ConfigError(_ABSENT) from error
        self.verify_key = MlDsaVerifyKey(self._key.public_key().public_bytes_raw())

    def __repr__(self) -> str:
        return "MlDsaSigningKey(…)"

    @classmethod
    def generate(cls) -> MlDsaSigningKey:
        """Return a fresh key from the system's randomness; raise `ConfigError` without ML-DSA."""
        try:
            return cls(mldsa.MLDSA44PrivateKey.generate().private_bytes_raw())
        except UnsupportedAlgorithm as error:
            raise ConfigError(_ABSENT) from error

    def sign(self, message: bytes) -> bytes:
        """Return a 2420-byte signature over `message`; it differs each time (FIPS 204, hedged)."""
        return self._key.sign(message)

    def to_pem(self) -> bytes:
        """Return the private key as unencrypted PEM PKCS #8; store it with `write_secret`."""
        return self._key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    @classmethod
    def load(cls, path: Path) -> MlDsaSigningKey:
        """Read a PEM PKCS #8 key file of mode 0600; raise `ConfigError` if anything is wrong with it."""
        try:
            key = serialization.load_pem_private_key(read_secret(path), password=None)
        except UnsupportedAlgorithm as error:
            raise ConfigError(f"{path}: {_ABSENT}") from error
        except (ValueError, TypeError) as error:
            raise ConfigError(f"{path} is not an unencrypted private key in PEM form.") from error
        if not isinstance(key, mldsa.MLDSA44PrivateKey):
            raise ConfigError(f"{path} is not an ML-DSA-44 key.")
        return cls(key.private_bytes_raw())
