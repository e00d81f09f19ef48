"""`gateway config`: is the deployment's configuration sound, and where does each value come from."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import typer
from pydantic import BaseModel
from pydantic_settings import EnvSettingsSource

from gateway.cli.exits import Exit
from gateway.cli.inspection import inspect_deployment
from gateway.cli.output import output_of
from gateway.cli.settings import GATEWAY_CONFIG, GatewayConfigOption, load_gateway_config
from gateway.config import GatewayConfig
from gateway.recorded.deployment import redact_credentials

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Check and show the gateway's configuration."
)

_COLUMNS: Final = ("setting", "value", "origin")


@app.command("check")
def check(context: typer.Context, config: GatewayConfigOption = GATEWAY_CONFIG) -> None:
    """Load everything that `gateway serve` would load, and tell what is sound and what is not.

    Nothing is changed and nothing listens; it may be run beside a running gateway.
    """
    findings = inspect_deployment(load_gateway_config(config))
    width = max(len(finding.part) for finding in findings)
    output_of(context).report(
        [{"part": finding.part, "sound": finding.sound, "detail": finding.detail} for finding in findings],
        [
            f"{'ok     ' if finding.sound else 'PROBLEM'}  {finding.part:<{width}}  {finding.detail}"
            for finding in findings
        ],
    )
    if not all(finding.sound for finding in findings):
        raise typer.Exit(Exit.USAGE)


@app.command("show")
def show(context: typer.Context, config: GatewayConfigOption = GATEWAY_CONFIG) -> None:
    """Show every setting as it is in force, and whether file, environment or default gave it."""
    settings = load_gateway_config(config)
    environment = EnvSettingsSource(GatewayConfig)()
    file = tomllib.loads(config.read_text("utf-8"))
    rows = [
        {"setting": ".".join(path), "value": redact(value), "origin": _origin(path, environment, file)}
        for path, value in _settings(settings)
    ]
    output_of(context).list(rows, _COLUMNS)


def redact(value: Any) -> Any:
    """Return a setting as it may be shown. Secrets stand in files; only a URL could hold one."""
    if isinstance(value, tuple):
        return [redact(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return redact_credentials(value) if isinstance(value, str) else value


def _settings(section: BaseModel, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from _settings(value, (*path, name))
        else:
            yield (*path, name), value


def _origin(path: tuple[str, ...], environment: Mapping[str, Any], file: Mapping[str, Any]) -> str:
    for origin, source in (("environment", environment), ("file", file)):
        if _holds(source, path):
            return origin
    return "default"


def _holds(source: Any, path: tuple[str, ...]) -> bool:
    for name in path:
        if not isinstance(source, Mapping) or name not in source:
            return False
        source = source[name]
    return True
