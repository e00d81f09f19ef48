"""The accounts of a contract: what its terms have counted, and what its contributor gave and received.

All versions of a contract count on the same accounts, so that signing a new version does not open a quota
again. A quota for the whole term begins anew only with a version that begins on another day.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Protocol

from gateway.ledger.accounts import (
    EVER,
    Account,
    AccountKind,
    Allowance,
    Charge,
    first_day,
)
from gateway.ledger.store import Ledger
from gateway.model.contract import Contract, Per, Reciprocity


@dataclass(frozen=True, slots=True)
class Balance:
    """How give and take stand under a contract."""

    given: int
    received: int
    left: int | None
    """How much more may be received for that; None if the contract has no clause of reciprocity."""


class Giving(Protocol):
    """Where accepted contributions are counted as given."""

    def gave(self, contract: Contract, records: int) -> None:
        """Count `records` accepted under `contract`, once their entry (`contribution.accepted`) is durable.

        Without a clause that counts them nothing happens. Blocks; raises `LedgerUnavailableError`, and then
        nothing is counted until the ledger is rebuilt from the log, which is the truth.
        """
        ...


class Gifts:
    """See `Giving`."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def gave(self, contract: Contract, records: int) -> None:
        """Count `records` accepted under `contract`; raise `LedgerUnavailableError`."""
        clause = contract.terms.reciprocity
        if clause is not None and clause.counts == "contributed" and records:
            self._ledger.credit(given_account(contract), records)


def account_owner(contract: Contract) -> str:
    """Return the name under which a contract's accounts are kept: its contributor's, and its own."""
    return f"{contract.terms.contributor}/{contract.terms.contract}"


def given_account(contract: Contract) -> Account:
    """Return the account of what the contributor gave."""
    return Account(AccountKind.GIVEN, account_owner(contract), contract.terms.contributor, Per.TERM, EVER)


def received_account(contract: Contract) -> Account:
    """Return the account of what the contributor received in return."""
    return Account(AccountKind.RECEIVED, account_owner(contract), contract.terms.contributor, Per.TERM, EVER)


def quota_charges(contract: Contract, consumer: str, moment: datetime) -> list[Charge]:
    """Return the accounts that records given out to `consumer` at `moment` are counted on."""
    owner = account_owner(contract)
    begins = date.fromisoformat(contract.terms.valid_from[:10])
    return [
        Charge(
            Account(
                AccountKind.QUOTA,
                owner,
                consumer if quota.each == "consumer" else "",
                quota.per,
                first_day(quota.per, moment, begins),
            ),
            Allowance(quota.records),
        )
        for quota in contract.terms.quotas
    ]


def charges_under(contract: Contract, consumer: str, dataset: str, moment: datetime) -> list[Charge]:
    """Return the accounts that a release under `contract` is counted on.

    Of a dataset that the contract covers these are its quotas, and what its contributor has given by it; of
    one that the contributor gets in return, what it has received.
    """
    clause = contract.terms.reciprocity
    found: list[Charge] = []
    if contract.terms.dataset(dataset) is not None:
        found += quota_charges(contract, consumer, moment)
        if clause is not None and clause.counts == "released":
            found.append(Charge(given_account(contract), None))
    return found + charges_in_return(contract, consumer, dataset)


def charges_in_return(contract: Contract, consumer: str, dataset: str) -> list[Charge]:
    """Return the account that what `consumer` receives of `dataset` in return is counted on, if it is."""
    clause = contract.terms.reciprocity
    if clause is None or consumer != contract.terms.contributor or dataset not in clause.datasets:
        return []
    return [Charge(received_account(contract), _in_return(contract, clause))]


def balance(ledger: Ledger, contract: Contract) -> Balance:
    """Return what was given and received under `contract`, over all nodes; raise `LedgerUnavailableError`."""
    given, received = given_account(contract), received_account(contract)
    found = ledger.balances([given, received])
    clause = contract.terms.reciprocity
    left = None
    if clause is not None:
        left = max(_in_return(contract, clause).limit(found) - found.get(received, 0), 0)
    return Balance(found.get(given, 0), found.get(received, 0), left)


def _in_return(contract: Contract, clause: Reciprocity) -> Allowance:
    return Allowance(clause.allowance, given_account(contract), clause.received_per_hundred_given)
