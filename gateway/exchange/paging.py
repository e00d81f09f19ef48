"""Page tokens: where the next page begins, sealed so that only this gateway can make one.

A token is bound to the member and to everything in the query but nonce, time and actor: with
another query it does not open (AIP-158).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.errors import GatewayError, Reason
from gateway.evidence.canonical import encode_canonical
from gateway.model import Query

TOKEN_LIFETIME: Final = timedelta(minutes=15)
MAX_TOKEN_LENGTH: Final = 2048
_NONCE_BYTES: Final = 12
_TIME_BYTES: Final = 8
_COUNT_BYTES: Final = 8
_FORM: Final = b"2"
"""Form of the content; a token of another form does not open."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where an answer in pages goes on."""

    cursor: bytes = b""
    """The provider's; empty at the beginning."""
    key_epoch: str = ""
    """The key epoch that the pages before were made under, so that one answer has one epoch."""
    released: int = 0
    """How many records of the answer have left with the pages before."""
    cohort: int = 0
    """Of how many subjects, at least, the whole answer is known to be; 0 if nobody has looked."""


class PageTokens:
    """Seals and opens page tokens with a key of this gateway."""

    def __init__(self, key: bytes) -> None:
        """Take a 32-byte key, shared by the nodes of one gateway."""
        self._cipher = AESGCM(key)

    def seal(self, position: Position, member: str, query: Query, now: datetime) -> str:
        """Return the token for the page that begins at `position`."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        expires = int((now + TOKEN_LIFETIME).timestamp()).to_bytes(_TIME_BYTES)
        counts = position.released.to_bytes(_COUNT_BYTES) + position.cohort.to_bytes(_COUNT_BYTES)
        content = expires + counts + position.key_epoch.encode() + b"\x00" + position.cursor
        sealed = self._cipher.encrypt(nonce, content, _binding(member, query))
        return base64.urlsafe_b64encode(nonce + sealed).decode()

    def open(self, token: str, member: str, query: Query, now: datetime) -> Position:
        """Return the position in `token`; raise `GatewayError` with `PAGE_TOKEN_INVALID`."""
        if len(token) > MAX_TOKEN_LENGTH:
            raise _invalid("The page token is too long to be one of this gateway's")
        try:
            raw = base64.b64decode(token, altchars=b"-_", validate=True)
            content = self._cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], _binding(member, query))
        except (binascii.Error, ValueError, InvalidTag) as error:
            raise _invalid("The page token was not made for this query and member") from error
        if int.from_bytes(content[:_TIME_BYTES]) < now.timestamp():
            raise _invalid("The page token has expired")
        released, cohort = (
            int.from_bytes(content[at : at + _COUNT_BYTES])
            for at in (_TIME_BYTES, _TIME_BYTES + _COUNT_BYTES)
        )
        key_epoch, _, cursor = content[_TIME_BYTES + 2 * _COUNT_BYTES :].partition(b"\x00")
        return Position(cursor, key_epoch.decode(), released, cohort)


def _binding(member: str, query: Query) -> bytes:
    same = msgspec.structs.replace(query, nonce="", time="", actor=None)
    return hashlib.sha256(_FORM + member.encode() + b"\x00" + encode_canonical(same)).digest()


def _invalid(problem: str) -> GatewayError:
    return GatewayError(f"{problem}; start again without one.", reason=Reason.PAGE_TOKEN_INVALID)
