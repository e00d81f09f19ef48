"""METADATA of packages and rules: title, citation, owner, remedy, read from the comments above them.

Form: OPA's annotations, a comment block that begins with the line `# METADATA` and holds YAML. The
embedded engine cannot read them at run time, so they are taken out of the text when a bundle is loaded.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from gateway.policy.errors import BundleError
from gateway.policy.strict_yaml import parse_yaml

_OPENING: Final = "# METADATA"


class Provenance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`custom` of an annotation: where a rule comes from, who answers for it, what the refused can do."""

    citation: str = ""
    owner: str = ""
    remedy: str = ""


class Annotation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One METADATA block."""

    title: str
    description: str = ""
    entrypoint: bool = False
    custom: Provenance = Provenance()


def read_annotations(path: str, text: str) -> dict[int, Annotation]:
    """Return the annotations in `text` by the line (from 1) of the package or rule that they stand above.

    Raise `BundleError`, naming `path`, if one is not valid.
    """
    annotations: dict[int, Annotation] = {}
    block: list[str] | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        if line.rstrip() == _OPENING:
            block = []
        elif block is not None and line.startswith("#"):
            block.append(line[1:].removeprefix(" "))
        elif block is not None:
            annotations[number] = _parse_block("\n".join(block), f"{path}, METADATA above line {number}")
            block = None
    return annotations


def _parse_block(text: str, where: str) -> Annotation:
    content: Any = parse_yaml(text, where)
    try:
        return msgspec.convert(content, Annotation)
    except msgspec.ValidationError as fault:
        raise BundleError(f"{where} is wrong: {fault}.") from fault
