"""`gateway provider`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from gateway.cli.exits import Exit
from gateway.cli.operators_log import operators_log
from gateway.cli.output import output_of
from gateway.cli.settings import load_config
from gateway.config import ProviderConfig
from gateway.provider_node import ProviderNode
from gateway.sources.mapping import load_mapping
from gateway.sources.opening import SourceReport, check_mapping

app = typer.Typer(add_completion=False)

_COLUMNS = ("dataset", "kind", "served", "records", "skipped_rows", "lookups_without_index")


@app.command()
def provider(
    context: typer.Context,
    config: Annotated[
        Path,
        typer.Option(
            metavar="FILE", envvar="SLUICEGATE_PROVIDER_CONFIG", help="The provider's configuration."
        ),
    ] = Path("provider.toml"),
    check: Annotated[
        bool, typer.Option("--check", help="Look at every dataset of the mapping, report, and end.")
    ] = False,
) -> None:
    """Answer the gateway's orders from the holder's own databases and files, until SIGTERM or SIGINT."""
    settings = load_config(
        ProviderConfig,
        config,
        "write one as docs/providers.md shows, beside the files of `gateway member add`",
    )
    if not check:
        with (
            operators_log(settings.logging),
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            runner.run(ProviderNode(settings).run_until_stopped())
        return
    reports = check_mapping(load_mapping(settings.mapping))
    output = output_of(context)
    output.list([_row(report) for report in reports], _COLUMNS)
    for report in reports:
        if report.problem:
            output.remark(f"{report.dataset}: {report.problem}")
        for row in report.first_skipped:
            output.remark(f"{report.dataset}: row {row.line} is skipped: {row.problem}")
    if any(report.problem for report in reports):
        raise typer.Exit(Exit.NO)


def _row(report: SourceReport) -> dict[str, object]:
    return {
        "dataset": report.dataset,
        "kind": report.kind,
        "served": not report.problem,
        "records": report.records,
        "skipped_rows": report.skipped_rows,
        "lookups_without_index": list(report.lookups_without_index),
        "problem": report.problem,
    }
