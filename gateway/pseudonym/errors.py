"""What can go wrong with pseudonyms."""

from __future__ import annotations

from gateway.errors import ConfigError, GatewayError, Reason


class KeyringError(ConfigError):
    """A keyring or its file is not as it must be."""


class KeyEpochError(GatewayError):
    """There is no key epoch to make pseudonyms with at this time."""

    reason = Reason.KEY_EPOCH_MISSING


class PseudonymError(GatewayError):
    """Pseudonyms of this sort are not made here: an obligation that cannot be fulfilled."""

    reason = Reason.OBLIGATION_UNSUPPORTED


class PseudonymTextError(GatewayError):
    """A text is not a pseudonym."""

    reason = Reason.IDENTIFIER_INVALID
