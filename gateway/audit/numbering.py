"""Numbering releases: each provider's releases to each consumer count from 1, without a gap.

Who holds receipts sees from the numbers alone that one is missing. The number stands in the leaf, so
that nobody can renumber later; it is given in the transaction that appends the entry, where alone the
order is known. An entry therefore comes with a placeholder in its canonical form, and is hashed once
the number stands there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from gateway.model.entry import Entry, EntryKind

Pair = tuple[str, str]
"""Consumer and provider, by member id."""

AWAITED: Final = 0
"""The `sequence` of an entry that the log is to number."""

MAX_NUMBER_DIGITS: Final = 16
"""Digits of the largest integer that JSON carries everywhere."""

# Everything nested in an entry has text values, and a quote within text is escaped: these bytes can
# only be the entry's own member.
_PLACEHOLDER: Final = b'"sequence":0'

_RELEASED: Final = EntryKind.EXCHANGE_RELEASED


def fill_number(data: bytes, number: int) -> bytes:
    """Return the canonical form `data` of an entry that awaits its number, with `number` filled in.

    Raises `ValueError` if it awaits none.
    """
    at = data.index(_PLACEHOLDER) + len(_PLACEHOLDER) - 1
    return data[:at] + str(number).encode() + data[at + 1 :]


class Numbering:
    """Follows the numbers of a log from its first entry, to find where they are not as they must be.

    Logs begun before releases were numbered have unnumbered ones, all before the first numbered one.
    """

    def __init__(self) -> None:
        self._last: dict[Pair, int] = {}

    @property
    def last(self) -> Mapping[Pair, int]:
        """The last number of each pair that has one."""
        return self._last

    def take_sound(self, entries: Sequence[Entry | None]) -> bool:
        """Take the next entries of the log if nothing is wrong with any number; return whether it is so.

        None among them are passed over. If something is wrong, none is taken, and `find_fault` tells what.
        """
        numbered: dict[Pair, int] = {}
        unnumbered = False
        for entry in entries:
            if entry is None:
                continue
            number = entry.sequence
            if entry.kind is _RELEASED:
                if number is None:
                    unnumbered = True
                    continue
                pair = entry.consumer, entry.provider
                if number != (numbered.get(pair) or self._last.get(pair, 0)) + 1:
                    return False
                numbered[pair] = number
            elif number is not None:
                return False
        if unnumbered and (numbered or self._last):
            return False
        self._last |= numbered
        return True

    def find_fault(self, entry: Entry) -> str | None:
        """Take the next entry of the log; return what is wrong with its number, None if nothing is."""
        if entry.kind is not EntryKind.EXCHANGE_RELEASED:
            return None if entry.sequence is None else "it has a number, which only releases have"
        if entry.sequence is None:
            return "this release has no number, though earlier ones have" if self._last else None
        pair = entry.consumer, entry.provider
        expected = self._last.get(pair, 0) + 1
        self._last[pair] = max(entry.sequence, expected)
        if entry.sequence != expected:
            return f"this release has the number {entry.sequence} of its pair of members, not {expected}"
        return None
