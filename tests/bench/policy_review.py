"""The officer's tools on a national platform: `make bench-policy-review`.

The access matrix: 40 members, 400 datasets of 14 fields and 8 purposes make 128,000 cells, under the shipped
rules with 600 memoranda. Replaying: distinct decisions as the log holds them are rebuilt, held against their
ids, made again by the policy of then, and asked of a candidate that coarsens for nobody. Beside the time by
the clock stands that of the processors, which other work on the machine lengthens less.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import yaml

from gateway.exchange.resolution import CAPABILITIES
from gateway.model import Entry, EntryKind
from gateway.policy import (
    Bundle,
    DatasetFacts,
    FieldFacts,
    PartyFacts,
    PolicyInput,
    decision_id,
    encode_input,
    load_bundle,
    policy_minute,
)
from gateway.policy.recorded_input import describe, record_input
from gateway.policy_review.decided import DecisionLog, read_decision
from gateway.policy_review.judges import start_engine
from gateway.policy_review.matrix import matrix
from gateway.policy_review.questions import World
from gateway.policy_review.replay import replay

POLICIES = Path(__file__).parents[2] / "policies"
MEMBERS, DATASETS, FIELDS, PURPOSES, MEMORANDA = 40, 400, 14, 8, 600
START = datetime(2026, 11, 1, tzinfo=UTC)
CLASSES = ("agency", "bank", "company")
TIERS = ("public", "limited", "government", "restricted")


def read(name: str) -> dict[str, Any]:
    return yaml.safe_load((POLICIES / "data" / f"{name}.yaml").read_text())[name]


def dataset_name(number: int) -> str:
    return f"members/member-{number % 4}/datasets/set-{number}"


def write_policy(directory: Path, *, coarse: bool) -> Bundle:
    """Write the shipped rules with the data of a national platform."""
    shutil.copytree(POLICIES, directory, ignore=shutil.ignore_patterns("cases", "datasets"))
    members = {
        f"member-{number}": {
            "title": f"Member {number}",
            "class": "agency" if number < 4 else CLASSES[number % 3],
            "roles": ["provider", "consumer"] if number < 4 else ["consumer"],
        }
        for number in range(MEMBERS)
    }
    purposes = read("purposes")
    for number in range(PURPOSES - len(purposes)):
        purposes[f"survey-{number}"] = {**purposes["statistics"], "title": f"Survey {number}"}
    memoranda = {
        f"memorandum-{number}": {
            "title": f"Memorandum {number}",
            "provider": f"member-{number % 4}",
            "datasets": [dataset_name(number % DATASETS // 4 * 4 + number % 4)],
            "consumers": [f"member-{4 + number % (MEMBERS - 4)}"],
            "purposes": ["licensing" if number % 2 else "credit-check"],
            "tier": "limited",
            "legal_bases": ["licensing-act-31" if number % 2 else "credit-reporting-act-14"],
            "valid_from": "2024-01-01",
            "citation": f"Memorandum {number}/2024",
        }
        for number in range(MEMORANDA)
    }
    classes = {
        name: {**each, "coarse": coarse and each["coarse"]} for name, each in read("member_classes").items()
    }
    for name, content in (
        ("members", members),
        ("purposes", purposes),
        ("memoranda", memoranda),
        ("member_classes", classes),
    ):
        (directory / "data" / f"{name}.yaml").write_text(json.dumps({name: content}))
    return load_bundle(directory)


def facts(number: int) -> DatasetFacts:
    fields = {
        f"field_{at}": FieldFacts(
            TIERS[at % 4], "uscc" if at == 0 else None, "band:1000" if at % 4 == 1 else None
        )
        for at in range(FIELDS)
    }
    return DatasetFacts(dataset_name(number), "public" if number % 4 else "limited", "record", fields)


def measure_matrix(bundle: Bundle, processes: int | None) -> dict[str, Any]:
    world = World(
        members={name: member["class"] for name, member in bundle.data["members"].items()},
        providers={name: member["class"] for name, member in bundle.data["members"].items()},
        datasets={dataset_name(number): facts(number) for number in range(DATASETS)},
        time=policy_minute(START),
    )
    began, worked = time.perf_counter(), processor_s()
    cells = matrix(bundle, world, processes=processes)
    seconds = time.perf_counter() - began
    return {
        "cells": len(cells),
        "allowed": sum(cell.allow for cell in cells),
        "seconds": round(seconds, 2),
        "processor_us_per_cell": round((processor_s() - worked) / len(cells) * 1e6),
    }


def processor_s() -> float:
    """Return the processor time of this process and of those that it has started and that have ended."""
    own, ended = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + ended.ru_utime + ended.ru_stime


def logged(bundle: Bundle, count: int) -> tuple[DecisionLog, dict[str, str]]:
    """Return a log of `count` distinct decisions, with the descriptions they were made on."""
    engine = start_engine(bundle)
    log = DecisionLog()
    described = {number: describe(facts(number)) for number in range(DATASETS)}
    members = list(bundle.data["members"].items())
    for number in range(count):
        member, party = members[4 + number % (MEMBERS - 4)]
        at = number % DATASETS
        asked = PolicyInput(
            operation="query",
            time=policy_minute(START + timedelta(minutes=number)),
            signed=True,
            consumer=PartyFacts(member, party["class"]),
            provider=PartyFacts(f"member-{at % 4}", "agency"),
            dataset=facts(at),
            purpose=("public-lookup", "licensing", "credit-check")[number % 3],
            legal_basis="",
            memorandum="",
            fields=(),
            reads=("field_0",),
            capabilities=CAPABILITIES,
        )
        encoded = encode_input(asked)
        decision = engine.judge(encoded)
        entry = Entry(
            v=1,
            kind=EntryKind.EXCHANGE_REQUESTED if decision.allow else EntryKind.EXCHANGE_DENIED,
            time=asked.time,
            exchange=f"exchange-{number}",
            consumer=member,
            dataset=asked.dataset.name,
            purpose=asked.purpose,
            tier=decision.tier,
            decision=decision_id(bundle.digest, encoded),
            bundle=bundle.digest,
            reasons=decision.reasons,
            policy_input=msgspec.to_builtins(record_input(asked, described[at])),
        )
        one = read_decision(entry)
        one.see(entry)
        log.decisions[one.id, one.recorded] = one
    return log, {each.digest: each.text for each in described.values()}


def measure_replay(bundle: Bundle, candidate: Bundle, count: int, processes: int) -> dict[str, Any]:
    log, descriptions = logged(bundle, count)
    rates = {}
    for name, bundles, tried in (
        ("candidate", [], candidate),
        ("proof", [bundle], None),
        ("both", [bundle], candidate),
    ):
        began, worked = time.perf_counter(), processor_s()
        report = replay(log, descriptions, bundles, tried, processes=processes)
        seconds, worked = time.perf_counter() - began, processor_s() - worked
        assert not report.faults
        assert not bundles or report.proven == count
        rates[f"{name}_per_s"] = round(count / seconds)
        rates[f"{name}_per_processor_s"] = round(count / worked)
    return {"decisions": count, "processes": processes, **rates}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--decisions", type=int, default=20_000)
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        bundle = write_policy(Path(directory) / "before", coarse=True)
        candidate = write_policy(Path(directory) / "after", coarse=False)
        report = {
            "matrix": {"processes": options.processes, **measure_matrix(bundle, options.processes)},
            "replay": measure_replay(bundle, candidate, options.decisions, processes=1),
        }
    if options.json:
        print(json.dumps(report))
        return
    print(
        "matrix  {cells} cells ({allowed} allowed) in {seconds} s, {processes} processes; "
        "{processor_us_per_cell} us of a processor for each".format(**report["matrix"])
    )
    for name, value in report["replay"].items():
        print(f"replay  {name.replace('_', ' ')}: {value}")


if __name__ == "__main__":
    main()
