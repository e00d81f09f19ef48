"""Both engines on questions with gaps, where OPA and others part company and fail open (opa#8387); and on others."""

from __future__ import annotations

from random import Random

import msgspec
import pytest

from gateway.errors import Reason
from gateway.policy import PolicyError
from gateway.policy.engine import ENTRY_POINT, Evaluator
from tests.simulators.questions import Questions, keys, without

STEP = 23
"""Every so many of the questions with a gap are asked; all of them would take long on a small machine."""
GENERATED = 2000


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


@pytest.mark.opa
async def test_both_engines_decide_alike_on_generated_questions(opa, embedded, bundle, cases):
    questions, random = Questions(bundle, cases), Random(4)
    contents = [questions.near(random) for _ in range(GENERATED)]
    answers = [(await answer(embedded, content), await answer(opa, content)) for content in contents]
    assert [pair for pair in answers if pair[0] != pair[1]] == []
    allowed = sum(ours["allow"] for ours, _ in answers)
    assert GENERATED / 10 < allowed < GENERATED * 9 / 10
