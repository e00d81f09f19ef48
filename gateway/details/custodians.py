"""Custodians: the people who together, and only together, can open details.

A custodian has two keys in one secret file: X25519, to which shares are sealed, and Ed25519, which
signs approvals. The *card* is the public side; its id covers both keys and the name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from gateway.details.hpke import PUBLIC_KEY_BYTES, check_public_key, generate_private_key, open_sealed
from gateway.errors import ConfigError
from gateway.evidence.canonical import DECODE_ERRORS, encode_canonical
from gateway.evidence.keys import SigningKey, VerifyKey, read_secret, write_secret

MIN_THRESHOLD: Final = 2
MAX_CUSTODIANS: Final = 7
"""With 7, of whom any 3 open, a data key is wrapped 35 times: 1.4 KiB for each entry."""

_Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9-]{0,39}\Z")]
_Key = Annotated[bytes, msgspec.Meta(min_length=PUBLIC_KEY_BYTES, max_length=PUBLIC_KEY_BYTES)]


class CustodianCard(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """A custodian's public side, and the form of its file."""

    v: int
    name: _Name
    """As entries and lists show it."""
    signing: _Key
    """Ed25519."""
    sealing: _Key
    """X25519."""

    @cached_property
    def id(self) -> str:
        """Hex SHA-256 of the card's canonical JSON."""
        return hashlib.sha256(encode_canonical(self)).hexdigest()

    @cached_property
    def verify_key(self) -> VerifyKey:
        """The key that verifies the custodian's approvals."""
        return VerifyKey(self.signing)

    def to_json(self) -> bytes:
        """Return the text of the card's file."""
        return msgspec.json.format(encode_canonical(self), indent=2) + b"\n"

    @classmethod
    def load(cls, path: Path) -> CustodianCard:
        """Read the card at `path`; raise `ConfigError`."""
        try:
            card = msgspec.json.decode(path.read_bytes(), type=cls)
        except OSError as error:
            raise ConfigError(f"The custodian's card {path} cannot be read ({error.strerror}).") from error
        except DECODE_ERRORS:
            raise ConfigError(
                f"{path} is not a custodian's card; `gateway custodian init` makes one beside the secret key."
            ) from None
        if card.v != 1:
            raise ConfigError(f"{path} is a custodian's card of a version that this release does not know.")
        check_public_key(card.sealing)
        card.verify_key  # noqa: B018 - raises if it is no key
        return card


class _SecretFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    v: int
    name: _Name
    signing: _Key
    sealing: _Key


@dataclass(frozen=True, slots=True)
class Custodian:
    """A custodian's secret side."""

    card: CustodianCard
    signing_key: SigningKey
    sealing_key: X25519PrivateKey = field(repr=False)

    @classmethod
    def generate(cls, name: str) -> Custodian:
        """Return a custodian with fresh keys; raise `ConfigError` if `name` is not a name."""
        signing, sealing = SigningKey.generate(), generate_private_key()
        return cls._of(name, signing, sealing)

    @classmethod
    def load(cls, path: Path) -> Custodian:
        """Read a secret file of mode 0600; raise `ConfigError` if anything is wrong with it."""
        try:
            secret = msgspec.json.decode(read_secret(path), type=_SecretFile)
        except DECODE_ERRORS:
            raise ConfigError(f"{path} is not a custodian's secret key file.") from None
        if secret.v != 1:
            raise ConfigError(f"{path} is a custodian's key file of a version this release does not know.")
        return cls._of(
            secret.name, SigningKey(secret.signing), X25519PrivateKey.from_private_bytes(secret.sealing)
        )

    def save(self, path: Path) -> None:
        """Write the secret file, mode 0600; raise `ConfigError` if `path` exists."""
        secret = _SecretFile(
            v=1,
            name=self.card.name,
            signing=self.signing_key.seed(),
            sealing=self.sealing_key.private_bytes_raw(),
        )
        write_secret(path, encode_canonical(secret) + b"\n")

    def unseal(self, sealed: bytes, info: bytes) -> bytes:
        """Return what was sealed to this custodian under `info`; raise `DetailsAlteredError`."""
        return open_sealed(sealed, self.sealing_key, info)

    @classmethod
    def _of(cls, name: str, signing: SigningKey, sealing: X25519PrivateKey) -> Custodian:
        card = CustodianCard(
            v=1,
            name=name,
            signing=signing.verify_key.public,
            sealing=sealing.public_key().public_bytes_raw(),
        )
        try:
            msgspec.convert(name, _Name)
        except msgspec.ValidationError as error:
            raise ConfigError(
                "A custodian's name has 1 to 40 lower-case letters, digits and hyphens, a letter first."
            ) from error
        return cls(card, signing, sealing)


class Custodians:
    """Who can open: any `threshold` of `cards`."""

    def __init__(self, cards: Iterable[CustodianCard], threshold: int = MIN_THRESHOLD) -> None:
        """Raise `ConfigError` unless that is two people at least, and as many as there are."""
        ordered = sorted(cards, key=lambda card: card.id)
        self.by_id: Final[Mapping[str, CustodianCard]] = {card.id: card for card in ordered}
        self.threshold: Final = threshold
        if len(self.by_id) != len(ordered):
            raise ConfigError("A custodian is named twice in [details]; each has a card of its own.")
        # One person with two cards would be two custodians; the same key under two names is caught here.
        for part in ("signing", "sealing"):
            if len({getattr(card, part) for card in ordered}) != len(ordered):
                raise ConfigError("Two custodians in [details] have the same key; each makes their own.")
        if not MIN_THRESHOLD <= threshold <= len(ordered) <= MAX_CUSTODIANS:
            raise ConfigError(
                f"[details] needs {MIN_THRESHOLD} to {MAX_CUSTODIANS} custodians, and a threshold of at "
                f"least {MIN_THRESHOLD} that they can reach: nobody opens details alone."
            )

    @property
    def cards(self) -> tuple[CustodianCard, ...]:
        """The cards, in the order of their ids."""
        return tuple(self.by_id.values())

    def described(self) -> str:
        """Return who can open, such as `2 of chen 0a1b2c3d, lin 4e5f6071`: names and beginnings of ids."""
        named = sorted(f"{card.name} {card.id[:8]}" for card in self.cards)
        return f"{self.threshold} of {', '.join(named)}"
