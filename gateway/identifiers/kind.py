"""What the kinds of identifiers have in common: one spelling, one check, one value or a whole column."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from gateway.identifiers.checksum import WeightedSum
from gateway.identifiers.errors import IdentifierError, Problem
from gateway.identifiers.parts import Part
from gateway.identifiers.recogniser import Recogniser

MAX_TEXT_LENGTH: Final = 64
"""More characters than any spelling of an identifier needs; a bound on hostile work."""


@dataclass(frozen=True, slots=True)
class CheckedColumn:
    """The values of one identifier field over many records, normalised and checked.

    Made by `IdentifierKind.check_column` and trusted from then on: what is not None in `values` is a
    valid identifier in its canonical form.
    """

    kind: IdentifierKind
    values: list[str | None]
    """In the order of the records; None where there was no value, or where it is invalid."""
    problems: dict[int, Problem]
    """Row number to what is wrong with the value, for each invalid one, in rising order."""

    @property
    def invalid(self) -> list[int]:
        """The row numbers of the invalid values, rising."""
        return list(self.problems)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IdentifierKind:
    """One kind of identifier: fixed length, an alphabet for each position, mostly a check character."""

    name: str
    """As the catalogue writes it (`identifierKind`)."""
    title: str
    """As people say it."""
    alphabets: tuple[str, ...]
    """For each position, the characters that may stand there."""
    check_character: Callable[[str], str] | None = None
    """Gives the check character (the last one) for the characters before it; None if there is none."""
    weighted_sum: WeightedSum | None = None
    """The same rule for columns."""
    parts: tuple[Part, ...] = ()
    respell: Callable[[str], str] = str
    """Turns other spellings that the standard knows into the canonical one."""
    pseudonymisable: bool = True
    """Whether values name subjects. False where there are so few values that counting how often each
    occurs would undo any fixed mapping."""
    _recogniser: Recogniser = field(init=False, repr=False)

    def __post_init__(self) -> None:
        recogniser = Recogniser(self.alphabets, self.weighted_sum, self.parts)
        object.__setattr__(self, "_recogniser", recogniser)

    @property
    def length(self) -> int:
        """Characters of a canonical value."""
        return len(self.alphabets)

    @property
    def body_length(self) -> int:
        """Characters before the check character; all of them where there is none."""
        return self.length - (self.check_character is not None)

    def normalise(self, text: str) -> str:
        """Return the canonical form of `text`; raise `IdentifierError` if it is not of this kind.

        Full-width and other compatibility characters become ASCII (Unicode NFKC), white space around
        is dropped, letters become capitals, separators go where the standard writes them. Nothing
        is guessed: a value that is not valid after that is refused.
        """
        if self._recogniser.recognises(text):
            return text
        value = self.respell(_to_ascii_capitals(text))
        if len(value) != self.length:
            raise IdentifierError(self.name, Problem.LENGTH, f"it must have {self.length} characters")
        if any(c not in allowed for c, allowed in zip(value, self.alphabets, strict=True)):
            raise IdentifierError(
                self.name, Problem.ALPHABET, "it holds a character that cannot stand where it stands"
            )
        if self.check_character is not None and self.check_character(value[:-1]) != value[-1]:
            raise IdentifierError(self.name, Problem.CHECK_DIGIT, "its check character does not fit")
        for part in self.parts:
            if part.unknown((value,)):
                raise IdentifierError(self.name, part.problem, part.explanation)
        return value

    def check_column(self, values: Sequence[str | None]) -> CheckedColumn:
        """Normalise and check all `values` (None: no value); list those that are invalid.

        Values that are already canonical and valid, which is nearly all in a well-kept register, are
        recognised together (see `Recogniser`); the others go one by one through `normalise`.
        """
        checked = list(values)
        problems: dict[int, Problem] = {}
        for row in self.unrecognised(checked):
            value = checked[row]
            if value is None:
                continue
            try:
                checked[row] = self.normalise(value)
            except IdentifierError as error:
                checked[row] = None
                problems[row] = error.problem
        return CheckedColumn(self, checked, problems)

    def unrecognised(self, values: Sequence[str | None]) -> list[int]:
        """Return the rows, rising, whose value is not (or not known to be) canonical and valid."""
        return self._recogniser.unrecognised(values)


def _to_ascii_capitals(text: str) -> str:
    """Return `text` folded; text that cannot be an identifier comes back such that no kind takes it."""
    if text.isascii():
        return text.strip().upper()
    if len(text) > MAX_TEXT_LENGTH:
        return ""
    folded = unicodedata.normalize("NFKC", text).strip()
    # Capitals are made of ASCII only: beyond it, upper() can turn one character into another's.
    return folded.upper() if folded.isascii() else folded
