"""Both engines on questions with gaps: where OPA and others part company, and fail open (opa#8387)."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import msgspec
import pytest

from gateway.errors import Reason
from gateway.policy import PolicyError
from gateway.policy.engine import ENTRY_POINT, Evaluator

STEP = 7
"""Every so many of the questions with a gap are asked; all of them would take long on a small machine."""


def keys(content: dict, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, value in content.items():
        yield (*path, name)
        if isinstance(value, dict):
            yield from keys(value, (*path, name))


def without(content: dict, path: tuple[str, ...]) -> dict:
    copied = copy.deepcopy(content)
    inner = copied
    for name in path[:-1]:
        inner = inner[name]
    del inner[path[-1]]
    return copied


async def answer(engine: Evaluator, content: dict) -> object:
    try:
        return msgspec.json.decode(await engine.evaluate(ENTRY_POINT, msgspec.json.encode(content)))
    except PolicyError as fault:
        return fault.reason


@pytest.mark.opa
async def test_both_engines_decide_alike_on_questions_with_gaps(opa, embedded, cases):
    contents = [msgspec.to_builtins(case.policy_input) for case in cases]
    gapped = [without(content, path) for content in contents for path in keys(content)][::STEP]
    assert len(gapped) > 500
    answers = [(await answer(embedded, content), await answer(opa, content)) for content in gapped]
    assert [pair for pair in answers if pair[0] != pair[1]] == []
    assert not any(isinstance(ours, Reason) for ours, _ in answers)
