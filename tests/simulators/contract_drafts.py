"""Drafts of contracts as the command writes them."""

from __future__ import annotations

from pathlib import Path

import yaml

from tests.simulators.negotiated import DESCRIPTION
from tests.unit.cli.conftest import Commands

GIVER, TAKER = "tax", "harbour-bank"
NAME = "tax-customers"


def description(folder: Path) -> Path:
    file = folder / "customers.yaml"
    content = {**DESCRIPTION, "slaProperties": [{"property": "availability", "value": 99.9}]}
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return file


def drafted(folder: Path, **changes: str) -> Path:
    out = folder / "contract.yaml"
    result = Commands()(
        "contract",
        "draft",
        description(folder),
        *("--contributor", GIVER, "--recipient", TAKER, "--name", NAME, "--out", out),
    )
    assert result.exit_code == 0, result.output
    text = out.read_text()
    for before, after in changes.items():
        assert before in text
        text = text.replace(before, after)
    out.write_text(text)
    return out
