"""The fetch order: what the gateway signs when it asks a provider for records.

The provider need not trust the network, nor the gateway's configuration: the order says for whom,
why and by which decision the records are fetched. Pure; the envelope is `gateway.evidence.dsse`'s
affair, and what a provider makes of an order `gateway.sources.order`'s.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from gateway.errors import GatewayError, Reason
from gateway.evidence.canonical import DECODE_ERRORS, encode_canonical
from gateway.evidence.dsse import payload_type

ORDER_TYPE: Final = payload_type("fetch-order")

MAX_ORDER_BYTES: Final = 1024 * 1024
MAX_SUBJECTS: Final = 10_000

FieldName = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
_Short = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
_Optional = Annotated[str, msgspec.Meta(max_length=200)]


class OrderError(GatewayError):
    """The provider does not serve this order."""

    reason = Reason.PROVIDER_REFUSED


class FetchOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The payload of a fetch order's envelope (`application/vnd.sluicegate.fetch-order.v1+json`)."""

    gateway: _Short
    """The origin of the gateway's log."""
    exchange: _Short
    """UUIDv7 of the exchange."""
    consumer: _Short
    """Resource name of the member that will receive what policy releases."""
    dataset: _Short
    """`members/{member}/datasets/{dataset}`; the member is the provider addressed."""
    fields: Annotated[tuple[FieldName, ...], msgspec.Meta(min_length=1, max_length=1_000)]
    subject_field: Annotated[str, msgspec.Meta(max_length=64)] = ""
    subject_values: Annotated[tuple[str, ...], msgspec.Meta(max_length=MAX_SUBJECTS)] = ()
    """Records of any of these; both empty: every record."""
    filters: Annotated[dict[FieldName, str], msgspec.Meta(max_length=100)] = {}
    """Field name to the exact value wanted; all must hold."""
    list_question: Literal["single", "joint"] | msgspec.UnsetType = msgspec.UNSET
    """Whether the subject is on a list is all that is asked: of this list, or of several for one answer. The
    provider then says in its delivery how many records the list has. Left out: records are asked for."""
    purpose: _Short
    legal_basis: _Optional = ""
    memorandum: _Optional = ""
    contract: _Short | msgspec.UnsetType = msgspec.UNSET
    """Identity of the contract under which the records may be given. Left out: under none."""
    decision: _Short
    """Id of the decision that allowed it."""
    bundle: _Short
    """`sha256:<hex>` of the policy bundle."""
    tier: _Short
    time: _Short
    """RFC 3339."""
    expires: _Short
    """RFC 3339."""


def encode_order(order: FetchOrder) -> bytes:
    """Return the canonical JSON (RFC 8785) of `order`, to be signed."""
    return encode_canonical(order)


def decode_order(payload: bytes) -> FetchOrder:
    """Return the order in `payload`; raise `OrderError` unless it is one to the letter."""
    if len(payload) > MAX_ORDER_BYTES:
        raise OrderError(f"The fetch order is larger than {MAX_ORDER_BYTES} bytes.")
    try:
        return msgspec.json.decode(payload, type=FetchOrder)
    except DECODE_ERRORS:
        raise OrderError(
            "The fetch order is malformed: a member is missing, unknown, or of the wrong form."
        ) from None
