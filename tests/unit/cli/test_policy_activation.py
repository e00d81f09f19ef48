"""`gateway policy build | sign | activate | rollback | status | history | fetch`, as two people run them."""

from __future__ import annotations

import json
import shutil

import pytest

from gateway.config import GatewayConfig
from gateway.deployment import policy as deployment_policy
from gateway.errors import ConfigError
from tests.simulators.activation import People, packed_policy, public_line


@pytest.fixture(autouse=True)
def no_rehearsal(monkeypatch):
    """No gateway runs here that would have to prepare anything."""
    monkeypatch.setattr(deployment_policy, "REHEARSAL_S", 0.0)


@pytest.fixture(scope="module")
def people() -> People:
    return People.make()


@pytest.fixture
def keys(people, tmp_path):
    return people.save(tmp_path)


@pytest.fixture
def activated_by_two(config, people):
    config.write_text(config.read_text() + people.section())
    return config


@pytest.fixture
def policy(cli, activated_by_two):
    """Return a function that runs `gateway policy` with the deployment's configuration."""

    def run(*words, code=0):
        result = cli("policy", *words, "--config", activated_by_two, "--output", "json")
        assert result.exit_code == code, result.output
        return json.loads(result.stdout) if result.stdout else result.stderr

    return run


@pytest.fixture
def built(cli, config, tmp_path):
    """Return a function that builds the deployment's policy with another revision."""

    def build(revision: int):
        packed = packed_policy(config.parent / "policies", tmp_path, revision)
        out = tmp_path / f"{revision}.tar.gz"
        result = cli("policy", "build", tmp_path / f"policy-{revision}", "-o", out, "--output", "json")
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["bundle"] == packed.bundle.digest
        return out

    return build


def sign_by_two(policy, keys, file, action="activate"):
    policy("sign", file, "--key", keys["li"], "--role", "author", "--reason", "yearly", "--action", action)
    return sign_by_approver(policy, keys, file)


def sign_by_approver(policy, keys, file):
    return policy("sign", file, "--key", keys["wang"], "--role", "approver")


def test_two_people_put_a_policy_into_force_and_back(policy, built, keys, tmp_path):
    assert policy("status", code=1)["bundle"] is None
    for revision in (1, 2):
        file = built(revision)
        assert sign_by_two(policy, keys, file)["signatures"] == 2
        assert policy("activate", file)["persons"] == ["li", "wang"]
        assert policy("status")["revision"] == revision
    old = tmp_path / "old.tar.gz"
    assert policy("fetch", 1, "-o", old)["revision"] == 1
    assert old.read_bytes() == (tmp_path / "1.tar.gz").read_bytes()
    sign_by_two(policy, keys, old, "rollback")
    approval = tmp_path / "old.tar.gz.approval.json"
    policy("activate", old, code=2)
    policy("rollback", "--to", 2, "--approval", approval, code=2)
    assert policy("rollback", "--to", 1, "--approval", approval)["action"] == "rollback"
    assert [row["revision"] for row in policy("history")] == [1, 2, 1]
    assert policy("history")[0]["action"] == "rollback"
    status = policy("status")
    assert (status["revision"], status["stale"]) == (1, False)
    confirming = shutil.copy(old, tmp_path / "confirmed.tar.gz")
    sign_by_two(policy, keys, confirming, "confirm")
    assert policy("activate", confirming)["action"] == "confirm"


def test_one_person_puts_nothing_into_force(policy, built, keys):
    file = built(1)
    policy("sign", file, "--key", keys["li"], "--role", "author", "--reason", "alone")
    policy("activate", file, code=3)
    policy("sign", file, "--key", keys["li_approving"], "--role", "approver")
    policy("activate", file, code=3)
    assert policy("status", code=1)["bundle"] is None
    sign_by_approver(policy, keys, file)
    assert policy("activate", file)["revision"] == 1, "the control: with another person's signature"


def test_an_author_signs_without_the_deployment(cli, policy, built, keys):
    file = built(1)
    result = cli(
        "policy", "sign", file, "--key", keys["li"], "--role", "author", "--reason", "from my own desk",
        "--origin", "audit.example.org/log/2026", "--previous", "none",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    sign_by_approver(policy, keys, file)
    assert policy("activate", file)["previous"] == "none"


def test_what_an_approver_may_not_say(policy, built, keys, tmp_path):
    file, other = built(1), built(2)
    policy("sign", file, "--key", keys["wang"], "--role", "approver", code=2)
    policy("sign", file, "--key", keys["li"], "--role", "author", code=2)
    policy("sign", file, "--key", keys["li"], "--role", "author", "--reason", "first")
    policy("sign", file, "--key", keys["li"], "--role", "author", "--reason", "again", code=2)
    policy("sign", file, "--key", keys["wang"], "--role", "approver", "--reason", "mine", code=2)
    approval = tmp_path / "1.tar.gz.approval.json"
    policy("sign", other, "--key", keys["wang"], "--role", "approver", "--approval", approval, code=3)


def test_a_revision_that_was_never_in_force_is_not_there(policy, tmp_path):
    policy("fetch", 7, "-o", tmp_path / "seven.tar.gz", code=2)


def test_without_activation_the_directory_is_in_force(cli, config):
    result = cli("policy", "status", "--config", config, "--output", "json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["activation"].startswith("none")
    assert cli("policy", "history", "--config", config).exit_code == 2
    doctor = cli("doctor", "--config", config, "--output", "json")
    [finding] = [row for row in json.loads(doctor.stdout) if row["check"] == "policy"]
    assert "the operator alone" in finding["detail"]


def test_the_doctor_tells_who_approved_and_until_when(cli, policy, built, keys, activated_by_two):
    sign_by_two(policy, keys, file := built(1))
    policy("activate", file)
    doctor = cli("doctor", "--config", activated_by_two, "--output", "json")
    [finding] = [row for row in json.loads(doctor.stdout) if row["check"] == "policy"]
    assert finding["state"] == "ok"
    assert "li and wang" in finding["detail"]
    checked = cli("config", "check", "--config", activated_by_two, "--output", "json")
    assert "activated by two people" in checked.stdout


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda people, text: text.replace(public_line(people.wang), public_line(people.li)), "twice"),
        (lambda people, text: text.replace(public_line(people.wang), "MCowBQYDK2VwAyEA"), "not the line"),
        (lambda people, text: text + "threshold = 4\n", "fewer persons"),
        (lambda people, text: text + "threshold = 1\n", "greater than or equal to 2"),
        (lambda people, text: text.replace('"wang"', '"Wang Wei"'), "person"),
    ],
    ids=["a key on both sides", "no key", "too many", "too few", "another way of writing a name"],
)
def test_a_configuration_under_which_one_could_do_it_alone_is_refused(spoil, message, config, people):
    plain = config.read_text()
    config.write_text(plain + people.section())
    GatewayConfig.load(config)  # the control
    config.write_text(plain + spoil(people, people.section()))
    with pytest.raises(ConfigError, match=message):
        GatewayConfig.load(config)
