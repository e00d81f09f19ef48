"""Running what a policy says about itself: its golden cases, and the tests beside its rules.

The cases run on both engines. The tests beside the rules run on a real OPA only: they use `with`, under which
the embedded engine loses statements, and which the dialect of the rules therefore does not have.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from gateway.policy.bundle import Bundle
from gateway.policy.embedded import EmbeddedEngine
from gateway.policy.engine import PolicyEngine
from gateway.policy.errors import PolicyError
from gateway.policy.golden import GoldenCase, load_cases, run_cases
from gateway.policy.syntax import parse_modules
from gateway.policy_review.opa_binary import OpaBinary

Advance = Callable[[int, int | None], None]

_TEST_PREFIX = "test_"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one case or test on one engine."""

    engine: str
    name: str
    differences: tuple[str, ...] = ()
    """What is not as it must be; empty when it passed."""

    @property
    def passed(self) -> bool:
        """Whether everything is as it must be."""
        return not self.differences


def load_suite(bundle: Bundle, directory: Path) -> tuple[GoldenCase, ...]:
    """Return the golden cases of the bundle in `directory`; none where it has no folder `cases`."""
    cases = directory / "cases"
    return load_cases(bundle, cases) if cases.is_dir() else ()


def rego_tests(bundle: Bundle) -> tuple[str, ...]:
    """Return the names of the tests beside the rules, as `package.test_name`."""
    return tuple(
        dict.fromkeys(
            ".".join((*module.package, rule.name))
            for module in parse_modules(bundle.tests)
            for rule in module.rules
            if rule.name.startswith(_TEST_PREFIX)
        )
    )


async def run_embedded(
    bundle: Bundle, cases: tuple[GoldenCase, ...], advance: Advance = lambda _done, _all: None
) -> tuple[Outcome, ...]:
    """Return what comes of every case on the embedded engine."""
    engine = EmbeddedEngine(bundle)
    await engine.start()
    try:
        outcomes = []
        for case in cases:
            outcomes.append(await _run_case(engine, case, "embedded"))
            advance(len(outcomes), len(cases))
        return tuple(outcomes)
    finally:
        await engine.close()


async def run_opa(opa: OpaBinary, bundle: Bundle, cases: tuple[GoldenCase, ...]) -> tuple[Outcome, ...]:
    """Return what comes of every case and test on a real OPA."""
    # Only here: its HTTP client costs half a second and 12 MiB.
    from gateway.policy.opa import MAX_TIMEOUT_S, OpaEngine  # noqa: PLC0415

    tests = await asyncio.to_thread(opa.test, bundle)
    outcomes = [
        Outcome("opa", name, () if passed else ("does not hold",)) for name, passed in sorted(tests.items())
    ]
    missing = {*rego_tests(bundle)} - {*tests}
    outcomes += [Outcome("opa", name, ("was not run",)) for name in sorted(missing)]
    with opa.serving(bundle) as url:
        engine = OpaEngine(bundle, url, timeout_s=MAX_TIMEOUT_S)
        await engine.start()
        try:
            answered = [await _run_case(engine, case, "opa") for case in cases]
        finally:
            await engine.close()
    return tuple(chain(answered, outcomes))


async def _run_case(engine: PolicyEngine, case: GoldenCase, name: str) -> Outcome:
    try:
        mismatches = await run_cases(engine, [case])
    except PolicyError as error:
        return Outcome(name, case.title, (error.message,))
    return Outcome(name, case.title, mismatches[0].differences if mismatches else ())
