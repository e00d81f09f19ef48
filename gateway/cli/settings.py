"""The configuration files that commands are given."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, TypeVar

import typer

from gateway.cli.failures import CommandError
from gateway.cli.options import require_file
from gateway.config import ClientConfig, GatewayConfig, ProviderConfig, WitnessConfig

GATEWAY_CONFIG: Final = Path("config.toml")
CLIENT_CONFIG: Final = Path("client.toml")

GatewayConfigOption = Annotated[
    Path,
    typer.Option(
        "--config",
        metavar="FILE",
        envvar="SLUICEGATE_CONFIG",
        help="The gateway's configuration, made by `gateway init`.",
    ),
]
ClientConfigOption = Annotated[
    Path,
    typer.Option(
        "--config",
        metavar="FILE",
        envvar="SLUICEGATE_CLIENT_CONFIG",
        help="The member's client configuration, made by `gateway member add`.",
    ),
]

_Config = TypeVar("_Config", GatewayConfig, ProviderConfig, ClientConfig, WitnessConfig)


def load_config(kind: type[_Config], path: Path, origin: str) -> _Config:
    """Return the configuration at `path`; raise `ConfigError`. `origin` says where such a file comes from."""
    require_file(path, "The configuration", origin)
    try:
        return kind.load(path)
    except UnicodeDecodeError as error:
        raise CommandError(f"The configuration {path} is not UTF-8 text.") from error


def load_gateway_config(path: Path) -> GatewayConfig:
    """Return the gateway's configuration at `path`; raise `ConfigError`."""
    return load_config(GatewayConfig, path, "name it with --config, or make one with `gateway init DIR`")
