"""What can be wrong with an identifier."""

from __future__ import annotations

from enum import StrEnum

from gateway.errors import GatewayError, Reason


class Problem(StrEnum):
    """What is wrong, as a stable code (`details["problem"]` and in quality reports)."""

    LENGTH = "length"
    ALPHABET = "alphabet"
    CHECK_DIGIT = "check-digit"
    DATE = "date"
    AREA = "area"


class IdentifierError(GatewayError):
    """A value is not an identifier of the kind it should be. `details` hold `kind` and `problem`.

    The message names the kind and the problem; the value itself stands nowhere in the error.
    """

    reason = Reason.IDENTIFIER_INVALID

    def __init__(self, kind: str, problem: Problem, explanation: str) -> None:
        super().__init__(
            f"A value is not a valid identifier of kind {kind}: {explanation}. Correct it at its source.",
            kind=kind,
            problem=problem,
        )
        self.problem = problem
