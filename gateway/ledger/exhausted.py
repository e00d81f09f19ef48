"""Refusals: what is exhausted, and when there is more or what it takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gateway.clock import rfc3339
from gateway.errors import GatewayError, Reason
from gateway.ledger.accounts import AccountKind, Shortfall
from gateway.model.contract import Per

_PERIODS: Final = {Per.DAY: "a day", Per.MONTH: "a month", Per.TERM: "for its whole term"}


class ExhaustedError(GatewayError):
    """A release does not fit on an account; nothing was counted on any."""

    def __init__(self, message: str, details: Mapping[str, str | int]) -> None:
        super().__init__(message)
        self.details.update({name: str(value) for name, value in details.items()})


class BudgetExhaustedError(ExhaustedError):
    """A release would exceed a budget that policy has set."""

    reason = Reason.BUDGET_EXHAUSTED


class QuotaExhaustedError(ExhaustedError):
    """A release would exceed a quota of the contract."""

    reason = Reason.QUOTA_EXHAUSTED


class ReciprocityExhaustedError(ExhaustedError):
    """A contributor asks for more in return than it has given for."""

    reason = Reason.RECIPROCITY_EXHAUSTED


def exhausted(shortfall: Shortfall) -> ExhaustedError:
    """Return the refusal of what does not fit.

    Of a quota that all consumers share it does not tell how much others have used.
    """
    account = shortfall.charge.account
    if account.kind is AccountKind.RECEIVED:
        return _reciprocity(shortfall)
    ends = account.ends()
    opens = f"It opens again at {rfc3339(ends)}: ask for less, or then." if ends is not None else ""
    period = _PERIODS[account.per]
    details: dict[str, str | int] = {"limit": shortfall.limit}
    if ends is not None:
        details["opens"] = rfc3339(ends)
    if account.kind is AccountKind.BUDGET:
        return BudgetExhaustedError(
            f"The budget of {shortfall.limit} records {period} for this purpose does not suffice for this "
            f"answer. {opens}",
            details,
        )
    whose = "to each consumer" if account.consumer else "to all consumers together"
    return QuotaExhaustedError(
        f"The contract's quota of {shortfall.limit} records {period} {whose} does not suffice for this "
        "answer. " + (opens or "It does not open again: ask for less, or agree on another contract."),
        {**details, "per": account.per.value, "each": "consumer" if account.consumer else "contract"},
    )


def _reciprocity(shortfall: Shortfall) -> ExhaustedError:
    left = max(shortfall.limit - shortfall.balance, 0)
    missing = missing_gift(shortfall)
    takes = (
        f"{missing} more records given under the contract would."
        if missing is not None
        else "The contract gives nothing more for records that are given."
    )
    return ReciprocityExhaustedError(
        f"What was given under the contract does not suffice for this answer: {left} records may still be "
        f"received. {takes}",
        {"left": left, **({"missing": missing} if missing is not None else {})},
    )


def missing_gift(shortfall: Shortfall) -> int | None:
    """Return how many records must be given for what was asked to be received; None if none help."""
    allowance = shortfall.charge.allowance
    if allowance is None or not allowance.per_hundred:
        return None
    needed = shortfall.balance + shortfall.records - allowance.records
    return max(-(-needed * 100 // allowance.per_hundred) - shortfall.earned, 0)
