"""The least change of a question that policy would allow: first single changes, then pairs.

Only what whoever asks can change is tried: purpose, legal basis, memorandum, operation, the signature, the
fields named, and the fields by which records are chosen. That an official document is cited counts too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any, Final

import msgspec

from gateway.model import Operation
from gateway.policy.embedded import EmbeddedEngine
from gateway.policy.errors import PolicyError
from gateway.policy.recorded_input import STATED

MAX_QUESTIONS: Final = 50_000
"""Questions after which the search for pairs ends: some ten seconds."""

MAX_SHOWN: Final = 10

Facts = Mapping[str, Any]

_STATED: Final = (
    ("legal_basis", "legal_bases", "legal basis"),
    ("memorandum", "memoranda", "memorandum"),
    ("purpose", "purposes", "purpose"),
)

_encode: Final = msgspec.json.Encoder(order="sorted").encode


Changed = tuple[Facts, str]
"""The facts as changed, and the change in words."""


@dataclass(frozen=True, slots=True)
class ChangeOfQuestion:
    """One thing to ask differently."""

    fact: str
    apply: Callable[[Facts], Changed | None]
    """Returns None where there is nothing to change so."""


@dataclass(frozen=True, slots=True)
class LeastChanges:
    """The smallest changes that policy would allow."""

    changes: tuple[tuple[str, ...], ...]
    """Each alternative as the texts of its changes; empty if no pair of changes is enough."""
    asked: int
    complete: bool
    """Whether all pairs were tried, as far as that was needed."""


class _Asking:
    """Asks policy, and counts; the same question only once."""

    def __init__(self, engine: EmbeddedEngine) -> None:
        self._engine = engine
        self._known: dict[bytes, bool] = {}
        self.asked = 0

    def is_allowed(self, facts: Facts) -> bool:
        encoded = _encode(facts)
        allowed = self._known.get(encoded)
        if allowed is None:
            self.asked += 1
            try:
                allowed = self._engine.judge(encoded).allow
            except PolicyError:
                allowed = False
            self._known[encoded] = allowed
        return allowed


def least_changes(engine: EmbeddedEngine, encoded: bytes) -> LeastChanges:
    """Return the least changes of the denied input `encoded` that `engine` would allow."""
    facts: Facts = msgspec.json.decode(encoded)
    asking = _Asking(engine)
    changes = list(_changes(engine.bundle.data, facts, asking))
    for size in (1, 2):
        found: list[tuple[str, ...]] = []
        for chosen in combinations(changes, size):
            if asking.asked > MAX_QUESTIONS:
                return LeastChanges(tuple(found), asking.asked, complete=False)
            if len({change.fact for change in chosen}) < size:
                continue
            texts = _texts_if_enough(chosen, facts, asking)
            if texts is not None:
                found.append(texts)
        if found:
            return LeastChanges(tuple(found[:MAX_SHOWN]), asking.asked, complete=True)
    return LeastChanges((), asking.asked, complete=True)


def _texts_if_enough(
    chosen: Sequence[ChangeOfQuestion], facts: Facts, asking: _Asking
) -> tuple[str, ...] | None:
    """Return the changes in words if together they are allowed."""
    texts: list[str] = []
    for change in chosen:
        changed = change.apply(facts)
        if changed is None:
            return None
        facts, text = changed
        texts.append(text)
    return tuple(texts) if asking.is_allowed(facts) else None


def _changes(data: Mapping[str, Any], facts: Facts, asking: _Asking) -> Iterator[ChangeOfQuestion]:
    """Yield what can be changed; what depends on the others stands last, so that it is applied last."""
    if facts["signed"] is not True:
        yield _replacing("signed", value=True, text="sign the query")
    if facts.get("document") == "":
        yield _replacing("document", STATED, "cite an official document")
    for operation in Operation:
        if operation.value != facts["operation"]:
            yield _replacing("operation", operation.value, f"use the operation {operation.value}")
    yield from _other_names(data, facts)
    for fact, words in (("reads", "choose records without the fields"), ("fields", "leave out the fields")):
        if facts[fact]:
            yield ChangeOfQuestion(fact, partial(_leave_out, fact, words, asking))


def _other_names(data: Mapping[str, Any], facts: Facts) -> Iterator[ChangeOfQuestion]:
    for fact, chapter, noun in _STATED:
        if facts[fact] and fact != "purpose":
            yield _replacing(fact, "", f"state no {noun}")
        for name in data[chapter]:
            if name != facts[fact]:
                yield _replacing(fact, name, f"state the {noun} {name}")


def _replacing(fact: str, value: object, text: str) -> ChangeOfQuestion:
    return ChangeOfQuestion(fact, lambda facts: ({**facts, fact: value}, text))


def _leave_out(fact: str, words: str, asking: _Asking, facts: Facts) -> Changed | None:
    """Take those names away of which each alone is refused."""
    out = [name for name in facts[fact] if not asking.is_allowed({**facts, fact: [name]})]
    kept = [name for name in facts[fact] if name not in out]
    if not out or (fact == "fields" and not kept):
        return None
    return {**facts, fact: kept}, f"{words} {', '.join(out)}"
