"""Unified social credit codes (GB 32100-2015): eighteen characters, check character modulo 31."""

from __future__ import annotations

from typing import Final

from stdnum.cn import uscc

from gateway.identifiers.checksum import WeightedSum
from gateway.identifiers.kind import IdentifierKind

ALPHABET: Final = "0123456789ABCDEFGHJKLMNPQRTUWXY"
"""Digits and capitals without I, O, S, V, Z; a character's value is its place here."""

_DIGITS: Final = "0123456789"
_WEIGHTS: Final = (1, 3, 9, 27, 19, 26, 16, 17, 20, 29, 25, 13, 8, 24, 10, 30, 28)


def check_character(body: str) -> str:
    """Return the check character for the seventeen characters before it (GB 32100-2015 section 4.2.5)."""
    character: str = uscc.calc_check_digit(body)
    return character


USCC: Final = IdentifierKind(
    name="uscc",
    title="unified social credit code",
    # Registering authority, kind of organisation, area of registration, organisation code, check.
    alphabets=(ALPHABET,) * 2 + (_DIGITS,) * 6 + (ALPHABET,) * 9 + (ALPHABET,),
    check_character=check_character,
    weighted_sum=WeightedSum(
        modulus=31, target=0, weights=_WEIGHTS, alphabet=ALPHABET, check_alphabet=ALPHABET
    ),
)
"""The embedded organisation code's own check character is not asked for: registries have issued
codes in which it does not fit (docs/adr/0004-identifiers-and-pseudonyms.md)."""
