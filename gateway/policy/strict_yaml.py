"""YAML as configuration needs it: no duplicate keys, no aliases, no custom types, bounded size."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml

from gateway.policy.errors import BundleError

MAX_FILE_BYTES: Final = 16 * 1024 * 1024
"""A file above this is refused unread; the largest real register of memoranda is a hundredth of it."""


MAX_DEPTH: Final = 400
"""Levels of nesting; the data files have six."""

_NO_ALIASES: Final = "aliases are not allowed"


class _StrictLoader(yaml.CSafeLoader):
    """Refuses aliases, which multiply, and duplicate keys, of which all but the last would be lost.

    Parsed by libyaml: ten times as fast as PyYAML's own parser, which a bundle of hundreds of entries needs.
    """

    def get_single_node(self) -> yaml.Node | None:
        try:
            node = super().get_single_node()
        except yaml.composer.ComposerError as fault:
            if fault.problem == "found undefined alias":
                fault.problem = _NO_ALIASES
            raise
        _refuse_aliases(node)
        return node

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


def _refuse_aliases(root: yaml.Node | None) -> None:
    """Raise if a node stands in two places: the parser puts the same node wherever an alias stood."""
    seen: set[int] = set()
    waiting = [] if root is None else [root]
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            raise yaml.composer.ComposerError(None, None, _NO_ALIASES, node.start_mark)
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            waiting += [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value


def _verify_depth(text: str) -> None:
    """Raise `RecursionError` before libyaml, which recurses without a limit of its own, runs out of stack.

    Only where the text could be so deep: a level of flow needs a bracket, one of block a column of its own.
    """
    columns = max(map(len, text.splitlines()), default=0)
    if 2 * columns + text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    depth = 0
    for event in yaml.parse(text, yaml.CSafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise RecursionError("nested too deep")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def parse_yaml(text: str, where: str) -> object:
    """Return the one document in `text` as plain objects; raise `BundleError`, naming `where`."""
    try:
        _verify_depth(text)
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
