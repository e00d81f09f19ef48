"""Duties: what a decision demands of the exchange as a whole, read strictly from what policy said."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

import msgspec

_Positive = Annotated[int, msgspec.Meta(ge=1, le=10**9)]
_FieldName = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]

MAX_COHORT: Final = 10_000
"""The largest cohort that can be asked for: so many subjects are looked for before anything leaves."""


class SmallestCohort(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of an answer with fewer subjects than this, nothing leaves."""

    records: Annotated[int, msgspec.Meta(ge=1, le=MAX_COHORT)]


class RoundCounts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Every count that is told is rounded to the nearest multiple."""

    to: _Positive


class LimitRecords(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An answer, all its pages together, has at most so many records."""

    records: _Positive


class LimitVolume(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A consumer receives at most so many records for one purpose on one day (UTC)."""

    records: _Positive
    per: Literal["day"] = "day"


class Delay(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The answer is held for so long."""

    seconds: Annotated[int, msgspec.Meta(ge=1, le=86400)]


class NotifySubject(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The subjects must be told within so many days."""

    within_days: Annotated[int, msgspec.Meta(ge=1, le=3650)]


class Acknowledge(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The consumer must acknowledge the release within so many hours.

    At most the seven days for which a release can be acknowledged (`gateway.audit.acknowledgement`).
    """

    within_hours: Annotated[int, msgspec.Meta(ge=1, le=168)]


class OneBit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The answer is yes or no: no record, no count, no field."""


class Retention(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Records whose date in `field` lies more than `years` years back never leave."""

    field: _FieldName
    years: Annotated[int, msgspec.Meta(ge=1, le=9999)]


class Duties(msgspec.Struct, frozen=True, kw_only=True):
    """The duties of one exchange; None where there is none of a kind."""

    smallest_cohort: SmallestCohort | None = None
    round_counts: RoundCounts | None = None
    limit_records: LimitRecords | None = None
    limit_volume: LimitVolume | None = None
    delay: Delay | None = None
    notify_subject: NotifySubject | None = None
    acknowledge: Acknowledge | None = None
    one_bit: OneBit | None = None
    retention: Retention | None = None


_FORMS: Final[Mapping[str, type[msgspec.Struct]]] = MappingProxyType(
    {
        "smallest_cohort": SmallestCohort,
        "round_counts": RoundCounts,
        "limit_records": LimitRecords,
        "limit_volume": LimitVolume,
        "delay": Delay,
        "notify_subject": NotifySubject,
        "acknowledge": Acknowledge,
        "one_bit": OneBit,
        "retention": Retention,
    }
)

DUTY_NAMES: Final = tuple(sorted(_FORMS))
"""The names of all duties."""

NO_DUTIES: Final = Duties()

DELIVERIES_WITHHELD: Final = frozenset({"limit_records", "one_bit", "round_counts"})
"""Duties under which a receipt does not hold the provider's own statements: they tell exact counts, and of
an answer that was cut short there is no last one."""


def read_duties(given: Mapping[str, Mapping[str, Any]]) -> Duties:
    """Return the duties in a decision; raise `ValueError` for an unknown one or parameters not its own.

    Numbers are whole, within the bounds above; nothing is converted and nothing is made up.
    """
    if not given:
        return NO_DUTIES
    read: dict[str, Any] = {}
    for name, parameters in given.items():
        form = _FORMS.get(name)
        if form is None:
            raise ValueError("there is no duty of this name")
        try:
            read[name] = msgspec.convert(parameters, form)
        except msgspec.ValidationError as error:
            raise ValueError(f"the duty {name} has other parameters") from error
    return Duties(**read)


def strictest(each: Sequence[Duties]) -> Duties:
    """Return what satisfies every one of `each`: of the same duty the strictest.

    Retention binds the records of one dataset and is left out: whoever reads that dataset keeps it.
    """

    def hardest(name: str, number: str, choose: Callable[[Iterable[int]], int]) -> Any:
        laid = [duty for duties in each if (duty := getattr(duties, name)) is not None]
        if not laid:
            return None
        return msgspec.structs.replace(laid[0], **{number: choose(getattr(duty, number) for duty in laid)})

    found = Duties(
        smallest_cohort=hardest("smallest_cohort", "records", max),
        round_counts=hardest("round_counts", "to", max),
        limit_records=hardest("limit_records", "records", min),
        limit_volume=hardest("limit_volume", "records", min),
        delay=hardest("delay", "seconds", max),
        notify_subject=hardest("notify_subject", "within_days", min),
        acknowledge=hardest("acknowledge", "within_hours", min),
        one_bit=next((duties.one_bit for duties in each if duties.one_bit is not None), None),
    )
    return NO_DUTIES if found == NO_DUTIES else found
