"""Everything that is wrong with a policy directory, with file and line: not only the first thing.

Loading stops at the first fault, as a gateway must; an author wants the whole list.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from gateway.catalogue import CatalogueError, read_dataset
from gateway.policy.annotations import Annotation, read_annotations
from gateway.policy.bundle import Bundle, BundleIdentity, load_bundle, read_capabilities
from gateway.policy.dialect import lint_modules
from gateway.policy.documents import DATA_FILES, compile_documents, decode_documents
from gateway.policy.embedded import EmbeddedEngine
from gateway.policy.errors import BundleError, PolicyError
from gateway.policy.golden import load_cases
from gateway.policy.strict_yaml import read_text, read_yaml
from gateway.policy.syntax import Module, parse_modules
from gateway.policy_review.opa_binary import OpaBinary
from gateway.policy_review.places import line_of, steps_of

_IN_YAML: Final = re.compile(r"line (\d+): ")
_IN_REGO: Final = re.compile(r"line (\d+): ")
_ABOVE: Final = re.compile(r"METADATA above line (\d+)")
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
    """`yaml`, `schema`, `reference`, `rego`, `metadata`, `engine`, `cases`, `dataset`, `opa`, or a rule of the
    dialect."""
    message: str

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}" if self.line else self.path
        return f"{place}: {self.code}: {self.message}"


def check_directory(directory: Path, opa: OpaBinary | None = None) -> tuple[Fault, ...]:
    """Return everything wrong with the bundle in `directory`; empty if a gateway would take it.

    Its golden cases and dataset descriptions must be readable too, and with `opa` its strict checks pass.
    """
    faults = [
        *_identity_faults(directory),
        *_data_faults(directory),
        *_rule_faults(directory),
    ]
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
    files: dict[str, object] = {}
    found = False
    for path in sorted((directory / "data").glob("*.yaml")):
        name = f"data/{path.name}"
        content, fault = _attempt(lambda path=path: read_yaml(path), name, "yaml")
        if fault is not None:
            yield fault
            found = True
            continue
        files[path.stem] = content
        kind = DATA_FILES.get(path.stem)
        if kind is not None and (problem := _schema_fault(content, kind)) is not None:
            yield _schema_place(directory, name, problem)
            found = True
    if found:
        return
    try:
        decode_documents(files)
    except BundleError as error:
        yield from _reference_faults(directory, error.message)


def _reference_faults(directory: Path, message: str) -> Iterator[Fault]:
    if not message.startswith(_CONTRADICTIONS):
        yield Fault("data", 0, "reference", message)
        return
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
    texts: dict[str, str] = {}
    for path in sorted(directory.rglob("*.rego")):
        relative = path.relative_to(directory)
        if relative.parts[0] in _NO_RULES:
            yield Fault(relative.as_posix(), 0, "rego", "A rule in a folder that holds no rules.")
            continue
        text, fault = _attempt(lambda path=path: read_text(path), relative.as_posix(), "rego")
        if fault is not None:
            yield fault
        elif text is not None:
            texts[relative.as_posix()] = text
    if not texts:
        yield Fault(".", 0, "rego", "There are no rules (*.rego).")
        return
    modules: list[Module] = []
    annotations: dict[str, dict[int, Annotation]] = {}
    unsound = False
    for name, text in texts.items():
        # One by one: the engine stops at the first that it cannot parse.
        parsed, fault = _attempt(lambda name=name, text=text: parse_modules({name: text}), name, "rego")
        read: dict[int, Annotation] | None = {}
        if fault is None and not name.endswith("_test.rego"):
            modules += parsed or ()
            read, fault = _attempt(
                lambda name=name, text=text: read_annotations(name, text), name, "metadata"
            )
        annotations[name] = read or {}
        if fault is not None:
            unsound = True
            yield fault
    builtins, fault = _attempt(
        lambda: read_capabilities(directory / "capabilities.json"), "capabilities.json", "schema"
    )
    if fault is not None:
        yield fault
    if builtins is None or unsound:
        # Whatever refers to a module that was not understood would be told as a fault of its own.
        return
    documents = {path.stem for path in (directory / "data").glob("*.yaml")} | _compiled_names(directory)
    for violation in lint_modules(modules, annotations, documents, builtins):
        yield Fault(violation.path, violation.line, violation.code, violation.message)


def _compiled_names(directory: Path) -> set[str]:
    """Return the names of the data document as far as the data files can be compiled; they may add some."""
    try:
        files = {path.stem: read_yaml(path) for path in sorted((directory / "data").glob("*.yaml"))}
        return {*compile_documents(decode_documents(files)), "bundle"}
    except BundleError:
        return {"bundle", "tier_names"}


def _whole_faults(directory: Path) -> Iterator[Fault]:
    """Yield what shows only when the bundle is loaded: in the engine, the cases, the descriptions."""
    bundle, fault = _attempt(lambda: load_bundle(directory), ".", "engine")
    if fault is not None:
        yield fault
    if bundle is None:
        return
    try:
        asyncio.run(_start(bundle))
    except PolicyError as error:
        yield Fault(".", 0, "engine", error.message)
    if (directory / "cases").is_dir():
        _, fault = _attempt(lambda: load_cases(bundle, directory / "cases"), "cases", "cases")
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
        place = _ABOVE.search(error.message) or (_IN_REGO if code == "rego" else _IN_YAML).search(
            error.message
        )
        return None, Fault(path, int(place[1]) if place else 0, code, error.message)


def _schema_fault(content: object, kind: type[msgspec.Struct]) -> str | None:
    try:
        msgspec.convert(content, kind)
    except msgspec.ValidationError as fault:
        return str(fault)
    return None


def _schema_place(directory: Path, name: str, problem: str) -> Fault:
    pointer = _POINTER.search(problem)
    steps: Sequence[str | int] = steps_of(pointer[1]) if pointer else ()
    return Fault(name, line_of(directory / name, tuple(steps)), "schema", f"{problem}.")
