"""`gateway audit rotate`, as an operator runs it at the turn of the year."""

import json
import shutil

import pytest

from gateway.audit.errors import LogUnavailableError
from gateway.audit.note import Ed25519Verifier
from gateway.audit.occupancy import serving
from gateway.audit.proof import TlogProof
from gateway.audit.sqlite import SqliteStore
from gateway.audit.tree import leaf_hash
from gateway.config import GatewayConfig
from gateway.deployment.next_settings import settings_of_next
from gateway.deployment.rotation import Rotation
from gateway.details import open_details_store
from gateway.errors import ConfigError
from gateway.evidence.trust import Trust
from tests.unit.cli.conftest import ORIGIN, add_bank

NEXT = "audit.example.org/log/2027"


@pytest.fixture
def filled(gateway, tmp_path):
    assert add_bank(gateway, tmp_path / "bank").exit_code == 0
    return gateway


@pytest.fixture
def rotated(filled, settings):
    """The deployment after a rotation; `settings` are those of before."""
    result = filled("audit", "rotate", "--origin", NEXT)
    assert result.exit_code == 0, result.output
    return filled


def test_the_deployment_goes_on_in_the_next_log(rotated, config, settings):
    now = GatewayConfig.load(config)
    assert now.log.origin == NEXT
    assert now.log.database == settings.log.database.with_name("audit-2027.db")
    assert now.log.previous == (settings.log.database,)
    assert now.server == settings.server
    assert "# The log's name for ever." in config.read_text(), "comments stay"
    assert rotated("member", "suspend", "harbour-bank").exit_code == 0
    found = rotated.json("audit", "list")
    assert [entry["kind"] for entry in found] == ["member.suspended", "log.opened"]
    assert found[-1]["detail"]["previous"] == ORIGIN
    old = rotated.json("audit", "list", "--database", settings.log.database)
    assert (old[0]["kind"], old[0]["detail"]) == ("log.closed", {"next": NEXT})


def test_both_logs_verify_as_one_chain(rotated, config, settings, tmp_path):
    report = rotated.json("audit", "fsck", "--chain")
    assert report["logs"] == [ORIGIN, NEXT]
    assert report["findings"] == []
    assert "joined without a gap" in rotated("audit", "fsck", "--chain").stdout
    # On another computer: the two files and the trust file.
    for file in (
        settings.log.database,
        config.parent / "data" / "audit-2027.db",
        config.parent / "trust.json",
    ):
        shutil.copy(file, tmp_path / file.name)
    where = ("--database", tmp_path / "audit-2027.db", "--trust", tmp_path / "trust.json", "--chain")
    assert rotated("audit", "fsck", *where, "--previous", tmp_path / "audit.db").exit_code == 0
    # The control: the closed log left out.
    single = rotated("audit", "fsck", "--database", tmp_path / "audit.db", "--trust", tmp_path / "trust.json")
    assert single.exit_code == 0, single.output


def test_a_closed_log_that_is_not_the_one_is_found(rotated, cli, tmp_path):
    cli("init", tmp_path / "other", "--origin", ORIGIN)
    forged = tmp_path / "other" / "data" / "audit.db"
    result = rotated("audit", "fsck", "--chain", "--previous", forged)
    assert result.exit_code == 3
    findings = [json.loads(line) for line in result.stdout.splitlines()]
    assert "chain" in {finding["place"] for finding in findings}


def test_proofs_of_the_closed_log_verify_with_the_new_trust_file(rotated, config, settings, tmp_path):
    trust = Trust.load(config.parent / "trust.json")
    verifiers = [Ed25519Verifier.from_vkey(key) for key in trust.log_keys]
    assert [verifier.name for verifier in verifiers] == [NEXT, ORIGIN]
    where = ("--database", settings.log.database, "--trust", config.parent / "trust.json")
    result = rotated("audit", "prove", "0", "--with-entry", *where, "--out", tmp_path / "proof")
    assert result.exit_code == 0, result.output
    proof = TlogProof.from_text((tmp_path / "proof").read_text())
    assert proof.verify(leaf_hash(proof.extra), verifiers).origin == ORIGIN


def test_a_running_gateway_is_in_the_way_and_told(filled, config, settings):
    before = config.read_text()
    with serving(settings.log.database):
        result = filled("audit", "rotate", "--origin", NEXT)
    assert result.exit_code == 2
    assert "A gateway is running" in result.stderr
    assert config.read_text() == before
    assert not settings.log.database.with_name("audit-2027.db").exists()


def test_a_gateway_with_the_old_settings_does_not_start(rotated, config, settings):
    fresh = config.read_text()
    config.write_text(
        fresh.replace(NEXT, ORIGIN).replace("audit-2027.db", "audit.db").replace("previous = ", "# ")
    )
    assert GatewayConfig.load(config).log == settings.log
    result = rotated("member", "suspend", "harbour-bank")
    assert result.exit_code == 2
    assert "closed and takes no more entries" in result.stderr


def test_a_rotation_broken_off_is_completed(filled, config, settings, monkeypatch):
    """It ends after the log was closed, or after the next was made: asked again, it goes through."""
    real = SqliteStore.append
    for survives in (0, 1):
        calls = iter(range(10))

        def append(self, pending, sign, now, calls=calls, survives=survives):
            if next(calls) >= survives:
                raise LogUnavailableError("The disk is gone.")
            return real(self, pending, sign, now)

        monkeypatch.setattr(SqliteStore, "append", append)
        assert filled("audit", "rotate", "--origin", NEXT).exit_code == 4
        monkeypatch.setattr(SqliteStore, "append", real)
        assert GatewayConfig.load(config).log == settings.log
    refused = filled("audit", "rotate", "--origin", "audit.example.org/log/other")
    assert refused.exit_code == 2
    assert "in favour of another" in refused.stderr
    assert filled("audit", "rotate", "--origin", NEXT).exit_code == 0
    assert filled.json("audit", "fsck", "--chain")["findings"] == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--origin", ORIGIN), "a name of its own"),
        (("--origin", "Not A Name"), "a name of its own"),
        (("--origin", NEXT, "--into", "{database}"), "a file of its own"),
        ((), "--origin"),
    ],
)
def test_names_that_cannot_be_used_close_nothing(filled, settings, words, told):
    words = [str(word).replace("{database}", str(settings.log.database)) for word in words]
    result = filled("audit", "rotate", *words)
    assert result.exit_code == 2
    assert told in result.stderr
    where = ("--database", settings.log.database)
    assert filled.json("audit", "list", *where)[0]["kind"] == "member.added"


def test_a_file_with_another_log_is_never_gone_on_in(filled, cli, settings, tmp_path):
    cli("init", tmp_path / "other", "--origin", "audit.example.net/log/other")
    other = tmp_path / "other" / "data" / "audit.db"
    result = filled("audit", "rotate", "--origin", NEXT, "--into", other)
    assert result.exit_code == 3
    assert cli.json("audit", "list", "--database", other) == []


def test_chain_options_that_make_no_sense_are_refused(filled, tmp_path):
    assert filled("audit", "fsck", "--previous", tmp_path / "x").exit_code == 2
    assert filled("audit", "fsck", "--chain", "--previous", tmp_path / "x").exit_code == 2


def test_the_next_log_has_a_store_of_details_of_its_own(filled, cli, config, settings, tmp_path):
    """Details are sealed for their log; the next one's gateway would refuse the old store."""
    cards = []
    for name in ("chen", "lin"):
        assert cli("custodian", "init", tmp_path / f"{name}.key", "--name", name).exit_code == 0
        cards.append(f'"{tmp_path / name}.key.card"')
    config.write_text(f"{config.read_text()}\n[details]\ncustodians = [{', '.join(cards)}]\n")
    before = GatewayConfig.load(config).details.database
    open_details_store(before, ORIGIN).close()
    assert filled("audit", "rotate", "--origin", NEXT).exit_code == 0
    after = GatewayConfig.load(config).details.database
    assert after == before.with_name("details-2027.sqlite")
    open_details_store(after, NEXT).close()
    with pytest.raises(ConfigError, match="another log"):
        open_details_store(before, NEXT)


@pytest.mark.parametrize(
    "text",
    [
        'catalogue = "x"\n',
        '[log]\norigin = """\n' + ORIGIN + '"""\n',
        'log = {origin = "' + ORIGIN + '"}\n',
    ],
)
def test_settings_of_a_form_that_is_not_known_are_left_to_people(settings, tmp_path, text):
    rotation = Rotation(ORIGIN, 3, NEXT, tmp_path / "audit-2027.db")
    with pytest.raises(ConfigError, match="set origin to"):
        settings_of_next(text, settings, rotation, tmp_path)
