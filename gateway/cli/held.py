"""Reading what a party holds: a folder of receipts, its deliveries, or holdings that somebody wrote down."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.audit.holdings import (
    Holding,
    Holdings,
    HoldingsError,
    Side,
    decode_deliveries,
    decode_holdings,
    holding_of_receipt,
    is_holdings,
)
from gateway.audit.receipt import MAX_RECEIPT_BYTES, MEDIA_TYPE, Receipt, verify_receipt
from gateway.cli.failures import CommandError
from gateway.cli.output import Advance
from gateway.errors import GatewayError
from gateway.evidence.trust import Trust

_READ_BYTES: Final = 1024 * 1024
"""Read of a line at most: more than any line may have, so that one that is too long is noticed."""


@dataclass(frozen=True, slots=True)
class Held:
    """What was found at a path."""

    holdings: Holdings
    unverified: tuple[tuple[Path, str], ...] = ()
    """Receipts that do not verify, and why."""
    of_closed_logs: int = 0
    """Receipts of logs before the present one. Each log numbers for itself: they are left out."""


def read_held(path: Path, member: str, trust: Trust, advance: Advance) -> Held:
    """Return what `member` holds at `path`; raise `CommandError` or `HoldingsError`.

    A folder holds receipts (`*.json`), each of which is verified; a file holdings or deliveries.
    """
    if path.is_dir():
        return _read_receipts(path, member, trust, advance)
    if not path.is_file():
        raise CommandError(f"{path} does not exist; name a folder of receipts, or a file of holdings.")
    first = next(_lines(path), b"")
    try:
        if is_holdings(first):
            holdings = decode_holdings(_lines(path))
        else:
            holdings = decode_deliveries(_lines(path), member, trust)
    except HoldingsError as error:
        raise HoldingsError(f"{path}: {error.message}") from error
    if holdings.member != member:
        raise CommandError(f"{path} is what {holdings.member} holds, not {member}; name that one with --as.")
    return Held(holdings)


def _read_receipts(folder: Path, member: str, trust: Trust, advance: Advance) -> Held:
    files = sorted(folder.glob("*.json"))
    items: list[Holding] = []
    unverified: list[tuple[Path, str]] = []
    of_closed_logs = 0
    for number, file in enumerate(files, start=1):
        receipt = _receipt_in(file)
        if receipt is not None:
            try:
                verified = verify_receipt(receipt, trust)
            except GatewayError as error:
                unverified.append((file, error.message))
            else:
                if verified.checkpoint.origin == trust.origin:
                    items.append(holding_of_receipt(verified))
                else:
                    of_closed_logs += 1
        advance(number, len(files))
    others = {item.consumer for item in items} - {member}
    if others:
        raise CommandError(
            f"{folder} holds receipts of {', '.join(sorted(others))}; compare those of one member at a time."
        )
    holdings = Holdings(Side.CONSUMER, member, tuple(items), trust.origin)
    return Held(holdings, tuple(unverified), of_closed_logs)


def _receipt_in(file: Path) -> Receipt | None:
    """Return the receipt in `file`; None if it is a file of another kind."""
    if file.stat().st_size > MAX_RECEIPT_BYTES:
        return None
    text = file.read_bytes()
    if MEDIA_TYPE.encode() not in text:
        return None
    try:
        return Receipt.from_json(text)
    except GatewayError as error:
        raise CommandError(f"{file}: {error.message}") from error


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while line := file.readline(_READ_BYTES):
            yield line
