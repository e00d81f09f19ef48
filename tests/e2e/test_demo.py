"""`gateway demo` as a person runs it: what it tells, how it ends, and that it leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal

import pytest

from gateway.demo.narrator import Narrator
from gateway.demo.proofs import verify_log
from gateway.demo.stage import StoryError
from gateway.demo.world import build_world

LAST_LINE = re.compile(r"demo: ([0-9]+) released, ([0-9]+) denied, log of ([0-9]+) entries verified")
BOXES = re.compile(r"[\u2500-\u259f|+]{2}")


@pytest.fixture(scope="module")
def story(tmp_path_factory, start_demo):
    directory = tmp_path_factory.mktemp("story")
    demo = start_demo(directory)
    code, told, errors = demo.finish()
    assert code == 0, errors
    return told, demo, directory


def test_the_last_line_gives_the_figures(story):
    told, _, _ = story
    match = LAST_LINE.fullmatch(told.splitlines()[-1])
    assert match is not None
    assert (match[1], match[2]) == ("9", "6")
    assert int(match[3]) > 9 * 2 + 6


def test_the_story_tells_what_was_released_refused_and_found(story):
    told, _, _ = story
    for reason in (
        "PURPOSE_NOT_PERMITTED",
        "FIELD_ABOVE_TIER",
        "SIGNATURE_INVALID",
        "REPLAYED",
        "IDENTIFIER_INVALID",
        "CONTRACT_NOT_IN_FORCE",
    ):
        assert re.search(rf"DENIED .*\b{reason}\b", told), reason
    for treatment in ("released", "generalised", "pseudonym", "withheld"):
        assert re.search(rf" {treatment}$", told, re.MULTILINE), treatment
    assert len(re.findall(r"\.receipt\.json .* verified$", told, re.MULTILINE)) == 9
    assert re.search(r"300 records in 1 page, .* records a second", told)
    assert re.search(r"FOUND  entry [0-9]+: its bytes do not have the stored leaf hash", told)


def test_the_story_tells_what_becomes_of_a_company_s_records(story):
    told, _, _ = story
    assert re.search(r"^ +Inspectorate +sha256:[0-9a-f]+ +active$", told, re.MULTILINE)
    for reason in ("identifier-check-digit", "identifier-length", "duplicate"):
        assert re.search(rf"^ +2[123] .* {reason}$", told, re.MULTILINE), reason
    assert "VERIFIED  20 records taken, 3 rejected" in told
    assert re.search(r"^ +phone +000-[0-9]+ +- +withheld$", told, re.MULTILINE)
    assert re.search(r"^ +Inspectorate +[0-9]+ +[0-9]+ +done$", told, re.MULTILINE)
    assert re.search(r"^ +inspectorate +public-lookup +released +2 +2 +[0-9]+,[0-9]+$", told, re.MULTILINE)
    assert re.search(r"counted again from the company's own entries, 2 of them proven", told)


def test_two_banks_are_shown_two_pseudonyms_of_one_person(story):
    told, _, _ = story
    pseudonyms = re.findall(r"^ +(?:Harbour|Northern) Bank receives +(sg1:\S+)$", told, re.MULTILINE)
    assert len(set(pseudonyms)) == 2
    assert len({pseudonym.rpartition(":")[2] for pseudonym in pseudonyms}) == 2


def test_a_pipe_gets_plain_text(story):
    told, _, _ = story
    assert told.isascii()
    assert "\x1b" not in told
    assert BOXES.search(told) is None
    assert all(line == line.rstrip() and len(line) <= 100 for line in told.splitlines())


def test_nothing_is_left_behind(story):
    _, demo, directory = story
    assert demo.left() == []
    assert list(directory.glob("sluicegate-demo-*")) == []


@pytest.mark.parametrize(
    ("name", "title"), [("tax office's provider", "Tax office's provider"), ("gateway", "Gateway")]
)
def test_a_killed_process_ends_the_story_with_its_last_words(tmp_path, start_demo, name, title):
    demo = start_demo(tmp_path)
    os.kill(demo.read_processes()[name], signal.SIGKILL)
    code, told, errors = demo.finish()
    assert code == 1
    assert LAST_LINE.search(told) is None
    assert re.search(rf"{title} \(process [0-9]+\) was killed \(SIGKILL\) before its time", errors)
    assert f"Last lines of {title}:" in errors
    assert '"event":"' in errors
    assert "Traceback" not in errors
    assert demo.left() == []
    assert list(tmp_path.glob("sluicegate-demo-*")) == []


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_everything(tmp_path, start_demo, number, expected):
    demo = start_demo(tmp_path)
    demo.read_processes()
    assert len(demo.left()) == 6
    demo.process.send_signal(number)
    code, told, errors = demo.finish()
    assert code == expected
    assert LAST_LINE.search(told) is None
    assert "Traceback" not in errors
    assert demo.left() == []
    assert list(tmp_path.glob("sluicegate-demo-*")) == []


def test_neither_proxies_nor_settings_of_another_deployment_reach_the_demo(tmp_path, start_demo):
    demo = start_demo(
        tmp_path,
        SLUICEGATE_SERVER__LISTEN="203.0.113.1:1",
        SLUICEGATE_ADDRESS="203.0.113.1:1",
        https_proxy="http://203.0.113.1:1",
    )
    code, _, errors = demo.finish()
    assert code == 0, errors


@pytest.fixture(scope="module")
def log_of_a_world(tmp_path_factory):
    world = build_world(
        tmp_path_factory.mktemp("world"), gateway_port=1, registry_port=2, tax_port=3, company_count=100
    )
    return world.deployment.load().log.database, world.members["registry"].directory / "trust.json"


def test_a_sound_log_that_tells_of_what_took_place_is_accepted(log_of_a_world):
    database, trust = log_of_a_world
    assert verify_log(Narrator(), database, trust, 0, 0) == 6


def test_a_log_that_tells_of_other_exchanges_is_not_accepted(log_of_a_world):
    database, trust = log_of_a_world
    with pytest.raises(StoryError, match="other exchanges"):
        verify_log(Narrator(), database, trust, 1, 0)


def test_a_log_with_a_changed_byte_is_not_accepted(log_of_a_world, tmp_path):
    database, trust = log_of_a_world
    changed = bytearray(database.read_bytes())
    changed[changed.rfind(b'"member.added"') + 1] ^= 1
    copy = tmp_path / "audit.db"
    copy.write_bytes(changed)
    with pytest.raises(StoryError, match="fsck found"):
        verify_log(Narrator(), copy, trust, 0, 0)
