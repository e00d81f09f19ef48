"""Clauses of reciprocity, found by who receives in return, and what."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from gateway.model import Contract, ContractState

_NEVER_SIGNED_BY_ALL: Final = frozenset({ContractState.PROPOSED, ContractState.COUNTERED})


def clauses_by_receiver(contracts: Iterable[Contract]) -> Mapping[tuple[str, str], tuple[Contract, ...]]:
    """Return by contributor and name of a dataset the contracts by which the one gets the other in return.

    Of each contract the newest version that all its parties have signed counts, whatever has become of it.
    """
    newest: dict[str, Contract] = {}
    for contract in contracts:
        terms = contract.terms
        is_signed = contract.state not in _NEVER_SIGNED_BY_ALL and len(contract.signed_by) == len(
            terms.parties
        )
        known = newest.get(terms.contract)
        if is_signed and (known is None or known.terms.version < terms.version):
            newest[terms.contract] = contract
    found: dict[tuple[str, str], tuple[Contract, ...]] = {}
    for contract in newest.values():
        clause = contract.terms.reciprocity
        for dataset in dict.fromkeys(clause.datasets if clause is not None else ()):
            key = contract.terms.contributor, dataset
            found[key] = (*found.get(key, ()), contract)
    return found
