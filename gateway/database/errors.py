"""What can go wrong with the shared database."""

from __future__ import annotations

from gateway.errors import ConfigError, GatewayError, Reason


class DatabaseRefusedError(ConfigError):
    """The database, or the role it is opened with, is not as it must be; a person must change it."""


class DatabaseUnavailableError(GatewayError):
    """The database cannot be used now. May pass by itself."""

    reason = Reason.LOG_UNAVAILABLE


class CopyMismatchError(GatewayError):
    """The database does not hold what the file does that was copied into it."""

    reason = Reason.PROOF_INVALID
