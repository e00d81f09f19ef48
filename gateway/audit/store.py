"""The ports of the log's store: what the writer needs, what readers need, and the values they pass."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol, Self

from gateway.audit.blocks import BlockSummary, IndexRow
from gateway.audit.errors import EntryTooLargeError
from gateway.audit.filter import Filter
from gateway.audit.note import Ed25519Verifier
from gateway.audit.numbering import AWAITED, MAX_NUMBER_DIGITS, Pair, fill_number
from gateway.audit.prover import HashReader
from gateway.audit.tree import Batch, leaf_hash
from gateway.errors import GatewayError
from gateway.evidence.canonical import encode_canonical
from gateway.model.entry import Entry, EntryKind

MAX_ENTRY_BYTES: Final = 16 * 1024
"""The size up to which c2sp.org/tlog-tiles asks every reader to follow."""

MAX_PAGE_SIZE: Final = 1000

SCANNED_AT_ONCE: Final = 4096
"""Entries that a scan reads with one statement, some 5 MiB. Fewer at a time cost more: between two statements
a thread that counts beside the reading has the interpreter to itself for milliseconds. More cost more, too:
what is decoded of them does not fit the processor's cache."""

ENTRY_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII)
"""The one form of an entry's time; of fixed width, so that the text sorts as the time does."""

SignHead = Callable[[int, bytes], str]
"""Takes size and root of the new tree; returns the signed checkpoint."""


@dataclass(frozen=True, slots=True)
class Once:
    """A claim that may be made once: the second append that carries `key` before `until` fails."""

    key: bytes
    until: datetime


@dataclass(frozen=True, slots=True)
class PendingEntry:
    """An entry ready to be appended."""

    data: bytes
    """Its canonical form: the leaf, once a number that it awaits is filled in."""
    leaf_hash: bytes
    row: IndexRow
    once: Once | None
    sequence: int | None = None
    """As in the entry: `AWAITED` if the store is to give it a number, and the number once it has."""

    @property
    def pair(self) -> Pair:
        """The two between whom it is numbered."""
        return self.row.consumer, self.row.provider

    def numbered(self, number: int) -> PendingEntry:
        """Return it with the number that it awaits."""
        data = fill_number(self.data, number)
        return PendingEntry(data, leaf_hash(data), self.row, self.once, number)


def prepare_entry(entry: Entry, once: Once | None = None) -> PendingEntry:
    """Encode and hash `entry`.

    Raises `EntryTooLargeError` beyond `MAX_ENTRY_BYTES`, and `GatewayError` if it has no canonical
    form, its time is not RFC 3339 in UTC with microseconds, or it brings a number of its own.
    """
    try:
        data = encode_canonical(entry)
    except (TypeError, ValueError) as error:
        raise GatewayError("The entry has no canonical form; its text must be valid Unicode.") from error
    if len(data) > MAX_ENTRY_BYTES - (MAX_NUMBER_DIGITS if entry.sequence is not None else 0):
        raise EntryTooLargeError(
            f"The audit entry would exceed {MAX_ENTRY_BYTES} bytes; ask for fewer fields at a time.",
            limit=MAX_ENTRY_BYTES,
        )
    if ENTRY_TIME.fullmatch(entry.time) is None:
        raise GatewayError("The time of an entry is RFC 3339 in UTC with microseconds.")
    if entry.sequence is not None and (
        entry.sequence != AWAITED or entry.kind is not EntryKind.EXCHANGE_RELEASED
    ):
        raise GatewayError("The log itself numbers releases; an entry for it brings no number.")
    return PendingEntry(data, leaf_hash(data), IndexRow.of(entry), once, entry.sequence)


def awaited_pairs(pending: Iterable[PendingEntry]) -> frozenset[Pair]:
    """Return the pairs of which an entry awaits its number."""
    return frozenset(item.pair for item in pending if item.sequence == AWAITED)


def give_numbers(
    pending: Sequence[PendingEntry], last: Callable[[Pair], int]
) -> tuple[Sequence[PendingEntry], dict[Pair, int]]:
    """Return the entries with the numbers that they await, and the last number given to each pair.

    `last` tells the last number of a pair in the log so far, 0 for none. A store calls this within
    its transaction, after it has left out the entries whose once-key was taken.
    """
    given: dict[Pair, int] = {}
    entries = list(pending)
    for at, item in enumerate(entries):
        if item.sequence == AWAITED:
            pair = item.pair
            number = (given[pair] if pair in given else last(pair)) + 1
            given[pair] = number
            entries[at] = item.numbered(number)
    return entries, given


@dataclass(frozen=True, slots=True)
class LogIdentity:
    """Which log a store must hold: its origin, and the key that signs its checkpoints."""

    origin: str
    verifier: Ed25519Verifier


@dataclass(frozen=True, slots=True)
class Appended:
    """The outcome of one committed transaction."""

    batch: Batch | None
    """None if every entry was refused."""
    note: str
    """The checkpoint that covers the batch."""
    refused: frozenset[int]
    """Positions, within what was given, of the entries whose once-key was taken."""
    entries: Sequence[PendingEntry] = ()
    """The entries of the batch, as they stand in the log: with their numbers."""


class AuditStore(Protocol):
    """The writing side. One thread at a time; several processes may write to one store.

    Every method raises `LogUnavailableError` if the store cannot do it now, having changed nothing,
    and `LogMismatchError` if what is stored is not the log it must be.
    """

    def open(self, identity: LogIdentity, sign: SignHead) -> None:
        """Open the store; make the log if there is none; verify its head if there is."""
        ...

    def append(self, pending: Sequence[PendingEntry], sign: SignHead, now: datetime) -> Appended:
        """Append entries in one transaction; when it returns, they are durable.

        Within it, entries that await a number get the next of their pair (`give_numbers`).
        """
        ...

    def probe(self) -> None:
        """Prove with a durable write that the store can append; repair what a fault left behind."""
        ...

    def maintain(self) -> None:
        """Do the housekeeping that is due; called between appends."""
        ...

    def close(self) -> None:
        """Release everything. May be called twice."""
        ...


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """An entry as stored. `data` is the leaf, byte for byte."""

    index: int
    data: bytes


@dataclass(frozen=True, slots=True)
class EntryPage:
    """A page of a search, newest first."""

    entries: Sequence[StoredEntry]
    """Possibly fewer than there are, or none, when the search took long enough."""
    before: int | None
    """The next page has the entries with an index below this; None if nothing is left."""


@dataclass(frozen=True, slots=True)
class ScannedEntries:
    """Entries that were read together: one object for all of them, as a scan may find a million."""

    indices: Sequence[int]
    lines: bytes
    """Their leaves in the same order, with a newline between (no leaf has one)."""


class AuditReader(HashReader, Protocol):
    """The reading side; safe from any thread, beside a writer.

    Every method raises `LogUnavailableError` if the store cannot be read, and `EntryNotFoundError`
    for what the log does not hold.
    """

    def identity(self) -> tuple[str, str]:
        """Return the log's origin and verifier key, as the store states them."""
        ...

    def size(self) -> int:
        """Return the number of entries."""
        ...

    def entry(self, index: int) -> StoredEntry:
        """Return one entry."""
        ...

    def entries(self, start: int, end: int) -> list[bytes]:
        """Return the leaves at the indices from `start` to before `end`, at most `MAX_PAGE_SIZE`."""
        ...

    def find(self, wanted: Filter, page_size: int, before: int | None = None) -> list[StoredEntry]:
        """Return the newest entries of `wanted` with an index below `before`, newest first."""
        ...

    def page(self, wanted: Filter, page_size: int, before: int | None = None) -> EntryPage:
        """Return what `find` does, but no more than is found within a bounded amount of work."""
        ...

    def follow(self, wanted: Filter, page_size: int, start: int, end: int) -> list[StoredEntry]:
        """Return the oldest entries of `wanted` from `start` to before `end`, oldest first."""
        ...

    def scan(self, wanted: Filter, start: int, end: int) -> Iterator[ScannedEntries]:
        """Yield all entries of `wanted` from `start` to before `end`, oldest first, many together.

        For counting: at most `SCANNED_AT_ONCE` come together. All are found in one committed state; nothing
        is held while the caller has the turn, as what a log holds never changes.
        """
        ...

    def gather(self, indices: Sequence[int]) -> Iterator[ScannedEntries]:
        """Yield the entries at `indices`, in their order, as many together."""
        ...

    def summaries(self, prefixes: Sequence[str], first: int, end: int) -> Sequence[BlockSummary]:
        """Return the summaries of the full blocks from number `first` to before `end`.

        They have the terms that begin with one of `prefixes`. Raises `LogMismatchError` if one is missing.
        """
        ...

    def checkpoint(self) -> str:
        """Return the latest checkpoint as a signed note."""
        ...

    def checkpoint_at(self, size: int) -> str:
        """Return the checkpoint of exactly `size` entries; each size a commit ended at has one."""
        ...

    def inclusion_proof(self, index: int, size: int) -> tuple[bytes, ...]:
        """Return the proof of entry `index` in the tree of `size`, from the leaf's sibling up."""
        ...

    def consistency_proof(self, old_size: int, new_size: int) -> tuple[bytes, ...]:
        """Return the proof that the tree of `new_size` extends that of `old_size`."""
        ...

    def close(self) -> None:
        """Release everything; reads under way end by themselves. May be called twice."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...
