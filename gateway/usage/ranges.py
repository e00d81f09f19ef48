"""Indices of entries as text: `3,17-19,25`. Strictly rising, runs of two or more as a range."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from gateway.errors import GatewayError, Reason

_PART: Final = re.compile(r"(0|[1-9]\d{0,17})(?:-([1-9]\d{0,17}))?", re.ASCII)


def write_ranges(indices: Sequence[int]) -> str:
    """Return the text of `indices`, which rise strictly."""
    parts: list[str] = []
    first = last = -1
    for index in indices:
        if index == last + 1 and first >= 0:
            last = index
            continue
        if first >= 0:
            parts.append(_range(first, last))
        first = last = index
    if first >= 0:
        parts.append(_range(first, last))
    return ",".join(parts)


def read_ranges(text: str, limit: int) -> list[int]:
    """Return the indices in `text`, each below `limit`; raise `GatewayError` if it is not of this form."""
    found: list[int] = []
    for part in text.split(",") if text else ():
        match = _PART.fullmatch(part)
        if match is None:
            raise _malformed()
        first = int(match[1])
        last = int(match[2]) if match[2] else first
        if first <= (found[-1] if found else -1) or last < first or last >= limit:
            raise _malformed()
        found.extend(range(first, last + 1))
    if write_ranges(found) != text:
        raise _malformed()
    return found


def _range(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"


def _malformed() -> GatewayError:
    return GatewayError(
        "The indices of a statement's line are not of the known form.", reason=Reason.PROOF_INVALID
    )
