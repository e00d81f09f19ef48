"""`gateway doctor`."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from gateway.cli.exits import Exit
from gateway.cli.output import counted, output_of
from gateway.cli.settings import GATEWAY_CONFIG, GatewayConfigOption, load_gateway_config
from gateway.clock import system_clock
from gateway.doctor import Finding, State, examine_deployment
from gateway.doctor.finding import worst

app = typer.Typer(add_completion=False)

_SIGNS: Final = {State.OK: "ok  ", State.WARN: "WARN", State.FAIL: "FAIL"}


@app.command()
def doctor(
    context: typer.Context,
    deep: Annotated[
        bool, typer.Option("--deep", help="Examine every entry of the log, not its newest ones only.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Let warnings count as failures for the exit code.")
    ] = False,
    config: GatewayConfigOption = GATEWAY_CONFIG,
) -> None:
    """Look for what was changed behind the gateway's back, and for what will soon need somebody.

    Members and files are compared with what the audit log says of them. Nothing is changed; it may be run
    beside a running gateway. Exit code 3 if something fails.
    """
    settings = load_gateway_config(config)
    output = output_of(context)
    with output.progress("entries") as advance:
        findings = list(examine_deployment(settings, config, system_clock(), deep=deep, progress=advance))
    output.report([_row(finding) for finding in findings], _text(findings))
    state = worst(findings)
    if state is State.FAIL or (strict and state is State.WARN):
        raise typer.Exit(Exit.UNVERIFIED)


def _row(finding: Finding) -> dict[str, str]:
    return {
        "check": finding.check,
        "state": finding.state.value,
        "detail": finding.detail,
        "advice": finding.advice,
    }


def _text(findings: list[Finding]) -> list[str]:
    width = max(len(finding.check) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{_SIGNS[finding.state]}  {finding.check:<{width}}  {finding.detail}")
        if finding.advice:
            lines.append(f"{'':<{width + 8}}{finding.advice}")
    failures = sum(finding.state is State.FAIL for finding in findings)
    warnings = sum(finding.state is State.WARN for finding in findings)
    return [*lines, "", f"{counted(failures, 'failure')}, {counted(warnings, 'warning')}."]
