"""Erasing details; the log says so first, and everything in it stays as it is."""

from __future__ import annotations

from datetime import date

from gateway.audit.sqlite_reader import SqliteReader
from gateway.clock import Clock, rfc3339, system_clock
from gateway.config import GatewayConfig
from gateway.deployment.changes import record_change
from gateway.deployment.kept import (
    details_config_of,
    entry_with_details,
    open_store,
    tokens_of,
    why_nothing_is_kept,
)
from gateway.deployment.reasons import check_reason
from gateway.details import BlindIndex, DetailsStore
from gateway.details.store import Selection
from gateway.identifiers import identifier_kind
from gateway.model import EntryKind


def erase_details(
    config: GatewayConfig,
    *,
    legal_basis: str,
    by: str,
    index: int | None = None,
    before: date | None = None,
    subject: tuple[str, str] | None = None,
    clock: Clock = system_clock,
) -> tuple[int, int | None]:
    """Erase the details of one entry, of all before a day, or of all that concern (kind, identifier).

    Returns how many, and the index of the entry that says so (None when there was nothing to erase).
    Entries, proofs and receipts stay as they are. Raises `DetailsMissingError` for an entry without.
    """
    check_reason(legal_basis, what="--legal-basis")
    check_reason(by, what="--by")
    details_config = details_config_of(config)
    recorded: list[int] = []

    def record(count: int, commitment: str) -> tuple[int, str]:
        at = clock()
        recorded.append(
            record_change(
                config,
                EntryKind.DETAILS_ERASED,
                "details" if index is None else f"entries/{index}",
                {
                    "legal_basis": legal_basis,
                    "by": by,
                    "count": str(count),
                    "before": "" if before is None else before.isoformat(),
                    "selected": "subject" if subject else "",
                },
                commitments={"erased": commitment},
                clock=lambda: at,
            )
        )
        return recorded[0], rfc3339(at)

    with open_store(config) as store:
        if subject is not None:
            kind, value = subject
            normal = identifier_kind(kind).normalise(value)
            tokens = tokens_of(store, BlindIndex.load(details_config.index_key), kind, normal)
            selection = Selection(tokens=tuple(tokens))
        elif before is not None:
            selection = Selection(before=before)
        else:
            assert index is not None
            selection = Selection(exchange=_exchange_to_erase(config, store, index))
        count = store.erase(selection, record)
    return count, recorded[0] if recorded else None


def _exchange_to_erase(config: GatewayConfig, store: DetailsStore, index: int) -> str:
    with SqliteReader(config.log.database) as reader:
        entry = entry_with_details(reader.entry(index).data)
        if not store.of_exchange(entry.exchange):
            raise why_nothing_is_kept(store, reader, entry)
    return entry.exchange
