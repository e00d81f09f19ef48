"""Bundles of entries (c2sp.org/tlog-tiles, "Log entries"): what stands under a tile of level 0.

Each entry is preceded by its length as two bytes, big-endian.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from gateway.audit.errors import ProofError
from gateway.audit.tiles import TILE_WIDTH

LENGTH_BYTES: Final = 2
MAX_BUNDLED_BYTES: Final = 2**16 - 1
"""The longest entry that a bundle can hold."""

MAX_BUNDLE_BYTES: Final = TILE_WIDTH * (LENGTH_BYTES + MAX_BUNDLED_BYTES)


def encode_bundle(entries: Iterable[bytes]) -> bytes:
    """Return the bundle of `entries`; raise `ProofError` for an entry of more than 65,535 bytes."""
    parts: list[bytes] = []
    for data in entries:
        if len(data) > MAX_BUNDLED_BYTES:
            raise ProofError("An entry of more than 65,535 bytes fits into no bundle.")
        parts += (len(data).to_bytes(LENGTH_BYTES, "big"), data)
    return b"".join(parts)


def split_bundle(raw: bytes, width: int) -> list[bytes]:
    """Return the `width` entries of a bundle; raise `ProofError` unless it holds exactly these."""
    entries = []
    at = 0
    for _ in range(width):
        start = at + LENGTH_BYTES
        at = start + int.from_bytes(raw[at:start], "big")
        entries.append(raw[start:at])
    # A slice beyond the end is short without complaint, so that one look at the end tells all.
    if at != len(raw):
        raise ProofError("The bundle does not hold exactly the entries of its tile.")
    return entries
