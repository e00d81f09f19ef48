"""Certificates of peers: parsed once, then trusted values.

grpc has checked the chain when the connection was made. Time goes on while a connection lives, so
the period of validity is compared anew on every call (`verify_in_force`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from gateway.errors import GatewayError, Reason

MAX_PEM_BYTES: Final = 16_384
"""A certificate of one P-256 key and one URI has about 900 bytes; foreign authorities add to it."""

MIN_RSA_BITS: Final = 3072
"""128 bits of security (NIST SP 800-57 part 1 revision 5, table 2), as with P-256."""

_CACHED_CERTIFICATES: Final = 4096
_SECONDS_PER_DAY: Final = 86_400.0
_GOOD_HASHES: Final = frozenset({"sha256", "sha384", "sha512"})


class CertificateError(GatewayError):
    """A certificate cannot be accepted."""

    reason = Reason.CERTIFICATE_INVALID


@dataclass(frozen=True, slots=True)
class PeerCertificate:
    """What the gateway needs to know of a peer's certificate."""

    uri: str
    """The one URI of the subject alternative name; it names the member."""
    not_before: datetime
    not_after: datetime
    """The last instant at which it is valid (RFC 5280 section 4.1.2.5)."""
    fingerprint: str
    """Hex SHA-256 of the certificate (DER)."""
    key_fingerprint: str
    """Hex SHA-256 of the SubjectPublicKeyInfo."""
    serial: int


@lru_cache(maxsize=_CACHED_CERTIFICATES)
def parse_peer_certificate(pem: bytes) -> PeerCertificate:
    """Return what `pem` (the leaf first, as grpc's auth context gives it) says of the peer.

    Raises `CertificateError` if it is no certificate, names no or several URIs, or rests on a weak
    key or hash. Pure, so the last 4096 answers are kept; safe to call from any thread.
    """
    if len(pem) > MAX_PEM_BYTES:
        raise CertificateError(f"The client certificate is larger than {MAX_PEM_BYTES} bytes.")
    certificate = load_certificate(pem)
    verify_key_strength(public_key_of(certificate))
    verify_hash_strength(certificate)
    return PeerCertificate(
        uri=_only_uri(certificate),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        fingerprint=hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest(),
        key_fingerprint=key_fingerprint(certificate),
        serial=certificate.serial_number,
    )


def verify_in_force(certificate: PeerCertificate, now: datetime) -> None:
    """Raise `CertificateError` unless `now` (aware) is within the certificate's validity.

    The reason is `CERTIFICATE_EXPIRED` after its end and `CERTIFICATE_INVALID` before its begin.
    """
    if now > certificate.not_after:
        raise CertificateError(
            "The client certificate has expired; connect again with a new one.",
            reason=Reason.CERTIFICATE_EXPIRED,
        )
    if now < certificate.not_before:
        raise CertificateError("The client certificate is not valid yet; check the clocks of both sides.")


def certificate_days_left(certificate: PeerCertificate | x509.Certificate, now: datetime) -> float:
    """Return the days from `now` (aware) to the end of validity; negative when it is over."""
    end = (
        certificate.not_after if isinstance(certificate, PeerCertificate) else certificate.not_valid_after_utc
    )
    return (end - now).total_seconds() / _SECONDS_PER_DAY


def load_certificate(pem: bytes) -> x509.Certificate:
    """Return the first certificate in `pem`; raise `CertificateError` if there is none."""
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise CertificateError("This is not an X.509 certificate in PEM form.") from error


def key_fingerprint(certificate: x509.Certificate) -> str:
    """Return the hex SHA-256 of the certificate's SubjectPublicKeyInfo."""
    spki = public_key_of(certificate).public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(spki).hexdigest()


def public_key_of(certificate: x509.Certificate) -> CertificatePublicKeyTypes:
    """Return the certificate's public key; raise `CertificateError` if its kind is unknown."""
    try:
        return certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CertificateError("The certificate holds a key of an unknown kind.") from error


def verify_key_strength(public_key: object) -> None:
    """Raise `CertificateError` unless `public_key` is EC P-256 or P-384, or RSA of 3072 bits or more."""
    match public_key:
        case ec.EllipticCurvePublicKey(curve=ec.SECP256R1() | ec.SECP384R1()):
            return
        case rsa.RSAPublicKey() if public_key.key_size >= MIN_RSA_BITS:
            return
        case _:
            raise CertificateError(
                f"The certificate's key must be EC P-256, EC P-384 or RSA of at least {MIN_RSA_BITS} bits."
            )


def verify_hash_strength(certificate: x509.Certificate) -> None:
    """Raise `CertificateError` unless the issuer signed over SHA-256 or longer, or with Ed25519 or Ed448."""
    try:
        algorithm = certificate.signature_hash_algorithm
    except UnsupportedAlgorithm as error:
        raise CertificateError("The certificate is signed in an unknown way.") from error
    if algorithm is not None and algorithm.name not in _GOOD_HASHES:
        raise CertificateError("The certificate is signed over a weak hash; SHA-256 is the least.")


def _only_uri(certificate: x509.Certificate) -> str:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        uris = []
    except ValueError as error:
        raise CertificateError("The certificate's extensions cannot be read.") from error
    else:
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1:
        raise CertificateError(
            "The client certificate must name its member by exactly one URI in the subject alternative name."
        )
    return uris[0]
