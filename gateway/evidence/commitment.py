"""Salted commitments: the log holds them in place of what was asked about whom.

HMAC-SHA256 under a fresh random salt hides the value (a plain digest of a short identifier can be
found by trying) and binds to it. Whoever holds salt and value can prove them against the entry.
"""

from __future__ import annotations

import base64
import hmac
import secrets
from typing import Final

from gateway.errors import GatewayError, Reason
from gateway.evidence.dsse import from_base64

SALT_BYTES: Final = 32


class CommitmentError(GatewayError):
    """A value does not open the commitment."""

    reason = Reason.SIGNATURE_INVALID


def commit(value: bytes) -> tuple[str, str]:
    """Return (commitment, salt) for `value`, both base64."""
    salt = secrets.token_bytes(SALT_BYTES)
    return (
        base64.b64encode(hmac.digest(salt, value, "sha256")).decode(),
        base64.b64encode(salt).decode(),
    )


def verify_commitment(commitment: str, salt: str, value: bytes) -> None:
    """Raise `CommitmentError` unless `value` and `salt` open `commitment`."""
    try:
        expected = from_base64(commitment, length=32)
        key = from_base64(salt, length=SALT_BYTES)
    except ValueError as error:
        raise CommitmentError("The commitment or its salt is not base64 of 32 bytes.") from error
    if not hmac.compare_digest(hmac.digest(key, value, "sha256"), expected):
        raise CommitmentError("The value does not open the commitment in the log entry.")
