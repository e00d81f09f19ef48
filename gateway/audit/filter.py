"""What entries to look for: the parts of a filter, and its one canonical text.

`gateway.audit.filter_parser` reads the text that people write.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from gateway.clock import rfc3339

UNKNOWN: Final = "(unknown)"
"""What stands in an entry for a name that could be anything."""


class Field(StrEnum):
    """What an entry can be found by, besides its time."""

    KIND = "kind"
    MEMBER = "member"
    """Consumer or provider."""
    CONSUMER = "consumer"
    PROVIDER = "provider"
    DATASET = "dataset"
    TIER = "tier"
    PURPOSE = "purpose"
    REASON = "reason"
    EXCHANGE = "exchange"
    CONTRACT = "contract"
    """The identity (`sha256:<hex>`) of a version of a contract."""


@dataclass(frozen=True, slots=True)
class Has:
    """The field has this value; of several values, one is it. A kind may end in `.*`."""

    field: Field
    value: str


@dataclass(frozen=True, slots=True)
class Present:
    """The field is not empty."""

    field: Field


@dataclass(frozen=True, slots=True)
class Before:
    """The entry's time is before this one (`gateway.clock.rfc3339` form)."""

    time: str


@dataclass(frozen=True, slots=True)
class Not:
    """The operand does not hold."""

    operand: Filter


@dataclass(frozen=True, slots=True)
class And:
    """All operands hold; with none, everything does."""

    operands: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """One of the operands holds."""

    operands: tuple[Filter, ...]


Filter = Has | Present | Before | Not | And | Or

EVERYTHING: Final = And(())


def format_filter(wanted: Filter) -> str:
    """Return the canonical text of `wanted`: what `parse_filter` makes the same filter of."""
    match wanted:
        case Has(field, value):
            text = f"{field} = {_quoted(value)}"
        case Not(Has(field, value)):
            text = f"{field} != {_quoted(value)}"
        case Present(field):
            text = f"{field}:*"
        case Before(time):
            text = f'time < "{time}"'
        case Not(Before(time)):
            text = f'time >= "{time}"'
        case Not(operand):
            text = f"NOT {_negatable(operand)}"
        case And(operands):
            text = " AND ".join(map(_enclosed, operands))
        case Or(operands):
            text = " OR ".join(map(_enclosed, operands))
    return text


def both(*wanted: Filter) -> Filter:
    """Return the filter that finds what all of `wanted` find."""
    operands = [
        operand for part in wanted for operand in (part.operands if isinstance(part, And) else (part,))
    ]
    return operands[0] if len(operands) == 1 else And(tuple(operands))


def since(moment: datetime) -> Filter:
    """Return the filter for entries not before `moment`."""
    return Not(Before(rfc3339(moment)))


def until(moment: datetime) -> Filter:
    """Return the filter for entries before `moment`."""
    return Before(rfc3339(moment))


def disclosed_filter(wanted: Filter, is_known: Callable[[Has], bool]) -> str:
    """Return the canonical text of `wanted` as it may stand in an entry of the log.

    A value for which `is_known` is false could be anything, an identifier too; `(unknown)` stands in
    its place.
    """

    def disclosed(part: Filter) -> Filter:
        match part:
            case Has(field) if field is not Field.KIND and not is_known(part):
                part = Has(field, UNKNOWN)
            case Not(operand):
                part = Not(disclosed(operand))
            case And(operands):
                part = And(tuple(map(disclosed, operands)))
            case Or(operands):
                part = Or(tuple(map(disclosed, operands)))
        return part

    return format_filter(disclosed(wanted))


def _enclosed(part: Filter) -> str:
    text = format_filter(part)
    return f"({text})" if isinstance(part, And | Or) else text


def _negatable(part: Filter) -> str:
    """Return the text of `part` as it may stand after NOT, where the grammar has no second one."""
    text = _enclosed(part)
    return f"({text})" if text.startswith("NOT ") else text


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
