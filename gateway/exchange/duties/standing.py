"""Whether what the ledger says is owed really is: the log tells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from gateway.audit.filter import Field, Has
from gateway.audit.store import MAX_PAGE_SIZE, AuditReader
from gateway.ledger import Debt, DebtKind
from gateway.model import Entry, EntryKind

_decode: Final = msgspec.json.Decoder(Entry).decode

_SETTLED_BY: Final = {
    DebtKind.NOTICE: frozenset({EntryKind.SUBJECT_NOTIFIED}),
    DebtKind.ACKNOWLEDGEMENT: frozenset({EntryKind.EXCHANGE_ACKNOWLEDGED, EntryKind.ACKNOWLEDGEMENT_WAIVED}),
}


def is_owed(reader: AuditReader, debt: Debt) -> bool:
    """Whether something left that `debt` comes of, and nothing has settled it since.

    Raises `LogUnavailableError`.
    """
    entries = [
        _decode(stored.data) for stored in reader.find(Has(Field.EXCHANGE, debt.exchange), MAX_PAGE_SIZE)
    ]
    kinds = {entry.kind for entry in entries}
    if kinds & _SETTLED_BY[debt.kind]:
        return False
    if debt.kind is DebtKind.NOTICE and _pages_left(entries):
        return True
    return EntryKind.EXCHANGE_RELEASED in kinds and EntryKind.EXCHANGE_FAILED not in kinds


def _pages_left(entries: Sequence[Entry]) -> bool:
    """Whether pages of a stream left, also of one that was cut."""
    return any(entry.kind is EntryKind.EXCHANGE_PAGE for entry in entries)
