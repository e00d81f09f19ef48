"""Where in a YAML file something stands, so that a fault can be told with its line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import yaml

_STEPS: Final = re.compile(r"\[(\d+)\]|\[\.\.\.\]|\.([^.\[\]]+)")


def line_of(path: Path, steps: tuple[str | int, ...]) -> int:
    """Return the line, from 1, of the innermost of `steps` that is in the file; 0 if it cannot be read."""
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return 0
    if node is None:
        return 0
    line: int = node.start_mark.line
    for step in steps:
        found = _child(node, step)
        if found is None:
            break
        line, node = found
    return line + 1


def steps_of(pointer: str) -> tuple[str | int, ...]:
    """Return the steps of a place as msgspec tells it, such as `$.tiers[0].name`; empty for a key untold."""
    steps: list[str | int] = []
    for match in _STEPS.finditer(pointer):
        if match[1] is not None:
            steps.append(int(match[1]))
        else:
            steps.append(match[2] or "")
    return tuple(steps)


def _child(node: yaml.Node, step: str | int) -> tuple[int, yaml.Node] | None:
    match node, step:
        case yaml.MappingNode(), str():
            for key, value in node.value:
                if key.value == step:
                    return key.start_mark.line, value
        case yaml.SequenceNode(), int() if step < len(node.value):
            return node.value[step].start_mark.line, node.value[step]
    return None
