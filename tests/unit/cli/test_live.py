"""The commands against a real gateway and provider, each a process of its own as operators run them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.clock import rfc3339, system_clock
from gateway.demo.world import World, build_world
from tests.unit.cli.conftest import Commands

CREDIT = (
    *("--purpose", "credit-check", "--legal-basis", "credit-reporting-act-14"),
    *("--memorandum", "registry-harbour-bank"),
)
PUBLIC = ("--purpose", "public-lookup")
COMPANIES = 250


@dataclass(frozen=True)
class Live:
    world: World
    member: Path

    @property
    def bank(self) -> Commands:
        """Commands of the bank."""
        return Commands(self.member / "client.toml")

    @property
    def operator(self) -> Commands:
        return Commands(self.world.deployment.config)

    @property
    def subject(self) -> str:
        return f"uscc={self.world.companies[0].uscc}"

    def entries(self) -> int:
        # Read as a copy is read: to look must not add an entry.
        database = self.world.deployment.load().log.database
        return len(self.operator.json("audit", "list", "--limit", "1000", "--database", database))


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextmanager
def running(event, *words, end=signal.SIGTERM):
    """Run a command until the block ends; it must then end by itself, cleanly, on the signal."""
    process = subprocess.Popen(
        [sys.executable, "-c", "from gateway.cli.main import run; run()", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={name: value for name, value in os.environ.items() if not name.startswith("SLUICEGATE_")},
    )
    try:
        for line in process.stdout:
            if json.loads(line)["event"] == event:
                break
        else:
            raise AssertionError(process.stderr.read())
        yield process
        process.send_signal(end)
        _, errors = process.communicate(timeout=30)
        assert (process.returncode, errors) == (0, "")
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    directory = tmp_path_factory.mktemp("live")
    ports = {name: free_port() for name in ("gateway_port", "registry_port", "tax_port")}
    world = build_world(directory, **ports, company_count=COMPANIES)
    with ExitStack() as stack:
        registry, _ = world.provider_configs
        stack.enter_context(running("provider.started", "provider", "--config", registry, end=signal.SIGINT))
        stack.enter_context(running("gateway.started", "serve", "--config", world.deployment.config))
        yield Live(world, world.members["harbour-bank"].directory)


def test_the_catalogue_says_what_this_member_would_get(live):
    rows = {row["dataset"]: row for row in live.bank.json("catalog", "list")}
    companies = rows["members/registry/datasets/companies"]
    assert {"credit-check", "public-lookup", "statistics"} <= {*companies["purposes"]}
    text = live.bank("catalog", "show", "registry/companies").stdout
    assert "For --purpose credit-check --legal-basis credit-reporting-act-14 --memorandum" in text
    assert "representative_id    pseudonymise" in text


def test_an_unknown_dataset_is_no(live):
    result = live.bank("catalog", "show", "registry/poems")
    assert result.exit_code == 1
    assert "DATASET_UNKNOWN" in result.stderr
    assert "gateway catalog show" in result.stderr


def test_a_query_prints_records_and_where_the_log_tells_of_it(live):
    result = live.bank("query", "registry/companies", *PUBLIC, "--subject", live.subject)
    assert result.exit_code == 0, result.output
    [record] = map(json.loads, result.stdout.splitlines())
    assert record["uscc"] == live.world.companies[0].uscc
    assert "receipt verified: entry" in result.stderr
    table = live.bank("query", "registry/companies", *PUBLIC, "--subject", live.subject, "--output", "table")
    assert record["name"] in table.stdout
    array = live.bank("query", "registry/companies", *PUBLIC, "--subject", live.subject, "--output", "json")
    assert json.loads(array.stdout) == [record]


def test_fields_are_chosen_and_subjects_come_from_standard_input(live):
    words = ("query", "registry/companies", *CREDIT, "--field", "uscc", "--field", "capital")
    result = live.bank(
        *words, "--subjects-from", "-", "--actor", "clerk-7", "--case", "K-1", stdin=live.subject
    )
    assert result.exit_code == 0, result.output
    assert set(json.loads(result.stdout)) == {"uscc", "capital"}


def test_a_receipt_is_kept_and_verifies_offline(live, tmp_path):
    kept = tmp_path / "receipt.json"
    words = ("query", "registry/companies", *CREDIT, "--subject", live.subject)
    result = live.bank(*words, "--receipt", kept)
    assert str(kept) in result.stderr
    (tmp_path / "records.jsonl").write_text(result.stdout)
    trust = ("--trust", live.member / "trust.json")
    proven = Commands()("receipt", "verify", kept, *trust, "--records", tmp_path / "records.jsonl")
    assert proven.exit_code == 0, proven.output
    (tmp_path / "records.jsonl").write_text(result.stdout.replace("active", "ACTIVE"))
    assert (
        Commands()("receipt", "verify", kept, *trust, "--records", tmp_path / "records.jsonl").exit_code == 3
    )


@pytest.mark.parametrize(("how", "receipts"), [(("--stream",), 1), (("--all", "--page-size", "100"), 3)])
def test_bulk_answers_are_kept_whole_and_verify(live, tmp_path, how, receipts):
    out = tmp_path / "all.jsonl"
    result = live.bank("query", "registry/companies", *PUBLIC, *how, "--out", out)
    assert result.exit_code == 0, result.output
    assert str(out) in result.stdout
    assert len(out.read_text().splitlines()) == COMPANIES
    kept = sorted(tmp_path.glob("all.jsonl.receipt*.json"))
    assert len(kept) == receipts
    seeds = ("--seeds", tmp_path / "all.jsonl.receipt.json.seeds")
    proven = Commands()(
        *("receipt", "verify", *kept, "--trust", live.member / "trust.json", "--records", out, *seeds)
    )
    assert proven.exit_code == 0, proven.output
    assert f"{COMPANIES} records as released" in proven.stdout


def test_one_page_of_many_says_that_there_are_more(live):
    result = live.bank("query", "registry/companies", *PUBLIC, "--page-size", "10")
    assert len(result.stdout.splitlines()) == 10
    assert "--all or --stream" in result.stderr


@pytest.mark.parametrize(("value", "code"), [("active", 0), ("no such state", 1)])
def test_a_match_answers_with_its_exit_code(live, tmp_path, value, code):
    state = live.world.companies[0].status if code == 0 else value
    words = ("query", "registry/companies", *PUBLIC, "--subject", live.subject, "--match", f"status={state}")
    result = live.bank(*words, "--receipt", tmp_path / "m.json", "--output", "json")
    assert result.exit_code == code, result.output
    assert json.loads(result.stdout)["matched"] is (code == 0)
    verified = Commands()("receipt", "verify", tmp_path / "m.json", "--trust", live.member / "trust.json")
    assert verified.exit_code == 0


def test_a_denial_tells_why_where_and_what_next_and_keeps_nothing(live, tmp_path):
    words = ("query", "registry/companies", "--purpose", "licensing", "--subject", live.subject)
    result = live.bank(*words, "--out", tmp_path / "out.jsonl")
    assert result.exit_code == 1
    for told in ("PURPOSE_NOT_PERMITTED", "exchange", "log entry", "gateway catalog show members/registry"):
        assert told in result.stderr
    assert list(tmp_path.iterdir()) == []
    error = json.loads(live.bank(*words, "--output", "json").stderr)["error"]
    entry = live.operator.json("audit", "show", error["entry"])
    assert (entry["kind"], entry["exchange"]) == ("exchange.denied", error["exchange"])


def test_what_was_asked_wrongly_is_a_usage_error_without_the_value(live):
    result = live.bank("query", "registry/companies", *PUBLIC, "--subject", "uscc=99999")
    assert result.exit_code == 2
    assert "IDENTIFIER_INVALID" in result.stderr
    assert "99999" not in result.output


@pytest.mark.parametrize(
    "words",
    [
        ("--all", "--stream"),
        ("--match", "status=active"),
        ("--match", "status=active", "--subject", "uscc=1", "--field", "name"),
        ("--case", "K-1"),
        ("--subject", "no pair"),
        ("--filter", "a=1", "--filter", "a=2"),
        ("--subjects-from", "missing.txt"),
        ("--timeout", "0"),
    ],
)
def test_a_contradictory_command_asks_nothing(live, words):
    before = live.entries()
    result = live.bank("query", "registry/companies", *PUBLIC, *words)
    assert result.exit_code == 2, result.output
    assert live.entries() == before


def test_a_file_that_is_there_is_noticed_before_anything_is_asked(live, tmp_path):
    (tmp_path / "out.jsonl").write_text("precious")
    before = live.entries()
    result = live.bank("query", "registry/companies", *PUBLIC, "--out", tmp_path / "out.jsonl")
    assert result.exit_code == 2
    assert live.entries() == before


def test_a_member_suspended_by_command_is_refused_until_it_is_resumed(live):
    outsider = Commands(live.world.members["northern-bank"].directory / "client.toml")
    words = ("query", "registry/companies", *PUBLIC, "--page-size", "1")
    assert outsider(*words).exit_code == 0
    assert live.operator("member", "suspend", "northern-bank").exit_code == 0
    result = until(lambda: outsider(*words), 1)
    assert "MEMBER_SUSPENDED" in result.stderr
    assert live.operator("member", "resume", "northern-bank").exit_code == 0
    until(lambda: outsider(*words), 0)


def until(run, code):
    """Run until the exit code is `code`; gateways follow a change within a second."""
    for _ in range(200):
        result = run()
        if result.exit_code == code:
            return result
    raise AssertionError(result.output)


def test_the_log_is_sound_while_the_gateway_runs(live):
    assert live.operator("audit", "fsck").exit_code == 0
    assert live.operator("config", "check").exit_code == 0


def test_a_gateway_that_is_not_there_is_told(live, tmp_path):
    text = (live.member / "client.toml").read_text()
    address = next(line for line in text.splitlines() if line.startswith("address"))
    moved = live.member / "moved.toml"
    moved.write_text(text.replace(address, f'address = "127.0.0.1:{free_port()}"'))
    result = Commands(moved)("catalog", "list")
    assert result.exit_code == 4
    assert "could not be reached" in result.stderr
    assert "client.toml" in result.stderr


def test_provider_check_reports_each_dataset(live):
    registry, _ = live.world.provider_configs
    rows = Commands(registry).json("provider", "--check")
    assert [(row["dataset"], row["served"], row["records"]) for row in rows] == [
        ("companies", True, COMPANIES)
    ]


def test_provider_check_says_no_when_a_dataset_cannot_be_served(live, tmp_path):
    registry, _ = live.world.provider_configs
    broken = registry.with_name("broken.toml")
    broken.write_text(registry.read_text().replace("mapping.toml", "broken-mapping.toml"))
    mapping = registry.with_name("mapping.toml").read_text()
    registry.with_name("broken-mapping.toml").write_text(mapping.replace("ent_name", "no_such_column"))
    result = Commands(broken)("provider", "--check", "--output", "table")
    assert result.exit_code == 1
    assert "companies" in result.stdout
    assert "no_such_column" in result.stderr


def test_a_provider_does_not_start_half_way(live):
    registry, _ = live.world.provider_configs
    for change, told in (
        (("mapping.toml", "none.toml"), "mapping"),
        (("signing.key", "none.key"), "none.key"),
        (("trust.json", "none.json"), "trust file"),
    ):
        broken = registry.with_name("half.toml")
        broken.write_text(registry.read_text().replace(*change))
        result = Commands(broken)("provider")
        assert result.exit_code == 2
        assert told in result.stderr


# -- acknowledging and reconciling -----------------------------------------------------------------


def kept_receipt(live, folder, name="receipt.json", *more):
    result = live.bank(
        *("query", "registry/companies", *PUBLIC, "--subject", live.subject),
        *("--receipt", folder / name, *more, "--output", "json"),
    )
    assert result.exit_code == 0, result.output
    return folder / name, result


def test_a_query_can_be_acknowledged_once_its_receipt_is_kept(live, tmp_path):
    _, result = kept_receipt(live, tmp_path, "receipt.json", "--acknowledge")
    entry = int(result.stderr.split("acknowledged: entry ")[1].split(";")[0])
    shown = live.operator.json("audit", "show", entry)
    assert (shown["kind"], shown["consumer"]) == ("exchange.acknowledged", "harbour-bank")
    again = live.bank("receipt", "acknowledge", tmp_path / "receipt.json")
    assert again.exit_code == 1
    assert "REPLAYED" in again.stderr


def test_a_kept_receipt_can_be_acknowledged_later(live, tmp_path):
    receipt, _ = kept_receipt(live, tmp_path)
    [row] = live.bank.json("receipt", "acknowledge", receipt)
    shown = live.operator.json("audit", "show", row["acknowledged"])
    assert shown["exchange"] == row["exchange"]
    assert live.operator.json("audit", "show", shown["acknowledges"])["kind"] == "exchange.released"


def test_a_match_can_be_acknowledged(live):
    words = ("query", "registry/companies", *CREDIT, "--subject", live.subject, "--match", "status=active")
    result = live.bank(*words, "--acknowledge", "--output", "json")
    assert result.exit_code in {0, 1}
    assert len(json.loads(result.stdout)["acknowledged"]) == 1


def test_what_nobody_acknowledged_is_listed(live, tmp_path):
    receipt, _ = kept_receipt(live, tmp_path)
    exchange = Commands().json("receipt", "show", receipt)["exchange"]
    listed = live.operator("audit", "unacknowledged", "--older-than", "0s", "--output", "json")
    assert listed.exit_code == 1
    assert exchange in {row["exchange"] for row in json.loads(listed.stdout)}
    live.bank.json("receipt", "acknowledge", receipt)
    listed = live.operator("audit", "unacknowledged", "--older-than", "0s", "--output", "json")
    assert exchange not in {row["exchange"] for row in json.loads(listed.stdout)}
    assert live.operator.json("audit", "unacknowledged", "--older-than", "1h") == []


def test_a_folder_of_receipts_is_reconciled_with_the_log(live, tmp_path):
    since = rfc3339(system_clock())
    for number in range(4):
        kept_receipt(live, tmp_path, f"receipt-{number}.json")
    period = ("--as", "harbour-bank", "--since", since)
    agreed = live.operator("audit", "reconcile", tmp_path, *period, "--output", "json")
    assert agreed.exit_code == 0, agreed.output
    assert {row["kind"] for row in json.loads(agreed.stdout)} == {"unacknowledged"}
    (tmp_path / "receipt-1.json").rename(tmp_path / "withheld")
    missing = live.operator("audit", "reconcile", tmp_path, *period, "--output", "json")
    assert missing.exit_code == 1
    [row] = [row for row in json.loads(missing.stdout) if row["kind"] == "missing"]
    assert row["consumer"] == "harbour-bank"
    assert "1 missing, 3 unacknowledged" in missing.stderr


def test_a_member_sees_alone_from_the_numbers_that_a_receipt_is_missing(live, tmp_path):
    """Control: with the receipt there is no gap."""
    since = rfc3339(system_clock())
    for number in range(3):
        kept_receipt(live, tmp_path, f"receipt-{number}.json")
    words = ("audit", "reconcile", tmp_path, "--as", "harbour-bank", "--alone", "--since", since)
    offline = Commands()
    trust = ("--trust", live.member / "trust.json")
    assert offline(*words, *trust).exit_code == 0
    (tmp_path / "receipt-1.json").unlink()
    result = offline(*words, *trust, "--output", "json")
    assert result.exit_code == 1
    assert [row["kind"] for row in json.loads(result.stdout)] == ["out-of-sequence"]


def test_a_receipt_that_does_not_verify_is_named(live, tmp_path):
    receipt, _ = kept_receipt(live, tmp_path)
    proof = "c2sp.org/tlog-proof@v1\\nindex "
    receipt.write_text(receipt.read_text().replace(proof, f"{proof}9"))
    words = ("audit", "reconcile", tmp_path, "--as", "harbour-bank", "--alone")
    result = live.operator(*words, "--output", "json")
    assert result.exit_code == 3
    assert [row["kind"] for row in json.loads(result.stdout)] == ["unverified"]


def test_two_parties_compare_without_the_gateway(live, tmp_path):
    """The registry's side is what the operator wrote down for it."""
    since = rfc3339(system_clock())
    kept_receipt(live, tmp_path)
    period = ("--since", since)
    theirs = tmp_path / "registry.jsonl"
    exported = live.operator("audit", "holdings", "--as", "registry", *period, "--out", theirs)
    assert exported.exit_code == 0, exported.output
    other = ("--with", theirs, "--with-member", "registry")
    words = ("audit", "reconcile", tmp_path, "--as", "harbour-bank", *other)
    trust = ("--trust", live.member / "trust.json")
    agreed = Commands()(*words, *period, *trust)
    assert agreed.exit_code == 0, agreed.output
    lines = theirs.read_text().splitlines()
    theirs.write_text(lines[0] + "\n")
    differing = Commands()(*words, *period, *trust, "--output", "json")
    assert differing.exit_code == 1
    assert [row["kind"] for row in json.loads(differing.stdout)] == ["extra"]


def test_holdings_hold_no_identifier(live, tmp_path):
    kept_receipt(live, tmp_path)
    text = live.operator("audit", "holdings", "--as", "harbour-bank").stdout
    assert text.count("\n") > 1
    assert live.world.companies[0].uscc not in text
    mine = live.operator("audit", "holdings", "--as", "harbour-bank", "--of", tmp_path).stdout
    assert json.loads(mine.splitlines()[0])["side"] == "consumer"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("nowhere", "--as", "harbour-bank"), "does not exist"),
        ((".", "--as", "harbour-bank", "--alone", "--with", "."), "exclude each other"),
        ((".", "--as", "Harbour Bank"), "member"),
        ((".", "--as", "harbour-bank", "--since", "yesterday"), "--since takes"),
    ],
)
def test_wrong_words_are_explained(live, words, told):
    result = live.operator("audit", "reconcile", *words)
    assert result.exit_code == 2
    assert told in result.stderr


def test_receipts_of_another_member_are_not_taken_for_ours(live, tmp_path):
    kept_receipt(live, tmp_path)
    result = live.operator("audit", "reconcile", tmp_path, "--as", "northern-bank")
    assert result.exit_code == 2
    assert "harbour-bank" in result.stderr
    result = live.operator("audit", "unacknowledged", "--older-than", "soon")
    assert result.exit_code == 2
    assert "such as 90s" in result.stderr


def test_an_exchange_is_explained_and_the_log_replayed(live):
    live.bank("query", "registry/companies", *CREDIT, "--subject", live.subject)
    denied = live.bank(
        "query", "registry/companies", "--purpose", "law-enforcement", "--subject", live.subject
    )
    assert denied.exit_code == 1
    gateway = Commands(live.world.deployment.config)
    of = {}
    for kind in ("exchange.released", "exchange.denied"):
        [row] = gateway.json("audit", "list", "--kind", kind, "--limit", "1")
        of[kind] = gateway("policy", "explain", row["exchange"])
        assert of[kind].exit_code == 0, of[kind].output
        assert "it is the decision that the log tells" in of[kind].stdout
    assert "memoranda.registry-harbour-bank" in of["exchange.released"].stdout
    assert "PURPOSE_NOT_PERMITTED" in of["exchange.denied"].stdout
    replayed = gateway.json("policy", "replay", "--since", "1h", "--processes", "1")
    assert replayed["proven"] == replayed["decisions"] >= 2
    assert replayed["faults"] == []
