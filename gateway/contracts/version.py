"""One version of a contract as it is kept: the signed text, the signatures, and where it stands."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import msgspec

from gateway.contracts.document import identity
from gateway.contracts.life_cycle import Standing
from gateway.model import Contract, EntryKind, Terms, contract_name


class PartySignature(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A party's signature over the terms, with the key that was registered for it when it signed."""

    member: str
    keyid: str
    """Hex SHA-256 of the key's SubjectPublicKeyInfo."""
    public: bytes
    """The Ed25519 key itself (32 bytes): it may have been revoked since."""
    sig: bytes


class Version(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """One version of a contract. What stands here has been verified: see `signing.verified_version`."""

    payload: bytes
    """The terms as they were signed."""
    terms: Terms
    signatures: tuple[PartySignature, ...]
    """In the order in which they were made."""
    standing: Standing

    @cached_property
    def id(self) -> str:
        """The identity: `sha256:` of the payload."""
        return identity(self.payload)

    @property
    def name(self) -> str:
        """`contracts/{contract}/versions/{version}`."""
        return contract_name(self.terms.contract, self.terms.version)

    @cached_property
    def members(self) -> frozenset[str]:
        """The ids of the parties."""
        return frozenset(party.member for party in self.terms.parties)

    def contract(self) -> Contract:
        """Return it as the rest of the gateway sees it."""
        standing = self.standing
        return Contract(
            id=self.id,
            terms=self.terms,
            state=standing.state,
            signed_by=standing.signed_by,
            reason=standing.reason,
            changed=standing.changed,
            ended=standing.ended,
        )

    def at(self, standing: Standing) -> Version:
        """Return the same version, standing otherwise."""
        return msgspec.structs.replace(self, standing=standing)


History = tuple[Version, ...]
"""All versions of one contract, oldest first."""


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of one version, and what the log says of it."""

    kind: EntryKind
    version: Version
    by: str
    """The member that brought it about, `@operator`, or empty for the gateway itself."""
    before: Version | None = None
    """The version as it was; None if it is new."""
    detail: dict[str, str] = field(default_factory=dict)
