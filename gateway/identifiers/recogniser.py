"""Recognises canonical, valid identifiers by the column."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from gateway.identifiers.checksum import WeightedSum
from gateway.identifiers.parts import Part

_COLUMN_PAYS_FROM: Final = 16
"""Rows from which a column costs less together than value by value."""


class Recogniser:
    """Finds the values of a column that are canonical and valid, at a tenth of a microsecond each.

    Checking one value in Python takes microseconds, most of it spent on interpreting the loop over
    its characters. Here the loop runs over the *positions*, and each step handles a whole column in
    C: the texts, all of one length L, are joined to one byte string, and the slice `joined[k::L]` is
    the column of k-th characters. Alphabet: `column.translate(None, allowed)` deletes all allowed
    characters, so what is left over is wrong. Check character: see `WeightedSum`. Dates and areas:
    the set of distinct slices, less the values remembered as known, is nearly always empty.

    It only ever says "yes" or "look closer": a "yes" needs every check that `normalise` makes.
    """

    def __init__(
        self, alphabets: Sequence[str], weighted_sum: WeightedSum | None, parts: Sequence[Part]
    ) -> None:
        self._pattern: Final = re.compile("".join(f"[{re.escape(alphabet)}]" for alphabet in alphabets))
        self._alphabets: Final = tuple(alphabet.encode("ascii") for alphabet in alphabets)
        self._weighted_sum: Final = weighted_sum
        self._parts: Final = tuple(parts)

    def recognises(self, text: str) -> bool:
        """Whether one text is recognised."""
        return (
            self._pattern.fullmatch(text) is not None
            and (self._weighted_sum is None or self._weighted_sum.holds(text.encode("ascii")))
            and not any(part.unknown((text,)) for part in self._parts)
        )

    def unrecognised(self, values: Sequence[str | None]) -> list[int]:
        """Return the rows of `values`, rising, that are not recognised; None never is."""
        if len(values) < _COLUMN_PAYS_FROM:
            return [row for row, text in enumerate(values) if text is None or not self.recognises(text)]
        length = len(self._alphabets)
        texts = [text for text in values if text is not None and len(text) == length]
        if len(texts) == len(values):
            return sorted(self._doubtful(texts))
        fitting = [row for row, text in enumerate(values) if text is not None and len(text) == length]
        doubtful = {fitting[index] for index in self._doubtful(texts)}
        return sorted(doubtful.union(set(range(len(values))).difference(fitting)))

    def _doubtful(self, texts: Sequence[str]) -> set[int]:
        if not texts:
            return set()
        length = len(self._alphabets)
        # A character beyond ASCII becomes one "?", which stands in no alphabet.
        joined = "".join(texts).encode("ascii", "replace")
        columns = [joined[position::length] for position in range(length)]
        doubtful: set[int] = set()
        for column, allowed in zip(columns, self._alphabets, strict=True):
            if column.translate(None, allowed):
                doubtful.update(_rows(byte not in allowed for byte in column))
        if self._weighted_sum is not None:
            residues = self._weighted_sum.residues(columns)
            if residues.count(0) != len(texts):
                doubtful.update(_rows(residues))
        # What the parts look up is digits for sure only in the texts that came so far.
        sound = [text for index, text in enumerate(texts) if index not in doubtful] if doubtful else texts
        for part in self._parts:
            if unknown := part.unknown(sound):
                doubtful.update(_rows(text[part.start : part.stop] in unknown for text in texts))
        return doubtful


def _rows(flags: Iterable[object]) -> list[int]:
    return [row for row, flag in enumerate(flags) if flag]
