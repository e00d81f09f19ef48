"""The quality report of a contribution: what was accepted, what was rejected and why. Never a value."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

MAX_EXAMPLES: Final = 100
"""Rejected rows that a report names; all of them are counted."""

WHOLE_RECORD: Final = ""
"""Stands for the field where a problem is not one field's."""


class Choice(StrEnum):
    """What becomes of a batch in which some records are rejected."""

    ALL_OR_NOTHING = "all-or-nothing"
    ACCEPT_VALID = "accept-valid"


class RowReason(StrEnum):
    """Why a record is rejected. Codes are public interface; docs/contributing.md explains each."""

    MALFORMED = "malformed"
    """The line is no JSON object."""
    ENCODING = "encoding"
    """It is not UTF-8."""
    NOT_CANONICAL = "not-canonical"
    """It is not written in the one form there is: members sorted, none twice, no white space."""
    OVERSIZE = "oversize"
    UNKNOWN_FIELD = "unknown-field"
    MISSING = "missing"
    """A required field, or one of the key, is absent, null or empty."""
    TYPE = "type"
    DATE = "date"
    """The text is no day of the calendar, `YYYY-MM-DD`."""
    RANGE = "range"
    """A whole number beyond 2^53-1 either way."""
    CONTROL_CHARACTER = "control-character"
    """A text holds NUL or another control character (tabs and line ends are none)."""
    DUPLICATE = "duplicate"
    """An earlier record of the batch has the same key."""
    IDENTIFIER_LENGTH = "identifier-length"
    IDENTIFIER_ALPHABET = "identifier-alphabet"
    IDENTIFIER_CHECK_DIGIT = "identifier-check-digit"
    IDENTIFIER_DATE = "identifier-date"
    IDENTIFIER_AREA = "identifier-area"
    IDENTIFIER_SPELLING = "identifier-spelling"
    """Valid, but not in its canonical spelling."""
    ROW_OVERSIZE = "row-oversize"
    ROW_COLUMNS = "row-columns"
    ROW_MALFORMED = "row-malformed"


UNREADABLE_ROWS: Final = frozenset(
    {RowReason.ROW_OVERSIZE.value, RowReason.ROW_COLUMNS.value, RowReason.ROW_MALFORMED.value}
)
"""What a contributor may write, as a JSON string, in place of a row that it cannot turn into a record."""


class Example(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One rejected row."""

    row: int
    """Number of the record in the batch, from 1."""
    field: str
    reason: str


class QualityReport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the checks found in a batch. A row may have several problems; it is rejected once."""

    rows: int = 0
    accepted: int = 0
    rejected: int = 0
    duplicates: int = 0
    """Of the rejected, those that repeat a key of the batch."""
    problems: dict[str, dict[str, int]] = {}
    """Field (empty: the record as a whole) to reason to how often."""
    examples: tuple[Example, ...] = ()
    """The first rejected rows, at most `MAX_EXAMPLES`."""
    flagged: dict[str, int] = {}
    """Field to how many of its accepted values a spreadsheet would take for a formula; kept as text."""
    newest: str | None = None
    """The latest day accepted in the field by which freshness is promised."""
    days_late: int | None = None
    """By how many days that is older than promised when the batch was closed; None without a promise."""
    late: int | None = None
    """How many of the accepted were older than promised when they came in; None without a promise."""
