"""Addresses of databases hold no secret, and lead over a network only to a server that proves itself."""

import pytest

from gateway.config import GatewayConfig
from gateway.database import PostgresAddress
from gateway.errors import ConfigError

CANARY = "canary-3340"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        (f"postgresql://gateway:{CANARY}@localhost/log", "holds a password"),
        (f"postgresql://gateway@localhost/log?password={CANARY}", "holds a password"),
        ("postgresql://gateway@localhost/log?options=-cfsync%3Doff", "may not set options"),
        ("postgresql://gateway@db.example.org/log?sslmode=require", "verify-full only"),
        ("postgresql://gateway@db.example.org/log?sslmode=disable", "verify-full only"),
        ("postgresql://gateway@localhost,10.0.0.1/log?sslmode=prefer", "verify-full only"),
        (f"postgresql://gateway@localhost/log?nonsense={CANARY}", "no database address"),
        (f"mysql://gateway:{CANARY}@localhost/log", "begins with postgresql"),
        (f"postgresql://gateway:{CANARY}@[localhost/log", "no database address"),
    ],
)
def test_an_address_is_refused_without_quoting_it(url, told):
    with pytest.raises(ConfigError, match=told) as caught:
        PostgresAddress.parse(url)
    assert CANARY not in caught.value.message


@pytest.mark.parametrize(
    ("url", "mode"),
    [
        ("postgresql://gateway@db.example.org/log", "verify-full"),
        ("postgresql://gateway@10.0.0.1/log", "verify-full"),
        ("postgresql:///log?service=sluicegate", "verify-full"),
        ("postgresql://gateway@127.0.0.1/log", None),
        ("postgresql://gateway@[::1]/log", None),
        ("postgresql:///log?host=/run/postgresql", None),
    ],
)
def test_over_a_network_the_server_must_prove_who_it_is(url, mode, monkeypatch, tmp_path):
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "none"))
    assert PostgresAddress.parse(url).parameters().get("sslmode") == mode


def test_a_password_file_that_others_may_read_is_refused(tmp_path):
    passfile = tmp_path / "pgpass"
    passfile.write_text("*:*:*:*:secret")
    address = PostgresAddress.parse(f"postgresql://gateway@localhost/log?passfile={passfile}")
    passfile.chmod(0o640)
    with pytest.raises(ConfigError, match="open to others"):
        address.parameters()
    passfile.chmod(0o600)
    assert address.parameters()["passfile"] == str(passfile)


def test_a_service_file_that_others_may_read_is_refused(tmp_path, monkeypatch):
    service = tmp_path / "services"
    service.write_text("[sluicegate]\nhost=localhost\n")
    monkeypatch.setenv("PGSERVICEFILE", str(service))
    address = PostgresAddress.parse("postgresql:///log?service=sluicegate")
    service.chmod(0o644)
    with pytest.raises(ConfigError, match="open to others"):
        address.parameters()
    service.chmod(0o600)
    address.parameters()


def test_a_password_in_the_environment_is_refused(monkeypatch):
    monkeypatch.setenv("PGPASSWORD", CANARY)
    with pytest.raises(ConfigError, match="PGPASSWORD") as caught:
        PostgresAddress.parse("postgresql://gateway@localhost/log").parameters()
    assert CANARY not in caught.value.message


def test_files_are_relative_to_the_configuration(tmp_path):
    address = PostgresAddress.parse(
        "postgresql://gateway@localhost:5433/log?passfile=keys/pgpass&sslrootcert=system"
    )
    resolved = PostgresAddress.parse(address.resolved(tmp_path).url)
    assert resolved.user == "gateway"
    assert str(tmp_path / "keys" / "pgpass").replace("/", "%2F") in resolved.url
    assert "sslrootcert=system" in resolved.url
    assert resolved.resolved(tmp_path / "elsewhere") == resolved


CONFIG = """
[tls]
certificate = "c"
key = "k"
client_ca = "a"
[log]
origin = "audit.example.org/log/2026"
database = "{log}"
[members]
database = "{members}"
"""


def load(tmp_path, log, members):
    (tmp_path / "config.toml").write_text(CONFIG.format(log=log, members=members))
    return GatewayConfig.load(tmp_path / "config.toml")


def test_a_configuration_names_a_file_or_an_address(tmp_path):
    url = "postgresql://gateway@localhost/log?passfile=pgpass"
    settings = load(tmp_path, url, url)
    assert isinstance(settings.log.database, PostgresAddress)
    assert str(tmp_path).replace("/", "%2F") in settings.log.database.url
    assert load(tmp_path, "a.db", "m.db").log.database == tmp_path / "a.db"


@pytest.mark.parametrize(
    ("log", "members"),
    [
        ("postgresql://gateway@localhost/log", "m.db"),
        ("a.db", "postgresql://gateway@localhost/log"),
        ("postgresql://gateway@localhost/log", "postgresql://gateway@localhost/members"),
    ],
)
def test_log_and_members_are_shared_together_or_not_at_all(tmp_path, log, members):
    with pytest.raises(ConfigError, match="the same PostgreSQL address"):
        load(tmp_path, log, members)


@pytest.mark.parametrize(
    ("log", "details", "is_taken"),
    [
        ("postgresql://gateway@localhost/log", "postgresql://gateway@localhost/log", True),
        ("a.db", "d.db", True),
        ("postgresql://gateway@localhost/log", "d.db", False),
        ("a.db", "postgresql://gateway@localhost/log", False),
        ("postgresql://gateway@localhost/log", "postgresql://gateway@localhost/details", False),
    ],
)
def test_details_lie_where_the_log_does(tmp_path, log, details, is_taken):
    members = log if log.startswith("postgresql") else "m.db"
    (tmp_path / "config.toml").write_text(
        CONFIG.format(log=log, members=members)
        + f'\n[details]\ndatabase = "{details}"\ncustodians = ["a.card", "b.card"]\n'
    )
    if is_taken:
        assert GatewayConfig.load(tmp_path / "config.toml").details is not None
    else:
        with pytest.raises(ConfigError, match="the same PostgreSQL address"):
            GatewayConfig.load(tmp_path / "config.toml")


def test_a_configuration_with_a_secret_in_it_is_refused_without_quoting_it(tmp_path):
    url = f"postgresql://gateway:{CANARY}@localhost/log"
    with pytest.raises(ConfigError, match="holds a password") as caught:
        load(tmp_path, url, url)
    assert CANARY not in caught.value.message
