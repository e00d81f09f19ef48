"""`gateway demo`."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.demo.story import COMPANIES, MIN_COMPANIES, run

app = typer.Typer(add_completion=False)


@app.command()
def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave it running, and say how to call it.")] = False,
    companies: Annotated[
        int, typer.Option(min=MIN_COMPANIES, help="How many companies the registry holds.")
    ] = COMPANIES,
) -> None:
    """Run the whole story: gateway, two providers, banks and agencies, receipts, a tampered log."""
    raise typer.Exit(run(keep, company_count=companies))
