"""What goes wrong around policy: a bundle that cannot be used, an engine that cannot decide."""

from __future__ import annotations

from gateway.errors import ConfigError, GatewayError, Reason


class BundleError(ConfigError):
    """A policy bundle is wrong; raised when it is loaded, never during an exchange."""


class PolicyError(GatewayError):
    """No decision could be had. The exchange is denied with this error's reason.

    The reason is one of `POLICY_UNDEFINED`, `POLICY_FAILED`, `POLICY_TIMEOUT`, `POLICY_UNAVAILABLE`,
    `POLICY_STALE`.
    """

    reason = Reason.POLICY_FAILED
