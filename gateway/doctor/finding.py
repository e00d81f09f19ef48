"""What an examination finds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    """It works, and somebody should see to it."""
    FAIL = "fail"
    """It contradicts what it must agree with, or will not work."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one thing."""

    check: str
    """What was looked at, such as `members`."""
    state: State
    detail: str
    """What is the case, for people. Never a value from an entry, never a secret."""
    advice: str = ""
    """What to do."""


Check = Callable[[], Iterable[Finding]]
"""Looks at one thing. May raise `GatewayError` or `OSError`, which says that it cannot be looked at."""


def worst(findings: Iterable[Finding]) -> State:
    """Return the worst state among `findings`."""
    states = {finding.state for finding in findings}
    return next((state for state in (State.FAIL, State.WARN) if state in states), State.OK)
