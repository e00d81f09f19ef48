"""The trust file: the public keys that everything offline is verified with.

The operator hands it out once over a channel the recipient trusts; it holds no secret.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import msgspec

from gateway.errors import ConfigError
from gateway.evidence.canonical import DECODE_ERRORS
from gateway.evidence.keys import VerifyKey


class TrustedMember(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A member's public side."""

    title: str
    signing_keys: dict[str, bytes]
    """Ed25519 public keys (32 bytes) by key id."""


class Trust(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, dict=True
):
    """Public keys of one gateway, its log, and its members."""

    v: int
    origin: str
    """The log's origin; also the audience of query statements."""
    log_keys: tuple[str, ...]
    """Verifier keys of the log (C2SP signed-note vkey text)."""
    gateway_keys: dict[str, bytes]
    """Ed25519 public keys (32 bytes) with which the gateway signs receipts, by key id."""
    members: dict[str, TrustedMember]
    vault_keys: dict[str, bytes] = {}
    """Ed25519 public keys (32 bytes), by key id, with which the gateway signs deliveries of records that
    contributors have put into its vault. None: it has no vault."""

    @cached_property
    def gateway_verify_keys(self) -> dict[str, VerifyKey]:
        """The gateway's receipt keys by key id."""
        return _verify_keys(self.gateway_keys)

    @cached_property
    def vault_verify_keys(self) -> dict[str, VerifyKey]:
        """The keys of the gateway's vault by key id."""
        return _verify_keys(self.vault_keys)

    def member_verify_keys(self, member: str) -> dict[str, VerifyKey]:
        """Return the signing keys of `member`; empty when the trust file does not know it."""
        trusted = self.members.get(member)
        return _verify_keys(trusted.signing_keys) if trusted else {}

    def to_json(self) -> bytes:
        """Return the text of a trust file, in a stable order."""
        return msgspec.json.format(msgspec.json.encode(self, order="sorted"), indent=2) + b"\n"

    @classmethod
    def from_json(cls, text: bytes, *, source: str) -> Trust:
        """Parse strictly; raise `ConfigError` naming `source`."""
        try:
            trust = msgspec.json.decode(text, type=cls)
        except DECODE_ERRORS as error:
            raise ConfigError(f"{source} is not a trust file: {error}") from error
        if trust.v != 1:
            raise ConfigError(f"{source} is a trust file of version {trust.v}; this release reads version 1.")
        return trust

    @classmethod
    def load(cls, path: Path) -> Trust:
        """Read the trust file at `path`; raise `ConfigError`."""
        try:
            return cls.from_json(path.read_bytes(), source=str(path))
        except OSError as error:
            raise ConfigError(f"The trust file {path} cannot be read ({error.strerror}).") from error


def _verify_keys(keys: dict[str, bytes]) -> dict[str, VerifyKey]:
    found = {key_id: VerifyKey(public) for key_id, public in keys.items()}
    for key_id, key in found.items():
        if key.key_id != key_id:
            raise ConfigError("A key in the trust file does not have the id it is filed under.")
    return found
