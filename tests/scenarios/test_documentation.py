"""Every row has its module and its line on the page, and both say the same is missing."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PAGE = (HERE.parents[1] / "docs" / "scenarios.md").read_text(encoding="utf-8")
LINE = re.compile(r"^\| (\d+) \| .* \| `(test_row_\d\d_\w+\.py)` \| (.+) \|$", re.MULTILINE)
ROWS = range(1, 20)


def modules(row: int) -> list[Path]:
    return sorted(HERE.glob(f"test_row_{row:02d}_*.py"))


@pytest.mark.parametrize("row", ROWS)
def test_a_row_has_one_module_and_one_line(row: int) -> None:
    [module] = modules(row)
    lines = [(name, missing) for number, name, missing in LINE.findall(PAGE) if int(number) == row]
    assert [name for name, _ in lines] == [module.name]
    text = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or ""
    assert text.startswith(f"Row {row}: ")
    assert "Missing: " in text
    nothing = "Missing: nothing of this row" in text
    assert nothing == (lines[0][1] == "nothing"), "page and module differ on what is missing"


@pytest.mark.parametrize("row", ROWS)
def test_a_row_shows_what_is_released_what_is_refused_and_that_the_log_holds(row: int) -> None:
    [module] = modules(row)
    called = {
        node.func.attr
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }
    assert called & {"released", "matched", "listed"}
    assert "refused" in called
    assert "assert_log_holds" in called
    assert not called & {"skip", "skipif", "xfail"}


def test_there_is_no_line_without_a_row() -> None:
    assert [int(number) for number, _, _ in LINE.findall(PAGE)] == list(ROWS)
