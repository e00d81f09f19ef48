"""What is kept of an entry in a deployment's store of details, or why nothing is."""

from __future__ import annotations

from pathlib import Path

import msgspec

from gateway.audit.errors import EntryNotFoundError
from gateway.audit.store import AuditReader
from gateway.config import DetailsConfig, GatewayConfig
from gateway.details import (
    ApprovalError,
    BlindIndex,
    DetailsErasedError,
    DetailsMissingError,
    DetailsStore,
    open_details_store,
)
from gateway.details.errors import DetailsAlteredError
from gateway.details.opening import parse_entry
from gateway.errors import ConfigError
from gateway.evidence.canonical import DECODE_ERRORS
from gateway.model import Entry, EntryKind


def details_config_of(config: GatewayConfig) -> DetailsConfig:
    """Return the section [details]; raise `ConfigError` if there is none."""
    if config.details is None:
        raise ConfigError("This deployment keeps no details: the configuration has no section [details].")
    return config.details


def open_store(config: GatewayConfig) -> DetailsStore:
    """Open the store of details; raise `ConfigError` if there is none."""
    place = details_config_of(config).database
    if isinstance(place, Path) and not place.exists():
        raise ConfigError(
            f"The store of details {place} does not exist; the gateway makes it when it starts."
        )
    return open_details_store(place, config.log.origin)


def entry_with_details(leaf: bytes) -> Entry:
    """Return the entry in `leaf`; raise `DetailsMissingError` unless details are kept of it."""
    try:
        return parse_entry(leaf)
    except ApprovalError as error:
        raise DetailsMissingError(error.message) from error


def tokens_of(store: DetailsStore, index: BlindIndex, kind: str, value: str) -> list[bytes]:
    """Return the tokens of an identifier for every day of which anything is kept."""
    days = store.days()
    return [] if days is None else list(index.tokens(kind, *days, value))


def why_nothing_is_kept(
    store: DetailsStore, reader: AuditReader, entry: Entry
) -> DetailsErasedError | DetailsMissingError | DetailsAlteredError:
    """Return what to tell of details that are not there, as far as the log bears it out."""
    for erased in store.erased_of(entry.exchange):
        try:
            told = msgspec.json.decode(reader.entry(erased.entry).data, type=Entry)
        except (*DECODE_ERRORS, EntryNotFoundError):
            return _unborne()
        count, commitment = store.erasure(erased.entry) or (0, "")
        if (told.kind, told.detail.get("count"), told.commitments.get("erased")) != (
            EntryKind.DETAILS_ERASED,
            str(count),
            commitment,
        ):
            return _unborne()
        return DetailsErasedError(
            f"The details of this entry were erased on {told.time[:10]}, as entry {erased.entry} says.",
            entry=erased.entry,
            time=told.time,
        )
    return DetailsMissingError(
        "The details of this entry are not there, and no entry says that they were erased: they were lost, "
        "or removed behind the log's back."
    )


def _unborne() -> DetailsAlteredError:
    return DetailsAlteredError(
        "The store says that these details were erased, but the log does not bear that out."
    )
