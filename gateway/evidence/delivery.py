"""The delivery statement: what a provider signs over the records it delivers.

It commits to the bytes of one page by a salted digest, so that the statement can stand in receipts
and in front of third parties without being an oracle for guessed records; whoever holds salt and
records can check them against it. Pure; the envelope is `gateway.evidence.dsse`'s affair.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Final

import msgspec

from gateway.clock import parse_rfc3339, rfc3339
from gateway.errors import GatewayError, Reason
from gateway.evidence.canonical import encode_canonical
from gateway.evidence.dsse import from_base64, payload_type

DELIVERY_TYPE: Final = payload_type("delivery")

SALT_BYTES: Final = 32
CLOCK_TOLERANCE: Final = timedelta(minutes=5)
_MAX_STATEMENT_BYTES: Final = 4 * 1024

_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]


class DeliveryError(GatewayError):
    """What was delivered is not what the provider signed."""

    reason = Reason.PROVIDER_SIGNATURE


class DeliveryStatement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The payload of a delivery's envelope (`application/vnd.sluicegate.delivery.v1+json`)."""

    exchange: _Text
    """UUIDv7 of the exchange it answers."""
    dataset: _Text
    """`members/{member}/datasets/{dataset}`."""
    page: _Count
    """The page's number within the exchange, from 0."""
    count: _Count
    """Records in the page."""
    digest: Annotated[str, msgspec.Meta(min_length=44, max_length=44)]
    """Base64 of SHA-256(salt || records)."""
    time: _Text
    """RFC 3339 in UTC."""
    last: bool
    """Whether no page follows in this exchange."""
    total: _Count | msgspec.UnsetType = msgspec.UNSET
    """Records that the dataset has in all; only where a list question asked for it."""


@dataclass(frozen=True)
class Delivery:
    """A statement ready to be signed, and the salt that goes with the records."""

    statement: bytes
    """Canonical JSON of a `DeliveryStatement`."""
    salt: bytes
    """32 random bytes. They go to whoever may know the records, and to nobody else."""


def build_delivery(
    *,
    exchange: str,
    dataset: str,
    page: int,
    records: bytes,
    count: int,
    time: datetime,
    last: bool,
    total: int | None = None,
) -> Delivery:
    """Return the statement over `records` (JSON Lines, `count` of them) under a fresh salt."""
    salt = os.urandom(SALT_BYTES)
    statement = DeliveryStatement(
        exchange=exchange,
        dataset=dataset,
        page=page,
        count=count,
        digest=_digest(salt, records),
        time=rfc3339(time),
        last=last,
        total=msgspec.UNSET if total is None else total,
    )
    return Delivery(encode_canonical(statement), salt)


def parse_delivery(statement: bytes) -> DeliveryStatement:
    """Return the statement in verified bytes; raise `DeliveryError` unless it is one to the letter."""
    if len(statement) > _MAX_STATEMENT_BYTES:
        raise DeliveryError("The provider's delivery statement is too long.")
    try:
        parsed = msgspec.json.decode(statement, type=DeliveryStatement)
        from_base64(parsed.digest, length=hashlib.sha256().digest_size)
        parse_rfc3339(parsed.time)
    except (msgspec.DecodeError, ValueError, OverflowError, RecursionError):
        raise DeliveryError(
            "The provider's delivery statement is malformed: a member is missing, unknown or of wrong form."
        ) from None
    return parsed


def verify_delivery(
    statement: DeliveryStatement, *, exchange: str, dataset: str, page: int, at: datetime
) -> None:
    """Raise `DeliveryError` unless `statement` is about this page and was made around `at`.

    Receipts are verified by this alone: their holder has no records as the provider delivered them.
    """
    if statement.exchange != exchange or statement.dataset != dataset:
        raise DeliveryError("The provider signed a delivery of another exchange or dataset.")
    if statement.page != page:
        raise DeliveryError("The provider signed another page; one is missing, repeated or out of order.")
    if abs(parse_rfc3339(statement.time) - at) > CLOCK_TOLERANCE:
        raise DeliveryError("The provider's signature is more than 5 minutes off; compare the clocks.")


def verify_records(statement: DeliveryStatement, salt: bytes, records: bytes) -> None:
    """Raise `DeliveryError` unless `records` are the bytes and the number of records that were signed."""
    if len(salt) != SALT_BYTES:
        raise DeliveryError(f"A delivery's salt has {SALT_BYTES} bytes.")
    if _digest(salt, records) != statement.digest:
        raise DeliveryError("The records are not those that the provider signed.")
    if records.count(b"\n") != statement.count or (records and not records.endswith(b"\n")):
        raise DeliveryError("The provider signed another number of records than it delivered.")


def verify_sequence(statements: Sequence[DeliveryStatement]) -> None:
    """Raise `DeliveryError` unless `statements` are all pages of one delivery, in order, up to the last."""
    for page, statement in enumerate(statements):
        first = statements[0]
        if (statement.exchange, statement.dataset) != (first.exchange, first.dataset):
            raise DeliveryError("Pages of two deliveries are mixed.")
        if statement.page != page:
            raise DeliveryError("A page of the delivery is missing, repeated or out of order.")
        if statement.last != (page == len(statements) - 1):
            raise DeliveryError("The delivery is cut short or goes on after its last page.")
    if not statements:
        raise DeliveryError("There is no page; a delivery has at least one.")


def _digest(salt: bytes, records: bytes) -> str:
    return base64.b64encode(hashlib.sha256(salt + records).digest()).decode()
