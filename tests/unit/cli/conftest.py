"""Running commands as a person would, on deployments that commands have made."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gateway.cli.main import app
from gateway.config import GatewayConfig

ORIGIN = "audit.example.org/log/2026"


@dataclass(frozen=True)
class Commands:
    """Runs commands; `config` is named for those that take the gateway's configuration."""

    config: Path | None = None

    def __call__(self, *words: object, stdin: str | None = None) -> Result:
        config = [] if self.config is None else ["--config", str(self.config)]
        return CliRunner().invoke(app, [*map(str, words), *config], input=stdin)

    def json(self, *words: object) -> object:
        """Run with `--output json`, expect success, and return what was printed."""
        result = self(*words, "--output", "json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of whoever runs the tests may reach the commands."""
    for name in ("SLUICEGATE_CONFIG", "SLUICEGATE_CLIENT_CONFIG", "SLUICEGATE_DEBUG", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def cli() -> Commands:
    return Commands()


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A deployment as `gateway init` makes it; never changed, only copied."""
    directory = tmp_path_factory.mktemp("pristine") / "gateway"
    result = CliRunner().invoke(app, ["init", str(directory), "--origin", ORIGIN])
    assert result.exit_code == 0, result.output
    return directory


@pytest.fixture
def config(tmp_path: Path, pristine: Path) -> Path:
    """The configuration of a fresh deployment."""
    shutil.copytree(pristine, tmp_path / "gateway")
    return tmp_path / "gateway" / "config.toml"


@pytest.fixture
def gateway(config: Path) -> Commands:
    """Commands on a fresh deployment."""
    return Commands(config)


@pytest.fixture
def settings(config: Path) -> GatewayConfig:
    return GatewayConfig.load(config)


def add_bank(gateway: Commands, out: Path, *more: object, member: str = "harbour-bank") -> Result:
    """Take a bank in."""
    words = ("--title", "Harbour Bank", "--class", "bank", "--role", "consumer", "--out", out)
    return gateway("member", "add", member, *words, *more)


def add_registry(gateway: Commands, out: Path) -> Result:
    """Take a provider in."""
    words = ("--title", "Company Registry", "--class", "agency", "--role", "provider", "--out", out)
    return gateway("member", "add", "registry", *words, "--endpoint", "127.0.0.1:7500")
