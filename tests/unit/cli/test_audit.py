import json
import shutil
import sqlite3

import pytest

from gateway.audit.note import Ed25519Verifier
from gateway.audit.proof import TlogProof
from gateway.audit.tree import leaf_hash
from gateway.evidence.trust import Trust
from tests.unit.cli.conftest import ORIGIN, Commands, add_bank, add_registry


@pytest.fixture
def filled(gateway, tmp_path):
    """A log of four entries: two members added, one suspended and resumed."""
    for result in (
        add_bank(gateway, tmp_path / "bank"),
        add_registry(gateway, tmp_path / "registry"),
        gateway("member", "suspend", "harbour-bank"),
        gateway("member", "resume", "harbour-bank"),
    ):
        assert result.exit_code == 0, result.output
    return gateway


def test_list_shows_the_newest_first(filled):
    assert [entry["index"] for entry in filled.json("audit", "list")] == [3, 2, 1, 0]
    lines = filled("audit", "list").stdout.splitlines()
    assert [json.loads(line)["kind"] for line in lines[:2]] == ["audit.read", "member.resumed"]


def test_list_as_a_table_has_its_columns_and_no_colours_on_a_pipe(filled):
    text = filled("audit", "list", "--output", "table").stdout
    assert text.splitlines()[0].split() == [
        *("index", "time", "kind", "consumer", "dataset", "purpose", "records", "about"),
    ]
    assert "members/harbour-bank" in text
    assert "\x1b" not in text


def test_list_filters(filled):
    assert [entry["index"] for entry in filled.json("audit", "list", "--kind", "member.suspended")] == [2]
    assert filled.json("audit", "list", "--reason", "PURPOSE_NOT_PERMITTED") == []
    assert filled.json("audit", "list", "--until", "2020-01-01") == []
    assert len(filled.json("audit", "list", "--since", "2020-01-01T00:00:00Z")) == 4 + 3, "three of reading"
    assert filled.json("audit", "list", "--member", "members/nobody", "--dataset", "registry/companies") == []


def test_list_pages_downwards(filled):
    first = filled("audit", "list", "--limit", "2")
    assert "--before 2" in first.stderr
    assert [entry["index"] for entry in filled.json("audit", "list", "--limit", "2", "--before", "2")] == [
        1,
        0,
    ]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--since", "yesterday"), "2026-11-21"),
        (("--since", "2026-11-21T08:00:00"), "offset"),
        (("--reason", "BAD_WEATHER"), "PURPOSE_NOT_PERMITTED"),
        (("--dataset", "companies"), "registry/companies"),
        (("--member", "Some One"), "harbour-bank"),
        (("--kind", "party"), "exchange.denied"),
        (("--limit", "0"), "--limit"),
    ],
)
def test_list_says_what_a_filter_takes(filled, words, told):
    result = filled("audit", "list", *words)
    assert result.exit_code == 2
    assert told in result.stderr


def test_show_prints_the_entry_and_its_leaf_hash(filled):
    entry = filled.json("audit", "show", "0")
    assert entry["kind"] == "member.added"
    assert entry["subject"] == "members/harbour-bank"
    assert len(bytes.fromhex(entry["leaf_hash"])) == 32


def test_an_entry_that_is_not_there_is_no(filled):
    for words in (("show", "99"), ("prove", "99")):
        result = filled("audit", *words)
        assert result.exit_code == 1
        assert "ENTRY_NOT_FOUND" in result.stderr


def test_a_proof_verifies_with_the_trust_file_alone(filled, config, tmp_path):
    out = tmp_path / "entry.tlog-proof"
    assert filled("audit", "prove", "1", "--with-entry", "--out", out).exit_code == 0
    trust = Trust.load(config.parent / "trust.json")
    proof = TlogProof.from_text(out.read_text())
    verifiers = [Ed25519Verifier.from_vkey(key) for key in trust.log_keys]
    assert proof.verify(leaf_hash(proof.extra), verifiers, origin=trust.origin).size == 4
    assert json.loads(proof.extra)["subject"] == "members/registry"
    assert filled("audit", "prove", "1", "--with-entry").stdout == out.read_text()


def test_a_proof_never_replaces_a_file(filled, tmp_path):
    (tmp_path / "there").write_text("precious")
    assert filled("audit", "prove", "1", "--out", tmp_path / "there").exit_code == 2
    assert (tmp_path / "there").read_text() == "precious"


def test_officers_need_only_a_copy_of_the_log_and_the_trust_file(filled, cli, config, settings, tmp_path):
    shutil.copy(settings.log.database, tmp_path / "copy.db")
    shutil.copy(config.parent / "trust.json", tmp_path / "trust.json")
    shutil.rmtree(config.parent)
    where = ("--database", tmp_path / "copy.db")
    assert len(cli.json("audit", "list", *where)) == 4
    assert cli("audit", "show", "0", *where).exit_code == 0
    for words in (("prove", "0"), ("fsck",)):
        assert cli("audit", *words, *where, "--trust", tmp_path / "trust.json").exit_code == 0


def test_a_proof_under_another_logs_key_does_not_verify(filled, cli, settings, tmp_path):
    cli("init", tmp_path / "other", "--origin", "audit.example.net/log/other")
    for words in (("prove", "0"), ("fsck",)):
        result = cli(
            *("audit", *words, "--database", settings.log.database),
            *("--trust", tmp_path / "other" / "trust.json"),
        )
        assert result.exit_code == 3, result.output


def test_fsck_of_a_sound_log_says_so(filled):
    report = filled.json("audit", "fsck")
    assert report == {"entries": 4, "checkpoints": 5, "findings": []}
    assert "everything is as it must be" in filled("audit", "fsck").stdout


def test_fsck_finds_one_flipped_byte_in_a_copy(filled, settings, tmp_path):
    copy = tmp_path / "copy.db"
    shutil.copy(settings.log.database, copy)
    raw = bytearray(copy.read_bytes())
    at = raw.rindex(b"members/registry")
    raw[at] ^= 1
    copy.write_bytes(raw)
    result = filled("audit", "fsck", "--database", copy)
    assert result.exit_code == 3
    findings = [json.loads(line) for line in result.stdout.splitlines()]
    assert {"place": "entry", "what": "its bytes do not have the stored leaf hash", "index": 1} in findings
    assert "restore a sound copy" in result.stderr
    table = filled("audit", "fsck", "--database", copy, "--output", "table")
    assert table.exit_code == 3
    assert table.stdout.split()[:3] == ["place", "what", "index"]


def test_reading_works_while_somebody_writes(filled, settings):
    with sqlite3.connect(settings.log.database) as writer:
        writer.execute("BEGIN IMMEDIATE")
        where = ("--database", settings.log.database)
        assert len(filled.json("audit", "list", *where)) == 4
        assert filled("audit", "fsck").exit_code == 0
        writer.rollback()


@pytest.mark.parametrize("words", [("list",), ("show", "0"), ("prove", "0"), ("fsck",)])
def test_a_log_that_is_not_there_is_told_and_not_made(gateway, tmp_path, words):
    result = gateway("audit", *words, "--database", tmp_path / "none.db")
    assert result.exit_code == 2
    assert "does not exist" in result.stderr
    assert not (tmp_path / "none.db").exists()


def test_a_file_that_is_no_log_is_told(gateway, tmp_path):
    (tmp_path / "notes.txt").write_text("no database" * 100)
    for words in (("list",), ("show", "0"), ("prove", "0")):
        result = gateway("audit", *words, "--database", tmp_path / "notes.txt")
        assert result.exit_code in {3, 4}
        assert "audit log" in result.stderr
    assert gateway("audit", "fsck", "--database", tmp_path / "notes.txt").exit_code in {3, 4}


def test_a_configuration_that_is_not_there_is_told(tmp_path):
    result = Commands(tmp_path / "none.toml")("audit", "list")
    assert result.exit_code == 2
    assert "gateway init" in result.stderr


def test_an_exported_log_is_verified_without_the_gateway(filled, tmp_path, cli):
    exported = tmp_path / "evidence" / "log"
    told = filled.json("audit", "export", exported)
    assert (told["entries"], told["new_entries"], told["new_files"]) == (4, 4, 2)
    trust = tmp_path / "trust.json"
    shutil.copy(filled.config.parent / "trust.json", trust)
    shutil.rmtree(filled.config.parent)
    verified = cli.json("audit", "verify", exported, "--trust", trust)
    assert (verified["log"], verified["entries"], verified["findings"]) == (ORIGIN, 4, [])
    text = cli("audit", "verify", exported, "--trust", trust).stdout
    assert text == f"{ORIGIN}: 4 entries, each as the log's key has signed it.\n"
    kept = exported / "checkpoint"
    assert cli("audit", "verify", exported, "--trust", trust, "--kept", kept).exit_code == 0


def test_verify_names_what_is_wrong_with_an_exported_log(filled, tmp_path, cli):
    exported = tmp_path / "log"
    assert filled("audit", "export", exported).exit_code == 0
    bundle = exported / "tile/entries/000.p/4"
    bundle.write_bytes(bundle.read_bytes().replace(b"harbour-bank", b"harbour-bonk"))
    result = cli(
        "audit", "verify", exported, "--trust", filled.config.parent / "trust.json", "--output", "jsonl"
    )
    assert result.exit_code == 3
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert {"entry", "tile", "checkpoint"} == {finding["place"] for finding in found}


def test_verify_says_what_it_takes(filled, tmp_path, cli):
    trust = filled.config.parent / "trust.json"
    missing = cli("audit", "verify", tmp_path / "none", "--trust", trust)
    assert (missing.exit_code, "not a folder" in missing.stderr) == (2, True)
    assert cli("audit", "verify", tmp_path).exit_code == 2
    (tmp_path / "kept").write_bytes(b"\xff")
    spoilt = cli("audit", "verify", tmp_path, "--trust", trust, "--kept", tmp_path / "kept")
    assert (spoilt.exit_code, "UTF-8" in spoilt.stderr) == (3, True)


def test_export_says_why_it_refuses(filled, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.odt").write_text("")
    result = filled("audit", "export", tmp_path / "full")
    assert (result.exit_code, "other files" in result.stderr) == (2, True)


def test_serve_says_what_listen_takes(gateway):
    result = gateway("audit", "serve", "--listen", "everywhere")
    assert (result.exit_code, "HOST:PORT" in result.stderr) == (2, True)
