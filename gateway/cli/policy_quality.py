"""`gateway policy check | test | coverage`: is a policy sound, does it do what its cases say."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any

import typer

from gateway.cli.exits import Exit
from gateway.cli.output import counted, output_of
from gateway.cli.policy_place import OpaOption, PolicyArgument, policy_directory
from gateway.cli.settings import GATEWAY_CONFIG, GatewayConfigOption
from gateway.policy.bundle import load_bundle
from gateway.policy_review.checking import check_directory
from gateway.policy_review.covering import Coverage, measure
from gateway.policy_review.opa_binary import OpaBinary
from gateway.policy_review.testing import load_suite, rego_tests, run_embedded, run_opa


def check(
    context: typer.Context,
    directory: PolicyArgument = None,
    opa: OpaOption = None,
    config: GatewayConfigOption = GATEWAY_CONFIG,
) -> None:
    """Check a policy as loading does, and list everything that is wrong with it, by file and line.

    Where there is an OPA, `opa check --strict` is asked too. Exit code 1 if there is a fault.
    """
    place = policy_directory(directory, config)
    binary = OpaBinary.find(opa)
    faults = check_directory(place, binary)
    output = output_of(context)
    rows = [
        {"path": fault.path, "line": fault.line or None, "code": fault.code, "message": fault.message}
        for fault in faults
    ]
    with_opa = "with opa check --strict" if binary else "without an OPA"
    output.report(rows, [*map(str, faults), *([] if faults else [f"{place} is sound ({with_opa})."])])
    if faults:
        output.remark(f"{counted(len(faults), 'fault')} in {place} ({with_opa}).")
        raise typer.Exit(Exit.NO)


def run_tests(
    context: typer.Context,
    directory: PolicyArgument = None,
    opa: OpaOption = None,
    show_all: Annotated[bool, typer.Option("--all", help="List those that pass too.")] = False,
    config: GatewayConfigOption = GATEWAY_CONFIG,
) -> None:
    """Run a policy's golden cases and the tests beside its rules, and tell what is not as they say.

    The cases run on the embedded engine, and where there is an OPA on that too; the tests beside the rules on
    an OPA only. Exit code 1 if one fails.
    """
    place = policy_directory(directory, config)
    bundle = load_bundle(place)
    cases = load_suite(bundle, place)
    output = output_of(context)
    with output.progress("cases") as advance:
        outcomes = asyncio.run(run_embedded(bundle, cases, advance))
    binary = OpaBinary.find(opa)
    if binary is not None:
        outcomes += asyncio.run(run_opa(binary, bundle, cases))
    failed = [outcome for outcome in outcomes if not outcome.passed]
    shown = outcomes if show_all else failed
    rows = [
        {
            "engine": outcome.engine,
            "name": outcome.name,
            "passed": outcome.passed,
            "differences": list(outcome.differences),
        }
        for outcome in shown
    ]
    lines = []
    for outcome in shown:
        lines.append(f"{'ok  ' if outcome.passed else 'FAIL'} {outcome.engine:<8} {outcome.name}")
        lines += [f"       {difference}" for difference in outcome.differences]
    engines = "the embedded engine and OPA" if binary else "the embedded engine"
    summary = f"{len(outcomes) - len(failed)} of {len(outcomes)} pass, on {engines}."
    output.report(rows, [*lines, summary])
    tests = rego_tests(bundle)
    if binary is None and tests:
        output.remark(f"{counted(len(tests), 'test')} beside the rules not run: they need an OPA (--opa).")
    if failed:
        raise typer.Exit(Exit.NO)


def coverage(
    context: typer.Context,
    directory: PolicyArgument = None,
    fail_under: Annotated[
        float, typer.Option(min=0, max=100, metavar="PERCENT", help="Exit code 1 below this share of lines.")
    ] = 0.0,
    config: GatewayConfigOption = GATEWAY_CONFIG,
) -> None:
    """Tell which rules and conditions a policy's golden cases exercise.

    Listed are the rules with lines that nothing reaches, and the conditions for the lack of which no case
    is denied.
    """
    place = policy_directory(directory, config)
    bundle = load_bundle(place)
    found = asyncio.run(measure(bundle, load_suite(bundle, place)))
    output_of(context).facts(_coverage_facts(found), _coverage_lines(found))
    if found.percent < fail_under:
        raise typer.Exit(Exit.NO)


def _coverage_facts(found: Coverage) -> dict[str, Any]:
    return {
        "percent": round(found.percent, 2),
        "reached": found.reached,
        "lines": found.lines,
        "allowed_cases": found.allowed,
        "rules": [
            {
                "path": rule.path,
                "line": rule.line,
                "rule": rule.name,
                "title": rule.title,
                "reached": rule.reached,
                "missed": list(rule.missed),
            }
            for rule in found.rules
        ],
        "conditions": [
            {"condition": each.condition, "reason": each.reason, "denials": each.denials}
            for each in found.conditions
        ],
    }


def _coverage_lines(found: Coverage) -> list[str]:
    lines = [
        f"{rule.path}:{rule.line}: {rule.name} ({rule.title}): "
        f"nothing reaches {'line' if len(rule.missed) == 1 else 'lines'} {', '.join(map(str, rule.missed))}"
        for rule in found.rules
        if rule.missed
    ]
    lines += [
        f"condition {each.condition} ({each.reason}): no case is denied for the lack of it"
        for each in found.conditions
        if not each.denials
    ]
    denied = sum(1 for each in found.conditions if each.denials)
    return [
        *lines,
        f"{found.percent:.1f} % of {found.lines} lines, {denied} of {len(found.conditions)} conditions.",
    ]


def register(app: typer.Typer) -> None:
    """Add the commands to `gateway policy`."""
    commands: dict[str, Callable[..., None]] = {"check": check, "test": run_tests, "coverage": coverage}
    for name, command in commands.items():
        app.command(name)(command)
