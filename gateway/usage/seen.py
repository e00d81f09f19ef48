"""What usage reads of an entry, and nothing more: a million of them are decoded for one statement."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from gateway.audit.errors import LogMismatchError
from gateway.audit.store import ScannedEntries
from gateway.evidence.canonical import DECODE_ERRORS
from gateway.model.entry import EntryKind

REQUESTED: Final = EntryKind.EXCHANGE_REQUESTED.value
PAGE: Final = EntryKind.EXCHANGE_PAGE.value
RELEASED: Final = EntryKind.EXCHANGE_RELEASED.value
FAILED: Final = EntryKind.EXCHANGE_FAILED.value
DENIED: Final = EntryKind.EXCHANGE_DENIED.value

CLOSING: Final = (RELEASED, FAILED, DENIED)
"""The kinds of entries with which an exchange ends."""
COUNTED: Final = (PAGE, *CLOSING)
"""The kinds of entries that say what has left, or that nothing has."""

_NONE: Final = msgspec.Raw(b"[]")


class Seen(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The members of an entry that usage is counted from.

    `released` and `reasons` stay as they are written: most entries of a log have the same few.
    """

    kind: str
    time: str
    exchange: str = ""
    consumer: str = ""
    provider: str = ""
    dataset: str = ""
    purpose: str = ""
    contract: str = ""
    released: msgspec.Raw = _NONE
    reasons: msgspec.Raw = _NONE
    records: int = 0
    pages: int = 0
    sequence: int | None = None
    withdraws: int | None = None


_decode: Final = msgspec.json.Decoder(Seen).decode
_decode_lines: Final = msgspec.json.Decoder(Seen).decode_lines
_names: Final = msgspec.json.Decoder(tuple[str, ...]).decode


def see(data: bytes) -> Seen:
    """Return what usage needs of the leaf `data`; raise `LogMismatchError` if it is no entry."""
    try:
        return _decode(data)
    except DECODE_ERRORS as error:
        raise _no_entry() from error


def see_all(scanned: ScannedEntries) -> Iterable[tuple[int, Seen]]:
    """Return (index, what usage needs) of each entry; raise `LogMismatchError` if one is none."""
    try:
        seen = _decode_lines(scanned.lines)
    except DECODE_ERRORS as error:
        raise _no_entry() from error
    if len(seen) != len(scanned.indices):
        raise _no_entry()
    return zip(scanned.indices, seen, strict=True)


def names(listed: bytes) -> tuple[str, ...]:
    """Return the names in a JSON list; raise `LogMismatchError` if it is none."""
    try:
        return _names(listed)
    except DECODE_ERRORS as error:
        raise _no_entry() from error


def _no_entry() -> LogMismatchError:
    return LogMismatchError("An entry of the log is not of the known form; run `gateway audit fsck`.")
