"""JSON Schemas of the data files and of the policy input, written from their types.

They serve editors (completion, checks while typing) and `opa check --schema`. The types decide; a test
proves that the files say the same. `python -m gateway.policy.schemas DIRECTORY` writes them anew.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec

from gateway.policy.documents import DATA_FILES
from gateway.policy.policy_input import PolicyInput


def schemas() -> dict[str, dict[str, Any]]:
    """Return the schema of each data file, by its name, and of the policy input as `input`."""
    kinds: dict[str, type[msgspec.Struct]] = {**DATA_FILES, "input": PolicyInput}
    return {
        name: {"$schema": "https://json-schema.org/draft/2020-12/schema", **msgspec.json.schema(kind)}
        for name, kind in kinds.items()
    }


def render_schema(schema: dict[str, Any]) -> str:
    """Return `schema` as the text of its file."""
    return msgspec.json.format(msgspec.json.encode(schema), indent=2).decode() + "\n"


def write_schemas(directory: Path) -> None:
    """Write every schema to `directory` as `NAME.json`."""
    for name, schema in schemas().items():
        (directory / f"{name}.json").write_text(render_schema(schema), encoding="utf-8")


if __name__ == "__main__":
    write_schemas(Path(sys.argv[1]))
