import traceback

import pytest

from gateway.errors import ConfigError, Reason
from gateway.identifiers import (
    AREA_CODE,
    KINDS,
    NATIONAL_ID,
    ORGANISATION_CODE,
    USCC,
    IdentifierError,
    Problem,
    identifier_kind,
    load_area_table,
    parts,
    province_of,
)

# From the standards themselves, or from the documentation of python-stdnum.
PERSON = "11010519491231002X"
COMPANY = "91350100M000100Y43"
ORGANISATION = "D2143569X"


def person(body):
    return body + NATIONAL_ID.check_character(body)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (NATIONAL_ID, PERSON),
        (NATIONAL_ID, "440524188001010014"),
        (NATIONAL_ID, "360426199101010071"),
        (USCC, COMPANY),
        (USCC, "91110000600037341L"),
        (ORGANISATION_CODE, ORGANISATION),
        (AREA_CODE, "440305"),
    ],
)
def test_a_published_example_is_valid_as_it_stands(kind, value):
    assert kind.normalise(value) == value
    assert kind.unrecognised([value]) == []


@pytest.mark.parametrize(
    ("kind", "spelling", "canonical"),
    [
        (NATIONAL_ID, " 11010519491231002x\n", PERSON),
        (NATIONAL_ID, "１１０１０５１９４９１２３１００２Ｘ", PERSON),  # noqa: RUF001
        (NATIONAL_ID, "\u300011010519491231002X", PERSON),
        (NATIONAL_ID, "110105491231002", PERSON),
        (NATIONAL_ID, "440524800101996", person("44052418800101996")),
        (USCC, "91350100m000100y43", COMPANY),
        (ORGANISATION_CODE, "D2143569-X", ORGANISATION),
        (ORGANISATION_CODE, "d2143569－x", ORGANISATION),  # noqa: RUF001
        (AREA_CODE, " ４４０３０５ ", "440305"),  # noqa: RUF001
    ],
)
def test_other_spellings_become_the_canonical_one(kind, spelling, canonical):
    assert kind.normalise(spelling) == canonical
    assert kind.unrecognised([spelling]) == [0]


@pytest.mark.parametrize(
    ("kind", "value", "problem"),
    [
        (NATIONAL_ID, "", Problem.LENGTH),
        (NATIONAL_ID, "1101051949123100", Problem.LENGTH),
        (NATIONAL_ID, "1101051949123100XX", Problem.ALPHABET),
        (NATIONAL_ID, "\u0661" * 18, Problem.ALPHABET),
        (NATIONAL_ID, "110105194912310021", Problem.CHECK_DIGIT),
        (NATIONAL_ID, person("11010519490231002"), Problem.DATE),
        (NATIONAL_ID, person("11010599991231002"), Problem.DATE),
        (NATIONAL_ID, person("11999919491231002"), Problem.AREA),
        (NATIONAL_ID, person("99010519491231002"), Problem.AREA),
        (NATIONAL_ID, "440524800231001", Problem.DATE),
        (USCC, "320100000091799", Problem.LENGTH),
        (USCC, "9135 0100 M000100Y43", Problem.LENGTH),
        (USCC, "91350100MOOO1OOY43", Problem.ALPHABET),
        (USCC, "9135010AM000100Y43", Problem.ALPHABET),
        (USCC, "91350100M000100Y44", Problem.CHECK_DIGIT),
        (USCC, "19350100M000100Y43", Problem.CHECK_DIGIT),
        (USCC, "9" * 100_000, Problem.LENGTH),
        (USCC, "ﷺ" * 100_000, Problem.LENGTH),
        (ORGANISATION_CODE, "D2143569", Problem.LENGTH),
        (ORGANISATION_CODE, "D2143569Y", Problem.ALPHABET),
        (ORGANISATION_CODE, "D21435691", Problem.CHECK_DIGIT),
        (ORGANISATION_CODE, "D214-3569X", Problem.LENGTH),
        (AREA_CODE, "44030", Problem.LENGTH),
        (AREA_CODE, "44030X", Problem.ALPHABET),
        (AREA_CODE, "990101", Problem.AREA),
    ],
)
def test_what_is_not_valid_is_refused_with_its_problem(kind, value, problem):
    with pytest.raises(IdentifierError) as refusal:
        kind.normalise(value)
    assert refusal.value.reason is Reason.IDENTIFIER_INVALID
    assert refusal.value.details == {"kind": kind.name, "problem": problem.value}
    assert kind.unrecognised([value]) == [0]


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_refusal_never_shows_the_value(kind):
    value = "CANARY42CANARY42XY"
    with pytest.raises(IdentifierError) as refusal:
        kind.normalise(value)
    shown = "".join(traceback.format_exception(refusal.value)) + repr(refusal.value.details)
    assert value not in shown
    assert value[:10] not in shown
    assert kind.name in shown


def test_a_letter_beyond_ascii_does_not_become_a_capital_of_ours():
    body = "D214356I"
    value = body + ORGANISATION_CODE.check_character(body)
    assert ORGANISATION_CODE.normalise(value.lower()) == value
    dotless = value.replace("I", "\u0131")
    assert dotless.upper() == value
    with pytest.raises(IdentifierError):
        ORGANISATION_CODE.normalise(dotless)


def test_a_company_of_another_registering_authority_is_known_by_its_letter():
    # Rural cooperatives carry N1; python-stdnum takes digits only.
    body = "N1350100M000100Y4"
    assert USCC.normalise(body + USCC.check_character(body)) == body + USCC.check_character(body)


def test_the_embedded_organisation_code_may_have_a_check_character_of_its_own_that_does_not_fit():
    body = "91350100" + "M000100Y" + "5"
    assert ORGANISATION_CODE.check_character("M000100Y") == "4"
    assert USCC.normalise(body + USCC.check_character(body))


def test_people_born_before_their_area_got_its_code_keep_their_number():
    # A county of 1984; numbers were first given out in that year, to everybody alive.
    value = person("654125" + "19700101" + "001")
    assert NATIONAL_ID.normalise(value) == value


def test_an_area_that_was_withdrawn_stays_known_for_the_people_born_there():
    value = person("110103" + "19790101" + "001")  # a district merged into another in 2010
    assert NATIONAL_ID.normalise(value) == value


def test_a_column_keeps_its_order_and_lists_its_problems():
    column = USCC.check_column([COMPANY, None, "N/A", COMPANY.lower(), "91350100M000100Y44"])
    assert column.kind is USCC
    assert column.values == [COMPANY, None, None, COMPANY, None]
    assert column.problems == {2: Problem.LENGTH, 4: Problem.CHECK_DIGIT}
    assert column.invalid == [2, 4]


@pytest.mark.parametrize("values", [[], [None], [None, None]])
def test_a_column_without_values_has_no_problems(values):
    column = NATIONAL_ID.check_column(values)
    assert column.values == values
    assert column.invalid == []


def test_checking_a_column_leaves_the_callers_list_alone():
    values = [COMPANY.lower()]
    USCC.check_column(values)
    assert values == [COMPANY.lower()]


def test_the_province_of_an_area():
    assert province_of("440305") == "440000"
    assert province_of("110000") == "110000"
    with pytest.raises(IdentifierError):
        province_of("990305")


def test_the_area_table_is_read_once_and_stays():
    load_area_table()
    assert parts._area_table() is parts._area_table()
    assert province_of("110101") == "110000"


def test_kinds_are_found_by_name():
    assert set(KINDS) == {"national-id", "organisation-code", "uscc", "area-code"}
    for name, kind in KINDS.items():
        assert identifier_kind(name) is kind


def test_an_unknown_kind_is_a_fault_of_the_configuration():
    with pytest.raises(ConfigError, match="organisation-code") as refusal:
        identifier_kind("passport")
    assert refusal.value.details == {"identifier_kind": "passport"}
