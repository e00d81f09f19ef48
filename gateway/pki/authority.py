"""A small certificate authority for deployments that have none of their own, and for the demo.

Keys are EC P-256, signatures ECDSA over SHA-256, profiles those of RFC 5280 section 4.2: what
grpc's BoringSSL, OpenSSL in strict mode and Go accept alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from ipaddress import ip_address
from pathlib import Path
from typing import Final, Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gateway.clock import Clock, system_clock
from gateway.errors import ConfigError
from gateway.evidence.keys import read_secret, write_secret
from gateway.pki.certificates import CertificateError, load_certificate, public_key_of, verify_key_strength

BACKDATED: Final = timedelta(minutes=1)
"""Certificates begin so long ago, for peers whose clock is behind."""

MAX_REQUEST_BYTES: Final = 16_384
"""Larger certificate signing requests are refused unread."""


class Usage(Enum):
    """What a certificate may be used for (RFC 5280 section 4.2.1.12)."""

    CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH
    SERVER = ExtendedKeyUsageOID.SERVER_AUTH


BOTH_USAGES: Final = frozenset(Usage)


@dataclass(frozen=True, slots=True)
class IssuedCertificate:
    """A certificate with the private key made for it."""

    cert_pem: bytes
    key_pem: bytes = field(repr=False)

    def save(self, cert_path: Path, key_path: Path) -> None:
        """Write both; the key with mode 0600. Raise `ConfigError` if the key file exists already."""
        write_secret(key_path, self.key_pem)
        _write(cert_path, self.cert_pem)


class CertificateAuthority:
    """Issues certificates under one self-signed root."""

    def __init__(
        self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, clock: Clock = system_clock
    ) -> None:
        """Take a root and its key; raise `ConfigError` if they do not fit together or it is no authority."""
        if public_key_of(certificate) != key.public_key():
            raise ConfigError("The authority's key does not belong to its certificate.")
        try:
            constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
            self._key_identifier = certificate.extensions.get_extension_for_class(
                x509.SubjectKeyIdentifier
            ).value
        except (x509.ExtensionNotFound, ValueError) as error:
            raise ConfigError("The authority's certificate lacks the extensions of an authority.") from error
        if not constraints.ca:
            raise ConfigError("This certificate is not that of an authority.")
        self._certificate = certificate
        self._key = key
        self._clock = clock

    @classmethod
    def create(cls, name: str, valid_days: int, *, clock: Clock = system_clock) -> Self:
        """Return a new authority called `name` (its common name) with a fresh key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _common_name(name)
        now = clock()
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - BACKDATED)
            .not_valid_after(_end(now, valid_days))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(authority=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        return cls(builder.sign(key, hashes.SHA256()), key, clock)

    @classmethod
    def load(cls, cert_path: Path, key_path: Path, *, clock: Clock = system_clock) -> Self:
        """Read an authority; raise `ConfigError` if a file is missing, open to others or of another kind."""
        try:
            certificate = load_certificate(cert_path.read_bytes())
        except OSError as error:
            raise ConfigError(f"The certificate {cert_path} cannot be read ({error.strerror}).") from error
        except CertificateError as error:
            raise ConfigError(f"{cert_path} is not a certificate in PEM form.") from error
        try:
            key = serialization.load_pem_private_key(read_secret(key_path), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise ConfigError(f"{key_path} is not an unencrypted private key in PEM form.") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ConfigError(f"{key_path} is not an elliptic curve key.")
        return cls(certificate, key, clock)

    @property
    def certificate_pem(self) -> bytes:
        """The root certificate, for everyone who has to trust it."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def save(self, cert_path: Path, key_path: Path) -> None:
        """Write root and key; the key with mode 0600. Raise `ConfigError` if the key file exists already."""
        write_secret(key_path, _private_pem(self._key))
        _write(cert_path, self.certificate_pem)

    def issue(
        self,
        subject: str,
        *,
        uri: str | None = None,
        dns: Sequence[str] = (),
        ips: Sequence[str] = (),
        valid_days: int,
        usages: frozenset[Usage] = BOTH_USAGES,
    ) -> IssuedCertificate:
        """Return a certificate for a fresh key; see `certify` for the parameters."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self.certify(
            key.public_key(), subject, uri=uri, dns=dns, ips=ips, valid_days=valid_days, usages=usages
        )
        return IssuedCertificate(certificate, _private_pem(key))

    def sign_request(
        self,
        csr_pem: bytes,
        subject: str,
        *,
        uri: str | None = None,
        dns: Sequence[str] = (),
        ips: Sequence[str] = (),
        valid_days: int,
        usages: frozenset[Usage] = BOTH_USAGES,
    ) -> bytes:
        """Return a certificate (PEM) for the public key of a signing request (RFC 2986).

        Members keep their private key. Of the request only the public key is taken: every name and
        every right is the authority's to say. Raises `CertificateError` if the request does not
        prove possession of the key, or the key is weak.
        """
        if len(csr_pem) > MAX_REQUEST_BYTES:
            raise CertificateError(f"The signing request is larger than {MAX_REQUEST_BYTES} bytes.")
        try:
            request = x509.load_pem_x509_csr(csr_pem)
            public_key = request.public_key()
            proven = request.is_signature_valid
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise CertificateError("This is not a certificate signing request in PEM form.") from error
        if not proven:
            raise CertificateError("The signing request is not signed by the key that it names.")
        return self.certify(
            public_key, subject, uri=uri, dns=dns, ips=ips, valid_days=valid_days, usages=usages
        )

    def certify(
        self,
        public_key: CertificatePublicKeyTypes,
        subject: str,
        *,
        uri: str | None = None,
        dns: Sequence[str] = (),
        ips: Sequence[str] = (),
        valid_days: int,
        usages: frozenset[Usage] = BOTH_USAGES,
    ) -> bytes:
        """Return a certificate (PEM) for `public_key`.

        `subject` is the common name, for people; `uri` names a member, `dns` and `ips` a server; at
        least one of the three is needed. It ends after `valid_days`, at the latest with the
        authority. Raises `CertificateError` for a weak key and `ConfigError` for anything else.
        """
        verify_key_strength(public_key)
        if not usages:
            raise ConfigError("A certificate needs at least one usage, client or server.")
        now = self._clock()
        end = min(_end(now, valid_days), self._certificate.not_valid_after_utc)
        if end <= now:
            raise ConfigError("The authority's own certificate has expired; make a new authority.")
        builder = (
            x509.CertificateBuilder()
            .subject_name(_common_name(subject))
            .issuer_name(self._certificate.subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(max(now - BACKDATED, self._certificate.not_valid_before_utc))
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(authority=False), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage(sorted((usage.value for usage in usages), key=str)), critical=False
            )
            # Not critical: the subject is not empty (RFC 5280 section 4.2.1.6).
            .add_extension(x509.SubjectAlternativeName(_names(uri, dns, ips)), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(self._key_identifier),
                critical=False,
            )
        )
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _common_name(text: str) -> x509.Name:
    try:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
    except ValueError as error:
        raise ConfigError("A certificate's common name has 1 to 64 characters.") from error


def _names(uri: str | None, dns: Sequence[str], ips: Sequence[str]) -> list[x509.GeneralName]:
    try:
        names: list[x509.GeneralName] = [] if uri is None else [x509.UniformResourceIdentifier(uri)]
        names += [x509.DNSName(name) for name in dns]
        names += [x509.IPAddress(ip_address(address)) for address in ips]
    except ValueError as error:
        raise ConfigError(
            "A name for the certificate is not a URI, host name or IP address in ASCII; "
            "write international host names in their xn-- form."
        ) from error
    if not names:
        raise ConfigError("A certificate needs a URI, a host name or an IP address.")
    return names


def _end(now: datetime, valid_days: int) -> datetime:
    if valid_days < 1:
        raise ConfigError("A certificate is valid for at least one day.")
    try:
        return now + timedelta(days=valid_days)
    except OverflowError as error:
        raise ConfigError("A certificate cannot be valid for so long.") from error


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise ConfigError(f"The certificate {path} cannot be written ({error.strerror}).") from error
