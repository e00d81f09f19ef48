"""The shipped policy, a copy that a test may spoil, and its world."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.catalogue import Catalogue
from gateway.policy import Bundle, load_bundle
from gateway.policy_review.questions import World

POLICIES = Path(__file__).parents[3] / "policies"
TIME = "2026-11-21T12:00:00Z"
MEMBERS = ("harbour-bank", "northern-bank", "tradeplatform")
COMPANIES = "members/registry/datasets/companies"
ARREARS = "members/tax/datasets/arrears"

Edit = Callable[[str, str, str], None]


@pytest.fixture(scope="session")
def bundle() -> Bundle:
    return load_bundle(POLICIES)


@pytest.fixture(scope="session")
def catalogue(bundle: Bundle) -> Catalogue:
    described = Catalogue.read(POLICIES / "datasets", list(bundle.data["tiers"]))
    return Catalogue(dataset for dataset in described if dataset.name in {COMPANIES, ARREARS})


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    return shutil.copytree(POLICIES, tmp_path / "policies")


@pytest.fixture
def edit(policy: Path) -> Edit:
    """Replace the first occurrence of a text in a file of the copy."""

    def replace(name: str, old: str, new: str) -> None:
        path = policy / name
        text = path.read_text()
        assert old in text, f"{name} holds no {old!r}"
        path.write_text(text.replace(old, new, 1))

    return replace


def make_world(
    bundles: list[Bundle], catalogue: Catalogue, operations: tuple[str, ...] = ("query",)
) -> World:
    world = World.of(bundles, catalogue, TIME, operations)
    return World(
        {name: kind for name, kind in world.members.items() if name in MEMBERS},
        world.providers,
        world.datasets,
        world.time,
        world.operations,
    )


@pytest.fixture
def world(bundle: Bundle, catalogue: Catalogue) -> World:
    return make_world([bundle], catalogue)
