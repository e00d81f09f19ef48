"""A reason stands in the log for ever, so an identifier in it is refused, however it is written."""

import pytest

from gateway.deployment.reasons import check_reason
from gateway.errors import ConfigError
from gateway.identifiers import KINDS, load_area_table, national_id, organisation_code
from gateway.identifiers.uscc import check_character


@pytest.fixture(scope="module", autouse=True)
def areas():
    load_area_table()


def person():
    body = "11010119900307751"
    return body + national_id.check_character(body)


def company():
    body = "91110101XT2345678"
    body = body[:16] + organisation_code.check_character(body[8:16])
    return body + check_character(body)


WRITTEN = [
    "{}",
    "about {}",
    "about ({}), again",
    "ref:{}/x",
]


@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.parametrize("make", [person, company])
def test_an_identifier_is_refused(written, make):
    value = make()
    assert KINDS["national-id" if make is person else "uscc"].normalise(value) == value
    for spelling in (value, value.lower(), "".join(chr(ord(c) + 0xFEE0) for c in value)):
        with pytest.raises(ConfigError, match="for ever") as raised:
            check_reason(written.format(spelling))
        assert value not in raised.value.message


def test_separators_do_not_hide_one():
    value = person()
    for mark in " .-_/":
        with pytest.raises(ConfigError):
            check_reason("about " + mark.join((value[:6], value[6:14], value[14:])))


@pytest.mark.parametrize(
    "text",
    [
        "complaint 2026/17 of 2026-11-21",
        "inspection of the branch in the harbour, file A-2026-000123",
        "audit plan 2026, item 3.4.5, page 12 of 120",
        "投诉 2026 第 17 号",
        "x" * 300,
    ],
)
def test_ordinary_reasons_pass(text):
    check_reason(text)


@pytest.mark.parametrize("text", ["", "   ", "x" * 301, "two\nlines", "bell\x07", "\u202eturned", "\ud800"])
def test_what_is_no_line_of_text_is_refused(text):
    with pytest.raises(ConfigError, match="--by"):
        check_reason(text, what="--by")
