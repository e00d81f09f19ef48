"""Under which contract, for which dataset: what is found out before a byte is taken."""

from __future__ import annotations

import hmac
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from gateway.catalogue import describe_dataset
from gateway.contributions.checks import RecordChecker
from gateway.contributions.ports import ContractSource
from gateway.errors import ConfigError, GatewayError, Reason
from gateway.model import Contract, Dataset, DatasetTerms, Held, Member, Role, dataset_name

_FORMS_KEPT: Final = 256


@dataclass(frozen=True, slots=True)
class Form:
    """What a contributor must fill in: the contract that binds, and the schema of the records."""

    contract: Contract
    terms: DatasetTerms
    dataset: Dataset


class Forms:
    """Finds the form for a dataset under a contract, as long as the contract is in force."""

    def __init__(self, contracts: ContractSource, tiers: Sequence[str]) -> None:
        """Take the contracts, and the sharing tiers that policy knows."""
        self._contracts = contracts
        self._tiers = tuple(tiers)
        self._described: OrderedDict[tuple[str, str], Dataset] = OrderedDict()

    def find(self, member: Member, contract: str, dataset: str, now: datetime) -> Form:
        """Return the form; `contract` is its name or identity, `dataset` a full name or its last part.

        Raises `GatewayError`: `CONTRACT_UNKNOWN`, `CONTRACT_NOT_IN_FORCE`, `CONTRACT_NOT_APPLICABLE` (the
        member is not its contributor) or `DATASET_UNKNOWN` (not one that the contract puts into the vault).
        """
        found = self.in_force(contract, now)
        if found is None:
            known = any(contract in {each.id, each.terms.contract} for each in self._contracts.contracts())
            if known:
                raise _not_in_force()
            raise GatewayError(
                "There is no contract of this name; list yours with `gateway contract list`.",
                reason=Reason.CONTRACT_UNKNOWN,
            )
        if found.terms.contributor != member.id or Role.CONTRIBUTOR not in member.roles:
            raise GatewayError(
                "This member is not the contributor of this contract; only the contributor gives records.",
                reason=Reason.CONTRACT_NOT_APPLICABLE,
            )
        name = dataset if "/" in dataset else dataset_name(member.id, dataset)
        terms = found.terms.dataset(name)
        if terms is None or terms.held is not Held.VAULT:
            raise GatewayError(
                "This contract puts no dataset of this name into the vault; see its terms.",
                reason=Reason.DATASET_UNKNOWN,
            )
        return Form(found, terms, self._dataset(found.id, terms))

    def in_force(self, contract: str, now: datetime) -> Contract | None:
        """Return the contract of this name or identity, if it is in force."""
        return next(
            (each for each in self._contracts.in_force(now) if contract in {each.id, each.terms.contract}),
            None,
        )

    def of_identity(self, contract: str) -> Contract | None:
        """Return the version of this identity, whatever its state."""
        return next((each for each in self._contracts.contracts() if each.id == contract), None)

    def require_in_force(self, contract: Contract, now: datetime) -> None:
        """Raise `GatewayError` unless this very version is in force still."""
        if self.in_force(contract.id, now) is None:
            raise _not_in_force()

    def _dataset(self, contract: str, terms: DatasetTerms) -> Dataset:
        """Return the schema. Under an identity it never changes, and reading it takes milliseconds."""
        known = self._described.get((contract, terms.name))
        if known is None:
            known = self._described[contract, terms.name] = self._describe(contract, terms)
            while len(self._described) > _FORMS_KEPT:
                self._described.popitem(last=False)
        return known

    def _describe(self, contract: str, terms: DatasetTerms) -> Dataset:
        try:
            dataset = describe_dataset(terms.description, f"contract {contract}", self._tiers)
        except ConfigError as error:
            raise GatewayError(
                "The contract describes this dataset in a way that this gateway cannot enforce; its parties "
                "must sign a corrected version.",
                reason=Reason.CONTRACT_NOT_APPLICABLE,
            ) from error
        if dataset.name != terms.name or not set(terms.key) <= dataset.fields.keys():
            raise GatewayError(
                "The contract describes another dataset than it names, or a key that is none of its fields.",
                reason=Reason.CONTRACT_NOT_APPLICABLE,
            )
        return dataset


def checker_of(form: Form, secret: bytes, exchange: str) -> RecordChecker:
    """Return what checks the records of one batch; its keys' tokens say nothing beyond this batch."""
    own = hmac.digest(secret, f"contribution/{exchange}".encode(), "sha256")
    return RecordChecker(form.dataset, form.terms.key, own)


def _not_in_force() -> GatewayError:
    return GatewayError(
        "This contract is not in force now: not yet signed by all, outside its dates, suspended, or ended. "
        "Nothing of the batch was taken.",
        reason=Reason.CONTRACT_NOT_IN_FORCE,
    )
