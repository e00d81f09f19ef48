"""Contracts in memory: what `gateway.contracts.register.ContractRegister` tells of its store."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import msgspec

from gateway.client import AsyncClient
from gateway.clock import parse_rfc3339
from gateway.contracts.reciprocity import clauses_by_receiver
from gateway.demo.world import Company
from gateway.evidence.canonical import encode_canonical
from gateway.exchange.contracts import Contracts, NoContracts
from gateway.model import Contract, ContractState, Held, Terms
from tests.simulators.waiting import until

SELLERS = "members/registry/datasets/sellers"
RECIPIENT = "harbour-bank"


class SimulatedContracts:
    """Keeps contracts beside those of a register; a change is known at once."""

    def __init__(
        self, is_active: Callable[[str], bool] = lambda _member: True, others: Contracts | None = None
    ) -> None:
        self.is_active = is_active
        self._others = others or NoContracts()
        self._kept: dict[str, Contract] = {}

    def put(self, terms: Terms, state: ContractState = ContractState.ACTIVE) -> Contract:
        contract = Contract(
            id=f"sha256:{hashlib.sha256(encode_canonical(terms)).hexdigest()}",
            terms=terms,
            state=state,
            signed_by=tuple(sorted(party.member for party in terms.parties)),
            changed="2026-01-01T00:00:00.000000Z",
        )
        self._kept[contract.id] = contract
        return contract

    def remove(self, contract: Contract) -> None:
        del self._kept[contract.id]

    def contracts(self) -> Sequence[Contract]:
        return [*self._kept.values(), *self._others.contracts()]

    def contract(self, contract_id: str) -> Contract:
        return self._kept.get(contract_id) or self._others.contract(contract_id)

    def in_force(self, now: datetime) -> Sequence[Contract]:
        kept = [
            contract
            for contract in self._kept.values()
            if contract.state is ContractState.ACTIVE
            and parse_rfc3339(contract.terms.valid_from) <= now < parse_rfc3339(contract.terms.valid_until)
            and all(self.is_active(party.member) for party in contract.terms.parties)
        ]
        return [*kept, *self._others.in_force(now)]

    def covering(self, dataset: str, now: datetime) -> Sequence[Contract]:
        return [contract for contract in self.in_force(now) if contract.terms.dataset(dataset) is not None]

    def in_return(self, contributor: str, dataset: str) -> Sequence[Contract]:
        return clauses_by_receiver(self.contracts()).get((contributor, dataset), ())


def description(dataset: str = SELLERS, **custom: Any) -> dict[str, Any]:
    """Return the ODCS description of a dataset of sellers; `custom` are further properties."""
    _, provider, _, name = dataset.split("/")
    properties = {
        "provider": provider,
        "tier": "public",
        "catalogueCitation": "Catalogue of private contributions, item 1",
        **custom,
    }
    return {
        "apiVersion": "v3.1.0",
        "kind": "DataContract",
        "id": name,
        "name": "Conduct of sellers",
        "version": "1.0.0",
        "status": "active",
        "customProperties": [{"property": key, "value": value} for key, value in properties.items()],
        "schema": [
            {
                "name": "seller",
                "properties": [
                    _field("uscc", identifierKind="uscc", lookup=True),
                    _field("name"),
                    _field("phone", mask="first:3,last:4"),
                    _field("complaints", "integer", generalise="band:10"),
                    _field("joined_on", "date", generalise="year"),
                    _field("remarks"),
                ],
            }
        ],
    }


def _field(name: str, logical_type: str = "string", **custom: Any) -> dict[str, Any]:
    return {
        "name": name,
        "logicalType": logical_type,
        "classification": "public",
        "customProperties": [{"property": key, "value": value} for key, value in custom.items()],
    }


def sellers_terms(**changed: Any) -> Terms:
    """Return terms under which the registry gives what it knows of sellers to a bank."""
    content = {
        "v": 1,
        "contract": "sellers",
        "version": 1,
        "title": "Conduct of sellers",
        "parties": [
            {"member": "registry", "role": "contributor"},
            {"member": RECIPIENT, "role": "recipient"},
        ],
        "datasets": [
            {
                "name": SELLERS,
                "held": Held.PROVIDER,
                "description": description(),
                "fields": {
                    "phone": {"treatment": "mask", "params": {"method": "first:2,last:2"}},
                    "complaints": {"treatment": "generalise", "params": {"method": "band:100"}},
                    "remarks": {"treatment": "drop"},
                },
            }
        ],
        "purposes": ["public-lookup"],
        "recipients": {"members": [RECIPIENT]},
        "valid_from": "2026-01-01T00:00:00Z",
        "valid_until": "2030-01-01T00:00:00Z",
        **changed,
    }
    return msgspec.convert(content, Terms)


def sellers(companies: Sequence[Company]) -> list[dict[str, Any]]:
    """Return a record of a seller for each company, as the registry holds it."""
    return [
        {
            "uscc": company.uscc,
            "name": company.name,
            "phone": "13912345678",
            "complaints": number,
            "joined_on": "2020-02-29",
            "remarks": "a remark",
        }
        for number, company in enumerate(companies)
    ]


async def until_listed(client: AsyncClient, name: str, *, listed: bool = True) -> None:
    """Wait until the dataset called `name` is in the catalogue, or is not."""

    async def is_so() -> bool:
        return (name in [one.name for one in await client.datasets()]) is listed

    await until(is_so)
