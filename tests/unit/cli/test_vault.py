"""`gateway vault`, as an operator runs it."""

from __future__ import annotations

from contextlib import closing

from gateway.config import GatewayConfig
from gateway.vault import open_vault
from tests.simulators.vault import LOANS, contract, described, lines, loan


def contribute(config, **changes) -> None:
    settings = GatewayConfig.load(config)
    with closing(open_vault(settings.vault)) as vault:
        staged = vault.writer.begin(contract(**changes), LOANS, "b1")
        vault.writer.commit(
            vault.writer.stage(staged, lines([loan(1, signed_on="2001-01-01"), loan(2, signed_on=None)]))
        )
        vault.writer.stage(vault.writer.begin(contract(**changes), LOANS, "b2"), lines([loan(3)]))


def test_an_empty_vault_is_told(gateway):
    assert gateway.json("vault", "status") == []
    assert "Nothing is due." in gateway("vault", "purge", "--dry-run", "--output", "table").stdout


def test_status_shows_what_there_is_and_what_is_staged(gateway, config):
    contribute(config)
    [row] = gateway.json("vault", "status")
    assert {
        name: row[name] for name in ("contract", "dataset", "state", "version", "records", "staged", "keys")
    } == {
        "contract": "acme-harbour",
        "dataset": LOANS,
        "state": "held",
        "version": 1,
        "records": 2,
        "staged": 1,
        "keys": 1,
    }


def test_keys_are_rotated_and_prepared(gateway, config):
    contribute(config)
    rotated = gateway.json("vault", "rotate")
    assert rotated["wrapped"] == 1
    prepared = gateway.json("vault", "rotate", "--prepare")
    assert prepared["key"] != rotated["key"]
    assert gateway.json("vault", "rotate")["key"] == prepared["key"]
    assert gateway.json("vault", "rotate", "--data-keys")["data_keys"] == 1
    assert gateway.json("vault", "status")[0]["keys"] == 2


def test_purge_shows_what_is_due_and_then_removes_it(gateway, config):
    contribute(config, description=described(retention="signed_on:5"))
    [due] = gateway.json("vault", "purge", "--dry-run")
    assert (due["due"], due["records"]) == ("records", 1)
    purged = gateway.json("vault", "purge")
    assert (purged["records"], purged["uploads"]) == (1, 0)
    entry = gateway.json("audit", "show", str(purged["entries"][0]))
    assert "records.purged" in str(entry)
    assert gateway.json("vault", "purge")["records"] == 0


def test_a_key_that_is_open_to_others_or_missing_is_refused(gateway, config):
    key = GatewayConfig.load(config).vault.kek
    key.chmod(0o644)
    refused = gateway("vault", "status")
    assert (refused.exit_code, "chmod 600" in refused.output) == (2, True)
    key.unlink()
    assert gateway("vault", "status").exit_code == 2


def test_a_deployment_without_a_vault_says_so(gateway, config):
    text = config.read_text()
    section = text[text.index("[vault]") : text.index("# Whom exchanges")]
    config.write_text(text.replace(section, ""))
    refused = gateway("vault", "status")
    assert (refused.exit_code, "has no section [vault]" in refused.output) == (2, True)
