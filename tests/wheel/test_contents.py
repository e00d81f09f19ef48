"""A wheel made here is complete, and an incomplete one is found."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.wheel.contents import ROOT, SHIPPED, expected, problems


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    into = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", into]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (made,) = into.glob("*.whl")
    return made


def test_a_wheel_holds_the_package_its_types_and_the_policies_and_nothing_else(wheel: Path) -> None:
    assert problems(wheel, ROOT) == []


@pytest.mark.parametrize(
    "name",
    [
        "gateway/py.typed",
        "gateway/api/v1/exchange_service_pb2.pyi",
        "gateway/api/v1/exchange_service_pb2.py",
        f"{SHIPPED}/bundle.yaml",
    ],
)
def test_what_is_missing_from_a_wheel_is_found(wheel: Path, tmp_path: Path, name: str) -> None:
    assert name in expected(ROOT)
    without = tmp_path / wheel.name
    with zipfile.ZipFile(wheel) as whole, zipfile.ZipFile(without, "w") as part:
        for held in whole.namelist():
            if held != name:
                part.writestr(held, whole.read(held))
    assert problems(without, ROOT) == [f"missing: {name}"]


def test_what_has_no_business_in_a_wheel_is_found(wheel: Path, tmp_path: Path) -> None:
    more = tmp_path / wheel.name
    more.write_bytes(wheel.read_bytes())
    with zipfile.ZipFile(more, "a") as archive:
        archive.writestr("keys_example/gateway.key.pem", "")
    assert problems(more, ROOT) == ["too much: keys_example/gateway.key.pem"]
