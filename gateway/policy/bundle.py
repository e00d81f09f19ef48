"""A policy bundle: rules, data and their digest, verified as a whole before anything is decided by it.

A bundle directory holds `bundle.yaml` (title, revision), `capabilities.json` (OPA's format; the built-in
functions that rules may use), `data/*.yaml`, and Rego modules in folders named like their packages. Files
`*_test.rego` are checked but decide nothing. `cases/`, `datasets/` and `schemas/` are for others.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec

from gateway.policy.annotations import Annotation, read_annotations
from gateway.policy.compilation import compile_documents
from gateway.policy.dialect import DialectError, lint_modules
from gateway.policy.documents import Document, decode_documents
from gateway.policy.errors import BundleError
from gateway.policy.probe import PROBE_MODULE, PROBE_PATH
from gateway.policy.references import verify_references
from gateway.policy.strict_yaml import read_text, read_yaml
from gateway.policy.syntax import parse_modules

DIGEST_FORMAT: Final = 1
"""Version of what goes into the digest; part of it."""

_CANONICAL: Final = msgspec.json.Encoder(order="sorted")
_OTHER_FOLDERS: Final = frozenset({"cases", "data", "datasets", "schemas"})


class BundleIdentity(Document, frozen=True):
    """`bundle.yaml`."""

    title: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    revision: Annotated[int, msgspec.Meta(ge=1)]


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified bundle. Nothing in it is to be changed."""

    title: str
    revision: int
    digest: str
    """`sha256:<hex>` over rules, data and revision; what decided is named by it."""
    modules: Mapping[str, str]
    """Rego text by path, without tests."""
    tests: Mapping[str, str]
    """Rego text of the tests by path; not part of the digest."""
    data: Mapping[str, Any]
    """The `data` document of the rules, with `bundle` holding digest and revision."""
    annotations: Mapping[str, Mapping[int, Annotation]]
    """METADATA by path and line of the rule."""


def load_bundle(directory: Path) -> Bundle:
    """Return the bundle in `directory`, verified.

    Raise `BundleError` if a file is missing, malformed or does not fit its schema, if names point nowhere,
    or if a rule leaves the portable dialect (`gateway.policy.dialect`).
    """
    try:
        identity = msgspec.convert(read_yaml(directory / "bundle.yaml"), BundleIdentity)
    except msgspec.ValidationError as fault:
        raise BundleError(f"bundle.yaml does not fit its schema: {fault}.") from fault
    documents = decode_documents(
        {path.stem: read_yaml(path) for path in sorted((directory / "data").glob("*.yaml"))}
    )
    verify_references(documents)
    data = compile_documents(documents)
    texts = _read_modules(directory)
    modules = {path: text for path, text in texts.items() if not path.endswith("_test.rego")}
    tests = {path: text for path, text in texts.items() if path not in modules}
    annotations = {path: read_annotations(path, text) for path, text in modules.items()}
    parsed = parse_modules(texts)
    violations = lint_modules(
        [module for module in parsed if module.path in modules],
        annotations,
        data.keys() | {"bundle"},
        read_capabilities(directory / "capabilities.json"),
    )
    if violations:
        raise DialectError(violations)
    digest = digest_bundle(identity.revision, modules, data)
    return Bundle(
        title=identity.title,
        revision=identity.revision,
        digest=digest,
        modules=modules,
        tests=tests,
        data={**data, "bundle": {"digest": digest, "revision": identity.revision}},
        annotations=annotations,
    )


def digest_bundle(revision: int, modules: Mapping[str, str], data: Mapping[str, Any]) -> str:
    """Return `sha256:<hex>` over the JSON with sorted keys of format, revision, modules and data.

    `data` is without its `bundle` document, which holds the digest.
    """
    content = {"format": DIGEST_FORMAT, "revision": revision, "modules": dict(modules), "data": dict(data)}
    return "sha256:" + hashlib.sha256(_CANONICAL.encode(content)).hexdigest()


def read_capabilities(path: Path) -> frozenset[str]:
    """Return the names of the functions, not the operators, in the capabilities file (OPA's) `path`."""
    try:
        builtins = json.loads(read_text(path))["builtins"]
        names = [str(builtin["name"]) for builtin in builtins if "infix" not in builtin]
    except (ValueError, KeyError, TypeError) as fault:
        raise BundleError(f"{path.name} is not a capabilities file as OPA writes it.") from fault
    return frozenset(name for name in names if not name.startswith("internal."))


def write_opa_directory(bundle: Bundle, directory: Path) -> None:
    """Write `bundle` to the empty or new `directory`, so that `opa run --server DIRECTORY` decides by it.

    The files are `data.json`, the rules without tests, `.manifest`, and the module that the start-up probe
    asks. Raise `BundleError` if `directory` holds something.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise BundleError(f"{directory.name} is not empty; give a new directory for the bundle.")
    files = {path: text.encode() for path, text in bundle.modules.items()} | opa_files(bundle)
    for path, content in files.items():
        target = directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def opa_files(bundle: Bundle) -> dict[str, bytes]:
    """Return what an OPA server needs of `bundle` beside its rules, by path: data, manifest and probe."""
    manifest = {"revision": bundle.digest, "rego_version": 1, "roots": [""]}
    return {
        "data.json": _CANONICAL.encode(dict(bundle.data)),
        ".manifest": _CANONICAL.encode(manifest),
        PROBE_PATH: PROBE_MODULE.encode(),
    }


def _read_modules(directory: Path) -> dict[str, str]:
    modules: dict[str, str] = {}
    for path in sorted(directory.rglob("*.rego")):
        relative = path.relative_to(directory)
        if relative.parts[0] in _OTHER_FOLDERS:
            raise BundleError(f"{relative.as_posix()} is a rule in a folder that holds no rules.")
        modules[relative.as_posix()] = read_text(path)
    if not modules:
        raise BundleError(f"{directory.name} holds no rules (*.rego).")
    return modules
