"""P4: whatever policy decides and whatever a provider sends, no more is released than granted."""

from __future__ import annotations

import json
import string
from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import GatewayError, Reason
from gateway.exchange.transform import plan_transform
from gateway.identifiers import load_area_table, national_id
from gateway.model import Dataset, Decision, Field, FieldType, Obligation, Treatment
from gateway.pseudonym import Keyring, Pseudonymiser

load_area_table()
SEED = b"\x07" * 32
NOW = datetime(2026, 11, 21, tzinfo=UTC)
PSEUDONYMS = Pseudonymiser(Keyring.generate(NOW)).for_exchange("bank", "credit-check", NOW)

FIELDS = (
    Field(name="person", type=FieldType.STRING, tier="public", identifier="national-id"),
    Field(name="area", type=FieldType.STRING, tier="public", identifier="area-code"),
    Field(name="title", type=FieldType.STRING, tier="public"),
    Field(name="capital", type=FieldType.INTEGER, tier="public"),
    Field(name="share", type=FieldType.NUMBER, tier="public"),
    Field(name="open", type=FieldType.BOOLEAN, tier="public"),
    Field(name="founded", type=FieldType.DATE, tier="public"),
    Field(name="class", type=FieldType.STRING, tier="public"),
)
DATASET = Dataset(
    name="members/registry/datasets/companies",
    provider="registry",
    title="Companies",
    version="1",
    tier="public",
    fields={field.name: field for field in FIELDS},
)
METHODS = {
    "founded": ("year", "month", "decade"),
    "area": ("province",),
    "capital": ("band:1000", "band:7"),
    "share": ("band:10",),
    "title": ("all", "first:2", "last:3", "first:1,last:1"),
    "person": ("first:2,last:2",),
}
MISFITS = (("title", "year"), ("capital", "month"), ("person", "province"), ("founded", "band:1000"))


@st.composite
def decided(draw: st.DrawFn) -> dict[str, Obligation]:
    """Draw what policy may say of each field, sensible or not."""
    obliged = {}
    for name in draw(st.lists(st.sampled_from([*DATASET.fields, "no_such_field"]), unique=True)):
        methods = st.sampled_from([*METHODS.get(name, ()), "century", "band:0", "band:x", "first:0", ""])
        keep = st.integers(-1, 4)
        params = st.fixed_dictionaries({"method": methods}) | st.fixed_dictionaries(
            {}, optional={"keep_first": keep, "keep_last": keep}
        )
        obliged[name] = Obligation(draw(st.sampled_from(Treatment)), draw(params))
    return obliged


requested = st.lists(st.sampled_from([*DATASET.fields]), unique=True, max_size=8).map(tuple)


@st.composite
def people(draw: st.DrawFn) -> str:
    born = draw(st.dates(date(1930, 1, 1), date(2005, 12, 31)))
    body = f"110101{born:%Y%m%d}{draw(st.integers(1, 999)):03d}"
    return body + national_id.check_character(body)


marked = st.text(string.ascii_lowercase, min_size=6, max_size=12).map(lambda text: f"secret-{text}")
records = st.fixed_dictionaries(
    {
        "person": people() | marked | st.none(),
        "area": st.just("110101") | marked | st.none(),
        "title": marked | st.none(),
        "capital": st.integers(-(2**53), 2**53) | st.none(),
        "share": st.floats(allow_nan=False, allow_infinity=False) | st.none(),
        "open": st.booleans() | st.none(),
        "founded": st.dates().map(date.isoformat) | st.none(),
        "class": marked | st.none(),
    }
)


def decision(obliged: dict[str, Obligation]) -> Decision:
    return Decision(
        id="d",
        allow=True,
        reasons=(),
        tier="public",
        obligations=obliged,
        rule_ids=(),
        valid_until=None,
        bundle_digest="sha256:0",
        engine="test",
    )


def lines(rows: list[dict[str, object]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


@given(decided(), requested, st.lists(records, max_size=4), st.booleans())
def test_released_fields_are_a_subset_of_schema_and_decision(obliged, wanted, rows, with_surplus) -> None:
    try:
        plan = plan_transform(DATASET, decision(obliged), wanted)
    except GatewayError as error:
        assert error.reason is Reason.OBLIGATION_UNSUPPORTED  # noqa: PT017 - either outcome is right
        return
    granted = {name for name, item in obliged.items() if item.treatment is not Treatment.DROP}
    assert set(plan.fields) <= granted & set(DATASET.fields)
    assert not wanted or set(plan.fields) <= set(wanted)
    assert not set(plan.fields) & set(plan.withheld)
    # The provider sends everything it has, whether it was asked for it or not.
    sent = [row if with_surplus else {name: row[name] for name in plan.fields} for row in rows]
    page = plan.apply(lines(sent), PSEUDONYMS, SEED, 10)
    answer = [json.loads(line) for line in page.records.splitlines()]
    assert len(answer) == page.count == len(rows)
    for row, given_row in zip(rows, answer, strict=True):
        assert tuple(given_row) == plan.fields
        _check_values(row, given_row, obliged)
        for name in DATASET.fields.keys() - set(plan.fields):
            value = row[name]
            assert (
                not (isinstance(value, str) and value.startswith("secret-"))
                or _elsewhere(value, row, plan)
                or (value not in str(given_row))
            )


def _elsewhere(value: str, row: dict[str, object], plan) -> bool:
    """Whether the same text stands in a field that may be shown."""
    return any(value in str(row[name]) for name in plan.fields)


def _check_values(row, given_row, obliged) -> None:
    for name, value in given_row.items():
        treatment = obliged[name].treatment
        raw = row[name]
        if raw is None:
            assert value is None
        elif treatment is Treatment.PSEUDONYMISE:
            assert value is None or (value.startswith("sg1:") and raw not in value)
        elif treatment is Treatment.RELEASE:
            assert value == raw
        elif treatment is Treatment.MASK:
            assert value is None or (len(value) == len(raw) and value.count("*") * 2 >= len(value))
        else:
            assert value is None or value != raw or obliged[name].params.get("method") == "province"


@pytest.mark.parametrize(("name", "method"), MISFITS)
def test_a_generalisation_that_does_not_fit_the_field_is_denied_before_anything_is_fetched(
    name: str, method: str
) -> None:
    with pytest.raises(GatewayError) as raised:
        plan_transform(DATASET, decision({name: Obligation(Treatment.GENERALISE, {"method": method})}), ())
    assert raised.value.reason is Reason.OBLIGATION_UNSUPPORTED


@given(st.lists(records, min_size=1, max_size=4))
def test_an_invalid_identifier_is_never_pseudonymised(rows) -> None:
    plan = plan_transform(DATASET, decision({"person": Obligation(Treatment.PSEUDONYMISE)}), ())
    page = plan.apply(lines(rows), PSEUDONYMS, SEED, 10)
    answer = [json.loads(line)["person"] for line in page.records.splitlines()]
    invalid = 0
    for row, value in zip(rows, answer, strict=True):
        if row["person"] is not None and row["person"].startswith("secret-"):
            invalid += 1
            assert value is None
    assert page.invalid_identifiers == ({"person": invalid} if invalid else {})


@given(
    st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass"))
)
def test_no_bytes_of_a_provider_raise_anything_but_its_fault(page: bytes) -> None:
    plan = plan_transform(DATASET, decision({"title": Obligation(Treatment.RELEASE)}), ())
    try:
        released = plan.apply(page, None, SEED, 10)
    except GatewayError as error:
        assert error.reason in {Reason.PROVIDER_SCHEMA, Reason.PROVIDER_TOO_MANY_RECORDS}  # noqa: PT017
        assert error.details.keys() <= {"field", "limit"}  # noqa: PT017 - either outcome is right
        return
    for line in released.records.splitlines():
        assert json.loads(line).keys() == {"title"}


@given(st.integers(0, 30), st.integers(0, 30))
def test_never_more_records_than_asked_for(sent: int, most: int) -> None:
    plan = plan_transform(DATASET, decision({"title": Obligation(Treatment.RELEASE)}), ())
    page = lines([{"title": "x"}] * sent)
    if sent <= most:
        assert plan.apply(page, None, SEED, most).count == sent
    else:
        with pytest.raises(GatewayError) as raised:
            plan.apply(page, None, SEED, most)
        assert raised.value.reason is Reason.PROVIDER_TOO_MANY_RECORDS


def test_a_missing_key_is_no_reason_to_release_the_identifier() -> None:
    plan = plan_transform(DATASET, decision({"person": Obligation(Treatment.PSEUDONYMISE)}), ())
    with pytest.raises(GatewayError) as raised:
        plan.apply(lines([{"person": "11010119900307803X"}]), None, SEED, 10)
    assert raised.value.reason is Reason.OBLIGATION_UNSUPPORTED
