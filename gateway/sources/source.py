"""The port behind ProviderService: a source of records."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Final, Protocol

import msgspec

from gateway.errors import GatewayError, Reason
from gateway.model import FieldType

MAX_PAGE_SIZE: Final = 10_000
"""Records in one page at most: what one thread holds in memory while it makes the page."""

DEFAULT_PAGE_BYTES: Final = 1024 * 1024
"""A page's records stay below it, so that the message stays well below gRPC's 4 MiB."""


class SourceError(GatewayError):
    """The holder's system cannot answer. The message never holds a value or text of the database."""

    reason = Reason.PROVIDER_UNAVAILABLE


class FetchRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What to read from one source."""

    fields: tuple[str, ...]
    """Fields wanted, in the order in which each record shall have them."""
    subject_field: str = ""
    subject_values: tuple[str, ...] = ()
    """Records of any of these values of `subject_field`; both empty: every record."""
    filters: dict[str, str] = {}
    """Field name to the exact value wanted; all must hold."""
    page_size: int = 1_000
    """Records in one page at most, 1 to `MAX_PAGE_SIZE`."""
    page_bytes: int = DEFAULT_PAGE_BYTES
    """Bytes of records in one page at most; a single record that is larger makes a page by itself."""
    cursor: bytes | None = None
    """`next_cursor` of the page before, for the same subjects and filters."""
    timeout_s: float | None = None
    """How long one statement may take; the mapping's own limit applies if it is shorter."""


class SourcePage(msgspec.Struct, frozen=True, kw_only=True):
    """Some records, ready to be signed and sent."""

    records: bytes
    """JSON Lines: one UTF-8 object per line with exactly the fields requested, null where absent."""
    count: int
    next_cursor: bytes | None
    """Opaque and sealed; None on the last page."""


EMPTY_PAGE: Final = SourcePage(records=b"", count=0, next_cursor=None)


class RecordSource(Protocol):
    """One dataset at the holder. Every method blocks and may be called from several threads at once."""

    @property
    def fields(self) -> Mapping[str, FieldType]:
        """The fields that can be asked for, with their types."""
        ...

    def fetch(self, request: FetchRequest) -> SourcePage:
        """Return one page; pages follow each other by `cursor` and stay stable while rows are added.

        Raises `SourceError` with reason `PROVIDER_UNAVAILABLE`, `PROVIDER_TIMEOUT`, `PROVIDER_SCHEMA`
        (a value that is not of its field's type), `PROVIDER_REFUSED` (a field that is not mapped, a
        look-up that is not allowed) or `PAGE_TOKEN_INVALID`.
        """
        ...

    def stream(self, request: FetchRequest) -> Generator[SourcePage, None, None]:
        """Return all pages from one consistent state of the data; at least one, maybe empty.

        The generator may be advanced from another thread each time, and must be closed when it is left
        early. Raises as `fetch` does.
        """
        ...

    def count_records(self) -> int:
        """Return how many records there are; raises `SourceError`."""
        ...

    def close(self) -> None:
        """Give back connections and memory."""
        ...
