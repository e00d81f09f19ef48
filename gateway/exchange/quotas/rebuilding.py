"""The ledger put right by the log: of exchanges that died, and as a whole."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from gateway.audit.filter import Field, Has
from gateway.audit.store import MAX_PAGE_SIZE, AuditReader
from gateway.clock import Clock
from gateway.errors import GatewayError
from gateway.exchange.quotas.logged import Contracts, LoggedAccounts, left_of
from gateway.ledger import Account, AccountKind, Hold, Ledger, Settlement
from gateway.model import Entry

DEAD_AFTER: Final = timedelta(hours=2)
"""An exchange that began before that is over: no caller waits longer than an hour."""
SWEEP_S: Final = 60.0

CONTRACT_KINDS: Final = (AccountKind.QUOTA, AccountKind.RECEIVED, AccountKind.GIVEN)

_decode: Final = msgspec.json.Decoder(Entry).decode


class Leftovers:
    """Settles, by what the log says of them, exchanges that died with their process.

    Whichever process comes first does it; a second one finds nothing held any more.
    """

    def __init__(self, ledger: Ledger, readers: Sequence[AuditReader], clock: Clock) -> None:
        """Take the log, and the closed ones before it."""
        self._ledger = ledger
        self._readers = readers
        self._clock = clock

    def settle(self) -> int:
        """Settle what is left over; return of how many exchanges.

        Raises `LedgerUnavailableError` and `LogUnavailableError`.
        """
        dead = self._clock() - DEAD_AFTER
        held: dict[str, int] = {}
        for hold in self._ledger.holds():
            if began(hold.exchange) < dead:
                held[hold.exchange] = max(held.get(hold.exchange, 0), hold.records)
        orders = []
        for exchange in held:
            left = left_of(self._entries(exchange))
            # Of what the log does not tell, nothing is given back.
            orders.append(Settlement(exchange, left if left is not None else _MOST))
        if orders:
            self._ledger.carry_out(orders)
        return len(orders)

    async def sweep(self, on_error: Callable[[GatewayError], None]) -> None:
        """Do so again and again, until cancelled; `on_error` hears of each time that failed."""
        while True:
            try:
                await asyncio.to_thread(self.settle)
            except GatewayError as error:
                on_error(error)
            await asyncio.sleep(SWEEP_S)

    def _entries(self, exchange: str) -> list[Entry]:
        found: list[Entry] = []
        for reader in self._readers:
            before = None
            while page := reader.find(Has(Field.EXCHANGE, exchange), MAX_PAGE_SIZE, before):
                found += [_decode(stored.data) for stored in page]
                before = page[-1].index
        return found[::-1]


_MOST: Final = 10**15


def rebuild(
    ledger: Ledger,
    readers: Sequence[AuditReader],
    contracts: Contracts,
    advance: Callable[[int, int], None] = lambda _done, _all: None,
) -> None:
    """Replace what the ledger says of contracts by what the log says; gateways may run meanwhile.

    `readers` are those of the log, and before it of the closed ones, oldest first. Most of the log is read
    beforehand; what has come since, while nobody reserves. What is held for exchanges that are under way
    stays held. Raises `LedgerUnavailableError`, having changed nothing, and `LogUnavailableError`.
    """
    counted = LoggedAccounts(contracts)
    current = readers[-1]
    sizes = [reader.size() for reader in readers]
    done = 0
    for reader, size in zip(readers, sizes, strict=True):
        for entry in _entries_between(reader, 0, size):
            counted.add(entry)
            done += 1
            if done % MAX_PAGE_SIZE == 0:
                advance(done, sum(sizes))

    def count(holds: list[Hold]) -> dict[Account, int]:
        for entry in _entries_between(current, sizes[-1], current.size()):
            counted.add(entry)
        exchanges = {hold.exchange for hold in holds}
        totals = dict(counted.totals(exchanges))
        for hold in holds:
            if hold.account.kind is not AccountKind.GIVEN:
                totals[hold.account] = totals.get(hold.account, 0) + hold.records
        return totals

    ledger.restate(CONTRACT_KINDS, count)
    advance(done, done)


def began(exchange: str) -> datetime:
    """Return when an exchange began: its id says so (UUIDv7)."""
    return datetime.fromtimestamp(int(exchange.replace("-", "")[:12], 16) / 1000, UTC)


def _entries_between(reader: AuditReader, start: int, end: int) -> Iterator[Entry]:
    for first in range(start, end, MAX_PAGE_SIZE):
        for data in reader.entries(first, min(first + MAX_PAGE_SIZE, end)):
            yield _decode(data)
