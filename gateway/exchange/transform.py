"""Step 7: from what the provider delivered to what the recipient may have.

A plan is made once for a decision and applied to each page: decode and validate against the schema,
treat column by column, encode, digest. Nothing is done per record that can be done per page.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

import msgspec

from gateway.errors import GatewayError, Reason
from gateway.evidence.canonical import DECODE_ERRORS
from gateway.evidence.records import page_digest
from gateway.exchange.screening import Screen, newest_day, screen_of, subject_field
from gateway.exchange.treatments import ColumnTreatment, ObligationError, generalisation, keeping
from gateway.identifiers import AREA_CODE, CheckedColumn, IdentifierKind, identifier_kind
from gateway.model import Dataset, Decision, Duties, Field, FieldType, Obligation, Treatment, read_duties
from gateway.pseudonym import DomainPseudonymiser

_TYPES: Final[Mapping[FieldType, Any]] = {
    FieldType.STRING: str,
    FieldType.INTEGER: int,
    FieldType.NUMBER: float,
    FieldType.BOOLEAN: bool,
    FieldType.DATE: date,
}

_GENERALISED_TYPES: Final[Mapping[str, frozenset[FieldType]]] = {
    "year": frozenset({FieldType.DATE}),
    "month": frozenset({FieldType.DATE}),
    "decade": frozenset({FieldType.DATE}),
    "band": frozenset({FieldType.INTEGER, FieldType.NUMBER}),
    "province": frozenset({FieldType.STRING}),
}
"""The types of field that each method takes; `province` wants area codes besides."""

_encode: Final = msgspec.json.Encoder().encode


NameRecords = Callable[[Sequence[Sequence[str | None]]], bytes]
"""Makes the tokens of a page's records from the columns of their key fields (`RecipientRegister`)."""


@dataclass(frozen=True, slots=True)
class AskedFor:
    """Whose records the provider was asked for."""

    field: str = ""
    """The field that names the subjects; empty when the query names none."""
    values: Sequence[str] = ()
    """As resolved: identifiers are normalised and valid."""


_EVERYBODY: Final = AskedFor()


@dataclass(frozen=True, slots=True)
class ReleasedPage:
    """A page as the recipient gets it."""

    records: bytes
    """JSON Lines."""
    count: int
    digest: bytes
    """Salted digest of the page (`gateway.evidence.records`), 32 bytes."""
    seed: bytes
    unknown_fields: int
    invalid_identifiers: Mapping[str, int]
    """Field name to how many of its values failed their check."""
    expired: int = 0
    """How many records were withheld because their time of retention is over, or cannot be told."""
    subjects: frozenset[str | bytes] = frozenset()
    """Whom its records are about, told apart; only where the number of subjects counts."""
    newest: date | None = None
    """The latest day in the field by which the dataset's freshness is measured, where that is released."""
    told: int | None = None
    """The count that is told of it, where that is not the exact one."""
    tokens: bytes = b""
    """What finds its records again, one after the other; only of datasets whose corrections are passed on."""

    @classmethod
    def of_line(cls, line: bytes, seed: bytes, tokens: bytes = b"") -> ReleasedPage:
        """Return the page that holds just `line`, which the gateway itself has written.

        `tokens` are of the records that it tells of.
        """
        return cls(line + b"\n", 1, page_digest([line], seed), seed, 0, {}, tokens=tokens)


@dataclass(frozen=True, slots=True)
class _Step:
    """What is done to one column. A column without a step passes as it is.

    Identifiers are checked. One that is released as the provider holds it passes even when it fails
    its check, and is counted; under any other treatment an invalid one is withheld.
    """

    attribute: str
    field: str
    treatment: Treatment
    kind: IdentifierKind | None
    treat: ColumnTreatment | None


@dataclass(frozen=True, slots=True)
class TransformPlan:
    """How pages of one dataset become releasable under one decision."""

    fields: tuple[str, ...]
    """Fields to release, in the order of the dataset's description."""
    fetched: tuple[str, ...]
    """Fields to fetch: those, and after them what only the gateway itself must see."""
    duties: Duties
    """What binds the exchange as a whole."""
    treatments: Mapping[str, str]
    """Field name to treatment, for fields that are not released as they are."""
    withheld: tuple[str, ...]
    """Fields that the consumer asked for, or could have, and does not get; sorted."""
    _decode_lines: Any
    _steps: tuple[_Step, ...]
    _columns: Mapping[str, tuple[str, IdentifierKind | None]]
    """Field name to its attribute and the kind of its identifiers."""
    _screen: Screen
    _dated: str = ""
    """Where the day stands by which freshness is measured; empty if it is not released."""
    _keys: tuple[str, ...] = ()
    """The fields that name a record, if corrections of the dataset are passed on."""

    @property
    def shown_fields(self) -> tuple[str, ...]:
        """The fields that records have when they leave: none where only a bit does."""
        return () if self.duties.one_bit is not None else self.fields

    @property
    def pseudonymises(self) -> bool:
        """Whether a field is replaced by pseudonyms, so that `apply` needs a key."""
        return Treatment.PSEUDONYMISE.value in self.treatments.values()

    @property
    def key_forms(self) -> tuple[Treatment, ...]:
        """How the recipient gets each field that names a record: as it is, as pseudonym, or not at all."""
        told = {
            name: Treatment(self.treatments.get(name, Treatment.RELEASE.value)) for name in self.shown_fields
        }
        forms = (told.get(name, Treatment.DROP) for name in self._keys)
        known = {Treatment.RELEASE, Treatment.PSEUDONYMISE}
        return tuple(form if form in known else Treatment.DROP for form in forms)

    def apply(
        self,
        page: bytes,
        pseudonymiser: DomainPseudonymiser | None,
        seed: bytes,
        max_records: int,
        asked: AskedFor = _EVERYBODY,
        today: date | None = None,
        left: int | None = None,
        name_records: NameRecords | None = None,
    ) -> ReleasedPage:
        """Return `page` (JSON Lines with exactly the fields `fetched`) as it may leave `today` (UTC).

        Of its records the first `left` leave, or all. With `name_records` the page brings their tokens.

        Raises `GatewayError` with `PROVIDER_SCHEMA` (also for a record of somebody who was not `asked`
        for) or `PROVIDER_TOO_MANY_RECORDS`. Fields the schema does not know are dropped and counted.
        """
        rows, unknown = self._read(page)
        if len(rows) > max_records:
            raise GatewayError(
                "The provider sent more records than were asked for; nothing was released.",
                reason=Reason.PROVIDER_TOO_MANY_RECORDS,
                limit=max_records,
            )
        self._verify_subjects(rows, asked)
        received = len(rows)
        rows = self._screen.retained(rows, today)
        expired = received - len(rows)
        rows = rows[:left]
        subjects = self._screen.subjects(rows)
        checked_columns: dict[str, CheckedColumn] = {}
        tokens = name_records(self._key_columns(rows, checked_columns)) if name_records else b""
        self._screen.hide(rows)
        newest = newest_day(rows, self._dated) if self._dated else None
        invalid: dict[str, int] = {}
        for step in self._steps:
            values = [getattr(row, step.attribute) for row in rows]
            treated: Sequence[Any] = values
            if step.kind is not None:
                checked = checked_columns.get(step.attribute) or step.kind.check_column(values)
                if checked.invalid:
                    invalid[step.field] = len(checked.invalid)
                if step.treatment is not Treatment.RELEASE:
                    treated = _identifiers(step.treatment, checked, pseudonymiser)
            if step.treat is not None:
                treated = step.treat(treated)
            if treated is not values:
                for row, value in zip(rows, treated, strict=True):
                    setattr(row, step.attribute, value)
        encode = _encode
        lines = [encode(row) for row in rows]
        if subjects is None:
            subjects = frozenset(lines) if self.duties.smallest_cohort is not None else frozenset()
        return ReleasedPage(
            records=b"\n".join(lines) + b"\n" if lines else b"",
            count=len(lines),
            digest=page_digest(lines, seed),
            seed=seed,
            unknown_fields=unknown,
            invalid_identifiers=invalid,
            expired=expired,
            subjects=subjects,
            newest=newest,
            tokens=tokens,
        )

    def tokens(
        self, page: bytes, name_records: NameRecords, asked: AskedFor = _EVERYBODY, today: date | None = None
    ) -> bytes:
        """Return the tokens of the records that `read` returns, each once."""
        rows, _ = self._read(page)
        self._verify_subjects(rows, asked)
        columns = self._key_columns(self._screen.retained(rows, today), {})
        distinct = list(dict.fromkeys(zip(*columns, strict=True)))
        return name_records(list(zip(*distinct, strict=True))) if distinct else b""

    def _key_columns(
        self, rows: Sequence[msgspec.Struct], checked_columns: dict[str, CheckedColumn]
    ) -> list[Sequence[str | None]]:
        """Return the texts of the fields that name records; note in `checked_columns` what was checked."""
        columns: list[Sequence[str | None]] = []
        for name in self._keys:
            attribute, kind = self._columns[name]
            values = [getattr(row, attribute) for row in rows]
            if kind is None:
                columns.append([None if value is None else str(value) for value in values])
                continue
            checked = checked_columns[attribute] = kind.check_column(values)
            texts = checked.values
            if checked.problems:
                texts = [values[at] if at in checked.problems else text for at, text in enumerate(texts)]
            columns.append(texts)
        return columns

    def read(
        self, page: bytes, asked: AskedFor = _EVERYBODY, today: date | None = None
    ) -> list[dict[str, Any]]:
        """Return the validated raw records of `page` (for matches, which release none of them)."""
        rows, _ = self._read(page)
        self._verify_subjects(rows, asked)
        rows = self._screen.retained(rows, today)
        return [
            {name: getattr(row, _attribute(position)) for position, name in enumerate(self.fields)}
            for row in rows
        ]

    def _verify_subjects(self, rows: Sequence[msgspec.Struct], asked: AskedFor) -> None:
        """Raise unless every record is of somebody asked for, as far as the fields fetched can tell."""
        if asked.field not in self._columns:
            return
        attribute, kind = self._columns[asked.field]
        others = {getattr(row, attribute) for row in rows}.difference(asked.values)
        if not others:
            return
        if kind is not None:
            found: set[str | None] = set(kind.check_column(list(others)).values)
            wanted: set[str | None] = set(asked.values)
        else:
            # A holder's system may take upper and lower case, or padded texts, for the same.
            found = {_folded(value) for value in others}
            wanted = {_folded(value) for value in asked.values}
        if not found <= wanted:
            raise GatewayError(
                "The provider sent a record of a subject that was not asked for; nothing was released. "
                "The provider must correct its mapping.",
                reason=Reason.PROVIDER_SCHEMA,
                field=asked.field,
            )

    def _read(self, page: bytes) -> tuple[list[msgspec.Struct], int]:
        try:
            return self._decode_lines(page), 0
        except DECODE_ERRORS:
            return self._read_leniently(page)

    def _read_leniently(self, page: bytes) -> tuple[list[msgspec.Struct], int]:
        """Read a page once more without the fields that the schema does not know."""
        known = set(self.fetched)
        unknown = 0
        try:
            records = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode_lines(page)
            for record in records:
                surplus = record.keys() - known
                unknown += len(surplus)
                for name in surplus:
                    del record[name]
            lines = b"\n".join(_encode(record) for record in records)
            return self._decode_lines(lines), unknown
        except DECODE_ERRORS as error:
            raise GatewayError(
                "The provider's answer does not fit the dataset's schema; nothing was released. "
                "The provider must correct its mapping.",
                reason=Reason.PROVIDER_SCHEMA,
                **_place(error, self.fetched),
            ) from None


def plan_transform(dataset: Dataset, decision: Decision, requested: tuple[str, ...]) -> TransformPlan:
    """Return the plan for `decision`; raise `ObligationError` for what cannot be carried out.

    A field without an obligation is dropped: policy did not speak of it.
    """
    try:
        duties = read_duties(decision.duties)
    except ValueError as error:
        raise ObligationError(
            "Policy lays a duty on this exchange that this gateway does not know, or with parameters that it "
            "does not understand."
        ) from error
    drop = Obligation(Treatment.DROP)
    obligations = {name: decision.obligations.get(name, drop) for name in dataset.fields}
    wanted = [
        name
        for name in dataset.fields
        if obligations[name].treatment is not Treatment.DROP and (not requested or name in requested)
    ]
    withheld = sorted(name for name in obligations if obligations[name].treatment is Treatment.DROP)
    hidden = [name for name in _needed(dataset, duties) if name not in wanted]
    fetched = [*wanted, *hidden]
    attributes = {name: _attribute(position) for position, name in enumerate(fetched)}
    screen = screen_of(dataset, duties, attributes, tuple(attributes[name] for name in hidden))
    promised = dataset.freshness.field if dataset.freshness is not None else ""
    steps = []
    for position, name in enumerate(wanted):
        step = _step(_attribute(position), dataset.fields[name], obligations[name])
        if step.kind is not None or step.treat is not None:
            steps.append(step)
    return TransformPlan(
        fields=tuple(wanted),
        fetched=tuple(fetched),
        duties=duties,
        treatments={
            name: obligations[name].treatment.value
            for name in wanted
            if obligations[name].treatment is not Treatment.RELEASE
        },
        withheld=tuple(withheld),
        _decode_lines=msgspec.json.Decoder(_record_type(dataset, fetched, duties)).decode_lines,
        _steps=tuple(steps),
        _columns={name: (attributes[name], _kind(dataset.fields[name])) for name in fetched},
        _screen=screen,
        _dated=attributes[promised] if promised in wanted else "",
        _keys=dataset.corrections,
    )


def verify_treatment(described: Field, obligation: Obligation) -> None:
    """Raise `ObligationError` unless `obligation` can be carried out on values of `described`."""
    _step("", described, obligation)


def _needed(dataset: Dataset, duties: Duties) -> list[str]:
    """Return the fields that the gateway must see to do its duties, whether or not they are released."""
    needed = []
    if duties.retention is not None:
        needed.append(duties.retention.field)
    if duties.smallest_cohort is not None:
        needed += subject_field(dataset)
    needed += dataset.corrections
    return list(dict.fromkeys(needed))


def _step(attribute: str, described: Field, obligation: Obligation) -> _Step:
    treatment = obligation.treatment
    kind = _kind(described)
    treat = None
    if treatment is Treatment.PSEUDONYMISE and (kind is None or not kind.pseudonymisable):
        raise ObligationError("Policy pseudonymises a field that has no pseudonyms.", field=described.name)
    if treatment is Treatment.GENERALISE:
        treat = _generalise(described, str(obligation.params.get("method", "")))
    elif treatment is Treatment.MASK:
        treat = _mask(described, obligation)
    return _Step(attribute, described.name, treatment, kind, treat)


def _identifiers(
    treatment: Treatment, checked: CheckedColumn, pseudonymiser: DomainPseudonymiser | None
) -> Sequence[str | None]:
    """Return the valid identifiers of a column, or their pseudonyms; None for the others."""
    if treatment is not Treatment.PSEUDONYMISE:
        return checked.values
    if pseudonymiser is None:
        raise ObligationError("The fields need pseudonyms, and there is no key for them.")
    return pseudonymiser.pseudonymise_column(checked)


def _kind(described: Field) -> IdentifierKind | None:
    return identifier_kind(described.identifier) if described.identifier is not None else None


def _generalise(described: Field, method: str) -> ColumnTreatment:
    treat = generalisation(method)
    name = method.partition(":")[0]
    fits = described.type in _GENERALISED_TYPES[name]
    if not fits or (name == "province" and described.identifier != AREA_CODE.name):
        raise ObligationError(
            "Policy asks for a generalisation that does not fit the field.", field=described.name
        )
    return treat


def _mask(described: Field, obligation: Obligation) -> ColumnTreatment:
    if described.type is not FieldType.STRING:
        raise ObligationError("Policy masks a field that is no text.", field=described.name)
    return keeping(obligation.params)


def _record_type(dataset: Dataset, names: list[str], duties: Duties) -> type[msgspec.Struct]:
    """Return a struct type that holds, validates and writes a record with these fields.

    Attributes are numbered, so that no field name can clash with Python's words. The date by which a
    record's time of retention is told may be anything, or missing: then the record is withheld, and
    the others of its page are not.
    """
    members: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    for name in names:
        described, attribute = dataset.fields[name], _attribute(len(members))
        value_type = _TYPES[described.type]
        if duties.retention is not None and name == duties.retention.field:
            members.append((attribute, Any, None))
        else:
            members.append((attribute, value_type if described.required else value_type | None))
    return msgspec.defstruct(
        "Record",
        members,
        rename={_attribute(position): name for position, name in enumerate(names)},
        forbid_unknown_fields=True,
        kw_only=True,
        gc=False,
    )


def _folded(value: Any) -> str | None:
    return None if value is None else str(value).strip().casefold()


def _attribute(position: int) -> str:
    return f"f{position}"


def _place(error: Exception, fields: tuple[str, ...]) -> dict[str, str]:
    """Name the field that is wrong, if it is one of ours; never text that the provider sent."""
    found = re.search(r"`\$\.([a-z0-9_]+)`|required field `([a-z0-9_]+)`", str(error))
    name = found and (found[1] or found[2])
    return {"field": name} if name in fields else {}
