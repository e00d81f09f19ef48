"""Policy inputs as the log keeps them, so that any decision can be made again from the log alone.

An entry holds the whole input of its decision but for one part: in place of the dataset's facts, which are
long and the same for thousands of exchanges, stands their digest. The facts themselves stand in entries
`dataset.described`, in pieces that fit, once for each digest (ADR 0033).

    decision id  <-  bundle digest, canonical input  <-  `policy_input` of the entry, `dataset.described`

The input holds names and counts, never a value of a record. What a caller may have typed where a name is
expected is replaced before policy is asked (`as_recordable`), so that nothing else can stand there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from gateway.policy.errors import PolicyError
from gateway.policy.policy_input import DatasetFacts, PolicyInput

UNKNOWN_NAME: Final = "(unknown)"
"""Stands for a purpose, legal basis or memorandum that the bundle does not know; no bundle can define it."""

STATED: Final = "(stated)"
"""Stands for the reference of an official document; the signed query, among the sealed details, holds it."""

PIECE_CHARACTERS: Final = 6 * 1024
"""A piece is quoted once more in its entry, which is at most 16 KiB: every quotation mark takes two bytes."""

_ENCODER: Final = msgspec.json.Encoder(order="sorted")
_NAMED: Final = (
    ("purpose", "purposes"),
    ("legal_basis", "legal_bases"),
    ("memorandum", "memoranda"),
)


@dataclass(frozen=True, slots=True)
class Description:
    """A dataset as policy is told of it."""

    name: str
    digest: str
    """`sha256:<hex>` of `text`."""
    text: str
    """Canonical JSON of the facts."""

    def pieces(self) -> tuple[str, ...]:
        """Return `text` in pieces of which each fits into an entry."""
        return tuple(
            self.text[start : start + PIECE_CHARACTERS]
            for start in range(0, len(self.text), PIECE_CHARACTERS)
        )


def describe(facts: DatasetFacts) -> Description:
    """Return the facts of one dataset as they are recorded."""
    text = _ENCODER.encode(facts)
    return Description(facts.name, "sha256:" + hashlib.sha256(text).hexdigest(), text.decode())


def as_recordable(policy_input: PolicyInput, data: Mapping[str, Any]) -> PolicyInput:
    """Return the input without anything that a caller may have made up; policy is asked with this one.

    `UNKNOWN_NAME` stands for each purpose, legal basis or memorandum not in `data`, the data of the bundle
    that is about to decide, `STATED` for the reference of a document. To the rules, a name that is not in
    their data is like any other; in the log it could be anything, an identifier too.
    """
    replaced = {
        fact: UNKNOWN_NAME
        for fact, chapter in _NAMED
        if (name := getattr(policy_input, fact)) and name not in data[chapter]
    }
    if policy_input.document:
        replaced["document"] = STATED
    return msgspec.structs.replace(policy_input, **replaced) if replaced else policy_input


def record_input(policy_input: PolicyInput, described: Description) -> dict[str, Any]:
    """Return what an entry holds of the input: all of it, and of the dataset the digest of its facts."""
    return {
        field.encode_name: described.digest
        if field.name == "dataset"
        else _plain(getattr(policy_input, field.name))
        for field in _FIELDS
    }


def rebuild_input(recorded: Mapping[str, Any], descriptions: Mapping[str, str]) -> bytes:
    """Return the canonical input of which `recorded` tells.

    `descriptions` are the texts by digest. Raise `PolicyError` if the one needed is not among them.
    """
    text = descriptions.get(str(recorded.get("dataset")))
    if text is None:
        raise PolicyError(
            "The log does not hold the description of the dataset on which this decision was made; look in "
            "the closed log before it."
        )
    return _ENCODER.encode({**recorded, "dataset": msgspec.Raw(text.encode())})


def join_pieces(pieces: Iterable[tuple[str, int, int, str]]) -> dict[str, str]:
    """Return the whole texts by digest of `pieces`: digest, number of the piece from 1, of how many, text.

    A text that is not whole, or not of its digest, is left out.
    """
    found: dict[str, dict[int, str]] = {}
    wanted: dict[str, int] = {}
    for digest, number, count, text in pieces:
        found.setdefault(digest, {})[number] = text
        wanted[digest] = count
    texts = {
        digest: "".join(numbered[number] for number in sorted(numbered))
        for digest, numbered in found.items()
        if numbered.keys() == set(range(1, wanted[digest] + 1))
    }
    return {
        digest: text
        for digest, text in texts.items()
        if digest == "sha256:" + hashlib.sha256(text.encode()).hexdigest()
    }


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | bool | int) else msgspec.to_builtins(value)


_FIELDS: Final = msgspec.structs.fields(PolicyInput)
