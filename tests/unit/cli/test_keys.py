import json
import stat

import pytest

from gateway.evidence.keys import SigningKey, VerifyKey
from gateway.evidence.trust import Trust
from gateway.pseudonym import Keyring
from tests.unit.cli.conftest import add_bank


def secrets_of(settings):
    """Every secret of the deployment, in each form in which it could be printed."""
    import base64

    raw = [epoch.key for epoch in Keyring.load(settings.keys.keyring).epochs]
    raw += [SigningKey.load(path).seed() for path in (settings.keys.signing, settings.log.key)]
    raw.append(settings.keys.page_tokens.read_bytes())
    return [form for key in raw for form in (key.hex(), base64.b64encode(key).decode().rstrip("="))]


def test_show_tells_ids_and_ends(gateway, settings):
    rows = {row["key"]: row for row in gateway.json("keys", "show")}
    assert rows["gateway signing key"]["id"] == SigningKey.load(settings.keys.signing).key_id
    assert rows["audit log key"]["vkey"].startswith(settings.log.origin + "+")
    assert 390 < rows["TLS certificate"]["days_left"] < 399
    assert [row["state"] for name, row in rows.items() if name.startswith("key epoch")] == ["in use"]


@pytest.mark.parametrize("form", ["table", "json", "jsonl"])
def test_show_never_prints_a_secret(gateway, settings, form):
    printed = gateway("keys", "show", "--output", form).output
    assert not [secret for secret in secrets_of(settings) if secret in printed]


def test_the_search_for_secrets_would_find_one(settings):
    assert any(secret in settings.keys.keyring.read_text() for secret in secrets_of(settings))


def test_show_tells_of_an_unreadable_key_without_showing_it(gateway, settings):
    settings.keys.signing.chmod(0o644)
    result = gateway("keys", "show")
    assert result.exit_code == 2
    assert "chmod 600" in result.stderr


def test_rotate_begins_an_epoch_and_leaves_an_entry(gateway, settings):
    before = Keyring.load(settings.keys.keyring)
    told = gateway.json("keys", "rotate", "--overlap-days", "7")
    after = Keyring.load(settings.keys.keyring)
    assert [epoch.id for epoch in after.epochs] == [before.epochs[0].id, told["epoch"]]
    overlap = after.epochs[0].not_after - after.epochs[1].not_before
    assert overlap.days == 7
    assert stat.S_IMODE(settings.keys.keyring.stat().st_mode) == 0o600
    [entry] = gateway.json("audit", "list")
    assert (entry["kind"], entry["subject"], entry["key_epoch"]) == (
        "keyring.rotated",
        f"epochs/{told['epoch']}",
        told["epoch"],
    )
    states = [row["state"] for row in gateway.json("keys", "show")[-2:]]
    assert states == ["running out", "in use"]


def test_an_epoch_that_cannot_be_recorded_does_not_begin(gateway, settings):
    before = settings.keys.keyring.read_bytes()
    settings.log.database.unlink()
    result = gateway("keys", "rotate")
    assert result.exit_code == 2
    assert "nothing was changed" in result.stderr
    assert settings.keys.keyring.read_bytes() == before


def test_generate_makes_a_pair_and_keeps_the_private_half_private(cli, tmp_path):
    result = cli("keys", "generate", tmp_path / "mine.key")
    assert result.exit_code == 0
    assert stat.S_IMODE((tmp_path / "mine.key").stat().st_mode) == 0o600
    private = SigningKey.load(tmp_path / "mine.key")
    assert VerifyKey.from_pem((tmp_path / "mine.key.pub").read_bytes()).key_id == private.key_id
    assert private.key_id in result.stdout
    assert private.seed().hex() not in result.output


@pytest.mark.parametrize("existing", ["mine.key", "mine.key.pub"])
def test_generate_never_replaces_a_file(cli, tmp_path, existing):
    (tmp_path / existing).write_text("precious")
    result = cli("keys", "generate", tmp_path / "mine.key")
    assert result.exit_code == 2
    assert "exists already" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == [existing]
    assert (tmp_path / existing).read_text() == "precious"


def test_generate_wants_a_folder_that_exists(cli, tmp_path):
    result = cli("keys", "generate", tmp_path / "no" / "mine.key")
    assert result.exit_code == 2
    assert "does not exist" in result.stderr


def test_register_adds_a_key_beside_the_old_one(gateway, cli, config, tmp_path):
    add_bank(gateway, tmp_path / "bank")
    made = json.loads(cli("keys", "generate", tmp_path / "new.key", "--output", "json").stdout)
    assert gateway("keys", "register", "harbour-bank", tmp_path / "new.key.pub").exit_code == 0
    keys = gateway.json("member", "list")[0]["keys"]
    assert made["key_id"] in keys
    assert len(keys) == 2
    assert set(Trust.load(config.parent / "trust.json").members["harbour-bank"].signing_keys) == set(keys)
    assert gateway.json("audit", "list")[0]["kind"] == "key.added"


def test_register_wants_a_member_that_exists(gateway, cli, tmp_path):
    cli("keys", "generate", tmp_path / "new.key")
    result = gateway("keys", "register", "nobody", tmp_path / "new.key.pub")
    assert result.exit_code == 2
    assert "gateway member list" in result.stderr


def test_trust_writes_what_verifiers_need(gateway, tmp_path):
    add_bank(gateway, tmp_path / "bank")
    assert gateway("keys", "trust", "--out", tmp_path / "t.json").exit_code == 0
    assert "harbour-bank" in Trust.load(tmp_path / "t.json").members
    printed = gateway("keys", "trust").stdout
    assert printed.encode() == (tmp_path / "t.json").read_bytes()


def test_trust_replaces_an_older_file(gateway, tmp_path):
    (tmp_path / "t.json").write_text("old")
    assert gateway("keys", "trust", "--out", tmp_path / "t.json").exit_code == 0
    assert Trust.load(tmp_path / "t.json").v == 1
    assert gateway("keys", "trust", "--out", tmp_path / "no" / "t.json").exit_code == 2
