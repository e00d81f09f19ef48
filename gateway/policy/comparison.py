"""How two decisions on one question differ, in the words of those who answer for it.

    newly allowed, newly denied     the answer itself
    weakened                        allowed by both, and the second gives more: a treatment that hides less, a
                                    duty that binds less or is gone
    strengthened                    allowed by both, and the second gives less

What cannot be ordered, such as another way of coarsening a field, counts as weakened: somebody must look.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from gateway.model import Decision, Obligation, Treatment
from gateway.policy.obligations import TREATMENT_ORDER

Parameters = Mapping[str, str | int]


class ChangeKind(StrEnum):
    """In which direction a decision has changed."""

    ALLOWED = "newly_allowed"
    DENIED = "newly_denied"
    WEAKENED = "weakened"
    STRENGTHENED = "strengthened"


@dataclass(frozen=True, slots=True, order=True)
class Divergence:
    """One direction in which a second decision differs from a first on the same question."""

    kind: ChangeKind
    rules: tuple[str, ...]
    """Ids of the rules that make the difference: the conditions that one denies by; or the grounds that only
    one of them names, and all of them if both name the same."""
    details: tuple[str, ...] = ()
    """Each field and duty concerned, such as `capital: generalise -> release`."""


_DROP: Final = Obligation(Treatment.DROP)
_RANK: Final = {treatment: rank for rank, treatment in enumerate(TREATMENT_ORDER)}
_GROWING, _SHRINKING = 1, -1
_STRICTER: Final[Mapping[str, Mapping[str, int]]] = MappingProxyType(
    {
        "smallest_cohort": {"records": _GROWING},
        "round_counts": {"to": _GROWING},
        "limit_records": {"records": _SHRINKING},
        "limit_volume": {"records": _SHRINKING},
        "delay": {"seconds": _GROWING},
        "notify_subject": {"within_days": _SHRINKING},
        "acknowledge": {"within_hours": _SHRINKING},
        "retention": {"years": _SHRINKING},
        "one_bit": {},
    }
)
"""Duty and parameter to the direction in which it becomes stricter."""
_MASK: Final[Mapping[str, int]] = MappingProxyType({"keep_first": _SHRINKING, "keep_last": _SHRINKING})
_COARSER_DATES: Final = ("month", "year")


def compare(before: Decision, after: Decision) -> tuple[Divergence, ...]:
    """Return how `after` differs from `before`; empty if it releases the same in the same form.

    Other reasons for a denial, other grounds for the same release and another end are no difference.
    """
    if before.allow != after.allow:
        denied = before if after.allow else after
        kind = ChangeKind.ALLOWED if after.allow else ChangeKind.DENIED
        return (Divergence(kind, denied.rule_ids),)
    if not before.allow:
        return ()
    told: dict[ChangeKind, list[str]] = {ChangeKind.WEAKENED: [], ChangeKind.STRENGTHENED: []}
    for kind, detail in (*_changed_fields(before, after), *_changed_duties(before, after)):
        told[kind].append(detail)
    rules = tuple(sorted({*before.rule_ids} ^ {*after.rule_ids})) or after.rule_ids
    return tuple(Divergence(kind, rules, tuple(details)) for kind, details in told.items() if details)


def _changed_fields(before: Decision, after: Decision) -> Iterator[tuple[ChangeKind, str]]:
    for name in sorted({*before.obligations, *after.obligations}):
        old, new = before.obligations.get(name, _DROP), after.obligations.get(name, _DROP)
        if old == new:
            continue
        if old.treatment is not new.treatment:
            is_stricter = _RANK[new.treatment] > _RANK[old.treatment]
        elif new.treatment is Treatment.MASK:
            is_stricter = _is_stricter(_MASK, old.params, new.params)
        else:
            is_stricter = _is_coarser(str(old.params.get("method")), str(new.params.get("method")))
        yield _direction(is_stricter), f"{name}: {show_obligation(old)} -> {show_obligation(new)}"


def _changed_duties(before: Decision, after: Decision) -> Iterator[tuple[ChangeKind, str]]:
    for name in sorted({*before.duties, *after.duties}):
        old, new = before.duties.get(name), after.duties.get(name)
        if old == new:
            continue
        if old is None or new is None:
            is_stricter = old is None
        else:
            is_stricter = _is_stricter(_STRICTER.get(name, {}), old, new)
        shown = [show_parameters(params) if params is not None else "none" for params in (old, new)]
        yield _direction(is_stricter), f"duty {name}: {shown[0]} -> {shown[1]}"


def _direction(is_stricter: bool) -> ChangeKind:
    return ChangeKind.STRENGTHENED if is_stricter else ChangeKind.WEAKENED


def _is_stricter(directions: Mapping[str, int], old: Parameters, new: Parameters) -> bool:
    """Return whether every parameter that differs is known, and went in its stricter direction."""
    for name in {*old, *new}:
        first, second = old.get(name, 0), new.get(name, 0)
        if first == second:
            continue
        if name not in directions or not isinstance(first, int) or not isinstance(second, int):
            return False
        if (second - first) * directions[name] < 0:
            return False
    return True


def _is_coarser(old: str, new: str) -> bool:
    """Return whether a value coarsened by `new` surely tells no more than one by `old`."""
    if old in _COARSER_DATES and new in _COARSER_DATES:
        return _COARSER_DATES.index(new) > _COARSER_DATES.index(old)
    (first, _, narrow), (second, _, wide) = old.partition(":"), new.partition(":")
    if first == second == "band" and narrow.isdecimal() and wide.isdecimal():
        # Only bands that contain the old ones whole: others can be cut against them.
        return int(wide) % int(narrow) == 0
    return False


def show_obligation(obligation: Obligation) -> str:
    """Return the treatment with its parameters, such as `generalise (band:1000)`."""
    if not obligation.params:
        return obligation.treatment.value
    return f"{obligation.treatment.value} ({show_parameters(obligation.params)})"


def show_parameters(params: Parameters) -> str:
    """Return parameters as people read them, such as `records 5`; `yes` where there are none."""
    if set(params) == {"method"}:
        return str(params["method"])
    return ", ".join(f"{name} {value}" for name, value in sorted(params.items())) or "yes"
