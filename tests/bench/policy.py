"""Speed of policy: one decision, and loading a bundle, on a set as large as a national platform's.

The rules are the shipped ones; the registers are made up: 400 catalogue entries (one a dataset), 40 members,
37 memoranda, 24 purposes, 60 legal bases. A question names 6 of 14 fields. `contract_us` is the same about a
contributed dataset, with the contract found among 600 in force; `contract_alone_us` with no other in force.
`--json` prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import yaml

from gateway.clock import system_clock
from gateway.exchange.contracts import contract_facts
from gateway.model import Contract, ContractState, Dataset, Decision, Field, FieldType, Terms
from gateway.policy import (
    Bundle,
    CachedEngine,
    DatasetFacts,
    EmbeddedEngine,
    FieldFacts,
    PartyFacts,
    PolicyInput,
    load_bundle,
)
from gateway.policy.golden import CAPABILITIES

POLICIES = Path(__file__).parents[2] / "policies"
DATASETS, MEMBERS, MEMORANDA, PURPOSES, BASES, CONTRACTS = 400, 40, 37, 24, 60, 600
DECISIONS = 2000
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
DATASET = Dataset(
    name="members/member-0/datasets/set-0",
    provider="member-0",
    title="Set 0",
    version="1",
    tier="public",
    needs_contract=True,
    fields={
        name: Field(name=name, type=FieldType.STRING, tier="limited")
        for name in ("field_00", "field_08", "field_10")
    },
)
Decide = Callable[[PolicyInput], Awaitable[Decision]]
GOALS = {"decision_us": 250.0, "cached_us": 20.0, "load_ms": 100.0}


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--json", action="store_true")
    wants_json = arguments.parse_args().json
    with tempfile.TemporaryDirectory() as folder:
        directory = write_policies(Path(folder) / "policies")
        load_bundle(directory)  # parsers and types are made on first use
        figures = {"load_ms": median(_milliseconds(lambda: load_bundle(directory)) for _ in range(7))}
        figures |= asyncio.run(measure_decisions(load_bundle(directory)))
    if wants_json:
        print(json.dumps({name: round(value, 1) for name, value in figures.items()}))
        return
    for name, value in figures.items():
        goal = GOALS.get(name)
        beside = "" if goal is None else f"   goal {goal:.0f}, ratio {value / goal:.2f}"
        print(f"{name:16} {value:8.1f}{beside}")


async def measure_decisions(bundle: Bundle) -> dict[str, float]:
    """Return p50 and p99 of a decision in microseconds: allowed, denied, cached."""
    engine = EmbeddedEngine(bundle)
    await engine.start()
    cached = CachedEngine(engine, system_clock, max_entries=1000, max_age_s=60)
    allowed = question()
    denied = msgspec.structs.replace(allowed, purpose="purpose-9")
    if not (await engine.decide(allowed)).allow or (await engine.decide(denied)).allow:
        sys.exit("The questions of the benchmark are decided otherwise than it takes for granted.")
    figures: dict[str, float] = {}
    bound, alone, contracts = under_contract(allowed), IndexedContracts(1), IndexedContracts(CONTRACTS)
    if not (await engine.decide(bound)).allow:
        sys.exit("The question under contract is decided otherwise than the benchmark takes for granted.")

    async def resolve_and_decide(contracts: IndexedContracts, decide: Decide, asked: PolicyInput) -> None:
        [contract] = contracts.covering(asked.dataset.name, NOW)
        facts = contract_facts(contract, DATASET)
        await decide(msgspec.structs.replace(asked, contract=facts))

    figures["contracts_in_force"] = len(contracts.in_force)
    for name, decide, asked in (
        ("decision", engine.decide, allowed),
        ("denial", engine.decide, denied),
        ("cached", cached.decide, allowed),
        ("contract", partial(resolve_and_decide, contracts, engine.decide), bound),
        ("contract_alone", partial(resolve_and_decide, alone, engine.decide), bound),
        ("contract_cached", partial(resolve_and_decide, contracts, cached.decide), bound),
    ):
        spans = []
        for _ in range(DECISIONS):
            begun = time.perf_counter()
            await decide(asked)
            spans.append((time.perf_counter() - begun) * 1e6)
        spans.sort()
        figures |= {f"{name}_us": median(spans), f"{name}_p99_us": spans[DECISIONS * 99 // 100]}
    await cached.close()
    return figures


class IndexedContracts:
    """Contracts in force as a register holds them: by the name of what they cover."""

    def __init__(self, count: int) -> None:
        self.in_force = [_contract(index) for index in range(count)]
        self._by_dataset: dict[str, list[Contract]] = {}
        for contract in self.in_force:
            for dataset in contract.terms.datasets:
                self._by_dataset.setdefault(dataset.name, []).append(contract)

    def covering(self, dataset: str, now: datetime) -> list[Contract]:
        """Return those that cover `dataset` at `now`."""
        at = now.strftime("%Y-%m-%dT%H:%M:%SZ")
        return [
            contract
            for contract in self._by_dataset.get(dataset, [])
            if contract.terms.valid_from <= at < contract.terms.valid_until
        ]

    def in_return(self, contributor: str, dataset: str) -> tuple[Contract, ...]:
        """Return none: no contract has a clause of reciprocity."""
        del contributor, dataset
        return ()


def _contract(index: int) -> Contract:
    content = {
        "v": 1, "contract": f"contract-{index}", "version": 1, "title": f"Contract {index}",
        "parties": [{"member": f"member-{index % 10}", "role": "contributor"},
                    {"member": "member-20", "role": "recipient"}],
        "datasets": [{"name": f"members/member-{index % 10}/datasets/set-{index}", "held": "vault",
                      "description": {}, "fields": {"field_08": {"treatment": "drop"},
                      "field_10": {"treatment": "mask", "params": {"keep_first": 2}}}}],
        "purposes": ["purpose-0"], "recipients": {"members": ["member-20"], "classes": ["bank"]},
        "valid_from": "2026-01-01T00:00:00Z", "valid_until": "2030-01-01T00:00:00Z",
    }  # fmt: skip
    terms = msgspec.convert(content, Terms)
    return Contract(
        id=f"sha256:{index:064x}", terms=terms, state=ContractState.ACTIVE, signed_by=(), changed=""
    )


def under_contract(asked: PolicyInput) -> PolicyInput:
    """Return the question about a dataset that needs a contract, with fields that the contract gives."""
    dataset = msgspec.structs.replace(asked.dataset, contract="required")
    names = tuple(name for name in asked.fields if name != "field_08")
    facts = contract_facts(_contract(0), DATASET)
    return msgspec.structs.replace(asked, dataset=dataset, fields=names, contract=facts)


def question() -> PolicyInput:
    """Return a question under a memorandum that is allowed, about 6 fields of 14."""
    fields = {
        f"field_{index:02}": FieldFacts(
            "public" if index < 6 else "limited" if index < 12 else "government",
            {0: "uscc", 7: "national-id"}.get(index),
            "band:1000" if index == 8 else None,
        )
        for index in range(14)
    }
    return PolicyInput(
        operation="query",
        time="2026-11-21T12:00:00Z",
        signed=True,
        consumer=PartyFacts("member-20", "bank"),
        provider=PartyFacts("member-0", "agency"),
        dataset=DatasetFacts(
            "members/member-0/datasets/set-0", "public", "record", fields, "member-0", "Item 0"
        ),
        purpose="purpose-0",
        legal_basis="basis-0",
        memorandum="memorandum-0",
        fields=("field_00", "field_03", "field_07", "field_08", "field_10", "field_11"),
        reads=("field_00",),
        capabilities=CAPABILITIES,
        subjects=1,
    )


def write_policies(directory: Path) -> Path:
    """Write the shipped rules with made-up registers to the new `directory`; return it."""
    shutil.copytree(POLICIES, directory, ignore=shutil.ignore_patterns("cases", "datasets", "schemas"))
    providers = [f"member-{index}" for index in range(10)]
    names = [f"members/{providers[index % 10]}/datasets/set-{index}" for index in range(DATASETS)]
    _write(directory, "members", {
        f"member-{index}": {
            "title": f"Member {index}",
            "class": "agency" if index < 20 else "bank" if index < 30 else "company",
            "roles": ["provider", "consumer"],
        }
        for index in range(MEMBERS)
    })  # fmt: skip
    _write(directory, "purposes", {
        f"purpose-{index}": {
            "title": f"Purpose {index}", "tiers": ["public", "limited"],
            "dataset_classes": ["record", "list"],
            "member_classes": ["agency", "bank"], "operations": ["query", "match"], "enforcement": False,
            "duties": {"limit_volume": 1000},
        }
        for index in range(PURPOSES)
    })  # fmt: skip
    _write(directory, "legal_bases", {
        f"basis-{index}": {
            "title": f"Basis {index}", "act": "Act", "article": f"Article {index}",
            "valid_from": "2024-01-01",
            "purposes": [f"purpose-{index % PURPOSES}"], "datasets": names[index::BASES],
        }
        for index in range(BASES)
    })  # fmt: skip
    _write(directory, "memoranda", {
        f"memorandum-{index}": {
            "title": f"Memorandum {index}", "provider": providers[index % 10], "tier": "limited",
            "datasets": [name for name in names if name.startswith(f"members/{providers[index % 10]}/")][:20],
            "consumers": [f"member-{20 + (index + step) % 20}" for step in range(6)],
            "purposes": [f"purpose-{index % PURPOSES}"], "legal_bases": [f"basis-{index % PURPOSES}"],
            "valid_from": "2024-01-01", "valid_until": "2036-12-31", "citation": f"Memorandum {index}",
        }
        for index in range(MEMORANDA)
    })  # fmt: skip
    _write(directory, "list_sets", {})
    _write(directory, "catalogue", [
        {"citation": f"Item {index}", "title": f"Set {index}", "class": "record", "persons": index % 4 == 0}
        for index in range(DATASETS)
    ])  # fmt: skip
    _write(directory, "list_sets", {})
    return directory


def _write(directory: Path, name: str, rows: Any) -> None:
    # Days without quotes, as people write them.
    text = yaml.safe_dump({name: rows}, sort_keys=False, default_flow_style=None, width=110)
    (directory / f"data/{name}.yaml").write_text(text, encoding="utf-8")


def _milliseconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return (time.perf_counter() - begun) * 1e3


if __name__ == "__main__":
    main()
