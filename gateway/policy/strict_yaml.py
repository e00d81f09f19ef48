"""YAML as configuration needs it: no duplicate keys, no aliases, no custom types, bounded size."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml

from gateway.policy.errors import BundleError

MAX_FILE_BYTES: Final = 16 * 1024 * 1024
"""A file above this is refused unread; the largest real register of memoranda is a hundredth of it."""


class _StrictLoader(yaml.SafeLoader):
    """Refuses aliases, which multiply, and duplicate keys, of which all but the last would be lost."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "aliases are not allowed", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
                raise yaml.constructor.ConstructorError(None, None, "a key is not a text", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key.value}' stands twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def parse_yaml(text: str, where: str) -> object:
    """Return the one document in `text` as plain objects; raise `BundleError`, naming `where`."""
    try:
        return yaml.load(text, _StrictLoader)  # noqa: S506 - derived from SafeLoader
    except yaml.YAMLError as fault:
        raise BundleError(f"{where} is not valid YAML: {_problem(fault)}.") from fault
    except (ValueError, RecursionError) as fault:
        raise BundleError(
            f"{where} is not valid YAML: a value is out of range or nested too deep."
        ) from fault


def _problem(fault: yaml.YAMLError) -> str:
    if not isinstance(fault, yaml.MarkedYAMLError) or fault.problem_mark is None:
        return "it cannot be read"
    return f"line {fault.problem_mark.line + 1}: {fault.problem}"


def read_yaml(path: Path) -> object:
    """Return the one document in the file `path`; raise `BundleError` if it cannot be had."""
    return parse_yaml(read_text(path), path.name)


def read_text(path: Path) -> str:
    """Return the UTF-8 text of the file `path`; raise `BundleError` if it cannot be had or is too large."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise BundleError(f"{path.name} is larger than {MAX_FILE_BYTES} bytes.")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        raise BundleError(f"{path.name} cannot be read as UTF-8 text ({type(fault).__name__}).") from fault
