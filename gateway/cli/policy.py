"""`gateway policy`: checking, testing, explaining and comparing policies, and putting them into force."""

from __future__ import annotations

import typer

from gateway.cli import policy_activation, policy_explain, policy_impact, policy_quality

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Check and test a policy, explain decisions, compare policies, put one into force.",
)

policy_quality.register(app)
policy_explain.register(app)
policy_impact.register(app)
policy_activation.register(app)
