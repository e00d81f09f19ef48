"""What is kept in a ledger, and the port to it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Protocol

from gateway.clock import rfc3339
from gateway.errors import GatewayError, Reason
from gateway.ledger.accounts import (
    KEPT_DAYS,
    Account,
    AccountKind,
    Hold,
    Order,
    Shortfall,
    Standing,
)
from gateway.model.contract import Per

Count = Callable[[list[Hold]], Mapping[Account, int]]
"""Takes what is held; returns what stands on each account, that included."""


class LedgerUnavailableError(GatewayError):
    """The ledger cannot be read or written now; what needs it is refused."""

    reason = Reason.LEDGER_UNAVAILABLE


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
    """Accounts and debts. Safe from any thread; each method is one durable transaction and blocks.

    All raise `LedgerUnavailableError`, having changed nothing.
    """

    def carry_out(self, orders: Sequence[Order]) -> list[Shortfall | None]:
        """Carry out `orders` in one transaction (`gateway.ledger.book`); return what kept each from being."""
        ...

    def credit(self, account: Account, records: int) -> None:
        """Count `records` on an account that has no bound."""
        ...

    def balances(self, accounts: Collection[Account]) -> dict[Account, int]:
        """Return what stands on `accounts`; those that nothing stands on are left out."""
        ...

    def standings(self, owner: str = "", open_at: datetime | None = None) -> list[Standing]:
        """Return the accounts, or of them those of `owner`, or those whose period has not ended, in order."""
        ...

    def holds(self) -> list[Hold]:
        """Return what is held for exchanges that are not settled."""
        ...

    def restate(self, kinds: Collection[AccountKind], count: Count) -> None:
        """Replace all balances of `kinds` that are still open by what `count` makes of the holds.

        Nobody reserves or settles meanwhile. Accounts that it does not return are forgotten.
        """
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


def last_kept(day: date) -> str:
    """Return the day up to which an account must have ended to be forgotten, as it is stored."""
    return (day - timedelta(days=KEPT_DAYS)).isoformat()


AccountRow = tuple[str, str, str, str, str]


@lru_cache(4096)
def write_account(account: Account) -> AccountRow:
    """Return the columns that name an account."""
    return account.kind.value, account.owner, account.consumer, account.per.value, account.first.isoformat()


def write_end(account: Account) -> str:
    """Return the day (UTC) on which an account ends, as it is stored; empty: never."""
    ends = account.ends()
    return "" if ends is None else ends.date().isoformat()


def read_account(row: Sequence[str]) -> Account:
    """Return the account that columns name; raise `LedgerUnavailableError` if nobody writes such."""
    kind, owner, consumer, per, first = row
    try:
        return Account(AccountKind(kind), owner, consumer, Per(per), date.fromisoformat(first))
    except ValueError as error:
        raise _never_written() from error


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
        raise _never_written() from error


def _never_written() -> LedgerUnavailableError:
    return LedgerUnavailableError(
        "The ledger holds what no gateway writes; restore it, or remove it and start anew."
    )
