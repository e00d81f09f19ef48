"""The threat model names tests: each of them is there."""

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"`(?:tests/)?(\w+(?:/\w+)+\.py)(?:::(\w+))?`")
TABLE = "## Attacks and faults, and the tests that prove it"


@cache
def names_in(path):
    tree = ast.parse((ROOT / "tests" / path).read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in tree.body if isinstance(node, kinds)}


def unknown(text):
    return [
        f"{path}::{name}"
        for path, name in NAMED.findall(text)
        if not (ROOT / "tests" / path).is_file() or (name and name not in names_in(path))
    ]


def test_every_test_that_the_threat_model_names_exists():
    text = (ROOT / "docs" / "threat-model.md").read_text()
    rows = [line for line in text.partition(TABLE)[2].splitlines() if line.startswith("| ")]
    assert len(rows) > 20
    assert all(len(NAMED.findall(row)) >= 1 for row in rows[1:]), "a row names no test"
    assert unknown(text) == []


def test_a_test_that_does_not_exist_is_noticed():
    assert unknown("`fault/test_power_loss.py::test_of_nothing` `fault/test_nothing.py`") == [
        "fault/test_power_loss.py::test_of_nothing",
        "fault/test_nothing.py::",
    ]
