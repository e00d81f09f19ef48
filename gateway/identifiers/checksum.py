"""Weighted-sum check characters, computed for a whole column at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

_LANE_MAX: Final = 255
"""The largest sum that fits one 8-bit lane."""


class WeightedSum:
    """The rule "Σ weight·value + check value ≡ target (mod modulus)" over texts of one length.

    A character's value is its place in `alphabet`; that of the check character, the last of the
    text, its place in `check_alphabet`.

    `residues(columns)` evaluates it for n texts together, given as one column of n bytes for each
    position. Each position has a 256-byte table that turns a character straight into
    (weight·value mod modulus), so `bytes.translate` does all multiplications of a column. The
    results, read as one big integer, are n lanes of 8 bits, and adding two such integers adds all
    lanes at once; as long as no lane can pass 255, no carry crosses into the next. So positions are
    added in groups of ⌊255 / (modulus - 1)⌋ (8 for modulus 31, all 18 for modulus 11), and each
    group's lanes are brought below the modulus again by one more `translate`.
    """

    def __init__(
        self, *, modulus: int, target: int, weights: Sequence[int], alphabet: str, check_alphabet: str
    ) -> None:
        """Take the rule: one weight for each character before the check character; ASCII alphabets."""
        self._tables: Final = (
            *(_residue_table(weight, modulus, alphabet) for weight in weights),
            _residue_table(1, modulus, check_alphabet),
        )
        self._group: Final = _LANE_MAX // (modulus - 1)
        self._reduce: Final = bytes(total % modulus for total in range(256))
        self._modulus: Final = modulus
        self._target: Final = target % modulus
        self._against_target: Final = bytes((total - target) % modulus for total in range(256))

    def holds(self, text: bytes) -> bool:
        """Whether the rule holds for one text of the right length."""
        return sum(map(bytes.__getitem__, self._tables, text)) % self._modulus == self._target

    def residues(self, columns: Sequence[bytes]) -> bytes:
        """Return one byte for each text: zero exactly where the rule holds.

        `columns[k]` holds the k-th character of each text. Characters without a value count as
        zero; whether a character may stand at its position is for the caller to check.
        """
        count = len(columns[0])
        total = 0
        for start in range(0, len(columns), self._group):
            lanes = 0
            for column, table in zip(
                columns[start : start + self._group], self._tables[start : start + self._group], strict=True
            ):
                lanes += int.from_bytes(column.translate(table), "little")
            reduced = lanes.to_bytes(count, "little").translate(self._reduce)
            total += int.from_bytes(reduced, "little")
        return total.to_bytes(count, "little").translate(self._against_target)


def _residue_table(weight: int, modulus: int, alphabet: str) -> bytes:
    table = bytearray(256)
    for value, character in enumerate(alphabet):
        table[ord(character)] = weight * value % modulus
    return bytes(table)
