"""The answer to a list question: one line that has the same length whatever it says.

The line is what the receipt's record digest is over, and all that leaves: a yes and a no, with
restrictions or without, make the same number of bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from gateway.errors import GatewayError, Reason
from gateway.evidence.canonical import DECODE_ERRORS, encode_canonical

ANSWER_BYTES: Final = 512
"""Length of every line, without its line end."""


class ListAnswer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The line: canonical JSON."""

    listed: Literal[0, 1]
    """The one bit: 1 if the subject is on the list, or on enough of the lists."""
    restrictions: tuple[str, ...]
    """Of one list, if policy releases them: the classes of restriction that follow, sorted."""
    padding: str
    """Spaces."""


class AnswerTooLongError(GatewayError):
    """The restrictions do not fit into the line."""

    reason = Reason.PROVIDER_SCHEMA


def encode_list_answer(*, listed: bool, restrictions: Iterable[str] = ()) -> bytes:
    """Return the line without its line end: `ANSWER_BYTES` bytes.

    Raises `AnswerTooLongError` if the restrictions are too many or too long for it.
    """
    classes = tuple(sorted(set(restrictions)))
    bit: Literal[0, 1] = 1 if listed else 0
    unpadded = encode_canonical(ListAnswer(listed=bit, restrictions=classes, padding=""))
    missing = ANSWER_BYTES - len(unpadded)
    if missing < 0:
        raise AnswerTooLongError("The list's classes of restriction are too long for an answer.")
    return encode_canonical(ListAnswer(listed=bit, restrictions=classes, padding=" " * missing))


def decode_list_answer(line: bytes) -> ListAnswer:
    """Return the answer in `line` (with or without its line end).

    Raises `GatewayError` (`SIGNATURE_INVALID`) unless it is one to the letter.
    """
    text = line.removesuffix(b"\n")
    try:
        answer = msgspec.json.decode(text, type=ListAnswer)
        expected = encode_list_answer(listed=bool(answer.listed), restrictions=answer.restrictions)
    except DECODE_ERRORS as error:
        raise _malformed() from error
    if text != expected:
        raise _malformed()
    return answer


def _malformed() -> GatewayError:
    return GatewayError(
        "The answer is not of the form of an answer to a list question.", reason=Reason.SIGNATURE_INVALID
    )
