"""The commands of officers and custodians, on entries as the gateway writes them."""

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from gateway.audit.note import Ed25519Signer
from gateway.audit.sqlite import SqliteStore
from gateway.audit.writer import AuditLog
from gateway.clock import rfc3339
from gateway.details import BlindIndex, Details, DetailsKeeper, SqliteDetailsStore, SubjectDetails, Term
from gateway.details.deployed import load_custodians, read_fields_key
from gateway.evidence import dsse
from gateway.evidence.canonical import encode_canonical
from gateway.evidence.commitment import commit
from gateway.evidence.fields import commit_fields
from gateway.evidence.keys import SigningKey
from gateway.identifiers import load_area_table
from gateway.model import Entry, EntryKind
from tests.unit.cli.conftest import ORIGIN, Commands

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
EXCHANGE = "019a0000-0000-7000-8000-000000000001"
REASON = ("--reason", "complaint 2026/17")


@dataclass
class Deployed:
    gateway: Commands
    config: Path
    folder: Path

    @property
    def trust(self) -> Path:
        return self.config.parent / "trust.json"


@pytest.fixture
def uscc():
    load_area_table()
    from gateway.identifiers.uscc import check_character

    body = "91110000MA0000017"
    return body + check_character(body)


@pytest.fixture
def deployed(cli, gateway, config, tmp_path, uscc):
    """A deployment with two custodians, and an exchange about a company in its log."""
    for name in ("chen", "lin"):
        assert cli("custodian", "init", tmp_path / f"{name}.key", "--name", name).exit_code == 0
    cards = ", ".join(f'"{tmp_path / name}.key.card"' for name in ("chen", "lin"))
    config.write_text(config.read_text() + f"\n[details]\ncustodians = [{cards}]\n")
    from gateway.config import GatewayConfig

    settings = GatewayConfig.load(config)
    details_config = settings.details
    content = SubjectDetails(field="uscc", subjects=(uscc,), filters={})
    query = encode_canonical(
        {
            "audience": ORIGIN,
            "operation": "query",
            "dataset": "members/registry/datasets/companies",
            "purpose": "public-lookup",
            "nonce": "A" * 22,
            "time": rfc3339(NOW),
            "actor": {"id": "clerk-17", "case": "loan 881"},
        }
    )
    commitments, openings = {}, {}
    for name, value in (("subject", encode_canonical(content)), ("query", query)):
        commitments[name], openings[name] = commit(value)
    envelope = dsse.Envelope(payload=query, payload_type=dsse.payload_type("query"), signatures=())
    details = Details(v=1, openings=openings, subject=content, envelope=envelope)
    keeper = DetailsKeeper(
        SqliteDetailsStore(details_config.database, ORIGIN),
        load_custodians(details_config),
        BlindIndex.load(details_config.index_key),
        origin=ORIGIN,
    )
    sealed = keeper.seal(
        EXCHANGE, EntryKind.EXCHANGE_REQUESTED.value, rfc3339(NOW)[:10], details, [Term("uscc", uscc)]
    )
    entry = Entry(
        v=1,
        kind=EntryKind.EXCHANGE_REQUESTED,
        time=rfc3339(NOW),
        exchange=EXCHANGE,
        consumer="harbour-bank",
        provider="registry",
        purpose="public-lookup",
        commitments={**commitments, "details": sealed.commitment},
    )
    closing, _ = commit_fields(
        msgspec.structs.replace(entry, kind=EntryKind.EXCHANGE_RELEASED, records=1),
        read_fields_key(settings.disclosure),
    )
    signer = Ed25519Signer(ORIGIN, SigningKey.load(settings.log.key))
    with AuditLog(SqliteStore(settings.log.database), signer, origin=ORIGIN) as log:
        log.append_sync(entry)
        keeper.keep(sealed)
        log.append_sync(closing)
    keeper.close()
    return Deployed(gateway, config, tmp_path)


def approve(cli, deployed, name, request):
    out = deployed.folder / f"{name}.approval"
    result = cli(
        *("custodian", "approve", request, "--key", deployed.folder / f"{name}.key"),
        *("--trust", deployed.trust, "--out", out, "--yes"),
    )
    assert result.exit_code == 0, result.output
    return result, out


def test_officers_open_an_entry_together(deployed, cli, uscc):
    request = deployed.folder / "request.json"
    asked = deployed.gateway("audit", "open", "0", *REASON, "--by", "wang", "--request", request)
    assert asked.exit_code == 0, asked.output
    assert uscc not in request.read_text()
    assert (deployed.folder / "request.json.key").stat().st_mode & 0o777 == 0o600
    approvals = []
    for name in ("chen", "lin"):
        result, out = approve(cli, deployed, name, request)
        approvals += ["--approval", out]
        assert "complaint 2026/17" in result.stderr
        assert "exchange.requested" in result.stderr
        assert "wang" in result.stderr
    opened = deployed.gateway.json("audit", "open", "0", *REASON, "--request", request, *approvals)
    assert opened["subjects"] == [uscc]
    assert (opened["actor"], opened["case"]) == ("clerk-17", "loan 881")
    assert (opened["approved_by"], opened["recorded"]) == (["chen", "lin"], 2)
    assert opened["verified"] == ["query", "subject"]
    assert not (deployed.folder / "request.json.key").exists()
    entry = deployed.gateway.json("audit", "show", "2")
    assert (entry["kind"], entry["subject"]) == ("details.opened", "entries/0")
    assert entry["detail"]["by"] == "wang"
    assert deployed.gateway("audit", "fsck").exit_code == 0


def test_one_approval_is_not_enough(deployed, cli):
    request = deployed.folder / "request.json"
    deployed.gateway("audit", "open", "0", *REASON, "--request", request)
    _, out = approve(cli, deployed, "chen", request)
    for approvals in (["--approval", out], ["--approval", out, "--approval", out]):
        result = deployed.gateway("audit", "open", "0", *REASON, "--request", request, *approvals)
        assert result.exit_code == 3
        assert "APPROVAL_INVALID" in result.stderr
    assert len(deployed.gateway.json("audit", "list")) == 2


def test_a_custodian_is_asked_before_approving(deployed, cli):
    request = deployed.folder / "request.json"
    deployed.gateway("audit", "open", "0", *REASON, "--request", request)
    words = ("custodian", "approve", request, "--key", deployed.folder / "chen.key")
    out = deployed.folder / "no"
    result = cli(*words, "--trust", deployed.trust, "--out", out, stdin="n\n")
    assert result.exit_code == 1
    assert not out.exists()


def test_the_opening_must_be_for_what_was_requested(deployed, cli):
    request = deployed.folder / "request.json"
    deployed.gateway("audit", "open", "0", *REASON, "--request", request)
    _, out = approve(cli, deployed, "chen", request)
    for words in (("1", *REASON), ("0", "--reason", "another")):
        result = deployed.gateway("audit", "open", *words, "--request", request, "--approval", out)
        assert result.exit_code == 2
        assert (
            "another entry or reason" in " ".join(result.stderr.split())
            or "as they were asked" in result.stderr
        )


def test_a_subject_is_found_from_standard_input(deployed, uscc):
    result = deployed.gateway("audit", "find-subject", "uscc", *REASON, stdin=f"{uscc}\n")
    assert result.exit_code == 0, result.output
    [row] = map(json.loads, result.stdout.splitlines())
    assert (row["index"], row["exchange"]) == (0, EXCHANGE)
    assert "entry 2" in result.stderr
    assert uscc not in result.stderr
    text = json.dumps(deployed.gateway.json("audit", "show", "2"))
    assert "details.searched" in text
    assert uscc not in text


@pytest.mark.parametrize(
    ("words", "stdin", "code"),
    [
        (("uscc", *REASON), "", 2),
        (("uscc", *REASON), "no such thing\n", 2),
        (("party", *REASON), "x\n", 2),
        (("uscc", "--reason", " "), None, 2),
        (("uscc",), "x\n", 2),
    ],
)
def test_a_search_that_cannot_be_made_is_told(deployed, uscc, words, stdin, code):
    result = deployed.gateway("audit", "find-subject", *words, stdin=f"{uscc}\n" if stdin is None else stdin)
    assert result.exit_code == code, result.output
    assert len(deployed.gateway.json("audit", "list")) == 2


def test_a_reason_that_names_the_person_is_refused(deployed, uscc):
    result = deployed.gateway("audit", "find-subject", "uscc", "--reason", f"about {uscc}", stdin=f"{uscc}\n")
    assert result.exit_code == 2
    assert "for ever" in result.stderr
    assert uscc not in result.stderr


def test_erasing_is_recorded_and_opening_then_says_so(deployed):
    result = deployed.gateway.json("audit", "erase", "0", "--legal-basis", "erasure act 17")
    assert result == {"erased": 1, "entry": 2}
    entry = deployed.gateway.json("audit", "show", "2")
    assert (entry["kind"], entry["detail"]["count"]) == ("details.erased", "1")
    request = deployed.folder / "request.json"
    opened = deployed.gateway("audit", "open", "0", *REASON, "--request", request)
    assert opened.exit_code == 1
    assert re.search(r"erased on \d{4}-\d\d-\d\d, as entry 2 says", opened.stderr)
    assert not request.exists()
    assert deployed.gateway("audit", "fsck").exit_code == 0


def test_erasing_by_subject_or_day(deployed, uscc):
    basis = ("--legal-basis", "request 2026/3")
    none = deployed.gateway("audit", "erase", "--before", "2026-11-21", *basis)
    assert (none.exit_code, none.stdout) == (0, "There was nothing to erase.\n")
    result = deployed.gateway("audit", "erase", "--subject", "uscc", *basis, stdin=f"{uscc}\n")
    assert "Erased the details of 1 entry; entry 2 says so." in result.stdout


@pytest.mark.parametrize("words", [(), ("0", "--before", "2026-01-01"), ("--before", "soon")])
def test_what_to_erase_is_named_once(deployed, words):
    result = deployed.gateway("audit", "erase", *words, "--legal-basis", "x")
    assert result.exit_code == 2


def test_an_outsider_verifies_chosen_fields_with_the_trust_file_alone(deployed, cli):
    out = deployed.folder / "shown.json"
    words = ("--field", "consumer", "--field", "time", "-o", out)
    result = deployed.gateway("audit", "disclose", "1", *words, *REASON)
    assert result.exit_code == 0, result.output
    assert "public-lookup" not in out.read_text()
    verified = cli.json("audit", "verify-disclosure", out, "--trust", deployed.trust)
    assert verified["fields"] == {"consumer": "harbour-bank", "time": rfc3339(NOW)}
    assert (verified["entry"], verified["disclosed"]["entry"]) == (1, 2)
    told = cli("audit", "verify-disclosure", out, "--trust", deployed.trust).stdout
    assert "consumer: harbour-bank" in told
    out.write_text(out.read_text().replace("harbour-bank", "another-bank"))
    assert cli("audit", "verify-disclosure", out, "--trust", deployed.trust).exit_code == 3
    assert deployed.gateway("audit", "fsck").exit_code == 0


def test_an_entry_without_the_commitment_cannot_be_shown_in_part(deployed):
    result = deployed.gateway(
        "audit", "disclose", "0", "--field", "time", "-o", deployed.folder / "x", *REASON
    )
    assert result.exit_code == 3
    assert "carries no commitment" in result.stderr
    assert len(deployed.gateway.json("audit", "list")) == 2


def test_a_deployment_without_details_says_so(gateway, tmp_path, uscc):
    for words in (
        ("open", "0", *REASON, "--request", tmp_path / "r"),
        ("erase", "0", "--legal-basis", "x"),
        ("find-subject", "uscc", *REASON),
    ):
        result = gateway("audit", *words, stdin=f"{uscc}\n")
        assert result.exit_code == 2, result.output
        assert "[details]" in result.stderr


def test_config_check_looks_at_custodians_and_keys(deployed):
    result = deployed.gateway("config", "check")
    assert "to be opened by 2 of chen" in result.stdout
    shown = {row["setting"]: row["value"] for row in deployed.gateway.json("config", "show")}
    assert len(shown["details.custodians"]) == 2
    (deployed.folder / "chen.key.card").write_text("{}")
    result = deployed.gateway("config", "check")
    assert result.exit_code == 2
    assert "not a custodian's card" in result.stdout


def test_custodian_init_makes_a_secret_and_a_card(cli, tmp_path):
    made = cli.json("custodian", "init", tmp_path / "a.key", "--name", "chen")
    assert len(made["id"]) == 64
    assert (tmp_path / "a.key").stat().st_mode & 0o777 == 0o600
    secret = json.loads((tmp_path / "a.key").read_text())
    card = (tmp_path / "a.key.card").read_text()
    assert secret["sealing"] not in card
    assert cli("custodian", "init", tmp_path / "a.key", "--name", "chen").exit_code == 2
    assert cli("custodian", "init", tmp_path / "b.key", "--name", "Mr Chen").exit_code == 2
    assert not (tmp_path / "b.key").exists()
