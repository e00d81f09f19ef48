"""What a call returns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec

from gateway.audit.acknowledgement import AcknowledgedRelease
from gateway.audit.receipt import Receipt, VerifiedReceipt


@dataclass(frozen=True)
class Page:
    """One page of records with its proof."""

    text: bytes
    """The records exactly as they came: JSON Lines."""
    fields: tuple[str, ...]
    seed: bytes
    """Salt seed of the page: keep it with `text` and the receipt to prove the records later."""
    number: int = 0
    next_page_token: str = ""
    receipt: Receipt | None = None
    """None on the pages of a stream: there the receipt comes at the end."""
    verified: VerifiedReceipt | None = None
    """What the receipt proves; None when verification was turned off."""
    acknowledged: AcknowledgedRelease | None = None
    """The log's entry of the acknowledgement, if one was asked for."""

    @cached_property
    def records(self) -> list[dict[str, Any]]:
        """The records as dictionaries."""
        return msgspec.json.Decoder(dict[str, Any]).decode_lines(self.text)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.records)

    def __len__(self) -> int:
        return self.text.count(b"\n")


@dataclass(frozen=True)
class Match:
    """The answer to a match."""

    matched: bool
    receipt: Receipt
    verified: VerifiedReceipt | None
    acknowledged: AcknowledgedRelease | None = None

    def __bool__(self) -> bool:
        return self.matched


@dataclass(frozen=True)
class Listed:
    """The answer to a list question."""

    listed: bool
    """Whether the subject is on the list, or on enough of the lists."""
    restrictions: tuple[str, ...]
    """Of a single list: the classes of restriction that follow, if policy releases them; sorted."""
    line: bytes
    seed: bytes
    """Salt seed: keep it with `line` and the receipt to prove the answer later."""
    receipt: Receipt
    verified: VerifiedReceipt | None
    acknowledged: AcknowledgedRelease | None = None

    def __bool__(self) -> bool:
        return self.listed


@dataclass(frozen=True)
class StreamSummary:
    """The end of a stream: the receipt over all its pages."""

    pages: int
    records: int
    receipt: Receipt
    verified: VerifiedReceipt | None
    acknowledged: AcknowledgedRelease | None = None
