"""Speed of policy: one decision, and loading a bundle, on a set as large as a national platform's.

The rules are the shipped ones; the registers are made up: 400 catalogue entries (one a dataset), 40 members,
37 memoranda, 24 purposes, 60 legal bases. A question names 6 of 14 fields. `--json` prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import yaml

from gateway.clock import system_clock
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
DATASETS, MEMBERS, MEMORANDA, PURPOSES, BASES = 400, 40, 37, 24, 60
DECISIONS = 2000
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
    for name, decide, asked in (
        ("decision", engine.decide, allowed),
        ("denial", engine.decide, denied),
        ("cached", cached.decide, allowed),
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
