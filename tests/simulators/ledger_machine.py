"""Exchanges that come and go as they like, over days and restarts: no account ever holds too much."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.ledger import Account, AccountKind, Allowance, Charge, Ledger, Reservation, Settlement
from gateway.ledger.contracts import charges_under, given_account, received_account
from gateway.model.contract import Per, Quota, Reciprocity
from tests.simulators.contracts import GIVEN_DATASET, make_contract
from tests.simulators.ledger import NOW

CONTRACTS = (
    make_contract(
        Quota(records=30, per=Per.DAY, each="consumer"),
        Quota(records=45, per=Per.DAY, each="contract"),
        Quota(records=70, per=Per.MONTH, each="contract"),
        Quota(records=150, per=Per.TERM, each="contract"),
        reciprocity=Reciprocity(
            datasets=("d",), received_per_hundred_given=30, allowance=5, counts="released"
        ),
    ),
    make_contract(Quota(records=20, per=Per.DAY), name="others"),
)
CONSUMERS = ("harbour-bank", "northern-bank", "tradeplatform")


class LedgerMachine(RuleBasedStateMachine):
    """The ledger beside a model of it: what left, and what is held."""

    def __init__(self, opened: Callable[[], Ledger]) -> None:
        super().__init__()
        self._opened = opened
        self.ledgers = [opened(), opened()]
        self.now: datetime = NOW
        self.held: dict[str, list[Reservation]] = {}
        self.balances: Counter[Account] = Counter()
        self.limits: dict[Account, int] = {}
        self._number = 0

    @rule(
        node=st.integers(0, 1),
        contract=st.sampled_from(CONTRACTS),
        consumer=st.sampled_from(CONSUMERS),
        dataset=st.sampled_from((GIVEN_DATASET, "d")),
        records=st.integers(1, 25),
        again=st.booleans(),
    )
    def reserve(self, node, contract, consumer, dataset, records, again) -> None:
        charges = tuple(charges_under(contract, consumer, dataset, self.now))
        exchange = max(self.held) if again and self.held else self._next()
        order = Reservation(exchange, records, charges)
        [short] = self.ledgers[node].carry_out([order])
        fits = all(
            self.balances[c.account] + records <= self._limit(c) for c in charges if c.allowance is not None
        )
        assert (short is None) == fits, "refused what fits, or counted what does not"
        if short is None and charges:
            self.held.setdefault(exchange, []).append(order)
            for charge in charges:
                if charge.allowance is not None:
                    self.balances[charge.account] += records

    @rule(node=st.integers(0, 1), part=st.floats(0, 1), data=st.data())
    def settle(self, node, part, data) -> None:
        if not self.held:
            return
        exchange = data.draw(st.sampled_from(sorted(self.held)))
        orders = self.held.pop(exchange)
        left = round(part * sum(order.records for order in orders))
        self.ledgers[node].carry_out([Settlement(exchange, left)])
        remaining: Counter[tuple[object, ...]] = Counter()
        series = {
            (c.account.kind, c.account.owner, c.account.consumer, c.account.per)
            for o in orders
            for c in o.charges
        }
        for key in series:
            remaining[key] = left
        for order in orders:
            for charge in order.charges:
                account = charge.account
                key = (account.kind, account.owner, account.consumer, account.per)
                gone = min(order.records, remaining[key])
                remaining[key] -= gone
                if account.kind is AccountKind.GIVEN:
                    self.balances[account] += gone
                else:
                    self.balances[account] -= order.records - gone

    @rule(node=st.integers(0, 1))
    def restart(self, node) -> None:
        self.ledgers[node].close()
        self.ledgers[node] = self._opened()

    @rule(days=st.integers(1, 9))
    def wait(self, days) -> None:
        # What is held for so long was settled by the log before.
        for exchange in list(self.held):
            self.ledgers[0].carry_out([Settlement(exchange, 0)])
            for order in self.held.pop(exchange):
                for charge in order.charges:
                    if charge.account.kind is not AccountKind.GIVEN:
                        self.balances[charge.account] -= order.records
        self.now += timedelta(days=days)

    @invariant()
    def nothing_is_exceeded(self) -> None:
        for standing in self.ledgers[0].standings(open_at=self.now):
            assert standing.records == self.balances[standing.account]
            if standing.limit is not None and standing.account.kind is AccountKind.QUOTA:
                assert standing.records <= standing.limit
        [first, _] = CONTRACTS
        given, received = given_account(first), received_account(first)
        found = self.ledgers[1].balances([given, received])
        assert found.get(received, 0) <= 5 + found.get(given, 0) * 30 // 100

    def teardown(self) -> None:
        for ledger in self.ledgers:
            ledger.close()

    def _limit(self, charge: Charge) -> int:
        assert isinstance(charge.allowance, Allowance)
        return charge.allowance.limit(self.balances)

    def _next(self) -> str:
        self._number += 1
        return f"e{self._number:05}"
