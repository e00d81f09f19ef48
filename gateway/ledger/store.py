"""What is kept in a ledger, and the port to it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import Final, Protocol

from gateway.clock import rfc3339
from gateway.errors import GatewayError, Reason

KEPT_DAYS: Final = 7
"""For so long what was spent on a day is kept; only that day's is ever asked for."""


class LedgerUnavailableError(GatewayError):
    """The ledger cannot be read or written now; what needs it is refused."""

    reason = Reason.LEDGER_UNAVAILABLE


class BudgetExhaustedError(GatewayError):
    """A release would exceed a budget; nothing was spent."""

    reason = Reason.BUDGET_EXHAUSTED

    def __init__(self, account: Account, limit: int) -> None:
        opens = rfc3339(reopens_at(account.day))
        super().__init__(
            f"The budget of {limit} records a day for this purpose does not suffice for this answer. It "
            f"opens again at {opens}: ask for less, or then.",
            limit=limit,
            opens=opens,
        )


@dataclass(frozen=True, slots=True)
class Account:
    """What a budget is for."""

    consumer: str
    purpose: str
    day: date
    """UTC."""


class DebtKind(StrEnum):
    """What may be owed after a release."""

    NOTICE = "notice"
    """The subjects are to be told, by the operator."""
    ACKNOWLEDGEMENT = "acknowledgement"
    """The release is to be acknowledged, by the consumer."""


@dataclass(frozen=True, slots=True)
class Debt:
    """What is owed after one exchange, and until when. Its subjects stand in it only as a commitment."""

    kind: DebtKind
    exchange: str
    consumer: str
    provider: str
    dataset: str
    until: datetime
    subject: str
    """The entry's commitment to the subjects (base64); empty where the query named none."""


class Ledger(Protocol):
    """Budgets and debts. Safe from any thread; each method is one durable transaction and blocks.

    All raise `LedgerUnavailableError`, having changed nothing.
    """

    def reserve(self, account: Account, records: int, limit: int) -> None:
        """Spend `records` of `account`; raise `BudgetExhaustedError` if more than `limit` were spent then."""
        ...

    def give_back(self, account: Account, records: int) -> None:
        """Undo a reservation of which nothing has left."""
        ...

    def spent(self, account: Account) -> int:
        """Return how much of `account` is spent."""
        ...

    def owe(self, debt: Debt) -> None:
        """Take note of `debt`, before the release that it comes of; one of its kind for each exchange."""
        ...

    def settle(self, kind: DebtKind, exchange: str) -> bool:
        """Forget a debt: it is paid, or never came about. Return whether there was one."""
        ...

    def debts(self, kind: DebtKind, before: datetime | None = None) -> list[Debt]:
        """Return what is owed, or of it what was due before a moment; the most urgent first."""
        ...

    def close(self) -> None:
        """Release everything. May be called twice."""
        ...


def reopens_at(day: date) -> datetime:
    """Return when the budgets of `day` open again: at the next midnight, UTC."""
    return datetime.combine(day + timedelta(days=1), time(), UTC)


def last_kept(day: date) -> str:
    """Return the day before which nothing needs to be kept any more, as it is stored."""
    return (day - timedelta(days=KEPT_DAYS)).isoformat()


DebtRow = tuple[str, str, str, str, str, str, str]


def write_debt(debt: Debt) -> DebtRow:
    """Return the row that is stored of a debt."""
    return (
        debt.kind.value,
        debt.exchange,
        debt.consumer,
        debt.provider,
        debt.dataset,
        rfc3339(debt.until),
        debt.subject,
    )


def read_debt(row: DebtRow) -> Debt:
    """Return the debt that a row tells of; raise `LedgerUnavailableError` if nobody writes such a row."""
    kind, exchange, consumer, provider, dataset, until, subject = row
    try:
        return Debt(
            DebtKind(kind), exchange, consumer, provider, dataset, datetime.fromisoformat(until), subject
        )
    except ValueError as error:
        raise LedgerUnavailableError(
            "The ledger holds what no gateway writes; restore it, or remove it and start anew."
        ) from error
