"""The keys in `keys_example/`, whose private halves everybody has, are refused outside the demo."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from gateway.errors import ConfigError
from gateway.pki.example_fingerprints import EXAMPLE_FINGERPRINTS


def refuse_example_keys(fingerprints: Iterable[str], *, demo: bool) -> None:
    """Raise `ConfigError` if one of `fingerprints` is that of an example key, unless in `demo` mode.

    A public key's fingerprint is the hex SHA-256 of its SubjectPublicKeyInfo (`VerifyKey.key_id`,
    `PeerCertificate.key_fingerprint`), a keyring key's is `keyring_fingerprint`.
    """
    if not demo and not EXAMPLE_FINGERPRINTS.isdisjoint(fingerprints):
        raise ConfigError(
            "A key of this deployment is one of the published example keys, which everybody has; "
            "make keys of your own with `gateway init` and replace it."
        )


def keyring_fingerprint(key: bytes) -> str:
    """Return the hex SHA-256 that names a pseudonym key (32 bytes) without telling it."""
    return hashlib.sha256(b"sluicegate-keyring\x00" + key).hexdigest()
