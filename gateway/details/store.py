"""The erasable store, as everybody sees it: sealed details, blind tokens, and what is left of the erased."""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final, Protocol, Self

import msgspec

from gateway.details.errors import DetailsAlteredError
from gateway.details.sealing import BatchKeys
from gateway.evidence.canonical import DECODE_ERRORS

SALT_BYTES: Final = 32
"""Of the commitment to what an erasing erased."""

_DAY: Final = re.compile(r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])", re.ASCII)


@dataclass(frozen=True, slots=True)
class StoredDetails:
    """The details of one entry as they are kept."""

    exchange: str
    kind: str
    """Of the entry that they were written with."""
    day: str
    """`YYYY-MM-DD`, UTC."""
    content: bytes
    wraps: bytes
    tokens: tuple[bytes, ...] = ()
    """Blind tokens; left empty when read."""


@dataclass(frozen=True, slots=True)
class Erased:
    """What is left of details that were erased."""

    entry: int
    """Index of the entry that tells of the erasing."""
    time: str
    """When that was."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which details to erase: exactly one member is given."""

    exchange: str | None = None
    before: date | None = None
    tokens: tuple[bytes, ...] | None = None


Record = Callable[[int, str], tuple[int, str]]
"""Takes how many details are to be erased and the commitment to which; writes the entry that says so;
returns its index and time. If it raises, nothing is erased."""


class DetailsStore(Protocol):
    """Keeps details. Safe from any thread; several processes may use one store at a time.

    Every method raises `DetailsUnavailableError` if the store cannot be used now.
    """

    def add(self, keys: BatchKeys, batch: Iterable[StoredDetails]) -> None:
        """Write a batch; when this returns, it is durable."""
        ...

    def of_exchange(self, exchange: str) -> list[tuple[StoredDetails, BatchKeys]]:
        """Return what is kept of an exchange, in the order in which it was written."""
        ...

    def erased_of(self, exchange: str) -> list[Erased]:
        """Return what was erased of an exchange, the newest erasing first."""
        ...

    def erasure(self, entry: int) -> tuple[int, str] | None:
        """Return (count, commitment) of the details that entry `entry` says were erased; None if none.

        The commitment is the base64 of HMAC-SHA256 under the erasure's salt over a line
        `exchange SP kind LF` for each, in rising order.
        """
        ...

    def days(self) -> tuple[str, str] | None:
        """Return the first and the last day of which anything is kept; None if nothing is."""
        ...

    def exchanges_with(self, tokens: Sequence[bytes]) -> list[tuple[str, str]]:
        """Return (exchange, kind) of the entries that any of `tokens` stands for, oldest first."""
        ...

    def count(self) -> int:
        """Return of how many entries details are kept."""
        ...

    def erase(self, selection: Selection, record: Record) -> int:
        """Erase what is selected, once `record` has told the log; return how many.

        When this returns, `scrub` is done as well. Nothing is recorded when nothing is selected.
        """
        ...

    @property
    def scrub_pending(self) -> bool:
        """Whether an erasing was cut short before its traces were removed."""
        ...

    def scrub(self) -> None:
        """Remove what is left of deleted rows in the store's own files.

        Raises `DetailsUnavailableError` while others need them; it may be called again.
        """
        ...

    def close(self) -> None:
        """Release everything. May be called twice."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


def commit_erasure(salt: bytes, lines: Iterable[tuple[str, str]]) -> tuple[int, str]:
    """Return (count, commitment) of erased (exchange, kind), which come in rising order."""
    count = 0
    mac = hmac.new(salt, digestmod="sha256")
    for exchange, kind in lines:
        mac.update(f"{exchange} {kind}\n".encode())
        count += 1
    return count, base64.b64encode(mac.digest()).decode()


def read_keys(raw: bytes) -> BatchKeys:
    """Return the keys of a batch as they were stored; raise `DetailsAlteredError`."""
    try:
        return msgspec.json.decode(raw, type=BatchKeys)
    except DECODE_ERRORS as error:
        raise DetailsAlteredError("The keys of these details are damaged.") from error


def check_days(first: str, last: str) -> tuple[str, str]:
    """Return the days of the oldest and the newest details; raise `DetailsAlteredError` if they are none."""
    if not (_DAY.fullmatch(first) and _DAY.fullmatch(last)):
        raise DetailsAlteredError("The store of details holds a day that is none: it was altered.")
    return first, last
