"""Members: the agencies and companies that meet at the gateway."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Role(StrEnum):
    """What a member may do at the gateway."""

    CONSUMER = "consumer"
    PROVIDER = "provider"
    CONTRIBUTOR = "contributor"
    AUDITOR = "auditor"


class MemberState(StrEnum):
    """Whether a member's calls are served."""

    ACTIVE = "active"
    SUSPENDED = "suspended"


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One member. Its certificate names it by URI SAN; its signing keys are registered here."""

    id: str
    """The last segment of `members/{member}`."""
    title: str
    """The name people use."""
    member_class: str
    """A class that policy knows, such as `agency`, `bank`, `company`."""
    roles: frozenset[Role]
    uri: str
    """The URI that stands in the certificate's subject alternative name."""
    signing_keys: dict[str, bytes]
    """Ed25519 public keys (32 bytes) by key id (hex SHA-256 of the SPKI)."""
    state: MemberState = MemberState.ACTIVE
    endpoint: str | None = None
    """`host:port` of the member's ProviderService; only providers have one."""
