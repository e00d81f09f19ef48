"""The reasons that people give for looking: they stand in the log, so they must not say whom about."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from gateway.errors import ConfigError, GatewayError
from gateway.identifiers import KINDS

MAX_REASON_CHARACTERS: Final = 300

_WORD: Final = re.compile(r"[0-9A-Za-z-]+")
_CONTROL: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def check_reason(text: str, *, what: str = "--reason") -> None:
    """Raise `ConfigError` unless `text` is one line of text that holds no identifier of a subject."""
    if not text.strip() or len(text) > MAX_REASON_CHARACTERS:
        raise ConfigError(f"{what} takes 1 to {MAX_REASON_CHARACTERS} characters; they stand in the log.")
    if any(unicodedata.category(character) in _CONTROL for character in text):
        raise ConfigError(f"{what} is one line of text without control characters.")
    words = _WORD.findall(unicodedata.normalize("NFKC", text))
    if any(_is_identifier(word) for word in words):
        raise ConfigError(
            f"{what} holds an identifier, and it will stand in the log for ever; name the case by its own "
            "number."
        )


def _is_identifier(word: str) -> bool:
    for kind in KINDS.values():
        if not kind.pseudonymisable:
            continue
        try:
            kind.normalise(word)
        except GatewayError:
            continue
        return True
    return False
