"""The reasons that people give for looking: they stand in the log, so they must not say whom about."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Final

from gateway.errors import ConfigError, GatewayError
from gateway.identifiers import KINDS, IdentifierKind

MAX_REASON_CHARACTERS: Final = 300

_WORD: Final = re.compile(r"[0-9A-Za-z-]+")
_SPELT_OUT: Final = re.compile(r"[0-9A-Za-z]+(?:[ ._/-][0-9A-Za-z]+)+")
_LONG: Final = 15
"""Shorter ones are not looked for across separators: dates and numbers would be taken for them."""
_MIN_DIGITS: Final = 4
"""Ordinary words of the right length have a fair chance of a right check character."""
_CONTROL: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def check_reason(text: str, *, what: str = "--reason") -> None:
    """Raise `ConfigError` unless `text` is one line of text that holds no identifier of a subject.

    Found are identifiers as a word, and long ones also with separators in between; a name or a
    telephone number is not.
    """
    if not text.strip() or len(text) > MAX_REASON_CHARACTERS:
        raise ConfigError(f"{what} takes 1 to {MAX_REASON_CHARACTERS} characters; they stand in the log.")
    if any(unicodedata.category(character) in _CONTROL for character in text):
        raise ConfigError(f"{what} is one line of text without control characters.")
    kinds = [kind for kind in KINDS.values() if kind.pseudonymisable]
    plain = unicodedata.normalize("NFKC", text)
    if any(_is_identifier(kind, word) for kind in kinds for word in _candidates(plain, kind)):
        raise ConfigError(
            f"{what} holds an identifier, and it will stand in the log for ever; name the case by its own "
            "number."
        )


def _candidates(text: str, kind: IdentifierKind) -> Iterator[str]:
    """Yield what could be an identifier of `kind` in `text`."""
    yield from _WORD.findall(text)
    if kind.length < _LONG:
        return
    for found in _SPELT_OUT.findall(text):
        joined = re.sub(r"[ ._/-]", "", found)
        for at in range(len(joined) - kind.length + 1):
            yield joined[at : at + kind.length]


def _is_identifier(kind: IdentifierKind, word: str) -> bool:
    if sum(character.isdigit() for character in word) < _MIN_DIGITS:
        return False
    try:
        kind.normalise(word)
    except GatewayError:
        return False
    return True
