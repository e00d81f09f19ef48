"""The one way in which accounts change: orders are carried out on what a store has read under its lock."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from gateway.ledger.accounts import (
    Account,
    AccountKind,
    Charge,
    Hold,
    Order,
    Reservation,
    Settlement,
    Shortfall,
)

HoldKey = tuple[str, Account]


class Book:
    """Balances and holds while they are changed; `balances`, `limits` and `holds()` are what to write back.

    A reservation counts on all its accounts or on none. A settlement gives back what did not leave, the
    last that was reserved first; only then is what was earned counted: whatever dies in between, too
    little may leave, never too much.
    """

    def __init__(self, balances: Mapping[Account, int], holds: Iterable[Hold]) -> None:
        self.balances: dict[Account, int] = dict(balances)
        self.limits: dict[Account, int] = {}
        """What the accounts that were charged may hold."""
        self.held: defaultdict[str, dict[Account, int]] = defaultdict(dict)
        """By exchange, what is held on each account."""
        for hold in holds:
            self.held[hold.exchange][hold.account] = hold.records
        self.settled: set[str] = set()
        """Exchanges of which nothing is held any more."""

    def carry_out(self, orders: Sequence[Order]) -> list[Shortfall | None]:
        """Carry out `orders`, each after the one before; return of each what kept it from being."""
        outcomes: list[Shortfall | None] = []
        for order in orders:
            if isinstance(order, Reservation):
                outcomes.append(self.reserve(order))
            else:
                self.settle(order)
                outcomes.append(None)
        return outcomes

    def reserve(self, order: Reservation) -> Shortfall | None:
        """Count `order` on all its accounts; or change nothing, and return which is too small."""
        strictest = _strictest(order.charges, self.balances)
        for account in sorted(strictest):
            charge, limit = strictest[account]
            self.limits[account] = limit
            short = shortfall(charge, order.records, self.balances)
            if short is not None:
                return short
        for charge in order.charges:
            if charge.allowance is None:
                self._hold(order, charge.account)
        for account in strictest:
            self.balances[account] = self.balances.get(account, 0) + order.records
            self._hold(order, account)
        return None

    def settle(self, order: Settlement) -> None:
        """Count what has left, of all that is held for the exchange, and hold nothing for it any more."""
        for account, reserved, left in spread(self.held.pop(order.exchange, {}).items(), order.left):
            if account.kind is AccountKind.GIVEN:
                self.balances[account] = self.balances.get(account, 0) + left
            elif account in self.balances:
                self.balances[account] = max(self.balances[account] - (reserved - left), 0)
        self.settled.add(order.exchange)

    def holds(self) -> Iterator[Hold]:
        """Yield what is held now."""
        for exchange, accounts in self.held.items():
            for account, records in accounts.items():
                yield Hold(exchange, account, records)

    def _hold(self, order: Reservation, account: Account) -> None:
        held = self.held[order.exchange]
        held[account] = held.get(account, 0) + order.records
        self.settled.discard(order.exchange)


def spread(held: Iterable[tuple[Account, int]], left: int) -> list[tuple[Account, int, int]]:
    """Return of each account held what was reserved on it, and what of that is among the `left` records.

    An exchange over midnight is held on two days' accounts: what left did so in their order.
    """
    series: defaultdict[tuple[str, ...], list[tuple[Account, int]]] = defaultdict(list)
    for account, records in sorted(held):
        series[account.kind, account.owner, account.consumer, account.per].append((account, records))
    found = []
    for accounts in series.values():
        remaining = left
        for account, records in accounts:
            gone = min(records, remaining)
            remaining -= gone
            found.append((account, records, gone))
    return found


def shortfall(charge: Charge, records: int, balances: Mapping[Account, int]) -> Shortfall | None:
    """Return why `records` more do not fit on the account; None if they do."""
    if charge.allowance is None:
        return None
    balance, limit = balances.get(charge.account, 0), charge.allowance.limit(balances)
    if balance + records <= limit:
        return None
    earned = charge.allowance.earned
    return Shortfall(charge, records, balance, limit, balances.get(earned, 0) if earned is not None else 0)


def hold_key(hold: Hold) -> HoldKey:
    """Return what tells a hold from others."""
    return hold.exchange, hold.account


def touched(charges: Iterable[Charge]) -> set[Account]:
    """Return the accounts whose balances `charges` need, or change."""
    found = {charge.account for charge in charges}
    found |= {
        c.allowance.earned for c in charges if c.allowance is not None and c.allowance.earned is not None
    }
    return found


def _strictest(
    charges: Iterable[Charge], balances: Mapping[Account, int]
) -> dict[Account, tuple[Charge, int]]:
    """Return the bounded accounts, each once, with the charge that bounds it most."""
    found: dict[Account, tuple[Charge, int]] = {}
    for charge in charges:
        if charge.allowance is not None:
            limit = charge.allowance.limit(balances)
            if charge.account not in found or limit < found[charge.account][1]:
                found[charge.account] = charge, limit
    return found
