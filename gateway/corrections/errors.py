"""What can go wrong with corrections."""

from __future__ import annotations

from gateway.errors import GatewayError, Reason


class CorrectionsUnavailableError(GatewayError):
    """The register of recipients or the store of notices cannot be used now; what needs it is refused."""

    reason = Reason.CORRECTIONS_UNAVAILABLE


class CorrectionNotFoundError(GatewayError):
    """There is no such correction for this member."""

    reason = Reason.CORRECTION_NOT_FOUND
