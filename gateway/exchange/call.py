"""What the transport knows about a call, in our own types."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from gateway.errors import GatewayError


@dataclass(frozen=True, slots=True)
class Caller:
    """The peer as its client certificate shows it."""

    uri: str
    """The one URI of the subject alternative name."""
    not_before: datetime
    not_after: datetime
    fingerprint: str
    """Hex SHA-256 of the certificate."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call: who, how long it may take, and what was already wrong with it."""

    caller: Caller | None
    """None when the peer's certificate could not be read; `fault` then says why."""
    timeout_s: float
    """Time left until the caller's deadline, already clamped."""
    fault: GatewayError | None = None
    """What the transport layer found wrong; raised first thing, so that it leaves an entry."""
    bytes_received: int = 0
