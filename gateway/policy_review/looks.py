"""Where the rules look at who asks: what lets one decision stand for many members.

Rules see a member through its class and its id. Where they only ever compare the id with something that is
the same for all who ask (`input.consumer.id in memorandum.consumers`), members of one class for which all
these comparisons come out alike cannot be told apart, and get the same decision: evaluating it runs through
the same values, whichever of them asks. It follows from the text of the rules, for any engine. The dialect
makes it plain to read: it has no `with`, no impure function, no variable that bears the name of a rule.

Rules that do anything else with the id, such as looking it up, are asked about each member; so are those that
compare it with the value of a rule that itself reads the id.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import msgspec

from gateway.model import Decision
from gateway.policy.bundle import Bundle
from gateway.policy.errors import PolicyError
from gateway.policy.syntax import Module, Node, parse_modules, reference
from gateway.policy_review.judges import start_engine
from gateway.policy_review.questions import Questions, Way, World

LOOKS_PATH: Final = "sluicegate/looks/looks.rego"
LOOKS_DOCUMENT: Final = "sluicegate.looks.compared"

_ID: Final = ("input", "consumer", "id")
_KEYS: Final = ("object", "keys")

_Path: TypeAlias = tuple[str, ...]
_Stated: TypeAlias = tuple[str, str, str]
"""Class of the consumer, legal basis, memorandum."""


@dataclass(frozen=True, slots=True)
class Look:
    """One comparison of the consumer's id."""

    compared: str
    """What it is compared with, in Rego that means the same in every package."""
    among: bool
    """Whether the id is sought among the values of that, or held equal to it."""
    path: tuple[str, ...] = field(default=(), compare=False)
    """The same as names, from `data` or `input`; empty for a text."""

    def sees(self, member: str, values: Sequence[Any]) -> bool:
        """Return whether the id `member` is found; `values` are the JSON value compared with, or nothing."""
        if not values:
            return False
        [compared] = values
        if not self.among:
            return bool(compared == member)
        if isinstance(compared, dict):
            compared = list(compared.values())
        return isinstance(compared, list) and member in compared


def find_looks(modules: Mapping[str, str]) -> tuple[Look, ...] | None:
    """Return all that rules compare the consumer's id with; None if they do anything else with it.

    `modules` (path to text) keep to the dialect.
    """
    parsed = parse_modules(modules)
    leaning = _leaning(parsed)
    found: dict[Look, None] = {}
    for module in parsed:
        own = {
            rule.name
            for other in parsed
            if other.package == module.package
            for rule in other.rules
            if not rule.is_function
        }
        for rule in module.rules:
            for look in _looks(rule.node, module, own):
                if look is None or _touches(look.path, leaning):
                    return None
                found[look] = None
    return tuple(found)


def looks_module(looks: Sequence[Look]) -> str:
    """Return a Rego module whose `compared` has for each of `looks` a list: what is compared, or nothing."""
    parts = "".join(f"\t[value | value := {look.compared}],\n" for look in looks)
    return f"package sluicegate.looks\n\ncompared := [\n{parts}]\n"


def count_asked(world: World, looks: tuple[Look, ...] | None) -> int:
    """Return for how many members of `world` a question is evaluated, as far as their classes tell."""
    return len(world.members if looks is None else {*world.members.values()})


class Asking:
    """Asks one bundle; of questions that its rules cannot tell apart only the first. Use it on one thread."""

    def __init__(self, bundle: Bundle, world: World, looks: tuple[Look, ...] | None) -> None:
        """Start an engine; `looks` are those of `bundle`. Raise `PolicyError` if it cannot decide by it."""
        self.bundle = bundle
        self._world = world
        self._questions = Questions(world)
        self._looks = looks
        beside = {LOOKS_PATH: looks_module(looks)} if looks else {}
        self._engine = start_engine(bundle, beside)
        self._about: tuple[str, str, str] | None = None
        self._compared: dict[_Stated, list[tuple[Look, list[Any]]] | None] = {}
        self._decisions: dict[tuple[_Stated, tuple[bool, ...]], Decision] = {}

    def decide(self, way: Way) -> Decision:
        """Return the decision on `way`, without its id; raise `PolicyError`.

        Decisions are kept while dataset, purpose and operation stay the same: go through the members last.
        """
        about = (way.dataset, way.purpose, way.operation)
        if about != self._about:
            self._about = about
            self._compared.clear()
            self._decisions.clear()
        stated = (self._world.members[way.member], way.legal_basis, way.memorandum)
        if stated not in self._compared:
            self._compared[stated] = self._compare(way)
        compared = self._compared[stated]
        if compared is None:
            return self._judge(way)
        seen = tuple(look.sees(way.member, values) for look, values in compared)
        decision = self._decisions.get((stated, seen))
        if decision is None:
            decision = self._decisions[stated, seen] = self._judge(way)
        return decision

    def _judge(self, way: Way) -> Decision:
        # The id names one question; the decision may be handed out for several.
        return msgspec.structs.replace(self._engine.judge(self._questions.encode(way)), id="")

    def _compare(self, way: Way) -> list[tuple[Look, list[Any]]] | None:
        """Return what the id is compared with when `way` is asked; None if that cannot be told."""
        if self._looks is None:
            return None
        if not self._looks:
            return []
        try:
            answer = self._engine.evaluate_now(LOOKS_DOCUMENT, self._questions.encode(way))
        except PolicyError:
            # What the rules do not get as far as evaluating may fail; each member is then asked for itself.
            return None
        return list(zip(self._looks, msgspec.json.decode(answer, type=list[list[Any]]), strict=True))


def _leaning(parsed: Sequence[Module]) -> frozenset[_Path]:
    """Return the paths of all rules whose values may differ with the id: they read it, or one that does."""
    reads: dict[_Path, set[_Path]] = {}
    paths = {("data", *module.package, rule.name) for module in parsed for rule in module.rules}
    for module in parsed:
        for rule in module.rules:
            path = ("data", *module.package, rule.name)
            for first, *rest in _references(rule.node):
                own = ("data", *module.package, first)
                begins = own if own in paths else module.imports.get(first, (first,))
                reads.setdefault(path, set()).add((*begins, *rest))
    leaning = {path for path, found in reads.items() if any(_touches(read, {_ID}) for read in found)}
    before = -1
    while len(leaning) > before:
        before = len(leaning)
        leaning |= {path for path, found in reads.items() if any(_touches(read, leaning) for read in found)}
    return frozenset(leaning)


def _references(node: Node) -> Iterator[_Path]:
    match node:
        case {"Var": _} | {"RefDot": _} | {"RefBrack": _} if path := reference(node):
            yield path
    for part in _parts(node):
        yield from _references(part)


def _touches(path: _Path, others: Collection[_Path]) -> bool:
    """Whether `path` leads to one of the others, above it or below it."""
    return any(not _differ(path, other) for other in others) if path else False


def _looks(node: Node, module: Module, own: set[str]) -> Iterator[Look | None]:
    """Yield the comparisons under `node`, and None for whatever else is done with the id."""
    match node:
        case {"Call": {"fcn": function, "params": [{**facts}]}} if reference(function) == _KEYS and _whole(
            facts
        ) in {_ID[:1], _ID[:2]}:
            return  # the names of the facts, which are the same whoever asks
        case {"BoolExpr": {"op": "Eq" | "Ne", "lhs": one, "rhs": other}} if _ID in {
            _whole(one),
            _whole(other),
        }:
            yield _look(other if _whole(one) == _ID else one, module, own, among=False)
            return
        case {"Membership": {"key": None, "value": value, "collection": collection}} if _whole(value) == _ID:
            yield _look(collection, module, own, among=True)
            return
        case {"Var": _} | {"RefDot": _} | {"RefBrack": _}:
            path = reference(node)
            # A name alone may also be a variable that hides facts or data from what is read here.
            if path == ("data",) or (path[:1] == _ID[:1] and not _differ(path)):
                yield None
    for part in _parts(node):
        yield from _looks(part, module, own)


def _parts(node: Node) -> Iterator[Node]:
    """Yield what stands in `node`; of a reference its indices, and its beginning where that is no name."""
    match node:
        case {"Var": _}:
            return
        case {"RefDot": {"refr": base}}:
            yield from _parts(base) if _is_reference(base) else [base]
        case {"RefBrack": {"refr": base, "index": index}}:
            yield index
            yield from _parts(base) if _is_reference(base) else [base]
        case {**parts}:
            yield from parts.values()
        case [*items]:
            yield from items


def _is_reference(node: Node) -> bool:
    return isinstance(node, dict) and not node.keys().isdisjoint({"Var", "RefDot", "RefBrack"})


def _look(compared: Node, module: Module, own: set[str], *, among: bool) -> Look | None:
    """Return the comparison with `compared`; None if that may differ with the id, or with a variable."""
    match compared:
        case {"String": {"value": str(text)}}:
            return Look(json.dumps(text), among)
    path = _whole(compared)
    if path and path[0] in own:
        path = ("data", *module.package, *path)
    elif path[:1] not in {("data",), ("input",)} or len(path) == 1 or not _differ(path):
        return None
    first, *rest = path
    return Look(first + "".join(f"[{json.dumps(name)}]" for name in rest), among, path)


def _differ(path: _Path, other: _Path = _ID) -> bool:
    """Return whether `path` leads away from the other, the id: neither to it, nor above, nor below."""
    return any(one != two for one, two in zip(path, other, strict=False))


def _whole(node: Node) -> tuple[str, ...]:
    """Return the segments of a reference that is constant to its end; empty for anything else."""
    match node:
        case {"Var": _}:
            return reference(node)
        case {"RefDot": {"refr": base}}:
            return reference(node) if _whole(base) else ()
        case {"RefBrack": {"refr": base, "index": {"String": {"value": str(name)}}}} if name:
            return reference(node) if _whole(base) else ()
    return ()
