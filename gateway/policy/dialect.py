"""The portable dialect of Rego: what both engines understand alike, enforced when a bundle is loaded.

OPA and the embedded engine disagree on a few constructs, and OPA fails open on one of them
(open-policy-agent/opa#8387: `not f(input.missing)`). Rules, by code:

- `negation`: `not` stands only before the bare name of a rule of the same package. A condition to be
  negated is first stated positively, as a rule of its own.
- `construct`: no `with`, `every`, `else` or `=`; they are the corners where engines differ.
- `builtin`: only built-in functions in `capabilities.json`, and never one that makes a decision depend on
  anything but its input (clock, randomness, network, environment).
- `unbound`: every name is bound: a variable, a rule, a package, a document of the data, a fact of the input.
  Engines take an unbound reference for an undefined one and say nothing.
- `shadow`: no variable bears the name of a rule of its package; the engines scope such names differently.
- `package`: a module stands in the folder that its package names.
- `metadata`: each rule says its title; a proof also its citation, its owner, and what helps where it fails.
- `proof`: a rule named `..._proofs` is a set of constant ids of conditions. `conditions`, beside the entry
  point, lists exactly those that have proofs, each with a reason code that the gateway knows and with the
  conditions that it rests on. A condition without proof would deny everything; a proof without condition
  would be no hindrance to anybody.
- `entrypoint`: `data.exchange.decision.result` has a default, so that it is never undefined.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

import msgspec

from gateway.errors import Reason
from gateway.policy.annotations import Annotation
from gateway.policy.errors import BundleError
from gateway.policy.policy_input import PolicyInput
from gateway.policy.syntax import Module, Node, Rule, reference, slice_text, walk

ENTRY_PACKAGE: Final = ("exchange", "decision")
ENTRY_RULE: Final = "result"
CONDITIONS: Final = "conditions"
PROOFS_SUFFIX: Final = "_proofs"

IMPURE_BUILTINS: Final = frozenset({
    "http.send", "io.jwt.decode_verify", "net.lookup_ip_addr", "opa.runtime", "rand.intn", "time.now_ns",
    "trace", "uuid.rfc4122", "numbers.range", "numbers.range_step", "walk",
})  # fmt: skip
"""Refused whatever `capabilities.json` says: impure, or able to make an evaluation go on for ever."""

_INPUT_FACTS: Final = frozenset(field.encode_name for field in msgspec.structs.fields(PolicyInput))
_MAX_SHOWN: Final = 20
_FORBIDDEN: Final = {"with_mods": "with", "Every": "every"}


@dataclass(frozen=True, slots=True)
class Violation:
    """One place where a module leaves the dialect."""

    path: str
    line: int
    code: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.code}: {self.message}"


class DialectError(BundleError):
    """The rules leave the portable dialect."""

    def __init__(self, violations: Sequence[Violation]) -> None:
        self.violations = tuple(violations)
        listed = "\n".join(f"  {violation}" for violation in violations[:_MAX_SHOWN])
        super().__init__(f"The rules leave the portable dialect in {len(violations)} places:\n{listed}")


class Surroundings:
    """What the modules of a bundle may refer to."""

    def __init__(
        self, modules: Sequence[Module], documents: AbstractSet[str], builtins: AbstractSet[str]
    ) -> None:
        self.documents = documents
        self.builtins = builtins - IMPURE_BUILTINS
        self.rules: dict[tuple[str, ...], set[str]] = {}
        self.functions: dict[tuple[str, ...], set[str]] = {}
        for module in modules:
            names = {rule.name for rule in module.rules}
            self.rules.setdefault(module.package, set()).update(names)
            functions = {rule.name for rule in module.rules if rule.is_function}
            self.functions.setdefault(module.package, set()).update(functions)


def lint_modules(
    modules: Sequence[Module],
    annotations: Mapping[str, Mapping[int, Annotation]],
    documents: AbstractSet[str],
    builtins: AbstractSet[str],
) -> tuple[Violation, ...]:
    """Return every place where `modules` leave the dialect, in order; empty when there is none.

    `annotations` by path and line; `documents` are the top names of the `data` document; `builtins` are the
    names in `capabilities.json`.
    """
    around = Surroundings(modules, documents, builtins)
    found: list[Violation] = []
    for module in modules:
        found += _lint_module(module, annotations.get(module.path, {}), around)
    found += _lint_conditions(modules)
    entry = [rule for module in modules if module.package == ENTRY_PACKAGE for rule in module.rules]
    if not any(rule.name == ENTRY_RULE and rule.is_default for rule in entry):
        name = ".".join(("data", *ENTRY_PACKAGE, ENTRY_RULE))
        found.append(
            Violation("/".join(ENTRY_PACKAGE), 0, "entrypoint", f"{name} is missing or has no default")
        )
    return tuple(found)


def _lint_module(
    module: Module, annotations: Mapping[int, Annotation], around: Surroundings
) -> Iterator[Violation]:
    def violation(line: int, code: str, message: str) -> Violation:
        return Violation(module.path, line, code, message)

    folder = tuple(module.path.split("/")[:-1])
    if folder != module.package:
        yield violation(
            module.package_line, "package", f"package {'.'.join(module.package)} stands in another folder"
        )
    for alias, path in module.imports.items():
        if path != ("rego", "v1") and (path[0] != "data" or path[1:] not in around.rules):
            yield violation(1, "unbound", f"the import {alias} names no package of this bundle")
    for rule in module.rules:
        yield from _lint_annotation(module, rule, annotations.get(rule.line))
        yield from _lint_constructs(module, rule)
        yield from _lint_names(module, rule, around)


def _lint_annotation(module: Module, rule: Rule, annotation: Annotation | None) -> Iterator[Violation]:
    if annotation is None:
        yield Violation(module.path, rule.line, "metadata", f"the rule {rule.name} has no METADATA")
        return
    if not rule.name.endswith(PROOFS_SUFFIX):
        return
    for part in ("citation", "owner", "remedy"):
        if not getattr(annotation.custom, part):
            yield Violation(module.path, rule.line, "metadata", f"a proof has no {part}")
    if proven_condition(rule) is None:
        yield Violation(module.path, rule.line, "proof", "a proof must name one condition by a constant text")


def proven_condition(rule: Rule) -> str | None:
    """Return the id of the condition that `rule`, a proof, proves; None if that is not a constant text."""
    match rule.node:
        case {"Spec": {"head": {"Set": {"key": {"String": {"value": str(condition)}}}}}}:
            return condition
    return None


def _lint_conditions(modules: Sequence[Module]) -> Iterator[Violation]:
    entry = [(module, rule) for module in modules if module.package == ENTRY_PACKAGE for rule in module.rules]
    where = next(((module, rule) for module, rule in entry if rule.name == CONDITIONS), None)
    table = None if where is None else _constant(where[1].node.get("Spec", {}).get("head", {}))
    if where is None or not isinstance(table, dict):
        name = ".".join(("data", *ENTRY_PACKAGE, CONDITIONS))
        yield Violation("/".join(ENTRY_PACKAGE), 0, "proof", f"{name} is missing or no constant object")
        return
    module, rule = where
    proofs = [proven_condition(rule) for _, rule in entry if rule.name.endswith(PROOFS_SUFFIX)]
    proven = {condition for condition in proofs if condition is not None}
    for condition in sorted(proven ^ table.keys()):
        lack = "has no proof" if condition in table else "is proven but not asked for"
        yield Violation(module.path, rule.line, "proof", f"the condition {condition} {lack}")
    for condition, content in table.items():
        match content:
            case {"reason": str(reason), "after": [*others], **rest} if (
                reason in Reason.__members__ and not rest and table.keys() >= {*others}
            ):
                pass
            case _:
                yield Violation(
                    module.path,
                    rule.line,
                    "proof",
                    f"the condition {condition} lacks a known reason or a valid after",
                )


def _constant(node: Node) -> object:
    """Return the value of a constant head or term of texts, lists and objects; None for any other."""
    match node:
        case {"Compr": {"assign": {"value": value}}}:
            return _constant(value)
        case {"String": {"value": str(text)}}:
            return text
        case {"Array": {"items": [*items]}}:
            return [_constant(item) for item in items]
        case {"Object": {"fields": [*fields]}}:
            return {_constant(name): _constant(value) for _, name, value in fields}
    return None


def _lint_constructs(module: Module, rule: Rule) -> Iterator[Violation]:
    for kind, parts in walk(rule.node):
        if kind in _FORBIDDEN and parts:
            yield Violation(
                module.path, rule.line, "construct", f"'{_FORBIDDEN[kind]}' is outside the dialect"
            )
        elif kind == "AssignExpr" and parts["op"] != "ColEq":
            yield Violation(
                module.path, parts["span"]["line"], "construct", "'=' is outside the dialect; write := or =="
            )
    if any(body.get("is_else") for body in rule.node.get("Spec", {}).get("bodies", [])):
        yield Violation(module.path, rule.line, "construct", "'else' is outside the dialect")


def _lint_names(module: Module, rule: Rule, around: Surroundings) -> Iterator[Violation]:
    variables = set(_variables(module, rule.node))
    own, called = around.rules[module.package], _called(rule.node)
    for name in sorted(variables & own):
        yield Violation(module.path, rule.line, "shadow", f"the variable {name} bears the name of a rule")
    for kind, parts in walk(rule.node):
        line = parts["span"]["line"] if isinstance(parts, dict) and "span" in parts else rule.line
        if kind == "NotExpr":
            match parts["expr"]:
                case {"Var": {"value": str(name)}} if (
                    name in own - around.functions[module.package] and name not in variables
                ):
                    pass
                case _:
                    yield Violation(
                        module.path,
                        line,
                        "negation",
                        "'not' stands only before the name of a rule of this package",
                    )
        elif kind == "Call":
            fault = _fault_in_call(reference(parts["fcn"]), module, around) or _fault_in_lookup(parts)
            if fault is not None:
                yield Violation(module.path, line, *fault)
        elif kind in {"Var", "RefDot", "RefBrack"}:
            path = reference({kind: parts})
            if id(parts) not in called and not _is_bound(path, module, around, variables):
                yield Violation(module.path, line, "unbound", f"{'.'.join(path)} is not bound")


def _fault_in_call(path: tuple[str, ...], module: Module, around: Surroundings) -> tuple[str, str] | None:
    name = ".".join(path)
    if len(path) == 1 and name in around.functions[module.package]:
        return None
    if path[0] in module.imports:
        target = (*module.imports[path[0]], *path[1:])
        if target[-1] in around.functions.get(target[1:-1], set()):
            return None
        return "unbound", f"{name} is not a function of this bundle"
    if name in around.builtins:
        return None
    return "builtin", f"the built-in function {name} is not among the capabilities"


def _fault_in_lookup(call: Node) -> tuple[str, str] | None:
    match call:
        case {"fcn": function, "params": [{"Var": {"value": "input"}}, {"String": {"value": fact}}, *_]} if (
            reference(function) == ("object", "get") and fact not in _INPUT_FACTS
        ):
            return "unbound", f"input.{fact} is not a fact of the policy input"
    return None


def _called(rule_node: Node) -> set[int]:
    """Return the identities of the nodes that name a called function; `_fault_in_call` judges those."""
    return {id(inner) for kind, call in walk(rule_node) if kind == "Call" for _, inner in walk(call["fcn"])}


def _is_bound(
    path: tuple[str, ...], module: Module, around: Surroundings, variables: AbstractSet[str]
) -> bool:
    if path in {(), ("input",), ("data",)}:
        return True
    match path:
        case ("input", fact, *_):
            return fact in _INPUT_FACTS
        case ("data", *rest):
            return _is_in_data(tuple(rest), around)
        case (alias, *rest) if alias in module.imports:
            return not rest or _is_in_data((*module.imports[alias][1:], *rest), around)
        case _:
            return path[0] == "_" or path[0] in variables or path[0] in around.rules[module.package]


def _is_in_data(path: tuple[str, ...], around: Surroundings) -> bool:
    for package, rules in around.rules.items():
        if path[: len(package)] == package and len(path) > len(package):
            return path[len(package)] in rules
        if package[: len(path)] == path:
            return True
    return path[0] in around.documents


def _variables(module: Module, node: Node) -> Iterator[str]:
    """Yield the names that a rule binds: arguments, `:=`, `some`, wherever they stand."""
    for kind, parts in walk(node):
        match kind, parts:
            case "Func", {"args": patterns}:
                yield from _pattern(patterns)
            case "AssignExpr", {"lhs": pattern}:
                yield from _pattern(pattern)
            case "SomeIn", {"key": key, "value": value}:
                yield from _pattern([key, value])
            case "SomeVars", {"vars": spans}:
                yield from (slice_text(module, span) for span in spans)
            case "Default", {"args": patterns}:
                yield from _pattern(patterns)


def _pattern(node: Node) -> Iterator[str]:
    for kind, parts in walk(node):
        if kind == "Var":
            yield parts["value"]
