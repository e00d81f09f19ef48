"""Records of subjects that nobody asked for are not released, as far as the fields fetched can tell."""

import json
from datetime import UTC, datetime

import pytest

from gateway.errors import GatewayError, Reason
from gateway.exchange.transform import AskedFor, plan_transform
from gateway.model import Decision, Obligation, Treatment
from gateway.pseudonym import Keyring, Pseudonymiser

USCC, OTHER = "91350100M000100Y43", "91110000100000023H"
PERSON = "11010119900307803X"
FULL_WIDTH = "".join(chr(ord(character) + 0xFEE0) for character in PERSON)
NOW = datetime(2026, 11, 21, tzinfo=UTC)
SEED = b"\x07" * 32


@pytest.fixture
def apply(dataset):
    """Apply a plan that treats the subject's field so to records with these values."""
    pseudonymiser = Pseudonymiser(Keyring.generate(NOW)).for_exchange("bank", "credit-check", NOW)

    def apply(field, values, asked, treatment=Treatment.RELEASE):
        decision = Decision(
            id="d",
            allow=True,
            reasons=(),
            tier="public",
            obligations={
                field: Obligation(treatment, {"method": "all"}),
                "title": Obligation(Treatment.RELEASE),
            },
            rule_ids=(),
            valid_until=None,
            bundle_digest="sha256:0",
            engine="test",
        )
        plan = plan_transform(dataset, decision, ())
        rows = [dict.fromkeys(plan.fields) | {field: value} for value in values]
        page = b"".join(json.dumps({k: r[k] for k in plan.fields if k in r}).encode() + b"\n" for r in rows)
        return plan.apply(page, pseudonymiser, SEED, 100, asked).count

    return apply


@pytest.mark.parametrize("treatment", [Treatment.RELEASE, Treatment.PSEUDONYMISE, Treatment.MASK])
@pytest.mark.parametrize("spelling", [PERSON, PERSON.lower(), f" {PERSON} ", FULL_WIDTH])
def test_a_subject_asked_for_is_released_in_any_spelling(apply, treatment, spelling):
    assert apply("person", [spelling, PERSON], AskedFor("person", (PERSON,)), treatment) == 2


@pytest.mark.parametrize("treatment", [Treatment.RELEASE, Treatment.PSEUDONYMISE, Treatment.MASK])
@pytest.mark.parametrize("value", ["110101199003070134", "no identifier", "", None])
def test_anybody_else_is_not(apply, treatment, value):
    with pytest.raises(GatewayError) as raised:
        apply("person", [PERSON, value], AskedFor("person", (PERSON,)), treatment)
    assert raised.value.reason is Reason.PROVIDER_SCHEMA
    assert raised.value.details == {"field": "person"}
    assert not value or value not in raised.value.message


@pytest.mark.parametrize(("value", "fits"), [("A b", True), ("a B  ", True), ("a c", False), (None, False)])
def test_a_name_is_compared_as_databases_do(apply, value, fits):
    if fits:
        assert apply("title", [value], AskedFor("title", ("a b",))) == 1
    else:
        with pytest.raises(GatewayError):
            apply("title", [value], AskedFor("title", ("a b",)))


def test_a_field_that_was_dropped_or_not_asked_by_says_nothing(apply):
    assert apply("person", [PERSON], AskedFor("uscc", (USCC,))) == 1
    assert apply("uscc", [USCC, OTHER], AskedFor()) == 2
    assert apply("uscc", [], AskedFor("uscc", (USCC,))) == 0
