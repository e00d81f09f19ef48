"""Mutants of the rules: with a condition taken away or a comparison turned, the golden cases must notice."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence

import msgspec

from gateway.policy import Bundle, EmbeddedEngine, PolicyError
from gateway.policy.errors import BundleError
from gateway.policy.golden import GoldenCase, run_cases
from tests.simulators.questions import keys, without

CAUGHT = 0.95
"""Share of the mutants that must be noticed."""

SPREAD = 17
FIELD_FACT_DEPTH = 4
"""Of `dataset.fields.NAME.FACT`, and of `contract.fields.NAME.treatment`."""
FIELD_MAPS = {("dataset", "fields"), ("contract", "fields")}
KEPT = {"treatment": "release"}

COMPARISONS = {" == ": " != ", " != ": " == ", " <= ": " > ", " >= ": " < ", " < ": " <= ", " > ": " >= "}
STATEMENT = re.compile(r"^\t+(?!#)[^\n]*[^\s{(,\[|:]$")


def mutants(bundle: Bundle) -> Iterator[tuple[str, str, str]]:
    """Yield (what was done, path, text): one comparison turned, or one statement of a body taken away."""
    for path, text in bundle.modules.items():
        lines = text.splitlines(keepends=True)
        for number, line in enumerate(lines):
            if line.startswith("#") or (line.strip().startswith("#")):
                continue
            for old, new in COMPARISONS.items():
                for place in (match.start() for match in re.finditer(re.escape(old), line)):
                    turned = line[:place] + new + line[place + len(old) :]
                    yield (
                        f"{path}:{number + 1} {old.strip()} to {new.strip()}",
                        path,
                        _with(lines, number, turned),
                    )
            if _is_condition(line):
                yield f"{path}:{number + 1} deleted", path, _with(lines, number, "")
            if line.startswith("field_proofs") or " contains " in line:
                head, condition, _ = line.partition(" if ")
                if condition and not line.rstrip().endswith("{"):
                    yield f"{path}:{number + 1} always", path, _with(lines, number, f"{head} if input.time\n")


def _is_condition(line: str) -> bool:
    """A statement that binds nothing: what a body demands."""
    statement = line.strip()
    if not line.startswith("\t") or STATEMENT.match(line.rstrip("\n")) is None or ":=" in statement:
        return False
    if statement.startswith(("some ", '"', "}", "{", ")", "]")):
        return False
    compares = any(sign in statement for sign in ("==", "!=", "<", ">", " in "))
    return compares or statement.startswith(("is_", "count(", "input.", "classes[", "memorandum"))


def _with(lines: Sequence[str], number: int, line: str) -> str:
    return "".join([*lines[:number], line, *lines[number + 1 :]])


async def is_noticed(
    bundle: Bundle, cases: Sequence[GoldenCase], gapped: Sequence[tuple[bytes, str]]
) -> bool:
    engine = EmbeddedEngine(bundle)
    try:
        await engine.start()
        for case in cases:
            if await run_cases(engine, [case]):
                return True
        for content, field in gapped:
            answer = msgspec.json.decode(await engine.evaluate("exchange.decision.result", content))
            if answer["allow"] and answer["obligations"].get(field, KEPT)["treatment"] != "drop":
                return True
    except (PolicyError, BundleError):
        return True
    finally:
        await engine.close()
    return False


def with_gaps(cases: Sequence[GoldenCase]) -> list[tuple[bytes, str]]:
    """Return the questions of a few allowed cases without one of the facts, and the field it is missing from.

    Each must be denied, or where a field lacks it, that field must be dropped.
    """
    allowed = [case for case in cases if case.expect.allow]
    chosen = [
        next(case for case in allowed if case.title.startswith(title))
        for title in ("public", "limited", "system-05", "contracts")
    ]
    contents = [msgspec.to_builtins(case.policy_input) for case in chosen]
    return [
        (msgspec.json.encode(without(content, path)), path[2] if path[:2] in FIELD_MAPS else "")
        for content in contents
        for path in keys(content)
        if is_needed(path)
    ]


def is_needed(path: tuple[str, ...]) -> bool:
    """Whether each question without the fact must be denied, or its field dropped."""
    if path[:2] == ("dataset", "fields"):
        return len(path) == FIELD_FACT_DEPTH
    if path[:2] == ("contract", "fields"):
        return path[-1] == "treatment"
    # Without a kind of recipient there are fewer, and the others are given theirs.
    return path[:-1] != ("contract", "recipients")


async def test_the_policy_as_it_stands_gives_nothing_to_notice(bundle, cases):
    assert not await is_noticed(bundle, cases, with_gaps(cases))


async def test_nearly_every_mutant_of_the_rules_is_noticed_by_the_cases(bundle, cases):
    gapped = with_gaps(cases)
    # Cases that lie side by side are alike; spread out, they notice a mutant sooner.
    cases = [case for start in range(SPREAD) for case in cases[start::SPREAD]]
    survivors, total = [], 0
    for what, path, text in mutants(bundle):
        total += 1
        spoilt = dataclasses.replace(bundle, modules={**bundle.modules, path: text})
        if not await is_noticed(spoilt, cases, gapped):
            survivors.append(what)
    assert total >= 150
    assert len(survivors) <= total * (1 - CAUGHT), (total, survivors)
