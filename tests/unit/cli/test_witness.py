"""`witness`, `audit published`, `audit prove --witnessed` and `receipt verify --witness-policy`."""

import json
import stat

import msgspec
import pytest

from gateway.audit.checkpoint import open_checkpoint
from gateway.audit.cosignature import cosigner_of
from gateway.audit.note import Ed25519Verifier
from gateway.audit.proof import TlogProof
from gateway.audit.publication import Grade, Publication
from gateway.audit.receipt import Receipt
from gateway.audit.sqlite_publications import SqlitePublications
from gateway.audit.sqlite_reader import SqliteReader
from gateway.audit.witness_policy import WitnessPolicy
from gateway.clock import system_clock
from gateway.config import WitnessConfig
from gateway.evidence.keys import SigningKey
from gateway.evidence.ml_dsa import is_ml_dsa_available
from gateway.evidence.trust import Trust
from gateway.witness.deployment import open_witness
from gateway.witness.submission import Submission
from tests.unit.cli.conftest import ORIGIN, Commands, add_bank
from tests.unit.cli.test_receipt import kept, provider_key  # noqa: F401 - fixtures

NAME = "witness.example.org/w1"


@pytest.fixture
def witness(tmp_path):
    folder = tmp_path / "witness"
    result = Commands()("witness", "init", folder, "--name", NAME)
    assert result.exit_code == 0, result.output
    return Commands(folder / "witness.toml")


@pytest.fixture
def log_vkey(settings):
    return Ed25519Verifier(ORIGIN, SigningKey.load(settings.log.key).verify_key.public).vkey()


def test_a_new_witness_has_keys_and_a_state_for_its_owner_only(tmp_path):
    found = Commands().json("witness", "init", tmp_path / "w", "--name", NAME, "--listen", "127.0.0.1:7000")
    kinds = [cosigner_of(vkey).kind for vkey in found["vkeys"]]
    assert kinds == ([4, 6] if is_ml_dsa_available() else [4])
    assert {cosigner_of(vkey).name for vkey in found["vkeys"]} == {NAME}
    for file in (*(tmp_path / "w" / "keys").iterdir(), tmp_path / "w" / "data" / "witness.db"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    config = WitnessConfig.load(tmp_path / "w" / "witness.toml")
    assert (config.name, config.listen) == (NAME, "127.0.0.1:7000")
    with open_witness(config) as witness:
        assert list(witness.vkeys) == found["vkeys"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--name", "With Spaces"), "without its scheme"),
        (("--name", "https://witness.example"), "without its scheme"),
        (("--name", NAME, "--listen", "7480"), "host:port"),
    ],
)
def test_a_witness_that_could_not_serve_is_not_made(cli, tmp_path, words, told):
    result = cli("witness", "init", tmp_path / "w", *words)
    assert result.exit_code == 2
    assert told in result.stderr
    assert not (tmp_path / "w").exists()


def test_a_witness_is_never_made_over_another(witness, cli, tmp_path):
    result = cli("witness", "init", tmp_path / "witness", "--name", NAME)
    assert result.exit_code == 2
    assert "not an empty folder" in result.stderr


def test_a_log_is_added_once_and_shown(witness, log_vkey):
    assert witness.json("witness", "show") == []
    assert witness.json("witness", "add-log", log_vkey)["log"] == ORIGIN
    [row] = witness.json("witness", "show")
    assert row == {"log": ORIGIN, "keys": [log_vkey], "size": None, "root": None, "cosigned": None}
    again = witness("witness", "add-log", log_vkey)
    assert again.exit_code == 2
    assert "knows this key already" in again.stderr


def test_a_log_may_be_known_by_another_name_than_its_key(witness, log_vkey):
    assert (
        witness.json("witness", "add-log", log_vkey, "--origin", "other.example/log")["log"]
        == "other.example/log"
    )


@pytest.mark.parametrize("vkey", ["nothing", "a+00000000+AQ==", NAME])
def test_what_is_no_key_of_a_log_is_refused(witness, vkey):
    result = witness("witness", "add-log", vkey)
    assert result.exit_code == 2
    assert "not the verifier key of a log" in result.stderr


def test_a_witness_s_own_key_is_no_log(witness, tmp_path):
    config = WitnessConfig.load(tmp_path / "witness" / "witness.toml")
    with open_witness(config) as opened:
        result = witness("witness", "add-log", opened.vkeys[0])
    assert "0x04" in result.stderr


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda folder: (folder / "data" / "witness.db").unlink(), "new key"),
        (lambda folder: (folder / "keys" / "witness-ed25519.key").chmod(0o644), "chmod 600"),
        (
            lambda folder: (folder / "witness.toml").write_text(f'name = "{NAME}"\n'),
            "has no key",
        ),
    ],
    ids=["no state", "open key", "no key"],
)
def test_a_witness_that_is_not_whole_does_not_serve(witness, tmp_path, spoil, told):
    spoil(tmp_path / "witness")
    result = witness("witness", "serve")
    assert result.exit_code == 2
    assert told in result.stderr


@pytest.fixture
def policy(witness, log_vkey, gateway, settings, tmp_path):
    """Witness the head of the log as the publisher does; return the file of the policy."""
    assert add_bank(gateway, tmp_path / "first").exit_code == 0
    witness.json("witness", "add-log", log_vkey)
    return publish(settings, tmp_path)


def publish(settings, tmp_path):
    config = WitnessConfig.load(tmp_path / "witness" / "witness.toml")
    with (
        SqliteReader(settings.log.database) as reader,
        SqlitePublications(settings.log.database) as publications,
        open_witness(config) as witness,
    ):
        submission = Submission.of(0, (), reader.checkpoint())
        note = submission.note + witness.add_checkpoint(submission.to_bytes())
        publications.record(Publication(submission.checkpoint.size, note, system_clock(), Grade.WITNESSED))
        lines = [f"witness w{at} {vkey}" for at, vkey in enumerate(witness.vkeys)]
    path = tmp_path / "witnesses.policy"
    path.write_text(
        "\n".join([*lines, f"group g all {' '.join(line.split()[1] for line in lines)}", "quorum g\n"])
    )
    return path


def test_the_witness_shows_what_it_cosigned(policy, witness, settings):
    [row] = witness.json("witness", "show")
    with SqliteReader(settings.log.database) as reader:
        assert row["size"] == reader.size()
    assert row["cosigned"].endswith("Z")


def test_published_checkpoints_are_listed_and_written(policy, gateway, settings):
    [row] = gateway.json("audit", "published")
    assert row["grade"] == "witnessed"
    note = gateway("audit", "published", "--size", row["size"]).stdout
    assert note == row["note"]
    trust = Trust.load(settings.log.database.parents[1] / "trust.json")
    verifiers = [Ed25519Verifier.from_vkey(text) for text in trust.log_keys]
    assert WitnessPolicy.load(policy).verify(note, log_verifiers=verifiers).cosignatures
    assert gateway("audit", "published", "--size", row["size"] + 1).exit_code == 1
    assert gateway.json("audit", "published", "--below", row["size"]) == []


def test_a_log_that_published_nothing_says_so(gateway, tmp_path):
    assert add_bank(gateway, tmp_path / "first").exit_code == 0
    assert gateway.json("audit", "published") == []
    result = gateway("audit", "prove", 0, "--witnessed")
    assert result.exit_code == 1
    assert "No witnessed checkpoint" in result.stderr


def test_an_entry_is_proven_under_the_witnessed_checkpoint(policy, gateway, settings, tmp_path):
    assert add_bank(gateway, tmp_path / "second", member="second-bank").exit_code == 0
    proof = TlogProof.from_text(gateway("audit", "prove", 0, "--witnessed").stdout)
    key = Ed25519Verifier(ORIGIN, SigningKey.load(settings.log.key).verify_key.public)
    found = WitnessPolicy.load(policy).verify(proof.checkpoint, log_verifiers=[key])
    later = TlogProof.from_text(gateway("audit", "prove", 0).stdout)
    assert found.checkpoint.size < open_checkpoint(later.checkpoint, [key]).size
    size = found.checkpoint.size
    assert gateway("audit", "prove", size, "--witnessed").exit_code == 1


def test_a_receipt_under_a_witnessed_checkpoint_satisfies_the_policy(
    cli,
    kept,  # noqa: F811
    witness,
    log_vkey,
    settings,
    tmp_path,
    gateway,
):
    witness.json("witness", "add-log", log_vkey)
    policy = publish(settings, tmp_path)
    words = ("receipt", "verify", kept.receipt, "--trust", kept.trust, "--witness-policy", policy)
    refused = cli(*words)
    assert refused.exit_code == 3
    assert "not witnessed" in refused.stdout
    assert cli(*words[:-2]).exit_code == 0  # the control: only the witnesses are missing
    index = msgspec.json.decode(Receipt.from_json(kept.receipt.read_bytes()).statement.payload)["index"]
    proof, renewed = tmp_path / "newer.tlog-proof", tmp_path / "renewed.json"
    assert gateway("audit", "prove", index, "--witnessed", "--out", proof).exit_code == 0
    renewing = ("receipt", "renew", kept.receipt, proof, "--trust", kept.trust, "--witness-policy", policy)
    found = cli.json(*renewing, "--out", renewed)
    assert (found["entry"], found["witnesses"][0]) == (index, "w0")
    words = ("receipt", "verify", renewed, *words[3:])
    [row] = json.loads(cli(*words, "--output", "json").stdout)
    assert row["verified"]
    assert row["checks"][-1].startswith("A quorum of the witness policy cosigned that checkpoint: w0 (")


def test_a_policy_that_asks_for_nobody_proves_nothing_more(cli, kept, tmp_path):  # noqa: F811
    path = tmp_path / "none.policy"
    path.write_text("quorum none\n")
    result = cli("receipt", "verify", kept.receipt, "--trust", kept.trust, "--witness-policy", path)
    assert result.exit_code == 0
    assert "asks for no cosignature" in result.stdout


def test_a_policy_with_an_error_is_told_with_its_line(cli, kept, tmp_path):  # noqa: F811
    path = tmp_path / "bad.policy"
    path.write_text("# a comment\nquorum nobody\n")
    result = cli("receipt", "verify", kept.receipt, "--trust", kept.trust, "--witness-policy", path)
    assert result.exit_code == 2
    assert "bad.policy: Line 2" in result.stderr


def test_a_receipt_is_not_renewed_with_a_proof_that_does_not_fit(cli, kept, gateway, tmp_path):  # noqa: F811
    proof, out = tmp_path / "other.tlog-proof", tmp_path / "renewed.json"
    assert gateway("audit", "prove", 0, "--out", proof).exit_code == 0
    words = ("receipt", "renew", kept.receipt, proof, "--trust", kept.trust, "--out", out)
    result = cli(*words)
    assert result.exit_code == 3
    assert "different entries" in result.stderr
    proof.write_text("nothing")
    assert cli(*words).exit_code == 3
    proof.write_bytes(b"\xff\xfe")
    assert cli(*words).exit_code == 3
    assert not out.exists()
    assert cli(*words[:-1], kept.receipt).exit_code == 2
