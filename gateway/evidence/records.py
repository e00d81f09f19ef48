"""Digests of released records: what a log entry commits to, and what a recipient can show of it.

A page has a 32-byte random seed, known to its recipient only; SHAKE-256 of the seed gives each
record 16 bytes of salt, so that nobody can test guesses at a record against a digest, and so that
one record can be shown without the others. The tree is two levels deep and wide, because a page is
produced and checked as a whole and two million hashes a second cost more than the bytes they save:

    record digest   SHA-256(0x00 || salt || line)
    page digest     SHA-256(0x01 || record digest 0 || record digest 1 || …)
    exchange root   SHA-256(0x01 || page digest 0 || page digest 1 || …)
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final

SEED_BYTES: Final = 32
SALT_BYTES: Final = 16

_RECORD: Final = b"\x00"
_NODE: Final = b"\x01"


def page_digest(lines: Sequence[bytes], seed: bytes) -> bytes:
    """Return the 32-byte digest of a page whose records are `lines` (JSON, without line ends)."""
    return digest_of_page(record_digests(lines, seed))


def record_digests(lines: Sequence[bytes], seed: bytes) -> list[bytes]:
    """Return the 32-byte digest of each of the records `lines` of the page whose seed is `seed`."""
    salts = hashlib.shake_256(seed).digest(SALT_BYTES * len(lines))
    sha256 = hashlib.sha256
    position = 0
    digests = []
    for line in lines:
        digests.append(sha256(_RECORD + salts[position : position + SALT_BYTES] + line).digest())
        position += SALT_BYTES
    return digests


def digest_of_page(digests: Iterable[bytes]) -> bytes:
    """Return the 32-byte digest of the page whose records have `digests`, in order."""
    return hashlib.sha256(_NODE + b"".join(digests)).digest()


def records_root(page_digests: Iterable[bytes]) -> bytes:
    """Return the 32-byte root over all pages of an exchange, in order."""
    return hashlib.sha256(_NODE + b"".join(page_digests)).digest()


def split_lines(records: bytes) -> list[bytes]:
    """Return the records of a page (JSON Lines, each line ended by LF) without their line ends."""
    return records.split(b"\n")[:-1]
