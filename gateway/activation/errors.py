"""What goes wrong around the activation of a policy."""

from __future__ import annotations

from gateway.errors import GatewayError, Reason


class ActivationError(GatewayError):
    """An activation is not signed as it must be, or does not follow on what is in force. Nothing changes."""

    reason = Reason.APPROVAL_INVALID


class ShelfError(GatewayError):
    """The database with bundles and approvals cannot be read or written now."""

    reason = Reason.POLICY_UNAVAILABLE


class NotInForceError(GatewayError):
    """No bundle is in force that this process can decide by: everything is denied."""

    reason = Reason.POLICY_STALE
