"""Holdings: what one side has of the exchanges between members, in a form that can be compared.

Pure. A consumer holds receipts, a provider its deliveries, the gateway its log; each knows some
things of an exchange and not others. See docs/formats/holdings.md.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final, Literal, TypeVar

import msgspec

from gateway.audit.receipt import VerifiedReceipt
from gateway.audit.tree import leaf_hash
from gateway.errors import GatewayError, Reason
from gateway.evidence import dsse
from gateway.evidence.canonical import DECODE_ERRORS, decode_bytes_strictly, encode_canonical
from gateway.evidence.delivery import DELIVERY_TYPE, parse_delivery
from gateway.evidence.trust import Trust

MEDIA_TYPE: Final = "application/vnd.sluicegate.holdings.v1+jsonl"
MAX_LINE_BYTES: Final = 16 * 1024

_Id = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]
_Line = TypeVar("_Line", bound=msgspec.Struct)


class HoldingsError(GatewayError):
    """A file of holdings or deliveries is not what it must be."""

    reason = Reason.STATEMENT_MALFORMED


class Side(StrEnum):
    """Who holds."""

    CONSUMER = "consumer"
    """The member received; it has receipts."""
    PROVIDER = "provider"
    """The member delivered; it has its own statements of delivery."""
    LOG = "log"
    """The gateway; it has the log's entries about the member."""


class Outcome(StrEnum):
    """What became of an exchange, as far as a side knows."""

    RELEASED = "released"
    WITHDRAWN = "withdrawn"
    """Logged as released, but no receipt was issued: the log says so in a later entry."""
    FAILED = "failed"
    DELIVERED = "delivered"
    """By the provider to the gateway; whether it was released then, the provider does not see."""


class Holding(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a side has of one exchange. What it does not know is left out."""

    exchange: _Id
    """UUIDv7."""
    consumer: _Id
    provider: _Id
    outcome: Outcome
    time: _Id
    """RFC 3339: of the release's entry, or of the last delivery."""
    index: _Count | None = None
    """Of the release's entry."""
    leaf_hash: Annotated[str, msgspec.Meta(min_length=44, max_length=44)] | None = None
    """Base64 of that entry's leaf hash."""
    sequence: _Count | None = None
    """Which release between the two it is, from 1."""
    pages: _Count | None = None
    acknowledged: _Count | None = None
    """Index of the entry with the recipient's acknowledgement."""

    @property
    def pair(self) -> tuple[str, str]:
        """Consumer and provider."""
        return self.consumer, self.provider


@dataclass(frozen=True, slots=True)
class Holdings:
    """All that one side holds of the exchanges of a member."""

    side: Side
    member: str
    items: tuple[Holding, ...]
    origin: str = ""
    """The log's origin, where the side knows it."""

    def about(self, other: Holdings) -> tuple[Holding, ...]:
        """Return the items that the other side should know of too."""
        return tuple(item for item in self.items if _concerns(item, other))


class _Header(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """The first line of a file of holdings."""

    media_type: Literal["application/vnd.sluicegate.holdings.v1+jsonl"]
    side: Side
    member: _Id
    origin: str


class DeliveryLine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A line of a provider's file of deliveries: a statement that it signed, and for whom it was."""

    v: Literal[1]
    consumer: _Id
    delivery: dsse.Envelope


def holding_of_receipt(verified: VerifiedReceipt) -> Holding:
    """Return what the holder of a receipt has, once it is verified."""
    entry = verified.entry
    return Holding(
        exchange=entry.exchange,
        consumer=entry.consumer,
        provider=entry.provider,
        outcome=Outcome.RELEASED,
        time=entry.time,
        index=verified.index,
        leaf_hash=base64.b64encode(leaf_hash(encode_canonical(entry))).decode(),
        sequence=entry.sequence,
        pages=entry.pages,
    )


def encode_holdings(holdings: Holdings) -> Iterator[bytes]:
    """Yield the lines of a file of holdings, each with its LF."""
    header = _Header(
        media_type=MEDIA_TYPE, side=holdings.side, member=holdings.member, origin=holdings.origin
    )
    for line in (header, *holdings.items):
        yield msgspec.json.encode(line) + b"\n"


def is_holdings(first_line: bytes) -> bool:
    """Return whether a file that begins with this line says that it is one of holdings."""
    return MEDIA_TYPE.encode() in first_line


def decode_holdings(lines: Iterable[bytes]) -> Holdings:
    """Return what stands in a file of holdings; raise `HoldingsError` that names the line."""
    rows = iter(lines)
    header = _decode(next(rows, b""), _Header, 1)
    items = tuple(_decode(line, Holding, number) for number, line in enumerate(rows, start=2))
    return Holdings(header.side, header.member, items, header.origin)


def decode_deliveries(lines: Iterable[bytes], member: str, trust: Trust) -> Holdings:
    """Return what stands in the file of deliveries of the provider `member`, whose keys `trust` knows.

    Each statement must carry its signature. Raises `HoldingsError` that names the line.
    """
    keys = trust.member_verify_keys(member)
    pages: dict[str, int] = {}
    last: dict[str, Holding] = {}
    for number, raw in enumerate(lines, start=1):
        line = _decode(raw, DeliveryLine, number)
        try:
            payload, _ = dsse.verify(line.delivery, DELIVERY_TYPE, keys)
            statement = parse_delivery(payload)
        except GatewayError as error:
            raise HoldingsError(
                f"Line {number} of the deliveries is not a statement that this provider signed.", line=number
            ) from error
        pages[statement.exchange] = pages.get(statement.exchange, 0) + 1
        last[statement.exchange] = Holding(
            exchange=statement.exchange,
            consumer=line.consumer,
            provider=member,
            outcome=Outcome.DELIVERED,
            time=statement.time,
        )
    items = tuple(
        msgspec.structs.replace(holding, pages=pages[exchange]) for exchange, holding in last.items()
    )
    return Holdings(Side.PROVIDER, member, items, trust.origin)


def of_period(items: Sequence[Holding], since: str | None, until: str | None) -> tuple[Holding, ...]:
    """Return the items from `since` to before `until` (RFC 3339 in UTC with microseconds)."""
    return tuple(
        item
        for item in items
        if (since is None or item.time >= since) and (until is None or item.time < until)
    )


def _concerns(item: Holding, side: Holdings) -> bool:
    as_consumer, as_provider = item.consumer == side.member, item.provider == side.member
    match side.side:
        case Side.CONSUMER:
            return as_consumer
        case Side.PROVIDER:
            return as_provider
        case Side.LOG:
            return as_consumer or as_provider


def _decode(raw: bytes, kind: type[_Line], number: int) -> _Line:
    try:
        if len(raw) > MAX_LINE_BYTES:
            raise HoldingsError(f"Line {number} is longer than {MAX_LINE_BYTES} bytes.", line=number)
        return decode_bytes_strictly(raw, kind)
    except DECODE_ERRORS as error:
        raise HoldingsError(
            f"Line {number} is malformed: a member is missing, unknown, or of the wrong form.", line=number
        ) from error
