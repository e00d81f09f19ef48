"""The doctor finds each tampering, names it, and says nothing of a deployment that is sound."""

from __future__ import annotations

import os
import shutil
from datetime import timedelta

import pytest

from gateway.audit.guards import latest_time
from gateway.audit.sqlite_reader import SqliteReader
from gateway.clock import parse_rfc3339, system_clock
from gateway.config import GatewayConfig
from gateway.doctor import State
from gateway.evidence.keys import SigningKey, write_secret
from gateway.pseudonym import Keyring

CHECKS = [
    "files", "TLS certificate", "members' authority", "keys", "key epoch", "log tables", "log", "log anchor",
    "clock", "members", "policy", "contracts", "changes", "crashes", "clock jumps", "version", "log disk",
    "trust file",
]  # fmt: skip


def failing(found):
    return {check for check, findings in found.items() for each in findings if each.state is State.FAIL}


def told(found, check):
    return " ".join(f"{finding.detail} {finding.advice}" for finding in found[check])


@pytest.mark.parametrize("deep", [False, True])
def test_of_a_sound_deployment_nothing_is_said(examine, deep):
    found = examine(deep=deep)
    assert list(found) == CHECKS
    assert {finding.state for findings in found.values() for finding in findings} == {State.OK}
    assert all(not finding.advice for findings in found.values() for finding in findings)


MEMBER_EDITS = {
    "state": "UPDATE members SET state = 'suspended' WHERE id = 'tax'",
    "roles": "UPDATE members SET roles = 'auditor' WHERE id = 'tax'",
    "endpoint": "UPDATE members SET endpoint = '10.0.0.1:1' WHERE id = 'tax'",
    "keys": "UPDATE signing_keys SET public = CAST(zeroblob(31) || x'07' AS BLOB) WHERE member = 'tax'",
}


@pytest.mark.parametrize("differing", MEMBER_EDITS)
def test_an_edited_member_is_named_with_what_differs(examine, config, run_sql, differing):
    run_sql(config.members.database, MEMBER_EDITS[differing])
    found = examine()
    assert failing(found) == {"members"}
    assert f"members/tax differs from entries/1 in: {differing}" in told(found, "members")
    assert "gateway member confirm tax" in told(found, "members")


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def change_policy(config):
    edit(config.policy.directory / "bundle.yaml", "revision: ", "revision: 7")


def change_catalogue(config):
    with next(config.catalogue.glob("*.yaml")).open("a") as file:
        file.write("\n# a line more\n")


def change_configuration(config):
    edit(config.log.database.parents[1] / "config.toml", "[log]\n", "[log]\nqueue = 9\n")


def exchange_authority(config):
    shutil.copy(config.tls.certificate, config.tls.client_ca)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (change_policy, "the policy is not what the gateway was last started with"),
        (change_catalogue, "the dataset descriptions are not what"),
        (change_configuration, "the configuration (log.queue) is not what"),
        (exchange_authority, "the members' authority is not what"),
    ],
)
def test_a_file_changed_since_the_last_start_is_told(examine, config, change, words):
    change(config)
    found = examine()
    assert failing(found) == {"changes"}
    assert words in told(found, "changes")


def test_a_signing_key_that_was_exchanged_is_told(examine, config):
    config.keys.signing.unlink()
    write_secret(config.keys.signing, SigningKey.generate().to_pem())
    found = examine()
    assert failing(found) == {"changes"}
    assert {finding.state for finding in found["trust file"]} == {State.WARN}


def test_a_keyring_changed_without_a_command_fails_and_one_rotated_by_it_waits_for_a_restart(
    examine, config, directory
):
    from typer.testing import CliRunner

    from gateway.cli.main import app

    before = config.keys.keyring.read_bytes()
    Keyring.load(config.keys.keyring).rotate(system_clock(), timedelta(days=1)).save(
        config.keys.keyring, replace_existing=True
    )
    assert failing(examine()) == {"changes"}
    config.keys.keyring.write_bytes(before)
    words = ["keys", "rotate", "--config", str(directory / "config.toml")]
    assert CliRunner().invoke(app, words).exit_code == 0
    found = examine()
    assert failing(found) == set()
    assert "Restart the gateway" in told(found, "changes")


LOG_EDITS = {
    "a trigger dropped": (["DROP TRIGGER entry_keeps_update"], "log tables", "entry_keeps_update"),
    "a trigger put in": (
        ["CREATE TRIGGER mine AFTER INSERT ON entry BEGIN SELECT 1; END"],
        "log tables",
        "not ours: trigger mine",
    ),
    "the newest entry edited": (
        [
            "DROP TRIGGER entry_keeps_update",
            "UPDATE entry SET data = CAST(data || ' ' AS BLOB) WHERE idx = (SELECT max(idx) FROM entry)",
        ],
        "log",
        "do not fit the checkpoint",
    ),
    "the newest entry cut": (
        ["DROP TRIGGER entry_keeps_delete", "DELETE FROM entry WHERE idx = (SELECT max(idx) FROM entry)"],
        "log",
        "do not fit the checkpoint",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LOG_EDITS)
def test_a_change_to_the_logs_file_is_told(examine, config, run_sql, name):
    statements, check, words = LOG_EDITS[name]
    run_sql(config.log.database, *statements)
    found = examine()
    assert check in failing(found)
    assert words in told(found, check)


def test_an_old_index_row_is_found_by_the_deep_examination_only(examine, config, run_sql):
    guard = (
        "CREATE TRIGGER entry_keeps_update BEFORE UPDATE ON entry BEGIN "
        "SELECT RAISE(ABORT, 'the audit log is append-only'); END"
    )
    run_sql(
        config.log.database,
        "DROP TRIGGER entry_keeps_update",
        "UPDATE entry SET consumer = 'x' WHERE idx = 0",
        guard,
    )
    assert failing(examine()) == set()
    assert failing(examine(deep=True)) == {"log"}


@pytest.mark.parametrize(
    ("name", "mode", "words"),
    [
        ("keys/log.key", 0o640, "others may read or write"),
        ("data/members.db", 0o644, "others may read or write"),
        ("config.toml", 0o666, "others may write"),
        ("policies/bundle.yaml", 0o664, "others may write"),
        ("catalogue", 0o777, "others may write"),
        ("tls/ca.pem", 0o646, "others may write"),
    ],
)
def test_a_file_open_to_others_is_told_with_what_to_run(examine, directory, name, mode, words):
    (directory / name).chmod(mode)
    found = examine()
    assert "files" in failing(found)
    assert words in told(found, "files")
    assert f"{directory / name}" in told(found, "files")
    assert "chmod go-" in told(found, "files")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can hand a file to somebody else")
def test_a_file_of_somebody_else_is_told(examine, directory):
    os.chown(directory / "policies" / "bundle.yaml", 65534, 65534)
    found = examine()
    assert failing(found) == {"files"}
    assert "belongs to another user" in told(found, "files")


def test_what_ends_soon_is_told_before_it_has(examine, directory):
    now = system_clock()
    soon, later = now + timedelta(days=375), now + timedelta(days=399)
    assert {each.state for each in examine(soon)["TLS certificate"]} == {State.WARN}
    assert {each.state for each in examine(later)["TLS certificate"]} == {State.FAIL}


def test_a_clock_before_the_newest_entry_is_told(examine, config):
    with SqliteReader(config.log.database) as reader:
        newest = parse_rfc3339(latest_time(reader, reader.size()))
    assert {each.state for each in examine(newest - timedelta(seconds=4))["clock"]} == {State.OK}
    assert {each.state for each in examine(newest - timedelta(seconds=30))["clock"]} == {State.WARN}
    found = examine(newest - timedelta(days=1))
    assert {each.state for each in found["clock"]} == {State.FAIL}
    assert "accept-clock" in told(found, "clock")


@pytest.mark.parametrize(("ratio", "state"), [(0.5, State.OK), (0.8, State.WARN), (0.96, State.FAIL)])
def test_a_filling_disk_is_told(examine, monkeypatch, ratio, state):
    monkeypatch.setattr("gateway.doctor.log.used_ratio", lambda _: ratio)
    assert {each.state for each in examine()["log disk"]} == {state}


def test_a_trust_file_that_is_not_current_is_told(examine, directory):
    (directory / "trust.json").write_text("{}")
    assert {each.state for each in examine()["trust file"]} == {State.WARN}
    (directory / "trust.json").unlink()
    assert "is missing" in told(examine(), "trust file")


def test_example_keys_are_refused(examine, directory, config):
    demo = directory / "config.toml"
    demo.write_text("demo = true\n" + demo.read_text())
    assert {each.state for each in examine()["keys"]} == {State.WARN}


def test_a_file_that_is_gone_hides_no_other_finding(examine, config):
    config.log.key.unlink()
    found = examine()
    assert {"files", "keys", "log", "trust file"} <= failing(found)
    assert found["log disk"][0].state is State.OK


def test_an_older_copy_of_the_log_is_found_by_its_anchor(examine, config, directory, tmp_path):
    from gateway.deployment import change_state
    from gateway.model import MemberState

    older = config.log.database.read_bytes()
    edit(directory / "config.toml", "[log]\n", f'[log]\nanchor = "{tmp_path / "anchor"}"\n')
    assert "is missing" in told(examine(), "log anchor")
    from typer.testing import CliRunner

    from gateway.cli.main import app

    change_state(config, "tax", MemberState.ACTIVE)
    words = ["audit", "anchor", "--config", str(directory / "config.toml")]
    assert CliRunner().invoke(app, words).exit_code == 0
    assert "log anchor" not in failing(examine())
    for suffix in ("-wal", "-shm"):
        config.log.database.with_name(config.log.database.name + suffix).unlink(missing_ok=True)
    config.log.database.write_bytes(older)
    assert "log anchor" in failing(examine())
    assert "this is an older copy" in told(examine(), "log anchor")


def test_the_control_without_an_anchor_the_older_copy_is_not_noticed(examine, config):
    from gateway.deployment import record_change
    from gateway.model import EntryKind

    older = config.log.database.read_bytes()
    record_change(config, EntryKind.KEY_ADDED, "epochs/x", {})
    for suffix in ("-wal", "-shm"):
        config.log.database.with_name(config.log.database.name + suffix).unlink(missing_ok=True)
    config.log.database.write_bytes(older)
    assert failing(examine()) == set()


def test_a_missing_page_token_key_is_told(examine, config: GatewayConfig):
    config.keys.page_tokens.unlink()
    assert failing(examine()) == {"files"}
