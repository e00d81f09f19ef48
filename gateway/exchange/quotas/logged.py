"""What the log says has left: of one exchange, and in all, by account.

Of rounded counts and of single bits the log does not tell the number itself. What bounds others is then
taken as the most that it may have been, what is earned as the least.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol

from gateway.clock import parse_rfc3339
from gateway.ledger.accounts import Account, AccountKind
from gateway.ledger.contracts import charges_in_return, charges_under, given_account
from gateway.model import Entry, EntryKind
from gateway.model.contract import Contract

CONTRIBUTION_ACCEPTED: Final = "contribution.accepted"

_CLOSING: Final = frozenset(
    {EntryKind.EXCHANGE_RELEASED, EntryKind.EXCHANGE_FAILED, EntryKind.EXCHANGE_DENIED}
)


class Contracts(Protocol):
    """Where contracts are looked up by their identity, whatever has become of them."""

    def contract(self, identity: str) -> Contract | None:
        """Return the contract; None if it is not known."""
        ...


@dataclass(slots=True)
class LoggedExchange:
    """The entries of one exchange, so far."""

    pages: list[tuple[datetime, int]] = field(default_factory=list)
    """When each page was recorded, and the number told of it."""
    vague: bool = False
    """Whether a page does not tell its number exactly."""
    closing: Entry | None = None
    consumer: str = ""
    dataset: str = ""
    contract: str = ""
    in_return: str = ""

    def add(self, entry: Entry) -> None:
        """Take the next entry; of two that close it, as when a release was withdrawn, the later counts."""
        self.consumer = entry.consumer or self.consumer
        self.dataset = entry.dataset or self.dataset
        self.contract = entry.contract or self.contract
        self.in_return = entry.in_return or self.in_return
        if entry.kind is EntryKind.EXCHANGE_PAGE:
            self.pages.append((parse_rfc3339(entry.time), entry.records))
            self.vague |= entry.bytes == 0
        elif entry.kind in _CLOSING:
            self.closing = entry

    def left(self) -> int | None:
        """Return how many records have left, at most; None if a page does not tell and nothing closes it."""
        if self.closing is not None:
            return self.closing.records + _rounded_off(self.closing)
        return None if self.vague else sum(records for _, records in self.pages)

    def left_by_time(self) -> Iterable[tuple[datetime, int, int]]:
        """Yield when records left, how many at most, and how many at least.

        Pages of a stream left in their order: of those that were recorded, but cut off, none.
        """
        closing = self.closing
        if closing is None or not self.pages:
            if closing is not None and closing.records + _rounded_off(closing):
                most, least = closing.records + _rounded_off(closing), closing.records - _rounded_up(closing)
                yield parse_rfc3339(closing.time), most, max(least, 0)
                return
            for moment, records in self.pages:
                yield moment, records, 0 if self.vague else records
            return
        most, least = closing.records + _rounded_off(closing), max(closing.records - _rounded_up(closing), 0)
        for at, (moment, records) in enumerate(self.pages):
            is_last = at == len(self.pages) - 1
            here_most = most if is_last else min(records, most)
            here_least = least if is_last else min(records, least)
            most, least = most - here_most, least - here_least
            yield moment, here_most, here_least


class LoggedAccounts:
    """Adds up, entry by entry in the order of the log, what should stand on the accounts of contracts."""

    def __init__(self, contracts: Contracts) -> None:
        self._contracts = contracts
        self._exchanges: dict[str, LoggedExchange] = {}
        self._given: dict[Account, int] = {}

    def add(self, entry: Entry) -> None:
        """Take the next entry."""
        if entry.kind == CONTRIBUTION_ACCEPTED:
            contract = self._contracts.contract(entry.contract)
            clause = contract.terms.reciprocity if contract is not None else None
            if contract is not None and clause is not None and clause.counts == "contributed":
                account = given_account(contract)
                self._given[account] = self._given.get(account, 0) + entry.records
        elif entry.exchange and (entry.contract or entry.exchange in self._exchanges):
            self._exchanges.setdefault(entry.exchange, LoggedExchange()).add(entry)

    def totals(self, without: AbstractSet[str] = frozenset()) -> Mapping[Account, int]:
        """Return what stands on each account, not counting the exchanges `without`."""
        found = dict(self._given)
        for exchange, seen in self._exchanges.items():
            if exchange in without:
                continue
            under, in_return = map(self._contracts.contract, (seen.contract, seen.in_return))
            for moment, most, least in seen.left_by_time():
                charges = charges_under(under, seen.consumer, seen.dataset, moment) if under else []
                if in_return is not None:
                    charges += charges_in_return(in_return, seen.consumer, seen.dataset)
                for account in {charge.account for charge in charges}:
                    records = least if account.kind is AccountKind.GIVEN else most
                    found[account] = found.get(account, 0) + records
        return found


def left_of(entries: Sequence[Entry]) -> int | None:
    """Return how many records of an exchange have left, by its entries, oldest first; None if unknown."""
    seen = LoggedExchange()
    for entry in entries:
        seen.add(entry)
    return seen.left()


def _rounded_off(entry: Entry) -> int:
    """Return by how much more than was told may have left."""
    to = _rounding(entry)
    return (to - 1) // 2


def _rounded_up(entry: Entry) -> int:
    """Return by how much less than was told may have left."""
    return _rounding(entry) // 2


def _rounding(entry: Entry) -> int:
    return int(entry.duties.get("round_counts", {}).get("to", 1)) if "one_bit" not in entry.duties else 1
