"""Page tokens of a search: the index that the next page begins below, bound to the filter.

The log only grows, and pages run from the newest entry down: what arrives in between never moves a
page. A token is no secret and gives no right; who may read what is decided with every page.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Final

from gateway.audit.filter import Filter, format_filter
from gateway.errors import GatewayError, Reason

_VERSION: Final = b"\x01"
_INDEX_BYTES: Final = 8
_BINDING_BYTES: Final = 16
_TOKEN_BYTES: Final = len(_VERSION) + _INDEX_BYTES + _BINDING_BYTES


def page_token(wanted: Filter, before: int) -> str:
    """Return the token for the entries of `wanted` with an index below `before`."""
    return (
        base64.urlsafe_b64encode(_VERSION + before.to_bytes(_INDEX_BYTES) + _binding(wanted))
        .decode()
        .rstrip("=")
    )


def open_page_token(token: str, wanted: Filter) -> int:
    """Return the index in `token`; raise `GatewayError` (`PAGE_TOKEN_INVALID`) if it is of another filter."""
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise _invalid() from error
    position = raw[len(_VERSION) : -_BINDING_BYTES]
    if len(raw) != _TOKEN_BYTES or raw != _VERSION + position + _binding(wanted):
        raise _invalid()
    return int.from_bytes(position)


def _binding(wanted: Filter) -> bytes:
    return hashlib.sha256(format_filter(wanted).encode()).digest()[:_BINDING_BYTES]


def _invalid() -> GatewayError:
    return GatewayError(
        "The page token was not made for this filter; start again without one.",
        reason=Reason.PAGE_TOKEN_INVALID,
    )
