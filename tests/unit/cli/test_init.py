import json
import stat

import pytest

from gateway.config import GatewayConfig
from gateway.evidence.trust import Trust
from tests.unit.cli.conftest import ORIGIN


def test_init_makes_a_deployment_that_config_check_finds_sound(gateway):
    result = gateway("config", "check")
    assert result.exit_code == 0, result.output
    assert "PROBLEM" not in result.stdout


def test_init_says_what_it_made_and_the_next_three_commands(cli, tmp_path):
    result = cli("init", tmp_path / "new", "--origin", ORIGIN)
    assert result.exit_code == 0
    for name in ("config.toml", "trust.json", "keys", "tls", "policies", "catalogue", "data"):
        assert str(tmp_path / "new" / name) in result.stdout
    commands = [line for line in result.stdout.splitlines() if line.startswith("  gateway ")]
    assert [command.split()[1] for command in commands] == ["config", "member", "serve"]


def test_the_next_commands_can_be_run_as_they_are_printed(cli, tmp_path):
    import shlex

    directory = tmp_path / "a folder"
    made = json.loads(cli("init", directory, "--origin", ORIGIN, "--output", "json").stdout)
    check, add, _ = made["next"]
    assert cli(*shlex.split(check)[1:]).exit_code == 0
    words = shlex.split(add)[1:]
    words[words.index("registry", words.index("--out"))] = str(tmp_path / "registry")
    assert cli(*words).exit_code == 0


def test_secrets_are_for_their_owner_only(config):
    keys = config.parent / "keys"
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in keys.iterdir()} == {0o600}


def test_the_options_reach_the_settings_and_the_certificate(cli, tmp_path):
    from cryptography import x509

    words = ("--host", "gateway.example.org", "--address", "192.0.2.7", "--listen", "0.0.0.0:9443")
    assert cli("init", tmp_path / "g", "--origin", ORIGIN, *words, "--reflection").exit_code == 0
    loaded = GatewayConfig.load(tmp_path / "g" / "config.toml")
    assert loaded.server.listen == "0.0.0.0:9443"
    assert loaded.server.reflection
    names = x509.load_pem_x509_certificate(loaded.tls.certificate.read_bytes()).extensions
    alternative = names.get_extension_for_class(x509.SubjectAlternativeName).value
    assert alternative.get_values_for_type(x509.DNSName) == ["gateway.example.org"]
    assert Trust.load(tmp_path / "g" / "trust.json").origin == ORIGIN


def test_a_folder_that_is_not_empty_is_left_alone(cli, config):
    before = config.read_text()
    result = cli("init", config.parent, "--origin", ORIGIN)
    assert result.exit_code == 2
    assert "not empty" in result.stderr
    assert config.read_text() == before


@pytest.mark.parametrize("origin", ["no slash", "https://example.org/log", ""])
def test_a_name_that_cannot_be_a_logs_origin_is_refused(cli, tmp_path, origin):
    result = cli("init", tmp_path / "g", "--origin", origin)
    assert result.exit_code == 2
    assert "origin" in result.stderr


def test_without_an_origin_nothing_is_made(cli, tmp_path):
    assert cli("init", tmp_path / "g").exit_code == 2
    assert not (tmp_path / "g").exists()
