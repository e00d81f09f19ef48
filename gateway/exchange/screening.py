"""What is looked at in records before any of them may leave: how old they are, whom they are about.

Works on the decoded rows of a page, a column at a time, and on fields that the recipient may never see.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

import msgspec

from gateway.exchange.treatments import ObligationError
from gateway.identifiers import IdentifierKind, identifier_kind
from gateway.model import Dataset, Duties, FieldType

_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


@dataclass(frozen=True, slots=True)
class Screen:
    """How the rows of one plan are looked at. Rows are structs; names are those of their attributes."""

    dated: str = ""
    """Where the date stands that tells a record's age; empty without a duty of retention."""
    as_date: bool = False
    """Whether that field is a date to those who treat and release it, not a text."""
    years: int = 0
    subject: str = ""
    """Where the identifier stands that tells subjects apart; empty where whole records must do."""
    kind: IdentifierKind | None = None
    hidden: tuple[str, ...] = ()
    """Fetched for this look only."""

    def retained(self, rows: list[msgspec.Struct], today: date | None) -> list[msgspec.Struct]:
        """Return the rows whose time of retention is not over `today`; without a readable date it is."""
        if not self.dated:
            return rows
        if today is None:
            raise RuntimeError("what may be retained depends on the day")
        oldest = oldest_retained(today, self.years)
        kept = []
        for row in rows:
            dated = read_date(getattr(row, self.dated))
            if dated is None or dated < oldest:
                continue
            if self.as_date:
                setattr(row, self.dated, dated)
            kept.append(row)
        return kept

    def subjects(self, rows: Sequence[msgspec.Struct]) -> frozenset[str | bytes] | None:
        """Return the identifiers of the subjects; None if they cannot be told apart by one.

        Who has no valid identifier is not counted: it may be anybody, also somebody counted already.
        """
        if self.kind is None:
            return None
        values = self.kind.check_column([getattr(row, self.subject) for row in rows]).values
        return frozenset(value for value in values if value is not None)

    def hide(self, rows: Sequence[msgspec.Struct]) -> None:
        """Take from each row what was fetched for this look only: it is not written."""
        for attribute in self.hidden:
            for row in rows:
                setattr(row, attribute, msgspec.UNSET)


def screen_of(
    dataset: Dataset, duties: Duties, attributes: Mapping[str, str], hidden: tuple[str, ...]
) -> Screen:
    """Return how records are looked at under `duties`; raise `ObligationError` if they cannot be.

    `attributes` are those of the fields fetched, by name.
    """
    dated, as_date, years = "", False, 0
    if duties.retention is not None:
        dated, as_date = _dated(dataset, duties.retention.field, attributes)
        years = duties.retention.years
    subject, kind = "", None
    if duties.smallest_cohort is not None:
        for name in subject_field(dataset):
            subject, kind = attributes[name], identifier_kind(dataset.fields[name].identifier or "")
    return Screen(dated, as_date, years, subject, kind, hidden)


def subject_field(dataset: Dataset) -> list[str]:
    """Return the field that tells the dataset's subjects apart, in a list; an empty one if there is none.

    It is the first that holds identifiers of persons or organisations, those before that every record
    must have.
    """
    named = [
        field
        for field in dataset.fields.values()
        if field.identifier is not None and identifier_kind(field.identifier).pseudonymisable
    ]
    required = [field for field in named if field.required]
    return [field.name for field in (*required, *named)][:1]


def oldest_retained(today: date, years: int) -> date:
    """Return the first day of which records are still within `years` years, `today`.

    On 29 February, a day that the year in question may lack, it is 1 March of that year.
    """
    year = max(today.year - years, date.min.year)
    try:
        return today.replace(year=year)
    except ValueError:
        return date(year, 3, 1)


def newest_day(rows: Sequence[msgspec.Struct], attribute: str) -> date | None:
    """Return the latest date in the column `attribute` of `rows`; None without one."""
    days = (getattr(row, attribute) for row in rows)
    return max((day for day in days if isinstance(day, date)), default=None)


def read_date(value: Any) -> date | None:
    """Return the day that `value` names as `YYYY-MM-DD`; None for anything else."""
    if not isinstance(value, str) or _DATE.fullmatch(value) is None:
        return None
    try:
        return date.fromisoformat(value)
    except ValueError:
        return None


def _dated(dataset: Dataset, name: str, attributes: Mapping[str, str]) -> tuple[str, bool]:
    described = dataset.fields.get(name)
    if described is None or described.type not in {FieldType.DATE, FieldType.STRING}:
        raise ObligationError("Policy measures how old records are by a field that is no date.")
    return attributes[name], described.type is FieldType.DATE
