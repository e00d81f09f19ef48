"""The start-up probe: an engine must give Rego the meaning that the rules were written for.

Two parts. The first asks a module of small expressions, each about one point on which engines are known
to differ or on which the rules lean. The second asks the bundle's own entry point with facts taken away:
every answer must be a denial. An engine that answers anything else is refused before it decides.
"""

from __future__ import annotations

from typing import Final

import msgspec

from gateway.policy.bundle import Bundle
from gateway.policy.engine import ENTRY_POINT, Evaluator
from gateway.policy.errors import PolicyError
from gateway.policy.probe import PROBE_DOCUMENT, PROBE_INPUT
from gateway.policy.result import ResultDocument

_EXPECTED: Final[dict[str, object]] = {
    "negated_undefined": [1],
    "iterated_undefined": 0,
    "default": "default",
    "bodies_add_up": [1, 2],
    "missing_key": "absent",
    "null_key": None,
    "null_is_no_string": True,
    "sorted_by_code_point": ["B", "a", "b", "é"],
    "least": "B",
    "most": 10,
    "instants_compare_as_text": [True, False],
    "difference": ["a"],
    "difference_binds_before_intersection": ["b"],
    "union": ["a", "b"],
    "keys": ["a", "b"],
    "objects": {"a": 2, "b": 1},
    "whole_numbers": 9007199254740992,
    "empty_collections": [0, 0, 0],
    "membership": ["a"],
    "concatenated": "tiers.limited",
}
_EMPTIED_INPUTS: Final = (
    b"{}",
    b'{"dataset":{"fields":{}}}',
    b'{"capabilities":[],"fields":[],"signed":true}',
)


async def verify_conformance(evaluator: Evaluator, bundle: Bundle) -> None:
    """Raise `PolicyError` unless `evaluator` gives Rego, and `bundle`, the meaning this gateway relies on."""
    answers = msgspec.json.decode(await evaluator.evaluate(PROBE_DOCUMENT, PROBE_INPUT))
    differing = [
        name
        for name, expected in _EXPECTED.items()
        if not isinstance(answers, dict) or name not in answers or not _same(answers[name], expected)
    ]
    if differing:
        raise PolicyError(
            "The policy engine gives Rego another meaning than this gateway relies on. Install the version "
            "of the engine that this release names.",
            differing=", ".join(differing),
        )
    for encoded in _EMPTIED_INPUTS:
        try:
            result = msgspec.json.decode(await evaluator.evaluate(ENTRY_POINT, encoded), type=ResultDocument)
        except msgspec.DecodeError as fault:
            raise PolicyError(
                "The policy bundle answers a question without facts with something that is no decision."
            ) from fault
        if result.allow or result.bundle != bundle.digest:
            raise PolicyError(
                "The policy bundle does not deny a question without facts. It cannot be used.",
                inputs=len(encoded),
            )


def _same(answer: object, expected: object) -> bool:
    """Compare as JSON does: 1 and true differ, and so do 1 and 1.0 in an engine that counts in floats."""
    return msgspec.json.encode(answer, order="sorted") == msgspec.json.encode(expected, order="sorted")
