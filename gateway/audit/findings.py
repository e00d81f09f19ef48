"""What an examination of a log finds, and how it tells of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

MAX_FINDINGS: Final = 1000
"""After so many an examination stops: the log is broken, and which entries are sound is known."""

Progress = Callable[[int, int], None]
"""Takes entries examined and entries in all."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something in the log that is not as it must be."""

    place: str
    """`database`, `directory`, `log`, `entry`, `index`, `tile`, `checkpoint`, `published` or `head`."""
    what: str
    """What is wrong, for people. Never a value from an entry."""
    index: int | None = None
    """The entry's index; of a checkpoint its size; of a tile or block its first entry."""
