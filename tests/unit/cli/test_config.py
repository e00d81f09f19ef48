"""`config check` with each kind of broken file, and `config show`."""

import json
import shutil
import subprocess
import sys

import pytest

from gateway.cli.config import redact
from gateway.evidence.keys import SigningKey, write_secret

PARTS = ["certificates", "keys", "keyring", "policy", "catalogue", "members", "audit log", "disclosure key"]


def findings(gateway):
    result = gateway("config", "check", "--output", "json")
    return result.exit_code, {row["part"]: row for row in json.loads(result.stdout)}


def test_a_sound_deployment_has_every_part_sound(gateway):
    code, found = findings(gateway)
    assert code == 0
    assert list(found) == PARTS
    assert all(row["sound"] for row in found.values())
    assert "golden cases agree" in found["policy"]["detail"]


def test_people_get_one_line_a_part(gateway):
    lines = gateway("config", "check").stdout.splitlines()
    assert len(lines) == len(PARTS)
    assert all(line.startswith("ok ") for line in lines)


def replace_with(content):
    return lambda path: path.write_text(content)


def open_to_all(path):
    path.chmod(0o644)


def remove(path):
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def foreign_key(path):
    path.unlink()
    write_secret(path, SigningKey.generate().to_pem())


BROKEN = [
    ("tls/gateway.pem", remove, "certificates", "cannot be read"),
    ("tls/gateway.pem", replace_with("nonsense"), "certificates", "not a certificate"),
    ("tls/ca.pem", replace_with("nonsense"), "certificates", "no certificates"),
    ("keys/tls.key", foreign_key, "certificates", "does not belong"),
    ("keys/tls.key", open_to_all, "certificates", "chmod 600"),
    ("keys/gateway.key", remove, "keys", "cannot be opened"),
    ("keys/gateway.key", replace_with("nonsense"), "keys", "not an unencrypted private key"),
    ("keys/page-tokens.key", replace_with("short"), "keys", "32 random bytes"),
    ("keys/keyring.json", replace_with("{}"), "keyring", "not a keyring"),
    ("keys/keyring.json", open_to_all, "keyring", "chmod 600"),
    ("policies", remove, "policy", "policy.directory"),
    ("policies/bundle.yaml", remove, "policy", "bundle.yaml"),
    ("policies/data/tiers.yaml", replace_with("tiers: [unclosed"), "policy", "tiers.yaml"),
    ("policies/exchange/decision/decision.rego", replace_with("package x y z"), "policy", "decision.rego"),
    ("catalogue", remove, "catalogue", "no dataset description"),
    ("catalogue/registry-companies.yaml", replace_with("kind: [unclosed"), "catalogue", "registry-companies"),
    ("catalogue/registry-companies.yaml", replace_with("kind: Poem\n"), "catalogue", "registry-companies"),
    ("data/members.db", remove, "members", "does not exist"),
    ("data/members.db", replace_with("nonsense" * 100), "members", "cannot be used"),
    ("data/audit.db", remove, "audit log", "second log unasked"),
    ("data/audit.db", replace_with("nonsense" * 100), "audit log", "audit log"),
    ("keys/log.key", foreign_key, "audit log", "no signature by a trusted key"),
]


@pytest.mark.parametrize(("name", "break_it", "part", "told"), BROKEN)
def test_a_broken_file_is_told_with_its_part_and_hides_no_other(gateway, config, name, break_it, part, told):
    break_it(config.parent / name)
    code, found = findings(gateway)
    assert code == 2
    assert not found[part]["sound"]
    assert told in found[part]["detail"]
    depending = {"policy": {"policy", "catalogue"}}.get(part, {part})
    assert {name for name, row in found.items() if not row["sound"]} == depending
    assert "nonsense" not in json.dumps(found)


def test_a_policy_that_answers_a_golden_case_differently_is_told(gateway, config):
    cases = config.parent / "policies" / "cases" / "public.yaml"
    text = cases.read_text()
    assert "allow: true" in text
    cases.write_text(text.replace("allow: true", "allow: false", 1))
    code, found = findings(gateway)
    assert code == 2
    assert "golden cases are answered differently" in found["policy"]["detail"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"not toml [", "not TOML"),
        (b"\xff\xfe", "not UTF-8"),
        (b"[log]\norigin = 'a.example/log'\n", "tls: Field required"),
        (b"colour = 'blue'\n", "colour: Extra inputs are not permitted"),
    ],
)
def test_settings_that_cannot_be_read_are_told(gateway, config, content, told):
    config.write_bytes(content)
    for verb in ("check", "show"):
        result = gateway("config", verb)
        assert result.exit_code == 2
        assert told in result.stderr
        assert str(config) in result.stderr


def test_serve_refuses_broken_settings_in_one_line(gateway, config):
    config.write_text("colour = 'blue'\n")
    result = gateway("serve")
    assert result.exit_code == 2
    assert len(result.stderr.strip().splitlines()) == 1


def test_serve_refuses_a_deployment_without_its_log(gateway, config):
    (config.parent / "data" / "audit.db").unlink()
    # In a process of its own, as it starts others.
    words = (sys.executable, "-m", "gateway", "serve", "--config", str(config))
    result = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 2
    assert "never starts a second log unasked" in result.stderr
    assert result.stderr.count("error:") == 1


def test_show_tells_the_origin_of_each_value(gateway, monkeypatch):
    monkeypatch.setenv("SLUICEGATE_SERVER__LISTEN", "127.0.0.1:9999")
    rows = {row["setting"]: row for row in gateway.json("config", "show")}
    assert (rows["server.listen"]["value"], rows["server.listen"]["origin"]) == (
        "127.0.0.1:9999",
        "environment",
    )
    assert rows["log.origin"]["origin"] == "file"
    assert rows["log.queue"]["origin"] == "default"
    assert rows["keys.signing"]["value"].endswith("keys/gateway.key")


def test_show_redacts_what_could_be_a_secret(gateway, config):
    text = config.read_text().replace("http://127.0.0.1:8181", "http://user:hunter2@127.0.0.1:8181")
    config.write_text(text)
    printed = gateway("config", "show").output
    assert "hunter2" not in printed
    assert "***@127.0.0.1:8181" in printed


def test_redaction_leaves_the_rest_alone():
    assert redact("http://127.0.0.1:8181") == "http://127.0.0.1:8181"
    assert redact(5) == 5
