"""Tables for people, JSON for programs, and nothing that could steer a terminal."""

import io
import json
from contextlib import redirect_stdout

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli.failures import CommandError
from gateway.cli.options import parse_dataset, parse_mapping, parse_member, parse_pairs, parse_time
from gateway.cli.output import Format, Output, counted, shown, to_json, visible

ROWS = [{"name": "one", "value": 1, "more": [1, 2]}, {"name": "two", "value": None, "more": []}]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def printed(action, form=None, stream=None):
    """Return what `action`, given an output, prints to a pipe, or to the stream given."""
    stream = io.StringIO() if stream is None else stream
    with redirect_stdout(stream):
        action(Output(form, no_colour=True))
    return stream.getvalue()


def test_a_list_on_a_pipe_is_json_lines():
    text = printed(lambda output: output.list(ROWS, ["name"]))
    assert [json.loads(line) for line in text.splitlines()] == ROWS


def test_a_list_on_a_terminal_is_a_table_of_the_columns():
    text = printed(lambda output: output.list(ROWS, ["name", "value"]), stream=Terminal())
    assert [line.split() for line in text.splitlines()][-2:] == [["one", "1"], ["two", "-"]]
    assert "more" not in text


def test_a_table_on_a_pipe_has_no_colours_and_is_never_cut():
    row = {"name": "x" * 500, "value": 1}
    text = printed(lambda output: output.list([row], ["name", "value"]), Format.TABLE)
    assert "x" * 500 in text
    assert "\x1b" not in text


def test_json_is_one_array():
    assert json.loads(printed(lambda output: output.list(ROWS, ["name"]), Format.JSON)) == ROWS


def test_facts_are_lines_or_an_object():
    text = printed(lambda output: output.facts({"a_b": 1, "long_name": True}))
    assert text == "a b        1\nlong name  yes\n"
    assert printed(lambda output: output.facts({"a": [1]}), Format.JSONL) == '{"a":[1]}\n'


def test_records_reach_a_pipe_byte_for_byte():
    raw = io.BytesIO()
    text = '{"name":"琥珀 \u009b\u202e"}\n'.encode()
    with redirect_stdout(io.TextIOWrapper(raw, "utf-8")) as stream:
        Output(Format.JSONL).lines(text)
        stream.flush()
        assert raw.getvalue() == text


def test_records_on_a_terminal_mean_the_same_but_cannot_steer_it():
    text = '{"name":"琥珀 \u009b[2J\u202e"}\n'
    shown_text = printed(lambda output: output.lines(text.encode()), Format.JSONL, Terminal())
    assert "\u009b" not in shown_text
    assert json.loads(shown_text) == json.loads(text)


def test_markup_in_a_value_is_shown_and_not_obeyed():
    row = {"name": "[red]alarm[/red]"}
    assert "[red]alarm[/red]" in printed(lambda output: output.list([row], ["name"]), stream=Terminal())


def test_no_progress_is_shown_on_a_pipe(capsys):
    with Output().progress("entries") as advance:
        advance(1, 2)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


STEERING = {*map(chr, [*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)])}


@given(st.text(st.characters() | st.sampled_from(sorted(STEERING))))
def test_nothing_visible_can_steer_a_terminal(text):
    assert not set(visible(text)) & STEERING
    assert not set(visible(text, keep_lines=True)) & (STEERING - {"\n"})


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
