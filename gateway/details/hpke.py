"""Sealing to a public key: HPKE (RFC 9180) in base mode, with `cryptography` doing it.

DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM. A sealed text is the encapsulated key (32
bytes) and the ciphertext with its tag (16 more than the plaintext).
"""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from gateway.details.errors import DetailsAlteredError
from gateway.errors import ConfigError

PUBLIC_KEY_BYTES: Final = 32
OVERHEAD_BYTES: Final = 48

_SUITE: Final = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


def generate_private_key() -> X25519PrivateKey:
    """Return a fresh private key."""
    return X25519PrivateKey.generate()


def check_public_key(public: bytes) -> None:
    """Raise `ConfigError` unless something can be sealed to `public` (32 bytes)."""
    try:
        seal(b"", public, b"")
    except ValueError as error:
        raise ConfigError("This is not an X25519 public key, or one of small order.") from error


def seal(plaintext: bytes, public: bytes, info: bytes) -> bytes:
    """Return `plaintext` sealed to `public`; `info` must be the same when it is opened."""
    return _SUITE.encrypt(plaintext, X25519PublicKey.from_public_bytes(public), info=info)


def open_sealed(sealed: bytes, key: X25519PrivateKey, info: bytes) -> bytes:
    """Return the plaintext; raise `DetailsAlteredError` unless it was sealed to `key` under `info`."""
    try:
        return _SUITE.decrypt(sealed, key, info=info)
    except (InvalidTag, ValueError) as error:
        raise DetailsAlteredError(
            "A sealed share does not open: it was altered, or is for another key or another entry."
        ) from error
