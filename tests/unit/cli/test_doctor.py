"""`gateway doctor` as a person runs it, and the commands that its advice names."""

import json
import sqlite3
from contextlib import closing

from gateway.audit.guards import latest_time
from gateway.audit.sqlite_reader import SqliteReader
from tests.unit.cli.conftest import add_bank, add_registry


def behind_the_back(settings, statement):
    with closing(sqlite3.connect(settings.members.database)) as database, database:
        assert database.execute(statement).rowcount == 1


def test_a_sound_deployment_gets_one_line_a_check_and_exit_code_0(gateway, tmp_path):
    add_bank(gateway, tmp_path / "bank")
    result = gateway("doctor")
    assert result.exit_code == 0, result.output
    *lines, empty, summary = result.stdout.splitlines()
    assert all(line.startswith("ok ") for line in lines)
    assert (empty, summary) == ("", "0 failures, 0 warnings.")


def test_an_edited_member_gets_exit_code_3_and_advice_that_works(gateway, settings, tmp_path):
    add_bank(gateway, tmp_path / "bank")
    behind_the_back(settings, "UPDATE members SET roles = 'auditor,consumer'")
    result = gateway("doctor")
    assert result.exit_code == 3
    assert "FAIL  members" in result.stdout
    assert "differs from entries/0 in: roles" in result.stdout
    assert gateway("member", "confirm", "harbour-bank", "--reason", "made sure by telephone").exit_code == 0
    assert gateway("doctor").exit_code == 0


def test_programs_get_each_finding(gateway, settings, tmp_path):
    add_bank(gateway, tmp_path / "bank")
    behind_the_back(settings, "UPDATE members SET state = 'suspended'")
    rows = json.loads(gateway("doctor", "--output", "json").stdout)
    [failing] = [row for row in rows if row["state"] == "fail"]
    assert failing["check"] == "members"
    assert failing["advice"]


def test_a_warning_counts_only_if_it_is_to(gateway, config):
    (config.parent / "trust.json").unlink()
    assert gateway("doctor").exit_code == 0
    assert gateway("doctor", "--strict").exit_code == 3


def test_deep_examines_every_entry(gateway, tmp_path):
    add_bank(gateway, tmp_path / "bank")
    rows = json.loads(gateway("doctor", "--deep", "--output", "json").stdout)
    assert "all 1 entries" in next(row["detail"] for row in rows if row["check"] == "log")


def test_confirm_wants_a_reason_and_a_member(gateway, tmp_path):
    add_bank(gateway, tmp_path / "bank")
    assert gateway("member", "confirm", "harbour-bank", "--reason", " ").exit_code == 2
    assert gateway("member", "confirm", "nobody", "--reason", "x").exit_code == 2


def test_a_provider_can_be_moved(gateway, tmp_path):
    add_registry(gateway, tmp_path / "registry")
    assert gateway("member", "move", "registry", "--endpoint", "127.0.0.1:7600").exit_code == 0
    assert gateway.json("member", "list")[0]["endpoint"] == "127.0.0.1:7600"
    assert gateway.json("audit", "list")[0]["kind"] == "member.changed"
    assert gateway("member", "move", "registry", "--endpoint", "nowhere").exit_code == 2
    assert gateway("doctor").exit_code == 0


def test_a_key_is_revoked_by_its_beginning(gateway, cli, tmp_path):
    add_bank(gateway, tmp_path / "bank")
    [old] = gateway.json("member", "list")[0]["keys"]
    made = json.loads(cli("keys", "generate", tmp_path / "new.key", "--output", "json").stdout)
    assert gateway("keys", "revoke", "harbour-bank", old[:16]).exit_code == 2  # its only one
    gateway("keys", "register", "harbour-bank", tmp_path / "new.key.pub")
    assert gateway("keys", "revoke", "harbour-bank", old[:15]).exit_code == 2
    assert gateway("keys", "revoke", "harbour-bank", "0" * 64).exit_code == 2
    assert gateway("keys", "revoke", "harbour-bank", old[:16]).exit_code == 0
    assert gateway.json("member", "list")[0]["keys"] == [made["key_id"]]
    newest = gateway.json("audit", "list")[0]
    assert (newest["kind"], newest["detail"]["key"]) == ("key.revoked", old)


def test_an_anchor_is_made_and_must_fit(gateway, config, tmp_path):
    assert gateway("audit", "anchor").exit_code == 2  # none is configured
    path = tmp_path / "anchor"
    config.write_text(config.read_text().replace("[log]\n", f'[log]\nanchor = "{path}"\n'))
    assert gateway("member", "suspend", "nobody").exit_code == 2
    assert "is missing" in add_bank(gateway, tmp_path / "bank").stderr
    assert gateway("audit", "anchor").exit_code == 0
    assert path.stat().st_mode & 0o077 == 0
    assert add_bank(gateway, tmp_path / "bank").exit_code == 0
    assert gateway.json("audit", "anchor")["tree_size"] == 1
    path.write_text(path.read_text().replace("\n1\n", "\n2\n"))
    assert "no checkpoint of this log" in gateway("audit", "anchor").stderr


def test_the_clock_is_accepted_with_a_reason(gateway, settings):
    assert gateway("audit", "accept-clock", "--reason", "").exit_code == 2
    assert gateway.json("audit", "accept-clock", "--reason", "the clock was in 2099")["entry"] == 0
    [entry] = gateway.json("audit", "list")
    assert (entry["kind"], entry["detail"]) == ("clock.jumped", {"reason": "the clock was in 2099"})
    with SqliteReader(settings.log.database) as reader:
        assert latest_time(reader, 1) == entry["time"]
