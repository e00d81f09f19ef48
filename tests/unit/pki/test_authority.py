import subprocess
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from gateway.clock import FixedClock
from gateway.errors import ConfigError, Reason
from gateway.pki.authority import MAX_REQUEST_BYTES, CertificateAuthority, Usage
from gateway.pki.certificates import CertificateError, parse_peer_certificate

URI = "https://gateway.example/members/bank"
NOW = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)


def loaded(pem):
    return x509.load_pem_x509_certificate(pem)


def extension(certificate, kind):
    return certificate.extensions.get_extension_for_class(kind)


def request(key, *, asked_uri="https://gateway.example/members/ministry"):
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "I am the authority")]))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(asked_uri)]), critical=False
        )
        .sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())
    )


def pem_of(csr):
    return csr.public_bytes(serialization.Encoding.PEM)


def test_the_root_has_the_profile_of_an_authority():
    authority = CertificateAuthority.create("an authority", 10, clock=FixedClock(NOW))
    root = loaded(authority.certificate_pem)
    assert extension(root, x509.BasicConstraints).critical
    assert extension(root, x509.BasicConstraints).value == x509.BasicConstraints(ca=True, path_length=0)
    usage = extension(root, x509.KeyUsage)
    assert usage.critical
    assert usage.value.key_cert_sign
    assert not usage.value.digital_signature
    assert root.not_valid_before_utc == NOW - timedelta(minutes=1)
    assert root.not_valid_after_utc == NOW + timedelta(days=10)
    assert isinstance(root.public_key().curve, ec.SECP256R1)
    assert root.signature_hash_algorithm.name == "sha256"


def test_a_leaf_has_the_profile_of_a_peer(authority):
    issued = authority.issue("bank", uri=URI, dns=["bank.example"], ips=["::1"], valid_days=30)
    leaf = loaded(issued.cert_pem)
    root = loaded(authority.certificate_pem)
    leaf.verify_directly_issued_by(root)
    assert not extension(leaf, x509.BasicConstraints).value.ca
    usage = extension(leaf, x509.KeyUsage)
    assert (usage.critical, usage.value.digital_signature, usage.value.key_cert_sign) == (True, True, False)
    assert set(extension(leaf, x509.ExtendedKeyUsage).value) == {
        ExtendedKeyUsageOID.CLIENT_AUTH,
        ExtendedKeyUsageOID.SERVER_AUTH,
    }
    names = extension(leaf, x509.SubjectAlternativeName)
    assert not names.critical
    assert names.value.get_values_for_type(x509.UniformResourceIdentifier) == [URI]
    assert names.value.get_values_for_type(x509.DNSName) == ["bank.example"]
    assert (
        extension(leaf, x509.AuthorityKeyIdentifier).value.key_identifier
        == extension(root, x509.SubjectKeyIdentifier).value.digest
    )
    key = serialization.load_pem_private_key(issued.key_pem, password=None)
    assert key.public_key() == leaf.public_key()


@pytest.mark.parametrize(
    ("usage", "oid"),
    [(Usage.CLIENT, ExtendedKeyUsageOID.CLIENT_AUTH), (Usage.SERVER, ExtendedKeyUsageOID.SERVER_AUTH)],
)
def test_a_leaf_may_have_one_usage(authority, usage, oid):
    issued = authority.issue("x", uri=URI, valid_days=1, usages=frozenset({usage}))
    assert list(extension(loaded(issued.cert_pem), x509.ExtendedKeyUsage).value) == [oid]


def test_an_independent_verifier_accepts_the_chain(authority, other_authority):
    issued = authority.issue("bank", uri=URI, dns=["bank.example"], valid_days=30)
    leaf = loaded(issued.cert_pem)

    def verify(root):
        policy = PolicyBuilder().store(Store([loaded(root.certificate_pem)]))
        return policy.build_client_verifier().verify(leaf, [])

    assert verify(authority).subjects == [x509.UniformResourceIdentifier(URI), x509.DNSName("bank.example")]
    with pytest.raises(VerificationError):
        verify(other_authority)


def test_openssl_accepts_the_chain_in_strict_mode(authority, tmp_path):
    root, leaf = tmp_path / "root.pem", tmp_path / "leaf.pem"
    root.write_bytes(authority.certificate_pem)
    leaf.write_bytes(authority.issue("bank", uri=URI, valid_days=30).cert_pem)
    command = ["openssl", "verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", root, leaf]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_no_leaf_outlives_the_authority():
    authority = CertificateAuthority.create("a", 10, clock=FixedClock(NOW))
    leaf = loaded(authority.issue("x", uri=URI, valid_days=1000).cert_pem)
    assert leaf.not_valid_after_utc == NOW + timedelta(days=10)


def test_an_expired_authority_issues_nothing():
    clock = FixedClock(NOW)
    authority = CertificateAuthority.create("a", 10, clock=clock)
    clock.advance(timedelta(days=11))
    with pytest.raises(ConfigError, match="expired"):
        authority.issue("x", uri=URI, valid_days=1)


def test_a_signing_request_gives_its_public_key_and_nothing_else(authority):
    key = ec.generate_private_key(ec.SECP384R1())
    pem = authority.sign_request(pem_of(request(key)), "bank", uri=URI, valid_days=30)
    leaf = loaded(pem)
    assert leaf.public_key() == key.public_key()
    assert parse_peer_certificate(pem).uri == URI
    assert leaf.subject.rfc4514_string() == "CN=bank"
    assert not extension(leaf, x509.BasicConstraints).value.ca


def test_a_request_without_proof_of_possession_is_refused(authority):
    key = ec.generate_private_key(ec.SECP256R1())
    der = bytearray(request(key).public_bytes(serialization.Encoding.DER))
    at = bytes(der).index(b"ministry")
    der[at : at + 8] = b"treasury"
    forged = x509.load_der_x509_csr(bytes(der))
    with pytest.raises(CertificateError, match="not signed by the key") as refused:
        authority.sign_request(pem_of(forged), "bank", uri=URI, valid_days=30)
    assert refused.value.reason == Reason.CERTIFICATE_INVALID


@pytest.mark.parametrize(
    "make_key",
    [
        lambda: rsa.generate_private_key(65537, 1024),
        lambda: rsa.generate_private_key(65537, 2048),
        lambda: ec.generate_private_key(ec.SECP224R1()),
        ed25519.Ed25519PrivateKey.generate,
    ],
    ids=["rsa-1024", "rsa-2048", "p-224", "ed25519"],
)
def test_a_request_with_a_key_that_tls_peers_do_not_accept_is_refused(authority, make_key):
    with pytest.raises(CertificateError, match="must be EC P-256"):
        authority.sign_request(pem_of(request(make_key())), "bank", uri=URI, valid_days=30)


@pytest.mark.parametrize(
    "csr", [b"", b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n", b"x" * (MAX_REQUEST_BYTES + 1)]
)
def test_what_is_no_request_is_refused(authority, csr):
    with pytest.raises(CertificateError, match="signing request"):
        authority.sign_request(csr, "bank", uri=URI, valid_days=30)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"valid_days": 30}, "needs a URI"),
        ({"uri": URI, "valid_days": 0}, "at least one day"),
        ({"uri": URI, "valid_days": 10**9}, "so long"),
        ({"uri": "https://统一.example", "valid_days": 1}, "not a URI"),
        ({"dns": ["统一.example"], "valid_days": 1}, "host name"),
        ({"ips": ["1.2.3"], "valid_days": 1}, "IP address"),
        ({"uri": URI, "valid_days": 1, "usages": frozenset()}, "usage"),
    ],
)
def test_a_wish_that_cannot_be_met_is_refused(authority, wanted, message):
    with pytest.raises(ConfigError, match=message):
        authority.issue("x", **wanted)


@pytest.mark.parametrize("name", ["", "x" * 65])
def test_a_common_name_has_its_limits(name):
    with pytest.raises(ConfigError, match="common name"):
        CertificateAuthority.create(name, 1)


def test_an_authority_is_saved_and_loaded(tmp_path):
    cert, key = tmp_path / "ca.pem", tmp_path / "ca.key"
    made = CertificateAuthority.create("a", 10)
    made.save(cert, key)
    assert key.stat().st_mode & 0o777 == 0o600
    again = CertificateAuthority.load(cert, key)
    loaded(again.issue("x", uri=URI, valid_days=1).cert_pem).verify_directly_issued_by(
        loaded(made.certificate_pem)
    )
    with pytest.raises(ConfigError):
        made.save(cert, key)


def test_an_authority_that_is_none_is_not_loaded(authority, other_authority, tmp_path):
    cert, key = tmp_path / "ca.pem", tmp_path / "ca.key"
    authority.save(cert, key)
    key.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        CertificateAuthority.load(cert, key)
    key.chmod(0o600)
    cert.write_bytes(other_authority.certificate_pem)
    with pytest.raises(ConfigError, match="does not belong"):
        CertificateAuthority.load(cert, key)
    cert.write_bytes(b"nothing")
    with pytest.raises(ConfigError, match="not a certificate"):
        CertificateAuthority.load(cert, key)
    cert.unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        CertificateAuthority.load(cert, key)
    leaf_cert, leaf_key = tmp_path / "leaf.pem", tmp_path / "leaf.key"
    authority.issue("x", uri=URI, valid_days=1).save(leaf_cert, leaf_key)
    with pytest.raises(ConfigError, match="not that of an authority"):
        CertificateAuthority.load(leaf_cert, leaf_key)
    leaf_key.write_bytes(b"nothing")
    with pytest.raises(ConfigError, match="not an unencrypted private key"):
        CertificateAuthority.load(leaf_cert, leaf_key)


def test_a_private_key_is_never_shown(authority):
    assert "PRIVATE" not in repr(authority.issue("x", uri=URI, valid_days=1))
