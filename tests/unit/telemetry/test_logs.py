import io
import json
import logging
import random
import threading
import timeit
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from gateway.clock import FixedClock
from gateway.telemetry.logs import (
    ALLOWED_FIELDS,
    MAX_LIST_LENGTH,
    MAX_TEXT_LENGTH,
    Level,
    configure_logging,
    escape_unprintable,
)

log = structlog.get_logger()
NOW = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
HOSTILE_PARTS = [
    *(
        "\r",
        "\n",
        "\r\n",
        "\x00",
        "\x1b[2J",
        "\x7f",
        "\x85",
        "\x9b31m",
        "\u2028",
        "\u2029",
        "\u202e",
        "\ud800",
    ),
    *(
        '"',
        "\\",
        '\\n{"event":"forged"}\n',
        '","event":"forged',
        "\U000e0041",
        "😀",
        "统一",
        "%s%n",
        "${jndi:x}",
    ),
]


def lines_of(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def hostile_strings(count):
    chooser = random.Random(20260504)
    return ["".join(chooser.choices(HOSTILE_PARTS, k=chooser.randint(1, 12))) for _ in range(count)]


def test_an_event_is_one_json_line_with_sorted_members():
    stream = io.StringIO()
    configure_logging(stream, clock=FixedClock(NOW))
    log.info("exchange.released", records=3, consumer="bank", reasons=("A", "B"))
    assert stream.getvalue() == (
        '{"consumer":"bank","event":"exchange.released","level":"info","reasons":["A","B"],"records":3,'
        '"timestamp":"2026-05-04T03:02:01.000000Z"}\n'
    )


def test_a_field_not_on_the_list_is_dropped_and_counted():
    stream = io.StringIO()
    losses = configure_logging(stream)
    log.info("exchange.released", national_id="11010519491231002X", records=1)
    assert "11010519491231002X" not in stream.getvalue()
    assert lines_of(stream)[0]["records"] == 1
    assert losses.fields_dropped == 1


def test_a_listed_field_is_kept():
    """The control of the test before: without the list, the value would be there."""
    stream = io.StringIO()
    losses = configure_logging(stream)
    log.info("exchange.released", exchange="11010519491231002X")
    assert "11010519491231002X" in stream.getvalue()
    assert losses.fields_dropped == 0


class _Talkative:
    def __repr__(self):
        return "secret"

    __str__ = __repr__


@pytest.mark.parametrize(
    "value", [_Talkative(), b"secret", {"a": "secret"}, [_Talkative()], ["ok", {"a": 1}], 2**80, Ellipsis]
)
def test_a_value_that_is_not_plain_is_dropped_and_counted(value):
    stream = io.StringIO()
    losses = configure_logging(stream)
    log.info("x.happened", member=value)
    assert "member" not in lines_of(stream)[0]
    assert "secret" not in stream.getvalue()
    assert losses.fields_dropped == 1


class _Colour(StrEnum):
    RED = "red"


class _Text(str):
    __slots__ = ()

    def __str__(self):
        return "secret"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (_Colour.RED, "red"),
        (_Text("plain"), "plain"),
        (Path("conf/a.toml"), "conf/a.toml"),
        (Level.INFO, 20),
        (None, None),
        (True, True),
        (1.5, 1.5),
        (frozenset({"b", "a"}), ["a", "b"]),
    ],
)
def test_plain_values_stand_as_they_are(value, shown):
    stream = io.StringIO()
    configure_logging(stream)
    log.info("x.happened", member=value)
    assert lines_of(stream)[0]["member"] == shown


def test_long_texts_and_lists_are_cut():
    stream = io.StringIO()
    configure_logging(stream)
    log.info("x.happened", user_agent="a" * 10_000, reasons=["b" * 10_000] * 1000)
    line = lines_of(stream)[0]
    assert line["user_agent"] == "a" * (MAX_TEXT_LENGTH - 1) + "…"
    assert len(line["reasons"]) == MAX_LIST_LENGTH
    assert {len(reason) for reason in line["reasons"]} == {MAX_TEXT_LENGTH}


@pytest.mark.parametrize("field", sorted(ALLOWED_FIELDS - {"timestamp", "level", "event"}))
def test_500_hostile_strings_in_a_field_forge_no_line(field):
    stream = io.StringIO()
    configure_logging(stream)
    strings = hostile_strings(500)
    for text in strings:
        log.warning("call.refused", **{field: text})
    written = stream.getvalue()
    assert written.count("\n") == len(written.splitlines()) == 500
    assert all(32 <= ord(character) < 127 for character in written.replace("\n", ""))
    for text, line in zip(strings, written.splitlines(), strict=True):
        parsed = json.loads(line)
        assert parsed["event"] == "call.refused"
        assert parsed[field] == text.encode("utf-8", "replace").decode()


def test_the_hostile_strings_do_forge_lines_in_a_naive_log():
    """The control: written as they are, the same strings make more lines than events."""
    assert len("\n".join(hostile_strings(500)).splitlines()) > 1000


def test_hostile_events_forge_no_line():
    stream = io.StringIO()
    configure_logging(stream)
    for text in hostile_strings(500):
        log.info(text)
    assert len(lines_of(stream)) == 500


def test_text_for_people_forges_no_line_either():
    stream = io.StringIO()
    configure_logging(stream, json=False)
    for text in hostile_strings(500):
        log.info("call.refused", user_agent=text, reasons=[text])
    written = stream.getvalue()
    assert len(written.splitlines()) == 500
    assert "\x1b" not in written
    assert "call.refused" in written


def test_a_terminal_gets_colours():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    configure_logging(stream, json=False)
    log.info("gateway.started", port=8443)
    assert "\x1b[" in stream.getvalue()


@given(st.text())
def test_escaping_keeps_the_value_of_a_json_string(text):
    escaped = escape_unprintable(json.dumps(text, ensure_ascii=False))
    assert escaped.isascii()
    assert json.loads(escaped) == text


@given(st.dictionaries(st.sampled_from(sorted(ALLOWED_FIELDS - {"event"})), st.from_type(object)))
def test_no_value_makes_logging_raise(fields):
    stream = io.StringIO()
    configure_logging(stream)
    log.info("x.happened", **fields)
    assert len(lines_of(stream)) == 1


def test_a_quieter_level_drops_events_and_can_be_changed_later():
    first, second = io.StringIO(), io.StringIO()
    configure_logging(first, Level.WARNING)
    log.info("x.happened")
    log.warning("y.happened")
    assert [line["event"] for line in lines_of(first)] == ["y.happened"]
    configure_logging(second, Level.DEBUG)
    log.debug("z.happened")
    assert [line["event"] for line in lines_of(second)] == ["z.happened"]
    assert len(lines_of(first)) == 1


def test_context_of_the_call_stands_on_its_lines():
    stream = io.StringIO()
    configure_logging(stream)
    with structlog.contextvars.bound_contextvars(exchange="0199"):
        log.info("x.happened")
    log.info("y.happened")
    inside, outside = lines_of(stream)
    assert inside["exchange"] == "0199"
    assert "exchange" not in outside


def test_a_closed_stream_loses_lines_and_counts_them():
    stream = io.StringIO()
    losses = configure_logging(stream)
    stream.close()
    log.info("x.happened")
    log.info("x.happened")
    assert losses.lines_lost == 2


def test_threads_write_whole_lines():
    stream = io.StringIO()
    configure_logging(stream)
    threads = [
        threading.Thread(target=lambda: [log.info("x.happened", user_agent="u" * 150) for _ in range(200)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lines_of(stream)) == 800


def test_a_librarys_record_tells_its_logger_and_not_its_text():
    stream = io.StringIO()
    configure_logging(stream)
    logging.getLogger("grpc._server").error("peer sent %s", "CANARY")
    logging.getLogger("other").warning("already filled in: CANARY")
    logging.getLogger("chatty").info("not even a line")
    first, second = lines_of(stream)
    assert "CANARY" not in stream.getvalue()
    assert (first["event"], first["logger"], first["level"]) == ("library.message", "grpc._server", "error")
    assert first["source"].startswith("test_logs:")
    assert (second["logger"], second["level"]) == ("other", "warning")
    assert "message" not in first


def test_debug_shows_a_librarys_template_and_still_no_values():
    stream = io.StringIO()
    configure_logging(stream, Level.DEBUG)
    logging.getLogger("database").info("[%s] %r", "cached", {"id": "CANARY"})
    logging.getLogger("other").debug("already filled in: CANARY")
    first, second = lines_of(stream)
    assert first["message"] == "[%s] %r"
    assert "message" not in second
    assert "CANARY" not in stream.getvalue()


def test_a_librarys_exception_is_told_by_type():
    stream = io.StringIO()
    configure_logging(stream)
    try:
        int("CANARY")
    except ValueError:
        logging.getLogger("asyncio").exception("task failed")
    (line,) = lines_of(stream)
    assert line["error_type"] == "ValueError"
    assert "CANARY" not in stream.getvalue()


@pytest.mark.parametrize("number", [1, 10, 15, 20, 30, 35, 40, 50, 99])
def test_every_number_of_a_foreign_level_has_a_name(number):
    stream = io.StringIO()
    configure_logging(stream, Level.DEBUG)
    logging.getLogger().setLevel(1)
    logging.getLogger("x").log(number, "m")
    expected = next((level for level in sorted(Level) if number <= level), Level.CRITICAL)
    assert lines_of(stream)[0]["level"] == expected.name.lower()


def test_configuring_twice_does_not_double_foreign_lines():
    stream = io.StringIO()
    configure_logging(stream)
    configure_logging(stream)
    logging.getLogger("x").error("m")
    assert len(lines_of(stream)) == 1


def test_a_line_costs_microseconds():
    """Budget 15 µs on an idle machine; the bound leaves room for a busy one."""
    configure_logging(io.StringIO())

    def line():
        log.info(
            "exchange.released", exchange="0199", consumer="bank", outcome="released", records=1, entry=12
        )

    assert min(timeit.repeat(line, number=2000, repeat=5)) / 2000 < 60e-6
