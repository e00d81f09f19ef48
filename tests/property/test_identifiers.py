"""The recogniser against `normalise`, and both against python-stdnum."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stdnum.cn import ric, uscc
from stdnum.exceptions import InvalidComponent, ValidationError

from gateway.identifiers import AREA_CODE, KINDS, NATIONAL_ID, ORGANISATION_CODE, USCC, IdentifierError
from gateway.identifiers.parts import is_area, is_date
from gateway.identifiers.recogniser import Recogniser

DIGITS = "0123456789"
AREAS = ["110101", "110103", "440305", "320000", "650105", "500105", "810000", "130201"]


def national_id(rng):
    day = f"{rng.randint(1900, 2020)}{rng.randint(1, 12):02d}{rng.randint(1, 28):02d}"
    body = rng.choice(AREAS) + day + f"{rng.randint(0, 999):03d}"
    return body + NATIONAL_ID.check_character(body)


def company(rng):
    body = "".join(rng.choice(alphabet) for alphabet in USCC.alphabets[:-1])
    return body + USCC.check_character(body)


def organisation(rng):
    body = "".join(rng.choice(alphabet) for alphabet in ORGANISATION_CODE.alphabets[:-1])
    return body + ORGANISATION_CODE.check_character(body)


def area(rng):
    return rng.choice(AREAS)[:2] + "".join(rng.choices(DIGITS, k=4))


MAKERS = {NATIONAL_ID: national_id, USCC: company, ORGANISATION_CODE: organisation, AREA_CODE: area}


def mutated(rng, value):
    """Return `value` with a slip: a wrong, missing, added or swapped character, or another spelling."""
    at = rng.randrange(len(value))
    other = rng.choice(DIGITS + "ABCDEFGHIJKLMNOPQRSTUVWXYZabcxyz -?\x00\n\u0130\uff11\u0661\ud800\U0001f600")
    match rng.randrange(6):
        case 0:
            return value[:at] + other + value[at + 1 :]
        case 1:
            return value[:at] + value[at + 1 :]
        case 2:
            return value[:at] + other + value[at:]
        case 3:
            return value[:at] + value[at + 1 : at + 2] + value[at] + value[at + 2 :]
        case 4:
            return value.lower()
        case _:
            return " " + value


def sample(kind, seed, count=6000):
    rng = random.Random(seed)
    values = [MAKERS[kind](rng) for _ in range(count)]
    return [mutated(rng, value) if rng.random() < 0.6 else value for value in values]


def outcome(kind, value):
    """Return (canonical form, None) or (None, problem)."""
    try:
        return kind.normalise(value), None
    except IdentifierError as error:
        return None, error.problem


def canonical(kind, value):
    """Whether `normalise` takes `value` and leaves it as it is."""
    return outcome(kind, value)[0] == value


def accepts(kind, value):
    return outcome(kind, value)[1] is None


@pytest.mark.parametrize("kind", MAKERS, ids=lambda kind: kind.name)
def test_the_recogniser_takes_exactly_what_normalise_leaves_unchanged(kind):
    values = sample(kind, seed=11)
    expected = [row for row, value in enumerate(values) if not canonical(kind, value)]
    assert kind.unrecognised(values) == expected
    # The sample bites on both sides: plenty to take, plenty to refuse.
    assert 0.2 < len(expected) / len(values) < 0.8


@pytest.mark.parametrize("kind", [NATIONAL_ID, USCC, ORGANISATION_CODE], ids=lambda kind: kind.name)
def test_a_recogniser_that_left_out_the_check_character_would_be_found_out(kind):
    values = sample(kind, seed=11)
    careless = Recogniser(kind.alphabets, None, kind.parts)
    assert len(careless.unrecognised(values)) < len(kind.unrecognised(values))


@pytest.mark.parametrize("kind", MAKERS, ids=lambda kind: kind.name)
def test_a_column_agrees_with_its_values_one_by_one(kind):
    values = [*sample(kind, seed=12, count=1500), None]
    column = kind.check_column(values)
    for row, value in enumerate(values):
        if value is None:
            assert column.values[row] is None
            assert row not in column.problems
            continue
        normal, problem = outcome(kind, value)
        assert column.values[row] == normal
        assert column.problems.get(row) is problem


def test_social_credit_codes_are_valid_where_stdnum_says_so():
    agreed = 0
    for value in sample(USCC, seed=13, count=30_000):
        # stdnum drops separators anywhere, and knows no authorities with letters.
        if value.isascii() and value.isalnum() and value[:2].isdigit():
            assert accepts(USCC, value) == uscc.is_valid(value)
            agreed += 1
    assert agreed > 2000


def stdnum_problem(value):
    """Return what stdnum holds against a citizen's number: nothing, the period of its area, or more."""
    try:
        ric.validate(value)
    except InvalidComponent:
        return "period" if is_date(value[6:14]) and is_area(value[:6]) else "fault"
    except (ValidationError, KeyError):  # KeyError: its answer to an area that is in no county
        return "fault"
    return None


def test_national_ids_are_valid_where_stdnum_says_so_but_for_the_period_of_the_area():
    seen = set()
    for value in sample(NATIONAL_ID, seed=14):
        if not (len(value) == 18 and value.isascii() and value.isalnum()):
            continue  # stdnum drops separators anywhere, and knows no numbers of fifteen digits
        problem = stdnum_problem(value)
        assert accepts(NATIONAL_ID, value) == (problem != "fault")
        seen.add(problem)
    assert seen == {None, "period", "fault"}


@pytest.mark.parametrize("kind", [NATIONAL_ID, USCC, ORGANISATION_CODE], ids=lambda kind: kind.name)
def test_every_slip_of_one_character_is_found(kind):
    rng = random.Random(15)
    for _ in range(40):
        value = MAKERS[kind](rng)
        slips = [
            value[:at] + other + value[at + 1 :]
            for at in range(len(value))
            for other in kind.alphabets[at]
            if other != value[at]
        ]
        if kind is ORGANISATION_CODE:
            # Modulo 11 cannot tell characters apart whose values differ by 11 or 22 or 33.
            slips = [slip for slip in slips if not congruent(value, slip)]
        assert kind.unrecognised(slips) == list(range(len(slips)))


def congruent(one, other):
    alphabet = ORGANISATION_CODE.alphabets[0]
    return any(
        a != b and (alphabet.index(a) - alphabet.index(b)) % 11 == 0
        for a, b in zip(one[:-1], other[:-1], strict=True)
    )


@pytest.mark.parametrize("kind", MAKERS, ids=lambda kind: kind.name)
@settings(max_examples=150, deadline=None)
@given(values=st.lists(st.one_of(st.none(), st.text(max_size=20)), max_size=30), seed=st.integers(0, 10**6))
def test_any_text_at_all_is_taken_or_refused_but_never_breaks_a_column(kind, values, seed):
    rng = random.Random(seed)
    mixed = [*values, *(MAKERS[kind](rng) for _ in range(3))]
    rng.shuffle(mixed)
    column = kind.check_column(mixed)
    for row, value in enumerate(column.values):
        assert value is None or canonical(kind, value)
        assert (row in column.problems) == (value is None and mixed[row] is not None)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=30))
def test_normalising_twice_changes_nothing(text):
    for kind in KINDS.values():
        try:
            once = kind.normalise(text)
        except IdentifierError:
            continue
        assert kind.normalise(once) == once
