"""Treatments of values other than pseudonyms, a column at a time.

A value that is null stays null. A value that a treatment cannot take becomes null: it is withheld
rather than released as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from functools import partial
from typing import Any

from gateway.errors import GatewayError, Reason
from gateway.identifiers import province_of

Column = list[Any]
ColumnTreatment = Callable[[Sequence[Any]], Column]


class ObligationError(GatewayError):
    """Policy obliges us to do what this gateway cannot do; the exchange is denied."""

    reason = Reason.OBLIGATION_UNSUPPORTED


def generalisation(method: str) -> ColumnTreatment:
    """Return the treatment for a dataset's `generalise` method; raise `ObligationError` if unknown.

    `year` and `month` take dates, `province` takes normalised area codes, `band:N` takes integers
    and gives `low-high` with both ends included.
    """
    name, _, argument = method.partition(":")
    if name == "year":
        return _years
    if name == "month":
        return _months
    if name == "province":
        return _provinces
    if name == "band" and argument.isdecimal() and int(argument) > 0:
        return partial(_bands, width=int(argument))
    raise ObligationError("Policy asks for a generalisation that this gateway does not know.")


def masking(keep_first: int, keep_last: int) -> ColumnTreatment:
    """Return the treatment that keeps the ends of a text and writes `*` for the rest.

    A text too short to hide at least half of itself is masked whole.
    """
    if keep_first < 0 or keep_last < 0:
        raise ObligationError("Policy asks for a mask with a negative length.")
    return partial(_masked, keep_first=keep_first, keep_last=keep_last)


def _years(values: Sequence[date | None]) -> Column:
    return [None if value is None else f"{value.year:04d}" for value in values]


def _months(values: Sequence[date | None]) -> Column:
    return [None if value is None else f"{value.year:04d}-{value.month:02d}" for value in values]


def _provinces(values: Sequence[str | None]) -> Column:
    return [None if value is None else province_of(value) for value in values]


def _bands(values: Sequence[int | None], width: int) -> Column:
    labels: dict[int, str] = {}
    column: Column = []
    for value in values:
        if value is None:
            column.append(None)
            continue
        band = value // width
        label = labels.get(band)
        if label is None:
            label = labels[band] = f"{band * width}-{band * width + width - 1}"
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
