"""The seeds file: what is needed, beside receipt and records, to prove the records later.

JSON Lines beside the receipt (`FILE.seeds`), mode 0600: one line for each page, in the order of the
records. A seed is for the recipient only: who has it can test guesses at a record against the log.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import msgspec

from gateway.audit.receipt import ReceiptError, VerifiedReceipt
from gateway.cli.failures import CommandError
from gateway.evidence.canonical import DECODE_ERRORS


class PageSeed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One page of the records file."""

    exchange: str
    """UUIDv7 of the exchange that brought it."""
    page: Annotated[int, msgspec.Meta(ge=0)]
    """Its number within the exchange, from 0."""
    records: Annotated[int, msgspec.Meta(ge=0)]
    """How many lines it has."""
    seed: bytes
    """32 bytes (base64)."""


def seeds_path(receipt: Path) -> Path:
    """Return where the seeds that go with the receipt at `receipt` are kept."""
    return receipt.with_name(receipt.name + ".seeds")


def encode_seeds(seeds: Iterable[PageSeed]) -> bytes:
    """Return the content of a seeds file."""
    return msgspec.json.Encoder().encode_lines(list(seeds))


def read_seeds(path: Path) -> list[PageSeed]:
    """Return what is in a seeds file; raise `CommandError` if it is not one."""
    try:
        return msgspec.json.Decoder(PageSeed).decode_lines(path.read_bytes())
    except DECODE_ERRORS as error:
        raise CommandError(
            f"{path} is not a seeds file, as `gateway query --receipt` writes them."
        ) from error


def verify_records(
    records: Path, seeds: list[PageSeed], receipts: dict[str, VerifiedReceipt]
) -> tuple[int, int]:
    """Return (lines proven, lines of other exchanges) of the file `records`.

    `receipts` are verified receipts by exchange id. Raises `ReceiptError` if a line was changed, lost,
    added or moved, or if a page that a receipt speaks of is not there.
    """
    proven = others = 0
    pages: dict[str, int] = dict.fromkeys(receipts, 0)
    with records.open("rb") as file:
        for seed in seeds:
            text = b"".join(itertools.islice(file, seed.records))
            receipt = receipts.get(seed.exchange)
            if receipt is None:
                others += seed.records
                continue
            receipt.verify_page(seed.page, text, seed.seed)
            if seed.page != pages[seed.exchange]:
                raise ReceiptError(
                    "The pages of the records are not in the order in which they were released."
                )
            pages[seed.exchange] += 1
            proven += seed.records
        surplus = sum(1 for _ in file)
    if surplus:
        raise ReceiptError(
            f"The file {records.name} has {surplus} lines that belong to no page of the seeds."
        )
    for exchange, receipt in receipts.items():
        if pages[exchange] != len(receipt.page_digests):
            raise ReceiptError("Records that the receipt speaks of are not in the file; a page is missing.")
    return proven, others
