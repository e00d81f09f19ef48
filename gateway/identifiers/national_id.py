"""Citizen identification numbers (GB 11643-1999): eighteen characters, check character MOD 11-2."""

from __future__ import annotations

from typing import Final

from stdnum.cn import ric

from gateway.identifiers.checksum import WeightedSum
from gateway.identifiers.errors import Problem
from gateway.identifiers.kind import IdentifierKind
from gateway.identifiers.parts import Part, is_area, is_date

_DIGITS: Final = "0123456789"
_CHECK_ALPHABET: Final = "0123456789X"
_WEIGHTS: Final = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)

_LEGACY_LENGTH: Final = 15
_FIRST_CENTENARIAN: Final = "996"
"""The sequence numbers 996 to 999 of fifteen-digit numbers were kept for people of more than a hundred
years, born in the century before."""


def check_character(body: str) -> str:
    """Return the check character for the seventeen digits before it (ISO 7064 MOD 11-2)."""
    character: str = ric.calc_check_digit(body + "0")
    return character


def _from_legacy(text: str) -> str:
    """Expand a number of fifteen digits, as issued until 1999, by century and check character."""
    if len(text) != _LEGACY_LENGTH or not (text.isascii() and text.isdigit()):
        return text
    century = "18" if text[12:] >= _FIRST_CENTENARIAN else "19"
    body = text[:6] + century + text[6:]
    return body + check_character(body)


NATIONAL_ID: Final = IdentifierKind(
    name="national-id",
    title="citizen identification number",
    alphabets=(_DIGITS,) * 17 + (_CHECK_ALPHABET,),
    check_character=check_character,
    weighted_sum=WeightedSum(
        modulus=11, target=1, weights=_WEIGHTS, alphabet=_DIGITS, check_alphabet=_CHECK_ALPHABET
    ),
    parts=(
        Part(6, 14, Problem.DATE, "its date of birth is not a date", is_date),
        Part(0, 6, Problem.AREA, "its area code was never in use", is_area),
    ),
    respell=_from_legacy,
)
