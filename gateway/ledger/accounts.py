"""Accounts: what has been spent, or earned, by whom, of what, in which period; and how much may be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import Final, NamedTuple

from gateway.model.contract import Per

KEPT_DAYS: Final = 7
"""For so long an account is kept after its period; only one that is open is ever asked for."""

EVER: Final = date(1970, 1, 1)
"""The first day of what never begins anew."""


class AccountKind(StrEnum):
    """What is counted."""

    BUDGET = "budget"
    """Records for one purpose, as a duty of policy limits them; the owner is the purpose."""
    QUOTA = "quota"
    """Records given out under a contract, which is the owner."""
    RECEIVED = "received"
    """Records that a contributor got in return under its contract."""
    GIVEN = "given"
    """Records that a contributor gave under its contract. Counted once they have, never before."""


class Account(NamedTuple):
    """One count. A tuple, as it is the key of whatever is counted, many times for each release."""

    kind: AccountKind
    owner: str
    consumer: str
    """Empty: of all together."""
    per: Per
    first: date
    """The first day of its period, UTC."""

    def ends(self) -> datetime | None:
        """Return when its period ends and the next account is opened; None: never."""
        match self.per:
            case Per.DAY:
                after = self.first + timedelta(days=1)
            case Per.MONTH:
                after = (self.first.replace(day=28) + timedelta(days=4)).replace(day=1)
            case Per.TERM:
                return None
        return datetime.combine(after, time(), UTC)


def first_day(per: Per, moment: datetime, term: date = EVER) -> date:
    """Return the first day (UTC) of the period in which `moment` lies; `term` is that of a whole term."""
    today = moment.astimezone(UTC).date()
    match per:
        case Per.DAY:
            return today
        case Per.MONTH:
            return today.replace(day=1)
        case Per.TERM:
            return term


def budget(consumer: str, purpose: str, moment: datetime) -> Account:
    """Return the account of what `consumer` gets for `purpose` on the day of `moment`."""
    return Account(AccountKind.BUDGET, purpose, consumer, Per.DAY, first_day(Per.DAY, moment))


@dataclass(frozen=True, slots=True)
class Allowance:
    """How much may stand on an account: so many `records`, and what another account has earned."""

    records: int
    earned: Account | None = None
    per_hundred: int = 0
    """For each hundred on `earned` so many more, rounded down over all."""

    def limit(self, balances: Mapping[Account, int]) -> int:
        """Return the most that may stand on the account, as `balances` are."""
        if self.earned is None:
            return self.records
        return self.records + balances.get(self.earned, 0) * self.per_hundred // 100


@dataclass(frozen=True, slots=True)
class Charge:
    """An account that a release is counted on, and its bound; None: what is earned by the release."""

    account: Account
    allowance: Allowance | None


@dataclass(frozen=True, slots=True)
class Reservation:
    """Records that are about to leave: counted on all of `charges`, or on none of them.

    They are held for the exchange until it is settled.
    """

    exchange: str
    records: int
    charges: tuple[Charge, ...]


@dataclass(frozen=True, slots=True)
class Settlement:
    """An exchange has ended: of all that is held for it, `left` records have left; the rest is given back."""

    exchange: str
    left: int


Order = Reservation | Settlement


@dataclass(frozen=True, slots=True)
class Shortfall:
    """Why a reservation was refused: the first of its charges, by account, that does not fit."""

    charge: Charge
    records: int
    """What was to leave."""
    balance: int
    """What stood on the account."""
    limit: int
    """What may stand on it."""
    earned: int = 0
    """What stood on the account that earns."""


class Hold(NamedTuple):
    """What is reserved on one account for an exchange that is not settled. Two or more of each release."""

    exchange: str
    account: Account
    records: int


@dataclass(frozen=True, slots=True)
class Standing:
    """How an account stands."""

    account: Account
    records: int
    limit: int | None
    """What might stand on it when it was last charged; None if it has no bound."""
