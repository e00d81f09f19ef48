"""Everything that is wrong with a policy directory, with file and line: not only the first thing.

Loading stops at the first fault, as a gateway must; an author wants the whole list. Each file is judged
by itself; what they say of one another once each is sound, and the engine's opinion last.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from gateway.catalogue import CatalogueError, read_dataset
from gateway.policy.annotations import read_annotations
from gateway.policy.bundle import Bundle, BundleIdentity, load_bundle, read_capabilities
from gateway.policy.dialect import DialectError
from gateway.policy.documents import DATA_FILES
from gateway.policy.embedded import EmbeddedEngine
from gateway.policy.errors import BundleError, PolicyError
from gateway.policy.golden import load_cases
from gateway.policy.strict_yaml import read_text, read_yaml
from gateway.policy.syntax import parse_modules
from gateway.policy_review.opa_binary import OpaBinary
from gateway.policy_review.places import line_of, steps_of

_LINE: Final = re.compile(r"line (\d+)[:;.,]? ")
_POINTER: Final = re.compile(r" - at `(?:key in )?([^`]+)`")
_ABOUT: Final = re.compile(r"(tier|member|purpose|legal basis|memorandum) '([^']*)'")
_CHAPTERS: Final = {
    "member": "members",
    "purpose": "purposes",
    "legal basis": "legal_bases",
    "memorandum": "memoranda",
}
_CONTRADICTIONS: Final = "The data files contradict each other: "
_NO_RULES: Final = frozenset({"cases", "data", "datasets", "schemas"})

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One thing that is wrong."""

    path: str
    line: int
    """From 1; 0 where the fault is not in one line."""
    code: str
    """`yaml`, `schema`, `reference`, `rego`, `bundle`, `engine`, `cases`, `dataset`, `opa`, or a rule of
    the dialect, such as `metadata`."""
    message: str

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}" if self.line else self.path
        return f"{place}: {self.code}: {self.message}"


def check_directory(directory: Path, opa: OpaBinary | None = None) -> tuple[Fault, ...]:
    """Return everything wrong with the bundle in `directory`; empty if a gateway would take it.

    Its golden cases and dataset descriptions must be readable too, and with `opa` its strict checks pass.
    """
    faults = [*_identity_faults(directory), *_data_faults(directory), *_rule_faults(directory)]
    if not faults:
        faults += _whole_faults(directory)
    if opa is not None:
        faults += [Fault(path, line, "opa", message) for path, line, message in opa.check(directory)]
    return tuple(sorted(set(faults)))


def _identity_faults(directory: Path) -> Iterator[Fault]:
    content, fault = _attempt(lambda: read_yaml(directory / "bundle.yaml"), "bundle.yaml", "yaml")
    if fault is not None:
        yield fault
    elif (problem := _schema_fault(content, BundleIdentity)) is not None:
        yield _schema_place(directory, "bundle.yaml", problem)


def _data_faults(directory: Path) -> Iterator[Fault]:
    for path in sorted((directory / "data").glob("*.yaml")):
        name = f"data/{path.name}"
        content, fault = _attempt(partial(read_yaml, path), name, "yaml")
        kind = DATA_FILES.get(path.stem)
        if fault is not None:
            yield fault
        elif kind is not None:
            yield from _row_faults(directory, name, content, kind)


def _row_faults(directory: Path, name: str, content: object, kind: type[msgspec.Struct]) -> Iterator[Fault]:
    """Yield the faults of a data file row by row: the whole would be refused for its first fault."""
    match content:
        case {**chapters} if len(chapters) == 1:
            [(chapter, rows)] = chapters.items()
        case _:
            chapter, rows = "", None
    parts: list[tuple[object, tuple[str | int, ...]]] = [(content, ())]
    if isinstance(rows, dict) and rows:
        parts = [({chapter: {key: row}}, (str(chapter), str(key))) for key, row in rows.items()]
    elif isinstance(rows, list) and rows:
        parts = [({chapter: [row]}, (str(chapter), at)) for at, row in enumerate(rows)]
    for part, steps in parts:
        problem = _schema_fault(part, kind)
        if problem is not None:
            yield _schema_place(directory, name, problem, steps)


def _reference_faults(directory: Path, message: str) -> Iterator[Fault]:
    for told in message.removeprefix(_CONTRADICTIONS).removesuffix(".").split("; "):
        about = _ABOUT.match(told)
        if about is None:
            yield Fault("data", 0, "reference", f"{told}.")
        elif about[1] == "tier":
            yield Fault("data/tiers.yaml", _line_of_tier(directory, about[2]), "reference", f"{told}.")
        else:
            chapter = _CHAPTERS[about[1]]
            line = line_of(directory / f"data/{chapter}.yaml", (chapter, about[2]))
            yield Fault(f"data/{chapter}.yaml", line, "reference", f"{told}.")


def _line_of_tier(directory: Path, name: str) -> int:
    path = directory / "data/tiers.yaml"
    content: Any = read_yaml(path)
    at = next((at for at, tier in enumerate(content["tiers"]) if tier["name"] == name), 0)
    return line_of(path, ("tiers", at, "name"))


def _rule_faults(directory: Path) -> Iterator[Fault]:
    for path in sorted(directory.rglob("*.rego")):
        relative = path.relative_to(directory)
        if relative.parts[0] not in _NO_RULES:
            yield from _module_faults(path, relative.as_posix())
    _, fault = _attempt(
        partial(read_capabilities, directory / "capabilities.json"), "capabilities.json", "schema"
    )
    if fault is not None:
        yield fault


def _module_faults(path: Path, name: str) -> Iterator[Fault]:
    text, fault = _attempt(partial(read_text, path), name, "rego")
    if text is not None:
        # One by one: the engine stops at the first that it cannot parse.
        _, fault = _attempt(partial(parse_modules, {name: text}), name, "rego")
        if fault is None and not name.endswith("_test.rego"):
            _, fault = _attempt(partial(read_annotations, name, text), name, "metadata")
    if fault is not None:
        yield fault


def _whole_faults(directory: Path) -> Iterator[Fault]:
    """Yield what shows only when the bundle is loaded: between its files, in the engine, in the cases."""
    try:
        bundle = load_bundle(directory)
    except DialectError as error:
        for violation in error.violations:
            yield Fault(violation.path, violation.line, violation.code, violation.message)
        return
    except BundleError as error:
        if error.message.startswith(_CONTRADICTIONS):
            yield from _reference_faults(directory, error.message)
        else:
            yield Fault(".", 0, "bundle", error.message)
        return
    try:
        asyncio.run(_start(bundle))
    except PolicyError as error:
        yield Fault(".", 0, "engine", error.message)
    if (directory / "cases").is_dir():
        _, fault = _attempt(partial(load_cases, bundle, directory / "cases"), "cases", "cases")
        if fault is not None:
            yield fault
    for path in sorted((directory / "datasets").glob("*.yaml")):
        try:
            read_dataset(path, list(bundle.data["tiers"]))
        except CatalogueError as error:
            yield Fault(f"datasets/{path.name}", 0, "dataset", error.message.removeprefix(f"{path}: "))


async def _start(bundle: Bundle) -> None:
    engine = EmbeddedEngine(bundle)
    await engine.start()
    await engine.close()


def _attempt(act: Callable[[], _Value], path: str, code: str) -> tuple[_Value | None, Fault | None]:
    try:
        return act(), None
    except BundleError as error:
        place = _LINE.search(error.message)
        return None, Fault(path, int(place[1]) if place else 0, code, error.message)


def _schema_fault(content: object, kind: type[msgspec.Struct]) -> str | None:
    try:
        msgspec.convert(content, kind)
    except msgspec.ValidationError as fault:
        return str(fault)
    return None


def _schema_place(directory: Path, name: str, problem: str, row: tuple[str | int, ...] = ()) -> Fault:
    """Return the fault with its line; `row` are the steps to the row that was judged alone."""
    pointer = _POINTER.search(problem)
    steps = steps_of(pointer[1]) if pointer else ()
    told = _POINTER.sub("", problem)
    place = ".".join(map(str, (*row, *steps[len(row) :])))
    return Fault(
        name,
        line_of(directory / name, (*row, *steps[len(row) :])),
        "schema",
        f"{told} in {place}." if place else f"{told}.",
    )
