"""What can go wrong with the details of entries."""

from __future__ import annotations

from gateway.errors import GatewayError, Reason


class DetailsUnavailableError(GatewayError):
    """The store of details cannot be read or written now."""

    reason = Reason.DETAILS_UNAVAILABLE


class DetailsMissingError(GatewayError):
    """No details are kept for this entry."""

    reason = Reason.DETAILS_MISSING


class DetailsErasedError(GatewayError):
    """The details of this entry were erased."""

    reason = Reason.DETAILS_ERASED


class DetailsAlteredError(GatewayError):
    """What is kept is not what the entry commits to."""

    reason = Reason.PROOF_INVALID


class ApprovalError(GatewayError):
    """An approval is not one for this opening."""

    reason = Reason.APPROVAL_INVALID
