"""Tables for people, JSON for programs, and nothing that could steer a terminal."""

import io
import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli.options import parse_dataset, parse_mapping, parse_member, parse_pairs, parse_time
from gateway.cli.failures import CommandError
from gateway.cli.output import Format, Output, counted, shown, to_json, visible

ROWS = [{"name": "one", "value": 1, "more": [1, 2]}, {"name": "two", "value": None, "more": []}]


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def pipe(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    return stream


@pytest.fixture
def terminal(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(sys, "stdout", stream)
    return stream


def test_a_list_on_a_pipe_is_json_lines(pipe):
    Output().list(ROWS, ["name"])
    assert [json.loads(line) for line in pipe.getvalue().splitlines()] == ROWS


def test_a_list_on_a_terminal_is_a_table_of_the_columns(terminal):
    Output(no_colour=True).list(ROWS, ["name", "value"])
    assert [line.split() for line in terminal.getvalue().splitlines()][-2:] == [["one", "1"], ["two", "-"]]
    assert "more" not in terminal.getvalue()


def test_a_table_on_a_pipe_has_no_colours_and_is_never_cut(pipe):
    Output(Format.TABLE).list([{"name": "x" * 500, "value": 1}], ["name", "value"])
    assert "x" * 500 in pipe.getvalue()
    assert "\x1b" not in pipe.getvalue()


def test_json_is_one_array(pipe):
    Output(Format.JSON).list(ROWS, ["name"])
    assert json.loads(pipe.getvalue()) == ROWS


def test_facts_are_lines_or_an_object(pipe):
    Output().facts({"a_b": 1, "long_name": True})
    assert pipe.getvalue() == "a b        1\nlong name  yes\n"
    pipe.truncate(0)
    pipe.seek(0)
    Output(Format.JSONL).facts({"a": [1]})
    assert pipe.getvalue() == '{"a":[1]}\n'


def test_records_reach_a_pipe_byte_for_byte(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, "utf-8", write_through=True))
    text = '{"name":"琥珀 \u009b\u202e"}\n'.encode()
    Output(Format.JSONL).lines(text)
    sys.stdout.flush()
    assert raw.getvalue() == text


def test_records_on_a_terminal_mean_the_same_but_cannot_steer_it(terminal):
    text = '{"name":"琥珀 \u009b[2J\u202e"}\n'
    Output(Format.JSONL).lines(text.encode())
    assert "\u009b" not in terminal.getvalue()
    assert json.loads(terminal.getvalue()) == json.loads(text)


def test_markup_in_a_value_is_shown_and_not_obeyed(terminal):
    Output(no_colour=True).list([{"name": "[red]alarm[/red]"}], ["name"])
    assert "[red]alarm[/red]" in terminal.getvalue()


@given(st.text())
def test_nothing_visible_can_steer_a_terminal(text):
    told = visible(text)
    assert all(letter.isprintable() or letter == "\u3000" or ord(letter) > 0x2100 or ord(letter) == 0xA0
               or not ("\x00" <= letter <= "\x1f" or "\x7f" <= letter <= "\x9f") for letter in told)
    assert not set(told) & set(map(chr, [*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F)]))


@given(st.recursive(st.text() | st.integers(-(2**53), 2**53) | st.booleans() | st.none(), st.lists))
def test_json_survives_its_escapes(value):
    text = to_json(value)
    assert "\n" not in text
    assert json.loads(text) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), ("", "-"), (True, "yes"), (0, "0"), ([], "-"), (["a", "b"], "a, b"), ({"a": 1}, "a=1")],
)
def test_values_are_shown_for_people(value, text):
    assert shown(value) == text


def test_numbers_agree_with_their_nouns():
    assert counted(1, "record") == "1 record"
    assert counted(0, "entry", "entries") == "0 entries"


def test_pairs_are_split_at_the_first_equals_sign():
    assert parse_pairs("--filter", ["name=a=b"]) == [("name", "a=b")]


@pytest.mark.parametrize("text", ["310101199001011234", "=310101199001011234", "name="])
def test_a_pair_that_is_none_is_told_without_its_value(text):
    with pytest.raises(CommandError, match="takes field=value") as caught:
        parse_pairs("--subject", [text])
    assert "310101199001011234" not in caught.value.message


def test_a_field_is_not_named_twice():
    with pytest.raises(CommandError, match="twice"):
        parse_mapping("--filter", ["a=1", "a=2"])


def test_names_have_a_short_form():
    assert parse_dataset("registry/companies") == "members/registry/datasets/companies"
    assert parse_dataset("members/registry/datasets/companies") == "members/registry/datasets/companies"
    assert parse_member("members/registry") == parse_member("registry") == "registry"


@pytest.mark.parametrize("text", ["companies", "a/b/c", "Registry/companies", "members/registry", "", "/"])
def test_a_name_that_is_none_is_told(text):
    if text == "members/registry":
        # This is the short form of a member called "members".
        assert parse_dataset(text) == "members/members/datasets/registry"
        return
    with pytest.raises(CommandError, match="registry/companies"):
        parse_dataset(text)


def test_a_date_begins_at_midnight_utc():
    assert parse_time("--since", "2026-11-21").isoformat() == "2026-11-21T00:00:00+00:00"
    assert parse_time("--since", "2026-11-21T08:00:00+08:00").isoformat() == "2026-11-21T00:00:00+00:00"
    assert parse_time("--since", None) is None
