"""Reading a filter in the style of AIP-160.

The grammar is a subset of AIP-160 in which every text has one reading (docs/formats/filter.md):

    filter      = [ expression ]
    expression  = term { "AND" term } | term { "OR" term }
    term        = [ "NOT" | "-" ] ( "(" expression ")" | restriction )
    restriction = field operator value

AND and OR stand together only with parentheses: AIP-160 lets OR bind tighter, most people read it the
other way round, and an officer must get what the filter says to both.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Final

from gateway.audit.filter import EVERYTHING, UNKNOWN, And, Before, Field, Filter, Has, Not, Or, Present
from gateway.clock import parse_rfc3339, rfc3339
from gateway.errors import GatewayError, Reason
from gateway.model.entry import EntryKind
from gateway.model.names import NAME_PATTERN, dataset_name, parse_dataset_name

MAX_LENGTH: Final = 2000
"""Characters of a filter."""
MAX_DEPTH: Final = 16
"""Parentheses and negations within each other."""
MAX_RESTRICTIONS: Final = 64
MAX_VALUE_LENGTH: Final = 200

_SPACE: Final = re.compile(r"[ \t\r\n]*")
_WORD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_OPERATOR: Final = re.compile(r"<=|>=|!=|[=<>:]")
_STRING: Final = re.compile(r'"((?:[^"\\]|\\["\\])*)"|' r"'((?:[^'\\]|\\['\\])*)'")
_PLAIN: Final = re.compile(r"[^ \t\r\n()\"'=<>!]+")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_TIME: Final = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)", re.ASCII | re.IGNORECASE
)
_REASON: Final = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
_EXCHANGE: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_CONTRACT: Final = re.compile(r"sha256:[0-9a-f]{64}")
_KINDS: Final = frozenset(kind.value for kind in EntryKind)
_SUBJECTS: Final = frozenset(kind.value.partition(".")[0] for kind in EntryKind)
_MICROSECOND: Final = timedelta(microseconds=1)
_FIELDS: Final = "time, " + ", ".join(Field)


class FilterError(GatewayError):
    """The text is no filter. `details` has `position`, counted in characters from 1."""

    reason = Reason.REQUEST_MALFORMED


VersionsOf = Callable[[str], Sequence[str]]
"""Takes the name of a contract, or of one version; returns the identities of its versions, if it is known."""


def parse_filter(text: str, versions_of: VersionsOf | None = None) -> Filter:
    """Return the filter that `text` writes; the empty text finds everything. Raises `FilterError`.

    Entries know a contract by the identity of its version. With `versions_of`, its name may be written as
    well, and stands for any of its versions.
    """
    if len(text) > MAX_LENGTH:
        raise FilterError(f"A filter has at most {MAX_LENGTH} characters.", position=MAX_LENGTH + 1)
    return _Parser(text, versions_of).parse()


class _Parser:
    """Recursive descent over the characters; `_at` is where it stands."""

    def __init__(self, text: str, versions_of: VersionsOf | None) -> None:
        self._text = text
        self._versions_of = versions_of
        self._at = 0
        self._restrictions = 0

    def parse(self) -> Filter:
        self._skip()
        if self._at == len(self._text):
            return EVERYTHING
        found = self._expression(0)
        if self._at < len(self._text):
            raise self._wrong("a parenthesis is closed that was not opened")
        return found

    def _expression(self, depth: int) -> Filter:
        operands = [self._term(depth)]
        joined = ""
        while self._at < len(self._text) and self._text[self._at] != ")":
            word = self._peek_word()
            if word not in {"AND", "OR"}:
                raise self._wrong("AND or OR is expected between two conditions, in capitals")
            if joined and word != joined:
                raise self._wrong(
                    "AND and OR stand together only with parentheses, such as a AND (b OR c): "
                    "put them around what belongs together"
                )
            joined = word
            self._advance(len(word))
            operands.append(self._term(depth))
        if not joined:
            return operands[0]
        return And(tuple(operands)) if joined == "AND" else Or(tuple(operands))

    def _term(self, depth: int) -> Filter:
        if depth > MAX_DEPTH:
            raise self._wrong(f"at most {MAX_DEPTH} parentheses and negations stand within each other")
        if self._text.startswith("-", self._at):
            self._advance(1)
            return Not(self._simple(depth + 1))
        if self._peek_word() == "NOT":
            self._advance(len("NOT"))
            return Not(self._simple(depth + 1))
        return self._simple(depth)

    def _simple(self, depth: int) -> Filter:
        if not self._text.startswith("(", self._at):
            return self._restriction()
        opened = self._at
        self._advance(1)
        found = self._expression(depth + 1)
        if not self._text.startswith(")", self._at):
            raise self._wrong("this parenthesis is never closed", opened)
        self._advance(1)
        return found

    def _restriction(self) -> Filter:
        self._restrictions += 1
        if self._restrictions > MAX_RESTRICTIONS:
            raise self._wrong(f"a filter has at most {MAX_RESTRICTIONS} conditions")
        word = self._peek_word()
        if word in {"AND", "OR", "NOT"} or not word:
            raise self._wrong(f"a condition is expected: one of {_FIELDS}, an operator, and a value")
        if word != "time" and word not in set(Field):
            raise self._wrong(f"entries are found by {_FIELDS}; there is no other field")
        self._advance(len(word))
        operator_at, found = self._at, _OPERATOR.match(self._text, self._at)
        if found is None:
            raise self._wrong("an operator is expected: = != < <= > >= or :")
        operator = found[0]
        self._advance(len(operator))
        value_at = self._at
        value, is_quoted = self._value()
        if word == "time":
            return self._time(operator, value, (operator_at, value_at))
        field = Field(word)
        if operator not in {"=", "!=", ":"}:
            raise self._wrong("< <= > and >= compare times only; use = != or : here", operator_at)
        if operator == ":" and value == "*" and not is_quoted:
            return Present(field)
        try:
            has = self._has(field, value)
        except ValueError as error:
            raise self._wrong(str(error), value_at) from None
        return Not(has) if operator == "!=" else has

    def _has(self, field: Field, value: str) -> Filter:
        is_name = field is Field.CONTRACT and value != UNKNOWN and _CONTRACT.fullmatch(value) is None
        if not is_name or self._versions_of is None:
            return Has(field, _normalised(field, value))
        versions = self._versions_of(value)
        if not versions:
            raise ValueError(
                "no contract of this name is kept here; write a name that is, or a version's identity"
            )
        found = tuple(Has(field, version) for version in versions)
        return found[0] if len(found) == 1 else Or(found)

    def _time(self, operator: str, value: str, places: tuple[int, int]) -> Filter:
        if operator == ":":
            raise self._wrong("a time is compared with = != < <= > or >=", places[0])
        try:
            first, end = _span(value)
        except (ValueError, OverflowError):
            raise self._wrong(
                "a date or a time with its offset is expected, such as 2026-11-21 or 2026-11-21T08:30:00Z",
                places[1],
            ) from None
        within = And((Not(Before(first)), Before(end)))
        by_operator: dict[str, Filter] = {
            "<": Before(first),
            "<=": Before(end),
            ">": Not(Before(end)),
            ">=": Not(Before(first)),
            "=": within,
            "!=": Not(within),
        }
        return by_operator[operator]

    def _value(self) -> tuple[str, bool]:
        """Return the value that stands here, and whether it was quoted."""
        found = _STRING.match(self._text, self._at)
        if found is not None:
            value, is_quoted = re.sub(r"\\(.)", r"\1", found[1] if found[1] is not None else found[2]), True
        else:
            if self._text[self._at : self._at + 1] in {'"', "'"}:
                raise self._wrong('this text in quotes is never closed, or has a \\ before more than " or \\')
            found = _PLAIN.match(self._text, self._at)
            if found is None:
                raise self._wrong("a value is expected; put it in quotes if it is more than one word")
            value, is_quoted = found[0], False
        if len(value) > MAX_VALUE_LENGTH or _CONTROL.search(value):
            raise self._wrong(f"a value has at most {MAX_VALUE_LENGTH} characters, all of them printable")
        self._advance(len(found[0]))
        return value, is_quoted

    def _peek_word(self) -> str:
        found = _WORD.match(self._text, self._at)
        return "" if found is None else found[0]

    def _advance(self, characters: int) -> None:
        self._at += characters
        self._skip()

    def _skip(self) -> None:
        found = _SPACE.match(self._text, self._at)
        assert found is not None
        self._at = found.end()

    def _wrong(self, what: str, at: int | None = None) -> FilterError:
        position = (self._at if at is None else at) + 1
        return FilterError(f"The filter is wrong at character {position}: {what}.", position=position)


def _span(value: str) -> tuple[str, str]:
    """Return the time that `value` begins at, and the first after it: a date is a whole day."""
    if _DATE.fullmatch(value):
        day = date.fromisoformat(value)
        first = datetime(day.year, day.month, day.day, tzinfo=UTC)
        return rfc3339(first), rfc3339(first + timedelta(days=1))
    if _TIME.fullmatch(value) is None:
        raise ValueError("not a time")
    first = parse_rfc3339(value.upper())
    return rfc3339(first), rfc3339(first + _MICROSECOND)


def _normalised(field: Field, value: str) -> str:
    """Return `value` as it stands in entries; raise `ValueError` that says what is expected."""
    if value == UNKNOWN and field is not Field.KIND:
        return value
    return _NORMAL[field](value)


def _kind(value: str) -> str:
    subject = value.removesuffix(".*")
    if value in _KINDS or (value.endswith(".*") and subject in _SUBJECTS):
        return value
    raise ValueError(f"a kind is expected: {', '.join(sorted(_KINDS))}, or all of a sort, such as exchange.*")


def _dataset(value: str) -> str:
    if re.fullmatch(rf"list-sets/{NAME_PATTERN}", value) is not None:
        return value
    member, slash, name = value.partition("/")
    short = dataset_name(member, name) if slash and "/" not in name else ""
    for text in (value, short):
        try:
            return dataset_name(*parse_dataset_name(text))
        except ValueError:
            continue
    raise ValueError(
        "a dataset is expected, such as registry/companies or members/registry/datasets/companies"
    )


def _member(value: str) -> str:
    member = value.removeprefix("members/")
    if re.fullmatch(NAME_PATTERN, member) is None:
        raise ValueError("the id of a member is expected, such as harbour-bank")
    return member


def _reason(value: str) -> str:
    if _REASON.fullmatch(value) is None:
        raise ValueError("a reason code is expected, such as PURPOSE_NOT_PERMITTED")
    return value


def _exchange(value: str) -> str:
    if _EXCHANGE.fullmatch(value) is None:
        raise ValueError("the id of an exchange is expected, a UUID in lower case")
    return value


def _contract(value: str) -> str:
    if _CONTRACT.fullmatch(value) is None:
        raise ValueError(
            "the identity of a contract's version is expected, sha256: and 64 digits (0-9, a-f) in lower case"
        )
    return value


def _name(value: str) -> str:
    if not value:
        raise ValueError("a name is expected; to find entries without one, write NOT tier:* or NOT purpose:*")
    return value


_NORMAL: Final[dict[Field, Callable[[str], str]]] = {
    Field.KIND: _kind,
    Field.MEMBER: _member,
    Field.CONSUMER: _member,
    Field.PROVIDER: _member,
    Field.DATASET: _dataset,
    Field.TIER: _name,
    Field.PURPOSE: _name,
    Field.REASON: _reason,
    Field.EXCHANGE: _exchange,
    Field.CONTRACT: _contract,
}
