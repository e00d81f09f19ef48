"""The wire API: code made from proto/ is fresh, and everything in proto/ is explained."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHECKED_IN = ROOT / "gateway" / "api" / "v1"
BUF = Path(sys.prefix) / "bin" / "buf"

needs_buf = pytest.mark.skipif(not BUF.is_file(), reason="buf is not installed; it comes with `make check`")

MESSAGE = "message Bare {\n  // Explained.\n  string name = 1;\n}\n"
FIELD = "// Explained.\nmessage Bare {\n  string name = 1;\n}\n"
CALL = """\
// Explained.
message ReadRequest {}
// Explained.
message ReadResponse {}
// Explained.
service BareService {
  rpc Read(ReadRequest) returns (ReadResponse);
}
"""
UNEXPLAINED = {
    "COMMENT_MESSAGE": (MESSAGE, "Bare"),
    "COMMENT_FIELD": (FIELD, "name"),
    "COMMENT_RPC": (CALL, "Read"),
}
EXPLAINED = "// Explained.\n" + MESSAGE


def run(script: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "VENV": sys.prefix}
    return subprocess.run(
        ["sh", script, *arguments], env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture
def proto(tmp_path: Path) -> Path:
    """A copy of proto/, to be changed."""
    return Path(shutil.copytree(ROOT / "proto", tmp_path / "copy" / "proto"))


def make(proto: Path, into: Path) -> dict[str, bytes]:
    """Generate the code of `proto` and return it by file name."""
    into.mkdir()
    made = run(proto / "generate.sh", str(into))
    assert made.returncode == 0, made.stderr
    return {path.name: path.read_bytes() for path in (into / "gateway" / "api" / "v1").iterdir()}


def checked_in() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in CHECKED_IN.glob("*_pb2*")}


def test_the_generated_code_is_fresh(tmp_path: Path) -> None:
    made = make(ROOT / "proto", tmp_path / "made")
    stale = {name for name in made.keys() | checked_in().keys() if made.get(name) != checked_in().get(name)}
    assert stale == set(), "run: make proto"


@pytest.mark.parametrize(
    ("before", "after", "stale"),
    [
        ("string note = 1", "string note = 9", "audit_service_pb2.py"),
        ("// ", "// Now: ", "audit_service_pb2.pyi"),
    ],
    ids=["field", "comment"],
)
def test_a_change_makes_other_code(proto: Path, tmp_path: Path, before: str, after: str, stale: str) -> None:
    source = proto / "gateway" / "api" / "v1" / "audit_service.proto"
    text = source.read_text()
    assert before in text
    source.write_text(text.replace(before, after))
    made = make(proto, tmp_path / "made")
    assert made[stale] != checked_in()[stale]
    assert made["catalog_service_pb2.py"] == checked_in()["catalog_service_pb2.py"]


@needs_buf
def test_every_message_field_and_call_is_explained() -> None:
    linted = run(ROOT / "proto" / "lint.sh")
    assert linted.returncode == 0, linted.stdout + linted.stderr


@needs_buf
@pytest.mark.parametrize("rule", UNEXPLAINED)
def test_what_is_not_explained_is_found(proto: Path, rule: str) -> None:
    addition, name = UNEXPLAINED[rule]
    linted = lint_with(proto, addition, "--error-format=json")
    assert linted.returncode != 0
    assert f'"type":"{rule}"' in linted.stdout
    assert f'\\"{name}\\"' in linted.stdout
    assert linted.stdout.count('"type"') == 1


@needs_buf
def test_what_is_explained_is_accepted(proto: Path) -> None:
    linted = lint_with(proto, EXPLAINED)
    assert linted.returncode == 0, linted.stdout + linted.stderr


def lint_with(proto: Path, addition: str, *options: str) -> subprocess.CompletedProcess[str]:
    source = 'syntax = "proto3";\n\npackage gateway.api.v1;\n\n' + addition
    (proto / "gateway" / "api" / "v1" / "bare.proto").write_text(source)
    return run(proto / "lint.sh", *options)
