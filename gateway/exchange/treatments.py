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
    return keeping({"method": method})


def keeping(params: Mapping[str, str | int]) -> ColumnTreatment:
    """Return the mask that `mask_lengths` reads in `params`.

    Beside the lengths there may be `shortest`: a text of fewer characters is masked whole as well. Raises
    `ObligationError`.
    """
    lengths = dict(params)
    shortest = _length(lengths.pop("shortest", 0))
    first, last = mask_lengths(lengths)
    return partial(_masked, keep_first=first, keep_last=last, shortest=max(shortest, 2 * (first + last)))


def mask_lengths(params: Mapping[str, str | int]) -> tuple[int, int]:
    """Return how many characters a mask keeps at the beginning and at the end.

    Either `method` alone says so, as `first:N`, `last:N`, `first:N,last:M` or `all`, or `keep_first` and
    `keep_last` do, where one that is left out is 0. Raises `ObligationError` for anything else.
    """
    if set(params) == {"method"}:
        found = _MASK.fullmatch(str(params["method"]))
        if found is not None:
            return int(found["first"] or 0), int(found["last"] or found["only"] or 0)
    elif {"keep_first", "keep_last"} >= set(params):
        return _length(params.get("keep_first", 0)), _length(params.get("keep_last", 0))
    raise ObligationError("Policy asks for a mask that this gateway does not know.")


def _length(value: str | int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ObligationError("Policy asks for a mask without whole lengths.")
    return value


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


def _masked(values: Sequence[str | None], keep_first: int, keep_last: int, shortest: int) -> Column:
    kept = keep_first + keep_last
    column: Column = []
    for value in values:
        if value is None:
            column.append(None)
        elif len(value) < shortest or not kept:
            column.append("*" * len(value))
        else:
            hidden = "*" * (len(value) - kept)
            column.append(value[:keep_first] + hidden + (value[-keep_last:] if keep_last else ""))
    return column


_PLAIN: Final[Mapping[str, ColumnTreatment]] = MappingProxyType(
    {"year": _years, "month": _months, "decade": _decades, "province": _provinces}
)
