"""Credentials for gRPC: from files, and followed while the files change."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import grpc
import structlog
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from gateway.clock import Clock, system_clock
from gateway.errors import ConfigError, GatewayError
from gateway.evidence.keys import read_secret
from gateway.pki.certificates import (
    CertificateError,
    certificate_days_left,
    key_fingerprint,
    load_certificate,
    public_key_of,
)
from gateway.pki.example_keys import refuse_example_keys

_log: Final = structlog.get_logger()

Stamp = tuple[tuple[int, int, int], ...]
"""Modification time in nanoseconds, size and inode of each file."""


@dataclass(frozen=True, slots=True)
class TlsIdentity:
    """A certificate chain with its key and the authorities whose clients are let in: checked, in memory."""

    chain_pem: bytes
    key_pem: bytes = field(repr=False)
    client_authorities_pem: bytes
    certificate: x509.Certificate

    @classmethod
    def read(
        cls, cert_path: Path, key_path: Path, client_ca_path: Path, *, demo: bool, clock: Clock
    ) -> TlsIdentity:
        """Read and check the three files; raise `ConfigError` unless they parse, fit and are in force.

        The key file must have mode 0600 (`read_secret`). Example keys are refused outside `demo`.
        """
        chain_pem, authorities_pem = _read(cert_path), _read(client_ca_path)
        key_pem = read_secret(key_path)
        certificate = _certificate(cert_path, chain_pem)
        authorities = _authorities(client_ca_path, authorities_pem)
        _verify_fits(certificate, cert_path, key_pem, key_path)
        refuse_example_keys(map(key_fingerprint, [certificate, *authorities]), demo=demo)
        if not certificate.not_valid_before_utc <= clock() <= certificate.not_valid_after_utc:
            raise ConfigError(f"The certificate {cert_path} has expired or is not valid yet; renew it.")
        return cls(chain_pem, key_pem, authorities_pem, certificate)

    def configuration(self) -> grpc.ServerCertificateConfiguration:
        """Return it in grpc's form."""
        return grpc.ssl_server_certificate_configuration(
            [(self.key_pem, self.chain_pem)], self.client_authorities_pem
        )


class ReloadingCredentials:
    """A process's TLS identity, as server and as client, read again when one of its files changes.

    Files are compared before each handshake and at each `refresh`, so a renewed certificate serves the
    next connection; connections that stand keep theirs. While the files do not fit together (half of a
    renewal, a wrong key) the identity in use stays and `certificate.refused` is logged once for each
    change.
    """

    def __init__(
        self,
        cert_path: Path,
        key_path: Path,
        client_ca_path: Path,
        *,
        demo: bool = False,
        clock: Clock = system_clock,
    ) -> None:
        """Read the files; raise `ConfigError` if they cannot serve: better no start than a wrong one."""
        self._demo = demo
        self._paths = (cert_path, key_path, client_ca_path)
        self._clock = clock
        self._lock = threading.Lock()
        self._seen = self._stamp()
        self._identity = self._served = self._read()
        self._generation = 0

    def server_credentials(self) -> grpc.ServerCredentials:
        """Return credentials that demand a client certificate and follow the files."""
        with self._lock:
            self._served = self._identity
        # The stub leaves out that the fetcher may return None for "no change".
        return grpc.dynamic_ssl_server_credentials(
            self._served.configuration(),
            self.fetch,  # type: ignore[arg-type]
            require_client_authentication=True,
        )

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """Return credentials for calls to others under the identity in use; reads no file."""
        identity = self._identity
        return grpc.ssl_channel_credentials(
            identity.client_authorities_pem, identity.key_pem, identity.chain_pem
        )

    @property
    def generation(self) -> int:
        """How often the identity has been renewed: with another number, `channel_credentials` differ."""
        return self._generation

    def fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """Return the new configuration if the identity is another than the last one fetched, else None.

        grpc calls it on a thread of its own before each handshake, several at once.
        """
        self.refresh()
        with self._lock:
            if self._served is self._identity:
                return None
            self._served = self._identity
            return self._served.configuration()

    def refresh(self) -> None:
        """Take over the files if they have changed for good; blocks for a moment, raises nothing."""
        with self._lock:
            # Taken before the files are read: what changes meanwhile is seen the next time.
            stamp = self._stamp()
            if stamp == self._seen:
                return
            self._seen = stamp
            try:
                self._identity = self._read()
            except GatewayError as error:
                _log.error("certificate.refused", path=self._paths[0], exc_info=error)
                return
            self._generation += 1
        _log.info("certificate.reloaded", path=self._paths[0], certificate_days=round(self.days_left(), 1))

    def days_left(self) -> float:
        """Return the days until the certificate in use ends."""
        return certificate_days_left(self._identity.certificate, self._clock())

    def key_fingerprint(self) -> str:
        """Return the hex SHA-256 of the public key in use (SubjectPublicKeyInfo)."""
        return key_fingerprint(self._identity.certificate)

    def _read(self) -> TlsIdentity:
        return TlsIdentity.read(*self._paths, demo=self._demo, clock=self._clock)

    def _stamp(self) -> Stamp | None:
        try:
            states = [path.stat() for path in self._paths]
        except OSError:
            return None  # a file is missing: reading says which
        return tuple((state.st_mtime_ns, state.st_size, state.st_ino) for state in states)


def channel_credentials(ca_path: Path, cert_path: Path, key_path: Path) -> grpc.ChannelCredentials:
    """Return mutual TLS credentials of a client; raise `ConfigError` if a file is missing or does not fit."""
    authorities_pem, chain_pem = _read(ca_path), _read(cert_path)
    key_pem = read_secret(key_path)
    _authorities(ca_path, authorities_pem)
    _verify_fits(_certificate(cert_path, chain_pem), cert_path, key_pem, key_path)
    return grpc.ssl_channel_credentials(authorities_pem, key_pem, chain_pem)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"The certificate file {path} cannot be read ({error.strerror}).") from error


def _certificate(path: Path, pem: bytes) -> x509.Certificate:
    try:
        return load_certificate(pem)
    except CertificateError as error:
        raise ConfigError(f"{path} is not a certificate in PEM form.") from error


def _authorities(path: Path, pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise ConfigError(f"{path} holds no certificates in PEM form.") from error


def _verify_fits(certificate: x509.Certificate, cert_path: Path, key_pem: bytes, key_path: Path) -> None:
    try:
        key = serialization.load_pem_private_key(key_pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"{key_path} is not an unencrypted private key in PEM form.") from error
    if public_key_of(certificate) != key.public_key():
        raise ConfigError(f"The key {key_path} does not belong to the certificate {cert_path}.")
