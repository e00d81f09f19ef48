"""The checks of contributed records, made by the page: one pass in C where nothing is wrong.

A checker is compiled once from a dataset's schema. A page is decoded into structs as a whole and
written again: if that gives the same bytes, every line is canonical and of the schema. Identifiers are
checked by the column. Only lines that fail are looked at one by one, to say what is wrong with them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from hashlib import blake2b
from typing import Annotated, Any, Final

import msgspec

from gateway.evidence.canonical import DECODE_ERRORS
from gateway.evidence.quality import UNREADABLE_ROWS, WHOLE_RECORD, RowReason
from gateway.identifiers import IdentifierError, IdentifierKind, identifier_kind
from gateway.model import Dataset, Field, FieldType

MAX_RECORD_BYTES: Final = 64 * 1024
"""Of one record's line."""
TOKEN_BYTES: Final = 16

_MAX_SAFE_INTEGER: Final = 2**53 - 1
_Integer = Annotated[int, msgspec.Meta(ge=-_MAX_SAFE_INTEGER, le=_MAX_SAFE_INTEGER)]
_TYPES: Final[Mapping[FieldType, Any]] = {
    FieldType.STRING: str,
    FieldType.INTEGER: _Integer,
    FieldType.NUMBER: _Integer | float,
    FieldType.BOOLEAN: bool,
    FieldType.DATE: date,
}
_ESCAPED_CONTROLS: Final = re.compile(rb"\\(?:u00|b|f)")
_CONTROLS: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]")
_FORMULA_SOMEWHERE: Final = re.compile(rb':"(?:[=+@-]|\\[tr])')
_FORMULA: Final = re.compile(r"[=@\t\r]|[+-](?![0-9 .,()/-]*\Z)")
"""What spreadsheets take for a formula, less what is a number or a telephone's."""

_encode: Final = msgspec.json.Encoder().encode
_encode_lines: Final = msgspec.json.Encoder().encode_lines

RowProblem = tuple[str, RowReason]
"""Field (empty: the whole record) and what is wrong."""


@dataclass(frozen=True, slots=True)
class CheckedPage:
    """What the checks found in a page, before records of other pages are looked at."""

    rows: int
    valid: list[int]
    """Positions of the valid records, rising."""
    tokens: list[bytes]
    """For each valid record its key, as a keyed digest: equal keys have equal tokens."""
    days: list[date | None]
    """For each valid record the day by which freshness is told; empty if there is no promise."""
    problems: dict[int, list[RowProblem]]
    """Position of each record that is not valid to what is wrong with it."""
    flagged: dict[int, list[str]] = field(default_factory=dict)
    """Position of a record to the fields that a spreadsheet would take for a formula."""


class RecordChecker:
    """Checks records of one dataset. Safe from any thread."""

    def __init__(self, dataset: Dataset, key: Sequence[str], secret: bytes) -> None:
        """Take the schema, the fields that name a record (none: all of it), and the key of the tokens."""
        self._fields = dataset.fields
        self._names = tuple(sorted(dataset.fields))
        self._required = {name for name in self._names if dataset.fields[name].required or name in key}
        self._attributes = {name: f"f{position}" for position, name in enumerate(self._names)}
        self._types = {name: _TYPES[dataset.fields[name].type] for name in self._names}
        form = self._form()
        self._decode = msgspec.json.Decoder(form).decode
        self._decode_lines = msgspec.json.Decoder(form).decode_lines
        self._identifiers = [
            (name, self._attributes[name], identifier_kind(kind))
            for name in self._names
            if (kind := dataset.fields[name].identifier) is not None
        ]
        self._texts = [
            (name, self._attributes[name])
            for name in self._names
            if dataset.fields[name].type is FieldType.STRING
        ]
        self._key = [(name, self._attributes[name]) for name in key]
        self.promise: Final = dataset.freshness
        promised = dataset.freshness.field if dataset.freshness is not None else ""
        self._day = self._attributes.get(promised, "")
        self._secret = secret

    def check(self, lines: Sequence[bytes]) -> CheckedPage:
        """Return what is found in `lines`, the records of one page without line ends."""
        problems: dict[int, list[RowProblem]] = {}
        positions, rows = self._read(lines, problems)
        self._check_controls(lines, positions, rows, problems)
        self._check_identifiers(positions, rows, problems)
        self._check_keys(positions, rows, problems)
        if problems:
            kept = [at for at, position in enumerate(positions) if position not in problems]
            positions, rows = [positions[at] for at in kept], [rows[at] for at in kept]
        return CheckedPage(
            rows=len(lines),
            valid=positions,
            tokens=self._tokens(lines, positions, rows),
            days=[_value(row, self._day) for row in rows] if self._day else [],
            problems=dict(sorted(problems.items())),
            flagged=self._formulas(lines, positions, rows),
        )

    def _form(self) -> type[msgspec.Struct]:
        """Return a struct that takes exactly the records of the schema and writes them canonically."""
        members: list[tuple[str, Any] | tuple[str, Any, Any]] = []
        for name in self._names:
            attribute, kind = self._attributes[name], self._types[name]
            if name in self._required:
                members.append((attribute, kind))
            else:
                members.append((attribute, kind | None | msgspec.UnsetType, msgspec.UNSET))
        return msgspec.defstruct(
            "Record",
            members,
            rename={attribute: name for name, attribute in self._attributes.items()},
            forbid_unknown_fields=True,
            kw_only=True,
            gc=False,
        )

    def _read(
        self, lines: Sequence[bytes], problems: dict[int, list[RowProblem]]
    ) -> tuple[list[int], list[Any]]:
        """Return the records that fit the schema and are written canonically, with their positions."""
        text = b"\n".join(lines) + b"\n"
        if max(map(len, lines), default=0) <= MAX_RECORD_BYTES:
            try:
                rows = self._decode_lines(text)
                if len(rows) == len(lines) and _encode_lines(rows) == text:
                    return list(range(len(rows))), rows
            except DECODE_ERRORS:
                pass
        positions, rows = [], []
        for position, line in enumerate(lines):
            row = self._read_line(line)
            if row is None:
                problems[position] = self._explain(line)
            else:
                positions.append(position)
                rows.append(row)
        return positions, rows

    def _read_line(self, line: bytes) -> Any:
        if len(line) > MAX_RECORD_BYTES:
            return None
        try:
            row = self._decode(line)
        except DECODE_ERRORS:
            return None
        return row if _encode(row) == line else None

    def _explain(self, line: bytes) -> list[RowProblem]:
        """Return what is wrong with a line; no name or text that the contributor wrote stands in it."""
        if len(line) > MAX_RECORD_BYTES:
            return [(WHOLE_RECORD, RowReason.OVERSIZE)]
        try:
            line.decode()
        except UnicodeDecodeError:
            return [(WHOLE_RECORD, RowReason.ENCODING)]
        try:
            record = msgspec.json.decode(line)
        except DECODE_ERRORS:
            return [(WHOLE_RECORD, RowReason.MALFORMED)]
        if isinstance(record, str) and record in UNREADABLE_ROWS:
            return [(WHOLE_RECORD, RowReason(record))]
        if not isinstance(record, dict):
            return [(WHOLE_RECORD, RowReason.MALFORMED)]
        found: list[RowProblem] = []
        if not record.keys() <= self._fields.keys():
            found.append((WHOLE_RECORD, RowReason.UNKNOWN_FIELD))
        for name in self._names:
            reason = self._explain_field(self._fields[name], record.get(name))
            if reason is not None:
                found.append((name, reason))
        return found or [(WHOLE_RECORD, RowReason.NOT_CANONICAL)]

    def _explain_field(self, described: Field, value: Any) -> RowReason | None:
        if value is None:
            return RowReason.MISSING if described.name in self._required else None
        try:
            msgspec.convert(value, self._types[described.name])
        except msgspec.ValidationError:
            is_integer = isinstance(value, int) and not isinstance(value, bool)
            if described.type in {FieldType.INTEGER, FieldType.NUMBER} and is_integer:
                return RowReason.RANGE
            if described.type is FieldType.DATE and isinstance(value, str):
                return RowReason.DATE
            return RowReason.TYPE
        if described.identifier is not None:
            return _unrecognised(identifier_kind(described.identifier), value)
        return None

    def _check_controls(
        self,
        lines: Sequence[bytes],
        positions: list[int],
        rows: list[Any],
        problems: dict[int, list[RowProblem]],
    ) -> None:
        search = _ESCAPED_CONTROLS.search
        for position, row in zip(positions, rows, strict=True):
            if search(lines[position]) is None:
                continue
            for name, attribute in self._texts:
                value = getattr(row, attribute)
                if isinstance(value, str) and _CONTROLS.search(value):
                    problems.setdefault(position, []).append((name, RowReason.CONTROL_CHARACTER))

    def _check_identifiers(
        self, positions: list[int], rows: list[Any], problems: dict[int, list[RowProblem]]
    ) -> None:
        for name, attribute, kind in self._identifiers:
            values = [_value(row, attribute) for row in rows]
            for at in kind.unrecognised(values):
                if values[at] is not None:
                    problems.setdefault(positions[at], []).append((name, _identifier(kind, values[at])))

    def _check_keys(
        self, positions: list[int], rows: list[Any], problems: dict[int, list[RowProblem]]
    ) -> None:
        for name, attribute in self._key:
            for position, row in zip(positions, rows, strict=True):
                if getattr(row, attribute) == "":
                    problems.setdefault(position, []).append((name, RowReason.MISSING))

    def _tokens(self, lines: Sequence[bytes], positions: list[int], rows: list[Any]) -> list[bytes]:
        key_texts: Iterable[bytes]
        if self._key:
            columns = [[getattr(row, attribute) for row in rows] for _, attribute in self._key]
            key_texts = map(_encode, zip(*columns, strict=True))
        else:
            key_texts = (lines[position] for position in positions)
        # A copy of the keyed state costs half of what a new one does.
        keyed = blake2b(key=self._secret, digest_size=TOKEN_BYTES)
        tokens = []
        for text in key_texts:
            digest = keyed.copy()
            digest.update(text)
            tokens.append(digest.digest())
        return tokens

    def _formulas(
        self, lines: Sequence[bytes], positions: list[int], rows: list[Any]
    ) -> dict[int, list[str]]:
        flagged: dict[int, list[str]] = {}
        search = _FORMULA_SOMEWHERE.search
        for position, row in zip(positions, rows, strict=True):
            if search(lines[position]) is None:
                continue
            names = [name for name, attribute in self._texts if _is_formula(getattr(row, attribute))]
            if names:
                flagged[position] = names
        return flagged


def _is_formula(value: Any) -> bool:
    return isinstance(value, str) and _FORMULA.match(value) is not None


def _value(row: Any, attribute: str) -> Any:
    value = getattr(row, attribute)
    return None if value is msgspec.UNSET else value


def _unrecognised(kind: IdentifierKind, value: str) -> RowReason | None:
    return _identifier(kind, value) if kind.unrecognised([value]) else None


def _identifier(kind: IdentifierKind, value: str) -> RowReason:
    try:
        kind.normalise(value)
    except IdentifierError as error:
        return RowReason(f"identifier-{error.problem.value}")
    return RowReason.IDENTIFIER_SPELLING
