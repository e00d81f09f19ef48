"""What the vault lets go by itself: records past retention, keys of contracts that ended, dead uploads."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, Protocol

import msgspec

from gateway.clock import Clock, parse_rfc3339, rfc3339
from gateway.exchange.screening import oldest_retained, read_date
from gateway.model import ENTRY_VERSION, Entry, EntryKind, parse_dataset_name
from gateway.model.contract import Contract, ContractState
from gateway.vault.keys import DataKeys
from gateway.vault.reading import OpenPage, VaultReader
from gateway.vault.store import Purged, VaultStore
from gateway.vault.tables import PLACES, Holding
from gateway.vault.writer import Undecided, VaultWriter, nothing_decided, purged_tokens, resealed

_ALIVE: Final = frozenset({ContractState.ACTIVE, ContractState.SUSPENDED})
_ENDED: Final = frozenset({ContractState.TERMINATED, ContractState.EXPIRED})

RecordEntry = Callable[[Entry], int]
"""Appends an entry to the log and returns its index once it is durable; raises `GatewayError`."""


class ContractSource(Protocol):
    """Where contracts stand."""

    def contracts(self) -> Sequence[Contract]:
        """Return every version of every contract; raise `GatewayError` if they cannot be read."""
        ...


@dataclass(frozen=True, slots=True)
class EndedContract:
    """A contract no version of which will be in force again."""

    name: str
    ended: datetime
    retention: timedelta
    """How long its records stay after that."""


@dataclass(frozen=True, slots=True)
class Purge:
    """Records of one holding that went, or would go."""

    holding: Holding
    records: int
    undated: int
    """Records that stay because their age cannot be told; they are never released."""
    entry: int | None = None
    """Index of the entry that says so; None of a look only."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What one upkeep did."""

    purged: tuple[Purge, ...]
    destroyed: tuple[Holding, ...]
    leftovers: int
    """Uploads removed that nobody ended."""


class Upkeep:
    """Lets go what is due. Blocks: run it on a thread. May be cut short anywhere, and repeated."""

    def __init__(
        self,
        store: VaultStore,
        keys: DataKeys,
        clock: Clock,
        record: RecordEntry,
        contracts: ContractSource | None = None,
        undecided: Undecided = nothing_decided,
    ) -> None:
        """Take the vault and the log; without `contracts` no key is destroyed.

        Only uploads of which `undecided` says so are removed.
        """
        self._store = store
        self._reader = VaultReader(store.engine, keys)
        self._keys = keys
        self._clock = clock
        self._record = record
        self._contracts = contracts
        self._undecided = undecided

    def run(self, staged_for: timedelta) -> Kept:
        """Do all of it. Raises `GatewayError`; what was done until then stands in the log."""
        writer = VaultWriter(self._store, self._keys, self._clock)
        leftovers = writer.remove_leftovers(staged_for, self._undecided)
        destroyed = [held for ended in self.due() for held in self.destroy(ended)]
        purged = [
            self.purge(holding)
            for holding in self._store.holdings()
            if holding.retention and holding.destroyed is None
        ]
        self._store.sweep()
        self._store.engine.scrub()
        return Kept(tuple(one for one in purged if one.records), tuple(destroyed), leftovers)

    def due(self) -> list[EndedContract]:
        """Return the contracts that ended so long ago that their keys are to be destroyed now."""
        if self._contracts is None:
            return []
        now = self._clock()
        return [
            one for one in ended_contracts(self._contracts.contracts()) if one.ended + one.retention <= now
        ]

    def destroy(self, ended: EndedContract) -> list[Holding]:
        """Destroy the data keys of a contract, once the log says so; return what nobody can read any more."""

        def record(holding: Holding) -> int:
            return self._record(
                self._entry(
                    EntryKind.VAULT_KEY_DESTROYED,
                    holding,
                    records=holding.alive,
                    detail={"ended": rfc3339(ended.ended), "retention_days": str(ended.retention.days)},
                )
            )

        return self._store.destroy_keys(ended.name, record, rfc3339(self._clock()))

    def purge(self, holding: Holding, *, only_look: bool = False) -> Purge:
        """Remove the records of a holding whose time of retention is over, once the log says so."""
        field, _, years = holding.retention.partition(":")
        oldest = oldest_retained(self._clock().astimezone(UTC).date(), int(years))
        counted = Purge(holding, 0, 0)
        for _, expired, undated in self._looked_at(holding, field, oldest):
            counted = replace(
                counted, records=counted.records + len(expired), undated=counted.undated + undated
            )
        if only_look or not counted.records:
            return counted
        entry = self._record(
            self._entry(
                EntryKind.RECORDS_PURGED,
                holding,
                records=counted.records,
                detail={"retention": holding.retention, "before": oldest.isoformat()},
            )
        )
        for page, expired, _ in self._looked_at(holding, field, oldest):
            if expired:
                self._rewrite(holding, page, expired)
        return replace(counted, entry=entry)

    def _looked_at(
        self, holding: Holding, field: str, oldest: date
    ) -> Iterator[tuple[OpenPage, list[int], int]]:
        """Yield each page of every version, the positions past retention, and how many have no date."""
        for number in self._reader.all_pages(holding):
            page = self._reader.open_page(holding, number)
            if page is None:
                continue
            expired, undated = [], 0
            for position, line in enumerate(page.lines):
                if not line:
                    continue
                record: dict[str, Any] = msgspec.json.decode(line)
                dated = read_date(record.get(field))
                undated += dated is None
                if dated is not None and dated < oldest:
                    expired.append(position)
            yield page, expired, undated

    def _rewrite(self, holding: Holding, page: OpenPage, expired: Sequence[int]) -> None:
        keys = self._keys.unwrap(self._store.keys(holding.number))
        gone = [
            Purged(page.number * PLACES + position, *purged_tokens(page.batch, page.lines[position], keys))
            for position in expired
        ]
        kept = list(page.lines)
        for position in expired:
            kept[position] = b""
        content = resealed(holding, page.batch, page.place, kept, keys)
        self._store.rewrite(holding.number, page.number, page.records, content, gone)

    def _entry(self, kind: EntryKind, holding: Holding, *, records: int, detail: dict[str, str]) -> Entry:
        return Entry(
            v=ENTRY_VERSION,
            kind=kind,
            time=rfc3339(self._clock()),
            provider=parse_dataset_name(holding.dataset)[0],
            subject=holding.dataset,
            contract=self._reader.identity(holding),
            records=records,
            detail={"contract": holding.contract, **detail},
        )


def ended_contracts(contracts: Sequence[Contract]) -> list[EndedContract]:
    """Return the contracts (by the name their versions share) that have ended for good, by name.

    A contract has while none of its versions is in force or suspended, and one was terminated or
    expired; the last of these says when, and for how long its records stay.
    """
    versions: dict[str, list[Contract]] = defaultdict(list)
    for contract in contracts:
        versions[contract.terms.contract].append(contract)
    found = []
    for name, of_name in sorted(versions.items()):
        ended = [one for one in of_name if one.state in _ENDED and one.ended is not None]
        if not ended or any(one.state in _ALIVE for one in of_name):
            continue
        last = max(ended, key=lambda one: parse_rfc3339(one.ended or ""))
        found.append(
            EndedContract(
                name, parse_rfc3339(last.ended or ""), timedelta(days=min(last.terms.retention_days, 365_000))
            )
        )
    return found
