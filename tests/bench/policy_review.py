"""The officer's tools on a national platform: `make bench-policy-review`.

The access matrix: 40 members of three classes, 133 datasets of 14 fields and 24 purposes make 127,680
cells. Replaying: distinct decisions as the log holds them are rebuilt, held against their ids, made again by
the policy of then, and asked of a candidate that coarsens for nobody. The policy is that of `make
bench-policy`. Beside the time by the clock stands that of the processors, which other work on the machine
lengthens less.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from gateway.exchange.resolution import CAPABILITIES
from gateway.model import Entry, EntryKind
from gateway.policy import (
    Bundle,
    DatasetFacts,
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
from tests.bench.policy import question, write_policies

MEMBERS, DATASETS, PURPOSES = 40, 133, 24
START = datetime(2026, 11, 1, tzinfo=UTC)


def load_policy(directory: Path, *, coarse: bool) -> Bundle:
    """Write the policy of `make bench-policy`; with `coarse` false, the same that coarsens for nobody."""
    write_policies(directory)
    path = directory / "data/member_classes.yaml"
    path.write_text(path.read_text() if coarse else path.read_text().replace("coarse: true", "coarse: false"))
    return load_bundle(directory)


def facts(number: int) -> DatasetFacts:
    provider = f"member-{number % 10}"
    return msgspec.structs.replace(
        question().dataset,
        name=f"members/{provider}/datasets/set-{number}",
        owner=provider,
        catalogue=f"Item {number}",
    )


def measure_matrix(bundle: Bundle, datasets: int, processes: int | None) -> dict[str, Any]:
    world = World(
        members={name: member["class"] for name, member in bundle.data["members"].items()},
        providers={name: member["class"] for name, member in bundle.data["members"].items()},
        datasets={facts(number).name: facts(number) for number in range(datasets)},
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
        member, party = members[number % MEMBERS]
        at = number % DATASETS
        asked = PolicyInput(
            operation="query",
            time=policy_minute(START + timedelta(minutes=number)),
            signed=True,
            consumer=PartyFacts(member, party["class"]),
            provider=PartyFacts(f"member-{at % 10}", "agency"),
            dataset=facts(at),
            purpose=f"purpose-{number % PURPOSES}",
            legal_basis="",
            memorandum="",
            fields=(),
            reads=("field_00",),
            capabilities=CAPABILITIES,
            subjects=1,
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
    parser.add_argument("--datasets", type=int, default=DATASETS)
    parser.add_argument("--decisions", type=int, default=20_000)
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        bundle = load_policy(Path(directory) / "before", coarse=True)
        candidate = load_policy(Path(directory) / "after", coarse=False)
        report = {
            "matrix": {
                "processes": options.processes,
                **measure_matrix(bundle, options.datasets, options.processes),
            },
            "replay": measure_replay(bundle, candidate, options.decisions, options.processes),
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
