"""`gateway policy`: reading, testing, explaining and comparing policies."""

from __future__ import annotations

import typer

from gateway.cli import policy_explain, policy_impact, policy_quality

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Check and test a policy, explain decisions, and see what another policy would change.",
)

policy_quality.register(app)
policy_explain.register(app)
policy_impact.register(app)
