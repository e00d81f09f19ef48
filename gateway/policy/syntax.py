"""Rego modules as syntax trees: just enough structure for the linter and for finding rules by name.

The trees come from the embedded engine's parser (`regorus`, `get_ast_as_json`). A node is an object with
one key, the kind of the node; its value holds the parts and a `span` with line and byte offsets.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Final, TypeAlias

import regorus

from gateway.policy.errors import BundleError

Node: TypeAlias = Any
"""A part of a syntax tree, as decoded from JSON."""

_POSITION: Final = re.compile(r"--> (?P<path>.*):(?P<line>\d+):\d+")
_PROBLEM: Final = re.compile(r"^error: (?P<problem>.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Rule:
    """One definition of a rule; a rule may have several."""

    name: str
    line: int
    is_function: bool
    is_default: bool
    node: Node


@dataclass(frozen=True, slots=True)
class Module:
    """One parsed Rego file."""

    path: str
    text: bytes
    package: tuple[str, ...]
    """Without the leading `data`."""
    package_line: int
    imports: dict[str, tuple[str, ...]]
    """Alias to path, which begins with `data`, `input` or `rego`."""
    rules: tuple[Rule, ...]


def parse_modules(modules: Mapping[str, str]) -> tuple[Module, ...]:
    """Return the syntax of `modules` (path to text), in order; raise `BundleError` if one does not parse."""
    engine = regorus.Engine()
    for path, text in modules.items():
        try:
            engine.add_policy(path, text)
        except RuntimeError as fault:
            raise BundleError(f"The rules are not valid Rego: {describe_fault(fault)}.") from fault
    trees = json.loads(engine.get_ast_as_json())
    return tuple(
        _module(path, text, tree["ast"]) for (path, text), tree in zip(modules.items(), trees, strict=True)
    )


def describe_fault(fault: BaseException) -> str:
    """Return place and problem of a fault that the engine found in the rules themselves."""
    problem = _PROBLEM.search(str(fault))
    return f"{locate_fault(fault)}: {problem['problem'] if problem else 'the engine gives no reason'}"


def locate_fault(fault: BaseException) -> str:
    """Return where an engine's fault lies and nothing else: its text may quote the facts of an exchange."""
    position = _POSITION.search(str(fault))
    return f"{position['path']} line {position['line']}" if position else "place unknown"


def walk(node: Node) -> Iterator[tuple[str, Node]]:
    """Yield every node under `node` as (kind, parts), outermost first."""
    if isinstance(node, dict):
        for kind, parts in node.items():
            if kind == "span":
                continue
            if isinstance(parts, dict | list):
                yield kind, parts
                yield from walk(parts)
    elif isinstance(node, list):
        for part in node:
            yield from walk(part)


def reference(node: Node) -> tuple[str, ...]:
    """Return the constant segments with which a reference begins, such as `("input", "consumer", "id")`.

    Empty if `node` is not a reference to a name.
    """
    return tuple(name for name in takewhile(lambda segment: segment is not None, _segments(node)) if name)


def _segments(node: Node) -> list[str | None]:
    match node:
        case {"Var": {"value": str(name)}}:
            return [name]
        case {"RefDot": {"refr": base, "field": [_, str(name)]}}:
            return [*_segments(base), name]
        case {"RefBrack": {"refr": base, "index": {"String": {"value": str(name)}}}}:
            return [*_segments(base), name]
        case {"RefBrack": {"refr": base}}:
            return [*_segments(base), None]
        case _:
            return [None]


def slice_text(module: Module, span: Node) -> str:
    """Return the text that `span` covers."""
    return module.text[span["start"] : span["end"]].decode()


def _module(path: str, text: str, tree: Node) -> Module:
    return Module(
        path=path,
        text=text.encode(),
        package=reference(tree["package"]["refr"]),
        package_line=tree["package"]["span"]["line"],
        imports=dict(_import(node, text.encode()) for node in tree["imports"]),
        rules=tuple(_rule(node) for node in tree["rules"]),
    )


def _import(node: Node, text: bytes) -> tuple[str, tuple[str, ...]]:
    path = reference(node["refr"])
    alias = node.get("as")
    return (text[alias["start"] : alias["end"]].decode() if alias else path[-1]), path


def _rule(node: Node) -> Rule:
    match node:
        case {"Default": {"refr": head, "args": arguments, "span": span}}:
            return Rule(reference(head)[0], span["line"], bool(arguments), is_default=True, node=node)
        case {"Spec": {"head": {"Func": {"refr": head}}, "span": span}}:
            return Rule(reference(head)[0], span["line"], is_function=True, is_default=False, node=node)
        case {"Spec": {"head": {"Compr": {"refr": head}} | {"Set": {"refr": head}}, "span": span}}:
            return Rule(reference(head)[0], span["line"], is_function=False, is_default=False, node=node)
        case _:
            raise BundleError("The embedded engine parsed a rule of a kind that this gateway does not know.")
