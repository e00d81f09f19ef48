"""`gateway audit search`, `tail`, `report` and `verify-export`, as a security officer runs them."""

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import nullcontext
from pathlib import Path

import pytest

from gateway.audit.errors import LogUnavailableError
from gateway.cli import log_place
from gateway.clock import system_clock
from gateway.contracts.entries import entry_of
from gateway.contracts.sqlite import SqliteContractStore
from gateway.deployment.changes import record_entry
from tests.simulators.negotiated import COMPANY, propose, terms_of
from tests.unit.cli.conftest import ORIGIN, add_bank, add_registry

GATEWAY = Path(sys.executable).with_name("gateway")
OFFICER = f"officers/{pwd.getpwuid(os.getuid()).pw_name}"


@pytest.fixture
def filled(gateway, tmp_path):
    """A log of four entries: two members added, one suspended and resumed."""
    for result in (
        add_bank(gateway, tmp_path / "bank"),
        add_registry(gateway, tmp_path / "registry"),
        gateway("member", "suspend", "harbour-bank"),
        gateway("member", "resume", "harbour-bank"),
    ):
        assert result.exit_code == 0, result.output
    return gateway


def newest(commands, settings):
    """The newest entry, read as a copy is read: without leaving another."""
    return commands.json("audit", "list", "--limit", "1", "--database", settings.log.database)[0]


def test_a_search_finds_by_filter_and_is_recorded(filled, settings):
    found = filled.json("audit", "search", "kind = member.* AND NOT kind = member.added")
    assert [entry["index"] for entry in found] == [3, 2]
    reading = newest(filled, settings)
    assert (reading["kind"], reading["subject"]) == ("audit.read", "entries")
    assert reading["detail"] == {
        "by": OFFICER,
        "through": "search",
        "filter": 'kind = "member.*" AND kind != "member.added"',
        "entries": "2",
    }


def test_a_value_that_no_entry_has_is_not_recorded(filled, settings):
    filled("audit", "search", "purpose = 440301199001011234")
    assert newest(filled, settings)["detail"]["filter"] == 'purpose = "(unknown)"'
    assert b"440301199001011234" not in settings.log.database.read_bytes()


def test_entries_are_found_by_the_name_of_a_contract(filled, settings, tmp_path):
    """Control: a copy of the log knows identities alone."""
    store, versions = SqliteContractStore(settings.contracts_place), []

    def record(change):
        record_entry(settings, entry_of(change, system_clock()))

    for number in (1, 2):
        terms = terms_of(contract=f"amber-{number}")
        versions.append(
            propose(
                store, terms, COMPANY, lambda change: record_entry(settings, entry_of(change, system_clock()))
            )
        )
    for name in ("amber-1", versions[0].name):
        found = filled.json("audit", "search", f"contract = {name}")
        assert [(entry["kind"], entry["contract"]) for entry in found] == [
            ("contract.proposed", versions[0].id)
        ]
        assert newest(filled, settings)["detail"]["filter"] == f'contract = "{versions[0].id}"'
    found = filled.json("audit", "search", "contract:* AND NOT contract = amber-1")
    assert [entry["contract"] for entry in found] == [versions[1].id]
    copy = shutil.copy(settings.log.database, tmp_path / "copy.db")
    found = filled.json("audit", "search", f"contract = {versions[1].id}", "--database", copy)
    assert [entry["contract"] for entry in found] == [versions[1].id]
    refused = filled("audit", "search", "contract = amber-1", "--database", copy)
    assert refused.exit_code == 2
    assert "identity" in refused.stderr
    unknown = filled("audit", "search", "contract = nobody-s")
    assert (unknown.exit_code, "no contract of this name" in unknown.stderr) == (2, True)


def test_pages_go_on_with_the_token_although_each_leaves_an_entry(filled):
    seen = []
    token = ()
    for _ in range(4):
        page = filled("audit", "search", "kind = member.*", "--limit", "1", *token)
        assert page.exit_code == 0, page.output
        seen.append(json.loads(page.stdout)["index"])
        if "--page-token" in page.stderr:
            token = ("--page-token", page.stderr.split("--page-token ")[1].strip())
    assert seen == [3, 2, 1, 0]
    other = filled("audit", "search", "kind = exchange.*", *token)
    assert other.exit_code == 2
    assert "PAGE_TOKEN_INVALID" in other.stderr


def test_a_wrong_filter_is_shown_its_place(filled):
    result = filled("audit", "search", "kind = member.added AND colour = red")
    assert result.exit_code == 2
    text = result.stderr.splitlines()
    assert text[-2].strip() == "kind = member.added AND colour = red"
    assert text[-1].index("^") == text[-2].index("colour")


def test_every_way_of_reading_leaves_its_entry(filled, settings, tmp_path):
    for words, through, subject in (
        (("list",), "list", "entries"),
        (("search",), "search", "entries"),
        (("show", "1"), "show", "entries/1"),
        (("report", tmp_path / "report.jsonl"), "report", "entries"),
    ):
        assert filled("audit", *words).exit_code == 0
        reading = newest(filled, settings)
        assert (reading["kind"], reading["subject"], reading["detail"]["through"]) == (
            "audit.read",
            subject,
            through,
        )
        assert reading["detail"]["by"] == OFFICER


def test_what_cannot_be_recorded_is_not_shown(filled, settings, monkeypatch, tmp_path):
    def fail(*_words, **_options):
        raise LogUnavailableError("The disk is full.")

    monkeypatch.setattr(log_place, "record_change", fail)
    report = tmp_path / "report.jsonl"
    for words in (("list",), ("search",), ("show", "1"), ("report", report)):
        result = filled("audit", *words)
        assert result.exit_code == 4
        assert result.stdout == ""
        assert "--database" in result.stderr
    assert list(tmp_path.glob("report*")) == []
    assert filled("audit", "search", "--database", settings.log.database).exit_code == 0
    # The control: without the fault everything is shown.
    monkeypatch.undo()
    assert filled("audit", "search").stdout != ""


# -- tail ------------------------------------------------------------------------------------------


@pytest.fixture
def tailing(filled, config):
    """Return a function that starts a tail as a process of its own."""
    started = []

    def start(*words):
        process = subprocess.Popen(
            [GATEWAY, "audit", "tail", *words, "--config", str(config)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={"PATH": os.environ["PATH"], "HOME": str(config.parent)},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_tail_shows_what_comes_and_ends_cleanly(filled, settings, tailing):
    process = tailing("kind = member.*", "--lines", "2")
    assert [json.loads(process.stdout.readline())["index"] for _ in range(2)] == [2, 3]
    reading = newest(filled, settings)
    assert (reading["detail"]["through"], "entries" in reading["detail"]) == ("tail", False)
    filled("member", "suspend", "registry")
    assert json.loads(process.stdout.readline())["subject"] == "members/registry"
    process.send_signal(signal.SIGINT)
    rest, told = process.communicate(timeout=20)
    assert (process.returncode, rest, told) == (0, "", "")
    ended = newest(filled, settings)
    assert (ended["detail"]["through"], ended["detail"]["entries"]) == ("tail", "3")


def test_a_tail_begins_where_it_is_told_to(tailing):
    process = tailing("--since", "2020-01-01", "--output", "jsonl")
    assert [json.loads(process.stdout.readline())["index"] for _ in range(5)] == [0, 1, 2, 3, 4]
    process.terminate()
    process.communicate(timeout=20)
    assert process.returncode == 0


def test_a_tail_for_people_is_one_line_an_entry(filled, monkeypatch):
    stopped = threading.Event()
    stopped.set()
    monkeypatch.setattr("gateway.cli.reading._until_told_to_stop", lambda: nullcontext(stopped))
    text = filled("audit", "tail", "--lines", "2", "--output", "table").stdout.splitlines()
    assert [line.split()[2] for line in text] == ["member.resumed", "audit.read"], (
        "it shows its own beginning"
    )
    assert "members/harbour-bank" in text[0]


# -- reports -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["jsonl", "csv", "ocsf"])
def test_a_report_is_written_whole_with_a_manifest_that_verifies_elsewhere(
    filled, cli, config, tmp_path, form
):
    report = tmp_path / f"report.{form}"
    result = filled("audit", "report", report, "kind = member.*", "--format", form)
    assert result.exit_code == 0, result.output
    assert "4 entries" in result.stdout
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for file in (report, Path(f"{report}.manifest.json"), config.parent / "trust.json"):
        assert file == config.parent / "trust.json" or file.stat().st_mode & 0o077 == 0
        shutil.copy(file, elsewhere / file.name)
    shutil.rmtree(config.parent)
    words = ("audit", "verify-export", elsewhere / report.name, "--trust", elsewhere / "trust.json")
    facts = cli.json(*words)
    assert (facts["log"], facts["entries"], facts["first"], facts["last"]) == (ORIGIN, 4, 0, 3)
    assert facts["filter"] == 'kind = "member.*"'
    assert f"report.{form} verifies: 4 entries of {ORIGIN}." in cli(*words).stdout
    with (elsewhere / report.name).open("ab") as file:
        file.write(b"\n")
    refused = cli(*words)
    assert refused.exit_code == 3
    assert "longer than its manifest says" in refused.stderr


def test_a_report_never_replaces_a_file(filled, tmp_path):
    (tmp_path / "there").write_text("precious")
    (tmp_path / "other.manifest.json").write_text("precious")
    for name in ("there", "other"):
        assert filled("audit", "report", tmp_path / name).exit_code == 2
    assert (tmp_path / "there").read_text() == "precious"
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("missing", ["report", "manifest", "trust"])
def test_what_is_missing_is_told(filled, config, cli, tmp_path, missing):
    filled("audit", "report", tmp_path / "report")
    shutil.copy(config.parent / "trust.json", tmp_path / "trust")
    (tmp_path / "report.manifest.json").rename(tmp_path / "manifest")
    (tmp_path / missing).unlink()
    result = cli(
        *("audit", "verify-export", tmp_path / "report"),
        *("--manifest", tmp_path / "manifest", "--trust", tmp_path / "trust"),
    )
    assert result.exit_code == 2
    assert "does not exist" in result.stderr
