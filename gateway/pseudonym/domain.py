"""Pseudonymisation domains: who gets pseudonyms, for what."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gateway.model import NAME_PATTERN
from gateway.pseudonym.encoding import length_prefixed
from gateway.pseudonym.errors import PseudonymError
from gateway.pseudonym.keyring import KEY_BYTES, SCHEME, KeyEpoch

_NAME: Final = re.compile(NAME_PATTERN)


@dataclass(frozen=True, slots=True)
class Domain:
    """One recipient and one purpose. Pseudonyms of one subject join inside a domain, never across."""

    recipient: str
    """The member id of the recipient."""
    purpose: str

    def __post_init__(self) -> None:
        for name in (self.recipient, self.purpose):
            if _NAME.fullmatch(name) is None:
                raise PseudonymError(
                    "A pseudonymisation domain needs a recipient and a purpose that are names: lower-case "
                    "letters, digits and hyphens, a letter first, at most 40 characters."
                )

    def __str__(self) -> str:
        return f"{self.recipient}.{self.purpose}"


def derive_key(epoch: KeyEpoch, domain: Domain) -> bytes:
    """Return the 32-byte key of `domain` in `epoch`.

    HKDF-SHA256 (RFC 5869) without salt, the epoch's key being uniformly random; `info` names scheme,
    recipient, purpose and epoch, each with its length. Whoever gets hold of one domain's key learns
    nothing about another's.
    """
    info = length_prefixed(SCHEME, domain.recipient, domain.purpose, epoch.id)
    return HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=None, info=info).derive(epoch.key)
