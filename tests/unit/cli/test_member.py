import json

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.config import ClientConfig
from gateway.evidence.keys import SigningKey
from gateway.evidence.trust import Trust
from tests.unit.cli.conftest import add_bank, add_registry


@pytest.fixture
def entries(gateway):
    def read():
        return gateway.json("audit", "list")

    return read


def test_a_member_gets_a_folder_that_the_client_can_use(gateway, tmp_path):
    result = add_bank(gateway, tmp_path / "bank")
    assert result.exit_code == 0, result.output
    loaded = ClientConfig.load(tmp_path / "bank" / "client.toml")
    assert loaded.address == "127.0.0.1:7443"
    assert (
        SigningKey.load(loaded.signing_key).key_id
        in Trust.load(loaded.trust).members["harbour-bank"].signing_keys
    )


def test_a_member_is_listed_with_state_and_keys(gateway, tmp_path):
    add_bank(gateway, tmp_path / "bank")
    add_registry(gateway, tmp_path / "registry")
    bank, registry = gateway.json("member", "list")
    assert (bank["id"], bank["class"], bank["roles"], bank["state"]) == (
        "harbour-bank",
        "bank",
        ["consumer"],
        "active",
    )
    assert registry["endpoint"] == "127.0.0.1:7500"
    assert len(registry["keys"]) == 1


def test_the_deployments_trust_file_knows_the_new_member(gateway, config, tmp_path):
    trust = config.parent / "trust.json"
    assert not Trust.load(trust).members
    add_bank(gateway, tmp_path / "bank")
    assert list(Trust.load(trust).members) == ["harbour-bank"]


def test_suspending_and_resuming_leave_entries(gateway, tmp_path, entries):
    add_bank(gateway, tmp_path / "bank")
    assert gateway("member", "suspend", "harbour-bank").exit_code == 0
    assert gateway.json("member", "list")[0]["state"] == "suspended"
    assert gateway("member", "resume", "harbour-bank").exit_code == 0
    assert gateway.json("member", "list")[0]["state"] == "active"
    assert [entry["kind"] for entry in entries()] == ["member.resumed", "member.suspended", "member.added"]


def test_a_member_that_keeps_its_keys_is_handed_no_secret(gateway, tmp_path):
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    (tmp_path / "bank.csr").write_bytes(request.public_bytes(serialization.Encoding.PEM))
    assert gateway.__class__()("keys", "generate", tmp_path / "own.key").exit_code == 0
    result = add_bank(
        gateway, tmp_path / "bank", "--csr", tmp_path / "bank.csr", "--signing-key", tmp_path / "own.key.pub"
    )
    assert result.exit_code == 0, result.output
    assert "no secret" in result.stdout
    names = {path.name for path in (tmp_path / "bank").iterdir()}
    assert names == {"member.pem", "ca.pem", "client.toml", "trust.json"}
    assert "Put your own TLS key here" in (tmp_path / "bank" / "client.toml").read_text()
    issued = x509.load_pem_x509_certificate((tmp_path / "bank" / "member.pem").read_bytes())
    assert issued.public_key() == key.public_key()
    own = SigningKey.load(tmp_path / "own.key").key_id
    assert gateway.json("member", "list")[0]["keys"] == [own]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"member": "Harbour Bank"}, "lower-case letter"),
        ({"--class": "wizard"}, "agency"),
        ({"--endpoint": "127.0.0.1:7500"}, "nobody else has one"),
        ({"--role": "provider"}, "needs --endpoint"),
        ({"--role": "king"}, "consumer"),
        ({"--csr": "missing.csr"}, "does not exist"),
        ({"--signing-key": "missing.pem"}, "gateway keys generate"),
        ({"--title": ""}, "1 to 64 characters"),
    ],
)
def test_what_cannot_be_a_member_is_refused_and_leaves_no_trace(gateway, tmp_path, entries, changes, told):
    options = {"--title": "Bank", "--class": "bank", "--role": "consumer", "--out": tmp_path / "bank"}
    member = changes.pop("member", "bank")
    words = [word for pair in (options | changes).items() for word in pair]
    result = gateway("member", "add", member, *words)
    assert result.exit_code == 2
    assert told in result.stderr
    assert gateway.json("member", "list") == []
    assert entries() == []


def test_a_certificate_request_that_is_none_is_refused(gateway, tmp_path):
    (tmp_path / "bad.csr").write_text("hello")
    result = add_bank(gateway, tmp_path / "bank", "--csr", tmp_path / "bad.csr")
    assert result.exit_code == 2
    assert "certificate signing request" in result.stderr


def test_a_private_key_given_as_public_is_refused(gateway, cli, tmp_path):
    cli("keys", "generate", tmp_path / "own.key")
    result = add_bank(gateway, tmp_path / "bank", "--signing-key", tmp_path / "own.key")
    assert result.exit_code == 2
    assert "not a public key" in result.stderr


def test_a_member_is_not_added_twice(gateway, tmp_path):
    add_bank(gateway, tmp_path / "one")
    result = add_bank(gateway, tmp_path / "two")
    assert result.exit_code == 2
    assert "already registered" in result.stderr


def test_an_unknown_member_cannot_be_suspended(gateway):
    result = gateway("member", "suspend", "nobody")
    assert result.exit_code == 2
    assert "gateway member list" in result.stderr


def test_a_gateway_that_listens_everywhere_needs_an_address_to_hand_out(cli, tmp_path):
    cli("init", tmp_path / "g", "--origin", "audit.example.org/log/1", "--listen", "0.0.0.0:7443")
    gateway = type(cli)(tmp_path / "g" / "config.toml")
    refused = add_bank(gateway, tmp_path / "bank")
    assert refused.exit_code == 2
    assert "--gateway-address" in refused.stderr
    assert (
        add_bank(gateway, tmp_path / "bank", "--gateway-address", "gateway.example.org:7443").exit_code == 0
    )
    assert ClientConfig.load(tmp_path / "bank" / "client.toml").address == "gateway.example.org:7443"


def test_an_empty_list_says_what_to_do_next(gateway):
    assert "gateway member add" in gateway("member", "list", "--output", "table").stdout
    assert json.loads(gateway("member", "list", "--output", "json").stdout) == []
    assert gateway("member", "list").stdout == ""


def test_a_missing_member_store_is_told_and_not_made(gateway, settings):
    settings.members.database.unlink()
    result = gateway("member", "list")
    assert result.exit_code == 2
    assert "member store" in result.stderr
    assert not settings.members.database.exists()
