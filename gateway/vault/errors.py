"""What can go wrong with the vault."""

from __future__ import annotations

from gateway.errors import GatewayError, Reason


class VaultUnavailableError(GatewayError):
    """The vault cannot be read or written now; nothing was changed."""

    reason = Reason.VAULT_UNAVAILABLE


class VaultAlteredError(GatewayError):
    """What the vault holds does not open: it was changed, or belongs elsewhere."""

    reason = Reason.INTERNAL


class BatchError(GatewayError):
    """The batch is not in the state that this call needs."""

    reason = Reason.BATCH_CLOSED


class RecordsDestroyedError(GatewayError):
    """The key of these records was destroyed; nobody can read them any more."""

    reason = Reason.RECORDS_DESTROYED
