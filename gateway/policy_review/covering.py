"""How much of the rules the golden cases exercise: by line, by rule and by condition.

The lines are those that the embedded engine reaches while it answers the cases. A condition is exercised when
some case is denied for the lack of it and some case is allowed.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final

import msgspec

from gateway.policy.bundle import Bundle
from gateway.policy.dialect import CONDITIONS, ENTRY_PACKAGE
from gateway.policy.embedded import EmbeddedEngine, ReachedLines
from gateway.policy.golden import GoldenCase
from gateway.policy.syntax import parse_modules

_TABLE: Final = ".".join((*ENTRY_PACKAGE, CONDITIONS))


@dataclass(frozen=True, slots=True)
class CoveredRule:
    """One definition of a rule."""

    path: str
    line: int
    name: str
    title: str
    reached: int
    lines: int
    missed: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CoveredCondition:
    """One condition of the entry point."""

    condition: str
    reason: str
    denials: int
    """How many cases are denied for the lack of it."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """What the cases of a bundle exercise."""

    rules: tuple[CoveredRule, ...]
    conditions: tuple[CoveredCondition, ...]
    allowed: int
    """How many cases are allowed."""

    @property
    def lines(self) -> int:
        """The lines that can be reached."""
        return sum(rule.lines for rule in self.rules)

    @property
    def reached(self) -> int:
        """The lines that are."""
        return sum(rule.reached for rule in self.rules)

    @property
    def percent(self) -> float:
        """The share of lines reached, from 0 to 100."""
        return 100.0 * self.reached / self.lines if self.lines else 0.0


async def measure(bundle: Bundle, cases: tuple[GoldenCase, ...]) -> Coverage:
    """Return what `cases` exercise.

    Raise `PolicyError` if a case cannot be answered; one that is answered differently counts all the same.
    """
    engine = EmbeddedEngine(bundle, traced=True)
    await engine.start()
    try:
        # The probe of the start has reached lines too, on no account of the cases.
        engine.reached_lines()
        decisions = [await engine.decide(case.policy_input) for case in cases]
        lines = engine.reached_lines()
        table = msgspec.json.decode(await engine.evaluate(_TABLE, b"{}"), type=dict[str, dict[str, object]])
    finally:
        await engine.close()
    denials = Counter(rule for decision in decisions if not decision.allow for rule in decision.rule_ids)
    return Coverage(
        rules=_rules(bundle, lines),
        conditions=tuple(
            CoveredCondition(name, str(row["reason"]), denials[name]) for name, row in sorted(table.items())
        ),
        allowed=sum(decision.allow for decision in decisions),
    )


def _rules(bundle: Bundle, lines: dict[str, ReachedLines]) -> tuple[CoveredRule, ...]:
    found = []
    for module in parse_modules(bundle.modules):
        of_module = lines.get(module.path, ReachedLines(frozenset(), frozenset()))
        starts = sorted(rule.line for rule in module.rules)
        ends = dict(zip(starts, [*starts[1:], len(module.text) + 1], strict=True))
        for rule in module.rules:
            own = range(rule.line, ends[rule.line])
            reached = [line for line in of_module.reached if line in own]
            missed = tuple(sorted(line for line in of_module.missed - of_module.reached if line in own))
            annotation = bundle.annotations[module.path].get(rule.line)
            found.append(
                CoveredRule(
                    module.path,
                    rule.line,
                    rule.name,
                    annotation.title if annotation else "",
                    len(reached),
                    len(reached) + len(missed),
                    missed,
                )
            )
    return tuple(found)
