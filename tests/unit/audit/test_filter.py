"""Filters: what they accept, what they say about the rest, and what of them may stand in the log."""

import pytest

from gateway.audit.filter import (
    EVERYTHING,
    And,
    Before,
    Field,
    Has,
    Not,
    Or,
    Present,
    both,
    disclosed_filter,
    format_filter,
)
from gateway.audit.filter_parser import MAX_DEPTH, MAX_LENGTH, MAX_RESTRICTIONS, FilterError, parse_filter

MIDNIGHT = "2026-11-21T00:00:00.000000Z"
NEXT_MIDNIGHT = "2026-11-22T00:00:00.000000Z"
BANK = Has(Field.MEMBER, "harbour-bank")
CLOSED = Has(Field.TIER, "closed")
FIRST, SECOND = (f"sha256:{number:064x}" for number in (0xA, 0xB))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", EVERYTHING),
        ("  \n", EVERYTHING),
        ("member = harbour-bank", BANK),
        ("member:members/harbour-bank", BANK),
        ("member!=harbour-bank", Not(BANK)),
        ("-member=harbour-bank", Not(BANK)),
        ("NOT member=harbour-bank", Not(BANK)),
        ("(((member=harbour-bank)))", BANK),
        ("member=harbour-bank AND tier=closed", And((BANK, CLOSED))),
        ("member=harbour-bank OR tier='closed'", Or((BANK, CLOSED))),
        (
            "tier=closed AND (member=harbour-bank OR tier=closed)",
            And((CLOSED, Or((BANK, CLOSED)))),
        ),
        ("-(member=harbour-bank AND tier=closed)", Not(And((BANK, CLOSED)))),
        ("kind = exchange.denied", Has(Field.KIND, "exchange.denied")),
        ("kind = exchange.*", Has(Field.KIND, "exchange.*")),
        ("dataset=registry/companies", Has(Field.DATASET, "members/registry/datasets/companies")),
        (
            'dataset="members/registry/datasets/companies"',
            Has(Field.DATASET, "members/registry/datasets/companies"),
        ),
        ('purpose = "credit \\"check\\" \\\\"', Has(Field.PURPOSE, 'credit "check" \\')),
        ("reason:FIELD_ABOVE_TIER", Has(Field.REASON, "FIELD_ABOVE_TIER")),
        ("tier = *x", Has(Field.TIER, "*x")),
        ("tier:*", Present(Field.TIER)),
        ('purpose:"*"', Has(Field.PURPOSE, "*")),
        ("time >= 2026-11-21", Not(Before(MIDNIGHT))),
        ("time < 2026-11-21", Before(MIDNIGHT)),
        ("time <= 2026-11-21", Before(NEXT_MIDNIGHT)),
        ("time > 2026-11-21", Not(Before(NEXT_MIDNIGHT))),
        ("time = 2026-11-21", And((Not(Before(MIDNIGHT)), Before(NEXT_MIDNIGHT)))),
        ("time != 2026-11-21", Not(And((Not(Before(MIDNIGHT)), Before(NEXT_MIDNIGHT))))),
        ("time < 2026-11-21T01:00:00+01:00", Before(MIDNIGHT)),
        ("time <= '2026-11-20T23:59:59.999999Z'", Before(MIDNIGHT)),
        (
            "exchange=0195512e-0000-7000-8000-000000000001",
            Has(Field.EXCHANGE, "0195512e-0000-7000-8000-000000000001"),
        ),
        ('purpose="(unknown)"', Has(Field.PURPOSE, "(unknown)")),
        (f"contract = {FIRST}", Has(Field.CONTRACT, FIRST)),
        ("contract:*", Present(Field.CONTRACT)),
    ],
)
def test_a_filter_is_read(text, wanted):
    assert parse_filter(text) == wanted


@pytest.mark.parametrize(
    ("text", "position", "hint"),
    [
        ("colour = red", 1, "there is no other field"),
        ("member", 7, "an operator"),
        ("member =", 9, "a value is expected"),
        ("member = Some_One", 10, "harbour-bank"),
        ("member = one two", 14, "in capitals"),
        ("member = one and tier = x", 14, "in capitals"),
        ("member = one AND", 17, "a condition"),
        ("AND member = one", 1, "a condition"),
        ("member = one AND tier = x OR tier = y", 27, "parentheses"),
        ("member = one OR tier = x AND tier = y", 26, "parentheses"),
        ("(member = one", 1, "never closed"),
        ("member = one)", 13, "not opened"),
        ("()", 2, "a condition"),
        ("NOT NOT tier = x", 5, "a condition"),
        ("kind = exchange.eaten", 8, "exchange.denied"),
        ("kind = *", 8, "exchange.*"),
        ("kind < exchange.denied", 6, "times only"),
        ("reason = replayed", 10, "PURPOSE_NOT_PERMITTED"),
        ("dataset = companies", 11, "registry/companies"),
        ("exchange = 7", 12, "UUID"),
        ("contract = sellers", 12, "identity"),
        (f"contract = {FIRST.upper()}", 12, "lower case"),
        ("time = yesterday", 8, "2026-11-21"),
        ("time = 2026-02-30", 8, "2026-11-21"),
        ("time = 2026-11-21T08:00:00", 8, "offset"),
        ("time <= 9999-12-31", 9, "2026-11-21"),
        ("time : 2026-11-21", 6, "compared"),
        ("time", 5, "an operator"),
        ('purpose = "never closed', 11, "never closed"),
        ('purpose = "\\n"', 11, "never closed"),
        ('purpose = ""', 11, "a name is expected"),
        ("purpose = 'a\x00b'", 11, "printable"),
        ("purpose = " + "x" * 201, 11, "200"),
        ("x" * (MAX_LENGTH + 1), MAX_LENGTH + 1, "2000"),
        ("-" + "(-" * MAX_DEPTH + "tier=x" + ")" * MAX_DEPTH, None, "within each other"),
        (" OR ".join(["tier=x"] * (MAX_RESTRICTIONS + 1)), None, "64 conditions"),
    ],
)
def test_what_is_no_filter_is_refused_with_its_place_and_a_hint(text, position, hint):
    with pytest.raises(FilterError, match="character") as raised:
        parse_filter(text)
    if position is not None:
        assert raised.value.details["position"] == str(position)
    assert hint in raised.value.message


def test_the_name_of_a_contract_stands_for_any_of_its_versions_where_they_are_known():
    versions = {"arrears": [FIRST, SECOND], "contracts/arrears/versions/2": [SECOND]}

    def read(text):
        return parse_filter(text, lambda name: versions.get(name, []))

    both_versions = Or((Has(Field.CONTRACT, FIRST), Has(Field.CONTRACT, SECOND)))
    assert read("contract = arrears") == both_versions
    assert read("contract != arrears") == Not(both_versions)
    assert read("contract = contracts/arrears/versions/2") == Has(Field.CONTRACT, SECOND)
    assert read(f"contract = {FIRST} AND tier = closed") == And((Has(Field.CONTRACT, FIRST), CLOSED))
    assert read("contract = '(unknown)'") == Has(Field.CONTRACT, "(unknown)")
    assert read("purpose = arrears") == Has(Field.PURPOSE, "arrears"), "the control: of contracts alone"
    assert parse_filter(format_filter(read("contract = arrears"))) == both_versions
    with pytest.raises(FilterError, match="character 12: no contract of this name"):
        read("contract = freight")


def test_an_error_never_quotes_a_value():
    for text in ("member = '440301199001011234'", "time = 440301199001011234", "440301199001011234"):
        with pytest.raises(FilterError) as raised:
            parse_filter(text)
        assert "4403" not in raised.value.message


def test_a_deep_filter_within_the_bounds_is_read():
    parse_filter("(" * MAX_DEPTH + "tier=x" + ")" * MAX_DEPTH)
    with pytest.raises(FilterError):
        parse_filter("(" * 900 + "tier=x" + ")" * 900)


def test_filters_are_joined_flat():
    assert both(EVERYTHING, BANK) == BANK
    assert both(And((BANK, CLOSED)), BANK) == And((BANK, CLOSED, BANK))
    assert both(Or((BANK, CLOSED)), BANK) == And((Or((BANK, CLOSED)), BANK))
    assert both() == EVERYTHING


def test_a_value_that_is_not_known_is_not_disclosed():
    wanted = parse_filter(
        "kind=exchange.* AND (purpose='a person' OR NOT member=harbour-bank) AND time<2026-11-21 AND tier:*"
    )
    told = disclosed_filter(wanted, lambda has: has == BANK)
    assert told == (
        'kind = "exchange.*" AND (purpose = "(unknown)" OR member != "harbour-bank") '
        'AND time < "2026-11-21T00:00:00.000000Z" AND tier:*'
    )
    assert disclosed_filter(wanted, lambda _: True) == format_filter(wanted)
    assert format_filter(parse_filter(told)) == told
