import hashlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from gateway.clock import system_clock
from gateway.errors import Reason
from gateway.pki.certificates import (
    MAX_PEM_BYTES,
    CertificateError,
    certificate_days_left,
    parse_peer_certificate,
    verify_hash_strength,
    verify_in_force,
)

URI = "https://gateway.example/members/bank"
BEGIN = datetime(2026, 5, 1, tzinfo=UTC)
END = datetime(2026, 6, 1, tzinfo=UTC)


ONE_URI = (x509.UniformResourceIdentifier(URI),)


def self_signed(*, names=ONE_URI, key=None):
    key = key or ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(77)
        .not_valid_before(BEGIN)
        .not_valid_after(END)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


PEER = self_signed()


def test_a_certificate_is_parsed_into_what_the_gateway_needs():
    parsed = parse_peer_certificate(PEER)
    certificate = x509.load_pem_x509_certificate(PEER)
    assert (parsed.uri, parsed.serial, parsed.not_before, parsed.not_after) == (URI, 77, BEGIN, END)
    assert parsed.fingerprint == certificate.fingerprint(hashes.SHA256()).hex()
    spki = certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert parsed.key_fingerprint == hashlib.sha256(spki).hexdigest()


def test_of_a_chain_the_first_certificate_speaks(authority):
    assert parse_peer_certificate(PEER + authority.certificate_pem).uri == URI


@pytest.mark.parametrize(
    "names",
    [
        (),
        (x509.DNSName("bank.example"),),
        (x509.UniformResourceIdentifier(URI), x509.UniformResourceIdentifier(URI + "2")),
        (x509.UniformResourceIdentifier(URI), x509.UniformResourceIdentifier(URI)),
    ],
    ids=["no names", "no uri", "two uris", "one uri twice"],
)
def test_exactly_one_uri_is_wanted(names):
    with pytest.raises(CertificateError, match="exactly one URI") as refused:
        parse_peer_certificate(self_signed(names=names))
    assert refused.value.reason == Reason.CERTIFICATE_INVALID


@pytest.mark.parametrize(
    "key", [rsa.generate_private_key(65537, 1024), ec.generate_private_key(ec.SECP521R1())]
)
def test_a_key_outside_the_list_is_refused(key):
    with pytest.raises(CertificateError, match="key must be"):
        parse_peer_certificate(self_signed(key=key))


class _SignedOver:
    def __init__(self, algorithm):
        self.signature_hash_algorithm = algorithm


def test_a_weak_hash_is_refused():
    """The library no longer signs over SHA-1, so the certificate is simulated."""
    with pytest.raises(CertificateError, match="weak hash"):
        verify_hash_strength(_SignedOver(hashes.SHA1()))
    verify_hash_strength(_SignedOver(hashes.SHA384()))


@pytest.mark.parametrize(
    "pem",
    [b"", b"nothing", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", PEER[:300]],
)
def test_what_is_no_certificate_is_refused(pem):
    with pytest.raises(CertificateError, match="not an X"):
        parse_peer_certificate(pem)


def test_an_oversize_certificate_is_refused_unread():
    with pytest.raises(CertificateError, match="larger than"):
        parse_peer_certificate(PEER + b"\n" * MAX_PEM_BYTES)


@given(at=st.integers(60, len(PEER) - 60), byte=st.integers(0, 255))
def test_a_changed_byte_never_breaks_out_as_a_foreign_exception(at, byte):
    changed = PEER[:at] + bytes([byte]) + PEER[at + 1 :]
    with suppress(CertificateError):
        assert parse_peer_certificate(changed).uri


def test_the_same_bytes_are_parsed_once():
    parse_peer_certificate.cache_clear()
    with ThreadPoolExecutor(8) as pool:
        parsed = list(pool.map(parse_peer_certificate, [bytes(bytearray(PEER)) for _ in range(200)]))
    assert len(set(parsed)) == 1
    information = parse_peer_certificate.cache_info()
    assert information.hits >= 192
    assert information.maxsize == 4096


def test_a_certificate_is_in_force_from_its_begin_to_its_last_second():
    parsed = parse_peer_certificate(PEER)
    verify_in_force(parsed, BEGIN)
    verify_in_force(parsed, END)


@pytest.mark.parametrize(
    ("moment", "reason"),
    [
        (END + timedelta(seconds=1), Reason.CERTIFICATE_EXPIRED),
        (BEGIN - timedelta(seconds=1), Reason.CERTIFICATE_INVALID),
    ],
)
def test_outside_its_period_a_certificate_is_refused(moment, reason):
    with pytest.raises(CertificateError) as refused:
        verify_in_force(parse_peer_certificate(PEER), moment)
    assert refused.value.reason == reason


def test_days_left_go_below_nought(authority):
    parsed = parse_peer_certificate(PEER)
    assert certificate_days_left(parsed, END - timedelta(hours=36)) == 1.5
    assert certificate_days_left(parsed, END + timedelta(days=2)) == -2
    issued = authority.issue("x", uri=URI, valid_days=30)
    left = certificate_days_left(x509.load_pem_x509_certificate(issued.cert_pem), system_clock())
    assert 29.9 < left <= 30
