"""Imports point one way, and the contracts in pyproject.toml that say so bite."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINT_IMPORTS = Path(sys.prefix) / "bin" / "lint-imports"

ONE_WAY = "Imports point one way"
CLIENT = "A client needs nothing of a gateway"
PURE_HALF = "The pure half of the log knows nothing"


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A copy of the package and its contracts, to be changed."""
    shutil.copytree(
        ROOT / "gateway", tmp_path / "gateway", ignore=shutil.ignore_patterns("__pycache__", "_shipped")
    )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def broken_contracts(sources: Path) -> list[str]:
    """Return the headings of the contracts that the code in `sources` breaks, as `lint-imports` tells."""
    linted = subprocess.run(
        [LINT_IMPORTS, "--no-cache"],
        cwd=sources,
        env={"COLUMNS": "200", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    told = linted.stdout.splitlines()
    assert any(line.startswith("Contracts: ") for line in told), linted.stdout + linted.stderr
    broken = [line.removesuffix(" BROKEN") for line in told if line.endswith(" BROKEN")]
    assert linted.returncode == (1 if broken else 0)
    return broken


def test_the_contracts_are_kept(sources: Path) -> None:
    assert broken_contracts(sources) == []


@pytest.mark.parametrize(
    ("module", "imported", "contract"),
    [
        ("model/names.py", "gateway.errors", ONE_WAY),
        ("api/v1/__init__.py", "gateway.model", ONE_WAY),
        ("evidence/dsse.py", "gateway.identifiers", ONE_WAY),
        ("policy/cache.py", "gateway.audit.tree", ONE_WAY),
        ("exchange/call.py", "gateway.rpc.status", ONE_WAY),
        ("sources/rows.py", "gateway.exchange.call", ONE_WAY),
        ("rpc/server.py", "gateway.cli.output", ONE_WAY),
        ("audit/fsck.py", "gateway.details", ONE_WAY),
        ("details/store.py", "gateway.exchange.call", ONE_WAY),
        ("client/answers.py", "gateway.details", CLIENT),
        ("client/answers.py", "gateway.policy", CLIENT),
        ("client/answers.py", "gateway.audit.sqlite_reader", CLIENT),
        ("client/answers.py", "gateway.audit.fsck", CLIENT),
        ("audit/receipt.py", "gateway.audit.store", PURE_HALF),
        ("audit/tree.py", "gateway.audit.note", PURE_HALF),
    ],
)
def test_an_import_that_points_the_wrong_way_is_found(
    sources: Path, module: str, imported: str, contract: str
) -> None:
    with (sources / "gateway" / module).open("a") as file:
        file.write(f"\nimport {imported}\n")
    assert any(name.startswith(contract) for name in broken_contracts(sources))


def test_a_client_may_not_reach_the_storing_half_by_way_of_the_pure_half(sources: Path) -> None:
    with (sources / "gateway" / "audit" / "receipt.py").open("a") as file:
        file.write("\nimport gateway.audit.writer\n")
    assert any(name.startswith(CLIENT) for name in broken_contracts(sources))


def test_a_new_package_must_be_given_its_place(sources: Path) -> None:
    (sources / "gateway" / "annex").mkdir()
    (sources / "gateway" / "annex" / "__init__.py").touch()
    linted = subprocess.run(
        [LINT_IMPORTS, "--no-cache"], cwd=sources, capture_output=True, text=True, check=False
    )
    assert linted.returncode == 1
    assert "annex" in linted.stdout
