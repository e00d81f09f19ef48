"""Members of a deployment: every change stands in the log before it takes effect."""

from __future__ import annotations

import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gateway.audit.errors import LogUnavailableError
from gateway.audit.sqlite_reader import SqliteReader
from gateway.demo.world import build_world
from gateway.deployment import (
    Deployment,
    add_member,
    change_state,
    export_trust,
    initialise,
    record_change,
)
from gateway.deployment.layout import member_uri
from gateway.deployment.onboarding import register_key
from gateway.errors import ConfigError
from gateway.evidence.keys import SigningKey
from gateway.evidence.trust import Trust
from gateway.members import SqliteMemberStore
from gateway.model import Entry, EntryKind, Member, MemberState, Role
from gateway.pki.authority import CertificateAuthority


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    return initialise(tmp_path / "gateway", origin="audit.example.org/log/test")


def bank(name: str = "bank", **changes: object) -> Member:
    member = Member(
        id=name,
        title="Bank",
        member_class="bank",
        roles=frozenset({Role.CONSUMER}),
        uri=member_uri(name),
        signing_keys={},
    )
    return msgspec.structs.replace(member, **changes)


def add(deployment: Deployment, member: Member, directory: Path, **options: object):
    authority = CertificateAuthority.load(*deployment.authority)
    return add_member(
        deployment.load(), member, authority, directory, gateway_address="localhost:7443", **options
    )


def entries(deployment: Deployment) -> list[Entry]:
    reader = SqliteReader(deployment.load().log.database)
    try:
        return [msgspec.json.decode(reader.entry(at).data, type=Entry) for at in range(reader.size())]
    finally:
        reader.close()


def members(deployment: Deployment) -> list[Member]:
    return SqliteMemberStore(deployment.load().members.database).members()[1]


def test_every_secret_is_closed_to_others(deployment: Deployment) -> None:
    for path in (deployment.directory / "keys").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((deployment.directory / "keys").stat().st_mode) == 0o700


def test_a_deployment_is_not_made_over_something(deployment: Deployment) -> None:
    with pytest.raises(ConfigError, match="not empty"):
        initialise(deployment.directory, origin="audit.example.org/log/test")


def test_a_new_member_gets_all_it_needs_and_an_entry(deployment: Deployment, tmp_path: Path) -> None:
    files = add(deployment, bank(), tmp_path / "bank")
    assert {path.name for path in files.directory.iterdir()} == {
        *("member.pem", "tls.key", "signing.key", "ca.pem", "client.toml", "trust.json")
    }
    for secret in (files.tls_key, files.signing_key):
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    [entry] = entries(deployment)
    assert (entry.kind, entry.subject) == (EntryKind.MEMBER_ADDED, "members/bank")
    key_id = SigningKey.load(files.signing_key).key_id
    assert entry.detail["keys"] == key_id
    assert Trust.load(files.directory / "trust.json").members["bank"].signing_keys.keys() == {key_id}


def test_a_member_may_keep_its_keys(deployment: Deployment, tmp_path: Path) -> None:
    tls, own = ec.generate_private_key(ec.SECP256R1()), SigningKey.generate()
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(tls, hashes.SHA256())
    files = add(
        deployment,
        bank(signing_keys={own.key_id: own.verify_key.public}),
        tmp_path / "bank",
        csr_pem=request.public_bytes(serialization.Encoding.PEM),
    )
    assert not files.tls_key.exists()
    assert not files.signing_key.exists()
    certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    assert certificate.public_key() == tls.public_key()


def test_a_member_is_not_added_twice(deployment: Deployment, tmp_path: Path) -> None:
    add(deployment, bank(), tmp_path / "bank")
    with pytest.raises(ConfigError, match="already registered"):
        add(deployment, bank(), tmp_path / "again")
    assert len(entries(deployment)) == len(members(deployment)) == 1


@pytest.mark.parametrize("name", ["Bank", "a bank", "../bank", "", "b" * 41])
def test_a_name_that_is_none_is_refused(deployment: Deployment, tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="lower-case letters"):
        add(deployment, bank(name), tmp_path / "bank")
    assert not (tmp_path / "bank").exists()
    assert entries(deployment) == []
    assert members(deployment) == []


@pytest.mark.parametrize("is_there", [False, True])
def test_a_failed_attempt_leaves_nothing_and_can_be_repeated(
    deployment: Deployment, tmp_path: Path, is_there: bool
) -> None:
    directory = tmp_path / "bank"
    if is_there:
        directory.mkdir()
    database = deployment.load().log.database
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LogUnavailableError):
            add(deployment, bank(), directory)
    assert directory.exists() is is_there
    assert members(deployment) == []
    files = add(deployment, bank(), directory)
    assert files.client_config.exists()
    assert [member.id for member in members(deployment)] == ["bank"]
    assert len(entries(deployment)) == 1


def test_a_uri_or_key_of_another_member_leaves_no_entry(deployment: Deployment, tmp_path: Path) -> None:
    files = add(deployment, bank(), tmp_path / "bank")
    key = SigningKey.load(files.signing_key)
    for twin in (
        bank("other", uri=member_uri("bank")),
        bank("other", signing_keys={key.key_id: key.verify_key.public}),
    ):
        with pytest.raises(ConfigError, match="registered already, for bank"):
            add(deployment, twin, tmp_path / "other")
        assert not (tmp_path / "other").exists()
    assert len(entries(deployment)) == 1


def test_any_subject_can_be_recorded(deployment: Deployment) -> None:
    detail = {"overlap_days": "30", "note": ""}
    index = record_change(deployment.load(), EntryKind.KEY_ADDED, "epochs/e2", detail, key_epoch="e2")
    entry = entries(deployment)[index]
    assert (entry.subject, entry.key_epoch, entry.detail) == ("epochs/e2", "e2", {"overlap_days": "30"})


def test_the_demo_renews_every_trust_file(tmp_path: Path) -> None:
    world = build_world(tmp_path, gateway_port=0, registry_port=0, tax_port=0, company_count=3)
    trust = Trust.load(world.deployment.trust)
    assert trust.members.keys() == world.members.keys()
    for files in world.members.values():
        assert (files.directory / "trust.json").read_bytes() == world.deployment.trust.read_bytes()


def test_suspension_and_return_each_leave_an_entry(deployment: Deployment, tmp_path: Path) -> None:
    add(deployment, bank(), tmp_path / "bank")
    for state, kind in (
        (MemberState.SUSPENDED, EntryKind.MEMBER_SUSPENDED),
        (MemberState.ACTIVE, EntryKind.MEMBER_RESUMED),
    ):
        change_state(deployment.load(), "bank", state)
        assert members(deployment)[0].state is state
        assert entries(deployment)[-1].kind is kind


def test_a_second_key_is_trusted_beside_the_first(deployment: Deployment, tmp_path: Path) -> None:
    files = add(deployment, bank(), tmp_path / "bank")
    fresh = SigningKey.generate()
    register_key(deployment.load(), "bank", fresh.verify_key)
    first = SigningKey.load(files.signing_key).key_id
    assert export_trust(deployment.load()).member_verify_keys("bank").keys() == {first, fresh.key_id}
    assert entries(deployment)[-1].kind is EntryKind.KEY_ADDED


def test_nobody_is_changed_who_is_not_there(deployment: Deployment) -> None:
    with pytest.raises(ConfigError):
        change_state(deployment.load(), "nobody", MemberState.SUSPENDED)
    with pytest.raises(ConfigError):
        register_key(deployment.load(), "nobody", SigningKey.generate().verify_key)
    assert entries(deployment) == []


def test_without_a_log_nothing_is_changed(deployment: Deployment, tmp_path: Path) -> None:
    """An entry without its change is a puzzle; a change without its entry would be a hole."""
    add(deployment, bank(), tmp_path / "bank")
    database = deployment.load().log.database
    database.rename(database.with_suffix(".away"))
    with pytest.raises(ConfigError, match="missing"):
        change_state(deployment.load(), "bank", MemberState.SUSPENDED)
    with pytest.raises(ConfigError, match="missing"):
        add(deployment, bank("other"), tmp_path / "other")
    assert [(member.id, member.state) for member in members(deployment)] == [("bank", MemberState.ACTIVE)]
    assert not database.exists(), "a second log was begun"


def test_the_trust_file_holds_no_secret(deployment: Deployment, tmp_path: Path) -> None:
    files = add(deployment, bank(), tmp_path / "bank")
    text = export_trust(deployment.load()).to_json()
    assert b"PRIVATE" not in text
    for path in (*(deployment.directory / "keys").iterdir(), files.signing_key, files.tls_key):
        assert path.read_bytes().strip() not in text
