"""Treatments of values other than pseudonyms, a column at a time.

A value that is null stays null. A value that a treatment cannot take becomes null: it is withheld
rather than released as it is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from functools import partial
from types import MappingProxyType
from typing import Any, Final

from gateway.errors import GatewayError, Reason
from gateway.identifiers import province_of

Column = list[Any]
ColumnTreatment = Callable[[Sequence[Any]], Column]

_WIDTH: Final = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)
_ENDS: Final = r"first:(?P<first>[1-9][0-9]?)(?:,last:(?P<last>[1-9][0-9]?))?|last:(?P<only>[1-9][0-9]?)"
_MASK: Final = re.compile(f"all|{_ENDS}", re.ASCII)


class ObligationError(GatewayError):
    """Policy obliges us to do what this gateway cannot do; the exchange is denied."""

    reason = Reason.OBLIGATION_UNSUPPORTED


def generalisation(method: str) -> ColumnTreatment:
    """Return the treatment for a dataset's `generalise` method; raise `ObligationError` if unknown.

    `year`, `month` and `decade` take dates, `province` takes normalised area codes. `band:N` takes numbers:
    of integers it gives `low-high` with both ends included, of others `low-<high` without the upper end.
    """
    name, _, argument = method.partition(":")
    if method in _PLAIN:
        return _PLAIN[method]
    if name == "band" and _WIDTH.fullmatch(argument):
        return partial(_bands, width=int(argument))
    raise ObligationError("Policy asks for a generalisation that this gateway does not know.")


def masking(method: str) -> ColumnTreatment:
    """Return the treatment that keeps the ends of a text and writes `*` for each other character.

    `method` is `first:N`, `last:N`, `first:N,last:M` or `all`; raise `ObligationError` for anything else.
    A text too short to hide at least half of itself is masked whole. The length stays visible.
    """
    found = _MASK.fullmatch(method)
    if found is None:
        raise ObligationError("Policy asks for a mask that this gateway does not know.")
    return keeping(int(found["first"] or 0), int(found["last"] or found["only"] or 0))


def keeping(first: int, last: int) -> ColumnTreatment:
    """Return the mask that keeps so many characters at the beginning and the end; none are below 0."""
    return partial(_masked, keep_first=first, keep_last=last)


def _years(values: Sequence[date | None]) -> Column:
    return [None if value is None else f"{value.year:04d}" for value in values]


def _months(values: Sequence[date | None]) -> Column:
    return [None if value is None else f"{value.year:04d}-{value.month:02d}" for value in values]


def _decades(values: Sequence[date | None]) -> Column:
    return [None if value is None else f"{value.year // 10 * 10:04d}s" for value in values]


def _provinces(values: Sequence[str | None]) -> Column:
    return [None if value is None else province_of(value) for value in values]


def _bands(values: Sequence[int | float | None], width: int) -> Column:
    labels: dict[tuple[int, bool], str] = {}
    column: Column = []
    for value in values:
        if value is None or not math.isfinite(value):
            column.append(None)
            continue
        is_whole = isinstance(value, int)
        # Through whole numbers: dividing floating point numbers rounds, and may cross a border.
        band = math.floor(value) // width
        label = labels.get((band, is_whole))
        if label is None:
            low = band * width
            label = f"{low}-{low + width - 1}" if is_whole else f"{low}-<{low + width}"
            labels[band, is_whole] = label
        column.append(label)
    return column


def _masked(values: Sequence[str | None], keep_first: int, keep_last: int) -> Column:
    kept = keep_first + keep_last
    column: Column = []
    for value in values:
        if value is None:
            column.append(None)
        elif len(value) < 2 * kept or not kept:
            column.append("*" * len(value))
        else:
            hidden = "*" * (len(value) - kept)
            column.append(value[:keep_first] + hidden + (value[-keep_last:] if keep_last else ""))
    return column


_PLAIN: Final[Mapping[str, ColumnTreatment]] = MappingProxyType(
    {"year": _years, "month": _months, "decade": _decades, "province": _provinces}
)
