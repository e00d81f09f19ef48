"""What the product declares, what it imports and what the lock files pin are the same."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import distribution, packages_distributions
from pathlib import Path
from typing import Self

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
DECLARED = tomllib.loads((ROOT / "pyproject.toml").read_text())
RUNTIME = [Requirement(text) for text in DECLARED["project"]["dependencies"]]
PARQUET = [Requirement(text) for text in DECLARED["project"]["optional-dependencies"]["parquet"]]
DEVELOPMENT = [
    Requirement(text) for text in DECLARED["dependency-groups"]["dev"] + DECLARED["build-system"]["requires"]
]


@dataclass(frozen=True)
class Pin:
    """One distribution in a lock file."""

    version: Version
    hashes: tuple[str, ...]

    @classmethod
    def parse_all(cls, text: str) -> dict[str, Self]:
        """Return the pins in a lock file by canonical name."""
        pins = {}
        for line in text.replace("\\\n", " ").splitlines():
            match = re.match(r"([A-Za-z0-9._-]+)==([^\s;]+)", line)
            assert match is not None, line
            hashes = tuple(re.findall(r"--hash=sha256:([0-9a-f]{64})\b", line))
            pins[canonicalize_name(match[1])] = cls(Version(match[2]), hashes)
        return pins


def unmet(declared: Iterable[Requirement], pins: dict[str, Pin]) -> set[str]:
    """Return the names in `declared` that no pin with a hash satisfies."""
    return {
        requirement.name
        for requirement in declared
        if (pin := pins.get(canonicalize_name(requirement.name))) is None
        or not pin.hashes
        or pin.version not in requirement.specifier
    }


LOCKED = Pin.parse_all((ROOT / "requirements.txt").read_text())
LOCKED_DEVELOPMENT = Pin.parse_all((ROOT / "requirements-dev.txt").read_text())


def imported(package: Path) -> Iterator[str]:
    """Yield the top-level name, or for a namespace package the full one, of every absolute import."""
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module is not None:
                yield node.module


def imported_distributions() -> set[str]:
    """Return the canonical names of the distributions that the product imports directly."""
    owners = packages_distributions()
    found = set()
    for name in set(imported(ROOT / "gateway")):
        top = name.partition(".")[0]
        if top in sys.stdlib_module_names or top == "gateway":
            continue
        owned = owners[top]
        if top == "google":
            owned = [owner for owner in owned if owns(owner, name)]
        found.update(canonicalize_name(owner) for owner in owned)
    return found


def owns(owner: str, module: str) -> bool:
    folder = module.replace(".", "/")
    return any(
        str(file).startswith((f"{folder}/", f"{folder}.py")) for file in distribution(owner).files or ()
    )


def test_every_direct_dependency_is_pinned_with_a_hash() -> None:
    assert unmet([*RUNTIME, *PARQUET], LOCKED) == set()
    assert unmet([*RUNTIME, *PARQUET, *DEVELOPMENT], LOCKED_DEVELOPMENT) == set()


def test_every_pin_has_a_hash() -> None:
    for pins in (LOCKED, LOCKED_DEVELOPMENT):
        assert [name for name, pin in pins.items() if not pin.hashes] == []


def test_what_is_tested_is_what_is_deployed() -> None:
    assert {name: LOCKED_DEVELOPMENT.get(name) for name in LOCKED} == LOCKED


@pytest.mark.parametrize(
    "lock",
    [
        "",
        f"other==1.5 --hash=sha256:{'0' * 64}\n",
        "wanted==1.5\n",
        f"wanted==2.0 \\\n    --hash=sha256:{'0' * 64}\n",
    ],
    ids=["empty", "another", "without a hash", "wrong version"],
)
def test_a_lock_file_that_does_not_satisfy_is_found(lock: str) -> None:
    assert unmet([Requirement("Wanted>=1,<2")], Pin.parse_all(lock)) == {"Wanted"}


def test_a_lock_file_that_satisfies_is_accepted() -> None:
    lock = f"wanted==1.5 ; sys_platform == 'linux' \\\n    --hash=sha256:{'0' * 64}\n"
    assert unmet([Requirement("Wanted>=1,<2")], Pin.parse_all(lock)) == set()


def test_what_is_imported_is_declared_and_what_is_declared_is_imported() -> None:
    declared = {canonicalize_name(requirement.name) for requirement in [*RUNTIME, *PARQUET]}
    assert declared == imported_distributions()
