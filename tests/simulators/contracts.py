"""Contracts as the tests of quotas need them, without the life that leads to one."""

from __future__ import annotations

from typing import Any

from gateway.model import Treatment
from gateway.model.contract import (
    Contract,
    ContractState,
    DatasetTerms,
    FieldTerm,
    Held,
    Party,
    PartyRole,
    Quota,
    Recipients,
    Reciprocity,
    Terms,
)

GIVEN_DATASET = "members/tradeplatform/datasets/orders"


def make_contract(
    *quotas: Quota,
    reciprocity: Reciprocity | None = None,
    name: str = "orders",
    contributor: str = "tradeplatform",
    datasets: tuple[str, ...] = (GIVEN_DATASET,),
    number: int = 1,
    **changes: Any,
) -> Contract:
    """Return a contract in force from 2026 to 2036; versions of one name differ in their `number`."""
    terms = Terms(
        v=1,
        contract=name,
        version=number,
        title=name,
        parties=(Party(contributor, PartyRole.CONTRIBUTOR), Party("harbour-bank", PartyRole.RECIPIENT)),
        datasets=tuple(
            DatasetTerms(
                name=dataset,
                held=Held.PROVIDER,
                description={},
                fields={"uscc": FieldTerm(treatment=Treatment.RELEASE)},
            )
            for dataset in datasets
        ),
        purposes=("credit-check",),
        recipients=Recipients(classes=("bank",)),
        quotas=quotas,
        reciprocity=reciprocity,
        **{"valid_from": "2026-01-15T00:00:00Z", "valid_until": "2036-01-15T00:00:00Z", **changes},
    )
    return Contract(
        id=f"sha256:{number:064x}",
        terms=terms,
        state=ContractState.ACTIVE,
        signed_by=(contributor, "harbour-bank"),
        changed="2026-01-15T00:00:00Z",
    )


class KnownContracts:
    """Looks contracts up, as a register of them does."""

    def __init__(self, *contracts: Contract) -> None:
        self._contracts = {contract.id: contract for contract in contracts}

    def contract(self, identity: str) -> Contract | None:
        return self._contracts.get(identity)
