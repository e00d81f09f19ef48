"""What a provider makes of a fetch order (`gateway.evidence.order`).

The provider need not trust the network, nor the gateway's configuration: `check_order` holds the
order against the holder's own mapping. Pure.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from gateway.clock import parse_rfc3339
from gateway.evidence.order import FetchOrder, OrderError
from gateway.model import parse_dataset_name
from gateway.sources.mapping import ProviderMapping
from gateway.sources.source import DEFAULT_PAGE_BYTES, FetchRequest

CLOCK_TOLERANCE: Final = timedelta(minutes=5)
MAX_LIFETIME: Final = timedelta(hours=1)
"""From `time` to `expires`: an order found later is of no use."""


def check_order(order: FetchOrder, now: datetime, gateway_audience: str, mapping: ProviderMapping) -> None:
    """Raise `OrderError` unless this provider serves `order` now.

    1. It comes from the gateway that this provider belongs to (`gateway_audience`, its origin).
    2. It is addressed to this provider.
    3. It is neither expired nor from the future, give or take `CLOCK_TOLERANCE`, and not made to last.
    4. The dataset is mapped.
    5. Every field wanted is mapped, and named once.
    6. Subjects and filters are by fields that may be looked up.
    """
    # 1
    if order.gateway != gateway_audience:
        raise OrderError("The fetch order is of another gateway than the one this provider serves.")
    # 2
    try:
        member, dataset_id = parse_dataset_name(order.dataset)
    except ValueError:
        raise OrderError("The fetch order names no dataset.") from None
    if member != mapping.member:
        raise OrderError("The fetch order is addressed to another provider.")
    # 3
    check_times(order, now)
    # 4
    dataset = mapping.datasets.get(dataset_id)
    if dataset is None:
        raise OrderError(f"Dataset {dataset_id} is not mapped at this provider.", dataset=dataset_id)
    # 5
    if len(set(order.fields)) != len(order.fields):
        raise OrderError("The fetch order names a field twice.")
    _refuse_fields([name for name in order.fields if name not in dataset.columns], "are not mapped")
    # 6
    if bool(order.subject_field) != bool(order.subject_values):
        raise OrderError("The fetch order names a subject field without values, or values without a field.")
    conditions = [*order.filters, *([order.subject_field] if order.subject_field else [])]
    _refuse_fields([name for name in conditions if name not in dataset.lookup], "cannot be looked up")


def to_request(
    order: FetchOrder,
    *,
    page_size: int,
    page_bytes: int = DEFAULT_PAGE_BYTES,
    cursor: bytes | None = None,
    timeout_s: float | None = None,
) -> FetchRequest:
    """Return what a source is asked to fulfil `order`, which must have passed `check_order`."""
    return FetchRequest(
        fields=order.fields,
        subject_field=order.subject_field,
        subject_values=order.subject_values,
        filters=order.filters,
        page_size=page_size,
        page_bytes=page_bytes,
        cursor=cursor,
        timeout_s=timeout_s,
    )


def check_times(order: FetchOrder, now: datetime) -> None:
    """Raise `OrderError` unless `order` is neither expired, from the future, nor made to last."""
    try:
        made, expires = parse_rfc3339(order.time), parse_rfc3339(order.expires)
    except (ValueError, OverflowError):
        raise OrderError("The fetch order's times are not RFC 3339 with an offset.") from None
    if not timedelta(0) < expires - made <= MAX_LIFETIME:
        raise OrderError("The fetch order does not expire within an hour of its making.")
    if now > expires + CLOCK_TOLERANCE:
        raise OrderError("The fetch order has expired; compare the clocks of gateway and provider.")
    if now < made - CLOCK_TOLERANCE:
        raise OrderError("The fetch order is from the future; compare the clocks of gateway and provider.")


def _refuse_fields(names: list[str], fault: str) -> None:
    if names:
        raise OrderError(
            f"{len(names)} field(s) of the fetch order {fault} at this provider.", count=len(names)
        )
