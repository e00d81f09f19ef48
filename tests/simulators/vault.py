"""Contracts and records for a vault."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any

from gateway.clock import Clock
from gateway.evidence.keys import write_secret
from gateway.model.contract import (
    Contract,
    ContractState,
    DatasetTerms,
    Held,
    Party,
    PartyRole,
    Recipients,
    Terms,
)
from gateway.vault.engine import Engine
from gateway.vault.kek import KeyFile
from gateway.vault.keys import DataKeys
from gateway.vault.reading import VaultReader
from gateway.vault.store import VaultStore
from gateway.vault.tables import Holding
from gateway.vault.writer import VaultWriter

LOANS = "members/acme/datasets/loans"


def described(lookup: tuple[str, ...] = ("uscc", "status"), retention: str = "") -> dict[str, Any]:
    names = ("uscc", "number", "status", "amount", "signed_on")
    properties = [
        {"name": name, "customProperties": [{"property": "lookup", "value": name in lookup}]}
        for name in names
    ]
    custom = [{"property": "retention", "value": retention}] if retention else []
    return {"schema": [{"properties": properties}], "customProperties": custom}


def contract(
    name: str = "acme-harbour",
    *,
    dataset: str = LOANS,
    held: Held = Held.VAULT,
    key: tuple[str, ...] = ("number",),
    description: dict[str, Any] | None = None,
    state: ContractState = ContractState.ACTIVE,
    ended: str | None = None,
    retention_days: int = 0,
    version: int = 1,
) -> Contract:
    terms = Terms(
        v=1,
        contract=name,
        version=version,
        title="Loans",
        parties=(Party("acme", PartyRole.CONTRIBUTOR), Party("harbour-bank", PartyRole.RECIPIENT)),
        datasets=(DatasetTerms(name=dataset, held=held, key=key, description=description or described()),),
        purposes=("credit-check",),
        recipients=Recipients(members=("harbour-bank",)),
        valid_from="2026-01-01T00:00:00Z",
        valid_until="2030-01-01T00:00:00Z",
        retention_days=retention_days,
    )
    return Contract(
        id=f"sha256:{secrets.token_hex(32)}",
        terms=terms,
        state=state,
        signed_by=("acme", "harbour-bank"),
        changed="2026-01-01T00:00:00Z",
        ended=ended,
    )


def loan(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "amount": number * 1000,
        "number": number,
        "signed_on": f"20{10 + number % 16:02}-05-01",
        "status": "late" if number % 10 == 0 else "active",
        "uscc": f"9135{number % 500:014}",
        **changes,
    }


def lines(records: list[dict[str, Any]]) -> list[bytes]:
    return [json.dumps(record, sort_keys=True, separators=(",", ":")).encode() for record in records]


class OpenedVault:
    """A vault over an engine, with a key-encryption key in a folder."""

    def __init__(self, engine: Engine, folder: Path, clock: Clock) -> None:
        self.kek = folder / "vault.key"
        if not self.kek.exists():
            write_secret(self.kek, secrets.token_bytes(32))
        self.clock = clock
        self.store = VaultStore(engine)
        self.keys = DataKeys(KeyFile(self.kek))
        self.writer = VaultWriter(self.store, self.keys, clock)
        self.reader = VaultReader(engine, self.keys)

    def contribute(
        self,
        terms: Contract,
        batch: str,
        records: list[dict[str, Any]],
        *,
        at_once: int = 1000,
        evidence: bytes = b"",
    ) -> int:
        staged = self.writer.begin(terms, LOANS, batch)
        for first in range(0, len(records), at_once):
            staged = self.writer.stage(staged, lines(records[first : first + at_once]))
        return self.writer.commit(staged, evidence)

    def holding(self, name: str = "acme-harbour") -> Holding:
        found = self.store.holding(name, LOANS)
        assert found is not None
        return found

    def wrapped_keys(self) -> list[bytes]:
        return [key.wrapped for one in self.store.holdings() for key in self.store.keys(one.number)]
