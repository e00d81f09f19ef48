"""Requests for time-stamps and tokens (RFC 3161): made, verified, nothing sent. Pure.

What is stamped is the checkpoint as it was signed: the note with the log's signature, byte for byte.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from rfc3161_client import (
    HashAlgorithm,
    TimestampRequestBuilder,
    TimeStampResponse,
    VerificationError,
    VerifierBuilder,
    decode_timestamp_response,
)

from gateway.errors import ConfigError, GatewayError, Reason

MAX_TOKEN_BYTES: Final = 64 * 1024
"""A response with a chain of three certificates has about 6 KiB."""

MAX_CLOCK_DIFFERENCE: Final = timedelta(minutes=5)
"""By how much the authority's time may differ from ours when a token is received."""

_SHA256: Final = x509.ObjectIdentifier("2.16.840.1.101.3.4.2.1")


class TimestampError(GatewayError):
    """A time-stamp is malformed, or not one over this checkpoint by a trusted authority."""

    reason = Reason.PROOF_INVALID


class TimestampUnavailableError(GatewayError):
    """The authority gave no time-stamp. Lowers the evidence, stops nothing."""

    reason = Reason.WITNESS_UNAVAILABLE


@dataclass(frozen=True, slots=True)
class StampRequest:
    """What an authority is asked."""

    data: bytes
    """The request, DER."""
    nonce: int
    """Random; the answer must repeat it."""


class Authorities:
    """The certificates of the authorities that are trusted to tell the time."""

    def __init__(self, certificates: Sequence[x509.Certificate]) -> None:
        """Take root certificates; raise `ConfigError` if there is none."""
        if not certificates:
            raise ConfigError("No certificate of a time-stamping authority is given.")
        self._certificates = tuple(certificates)

    @classmethod
    def load(cls, path: Path) -> Authorities:
        """Read the PEM file at `path`; raise `ConfigError`."""
        try:
            return cls(x509.load_pem_x509_certificates(path.read_bytes()))
        except OSError as error:
            raise ConfigError(f"The certificates {path} cannot be read ({error.strerror}).") from error
        except ValueError as error:
            raise ConfigError(f"{path} holds no certificates in PEM form.") from error

    def verify(self, token: bytes, note: str, *, nonce: int | None = None) -> datetime:
        """Return the time that `token` (a TimeStampResp, DER) tells for the checkpoint `note`; aware, UTC.

        The signer's certificate must lead to one of ours at that time and be for time-stamping alone
        (RFC 3161 section 2.3); hash and imprint must be the note's, and the nonce the one given. Raises
        `TimestampError`.
        """
        response = _decode(token)
        builder = VerifierBuilder(nonce=nonce)
        for certificate in self._certificates:
            builder = builder.add_root_certificate(certificate)
        try:
            if response.tst_info.message_imprint.hash_algorithm != _SHA256:
                raise TimestampError("The time-stamp is over another hash than SHA-256.")
            builder.build().verify(response, hashlib.sha256(note.encode()).digest())
            time = response.tst_info.gen_time
        except VerificationError as error:
            raise TimestampError(
                "The time-stamp is not one over this checkpoint by a trusted authority, or not for this "
                "request."
            ) from error
        except ValueError as error:
            raise TimestampError("The time-stamp has no token, or one that cannot be read.") from error
        return time


def make_request(note: str) -> StampRequest:
    """Return a request for a time-stamp over `note`, with a fresh nonce, that asks for certificates too."""
    request = (
        TimestampRequestBuilder()
        .data(note.encode())
        .hash_algorithm(HashAlgorithm.SHA256)
        .nonce(nonce=True)
        .cert_request(cert_request=True)
        .build()
    )
    assert request.nonce is not None
    return StampRequest(request.as_bytes(), request.nonce)


def _decode(token: bytes) -> TimeStampResponse:
    if len(token) > MAX_TOKEN_BYTES:
        raise TimestampError(f"The time-stamp is larger than {MAX_TOKEN_BYTES} bytes.")
    try:
        return decode_timestamp_response(token)
    except ValueError as error:
        raise TimestampError("This is not a time-stamp (RFC 3161) in DER.") from error
