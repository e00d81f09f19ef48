"""Organisation codes (GB 11714-1997): nine characters, the last a check character modulo 11."""

from __future__ import annotations

from typing import Final

from gateway.identifiers.checksum import WeightedSum
from gateway.identifiers.kind import IdentifierKind

ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""The characters of the body; a character's value is its place here."""

CHECK_ALPHABET: Final = "0123456789X"
"""The check characters, likewise. An X has another value here than in the body."""

_WEIGHTS: Final = (3, 7, 9, 10, 5, 8, 4, 2)
_MODULUS: Final = 11


def check_character(body: str) -> str:
    """Return the check character for the eight characters before it (GB 11714-1997)."""
    total = sum(weight * ALPHABET.index(c) for weight, c in zip(_WEIGHTS, body, strict=True))
    return CHECK_ALPHABET[-total % _MODULUS]


def _without_hyphen(text: str) -> str:
    """Drop the hyphen that the standard prints before the check character."""
    return text[:8] + text[9:] if text[8:9] == "-" else text


ORGANISATION_CODE: Final = IdentifierKind(
    name="organisation-code",
    title="organisation code",
    alphabets=(ALPHABET,) * 8 + (CHECK_ALPHABET,),
    check_character=check_character,
    weighted_sum=WeightedSum(
        modulus=_MODULUS,
        target=0,
        weights=_WEIGHTS,
        alphabet=ALPHABET,
        check_alphabet=CHECK_ALPHABET,
    ),
    respell=_without_hyphen,
)
