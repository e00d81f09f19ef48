"""Reading administrative entries: few among many, each proven to stand in the log."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from typing import Final

import msgspec

from gateway.audit.checkpoint import Checkpoint, open_checkpoint
from gateway.audit.errors import EntryNotFoundError, LogMismatchError, NoteError, ProofError
from gateway.audit.filter import Field, Has
from gateway.audit.note import Ed25519Verifier
from gateway.audit.proof import verify_inclusion
from gateway.audit.store import AuditReader, StoredEntry
from gateway.audit.stores import Place, open_reader
from gateway.audit.tree import leaf_hash
from gateway.evidence.canonical import DECODE_ERRORS
from gateway.model import Entry, EntryKind

_PAGE_ENTRIES: Final = 200

_decoder: Final = msgspec.json.Decoder(Entry)


@dataclass(frozen=True, slots=True)
class RecordedEntry:
    """An entry that the log holds."""

    index: int
    entry: Entry
    log: str = ""
    """Origin of the closed log that holds it; empty for the one that is open."""

    @property
    def name(self) -> str:
        """Its name, such as `entries/17`."""
        return f"{self.log}/entries/{self.index}" if self.log else f"entries/{self.index}"


class RecordedEntries:
    """The log's entries by kind. Blocks; safe from any thread.

    With the log's verifier, every entry handed out is proven to stand under a checkpoint that the log's
    key has signed: rows that somebody has written into the log's file do not count.
    """

    def __init__(
        self,
        reader: AuditReader,
        verifier: Ed25519Verifier,
        *,
        older: RecordedEntries | None = None,
        is_closed: bool = False,
    ) -> None:
        """Take a log, and what is recorded in the closed one that it goes on from."""
        self._reader = reader
        self._verifier = verifier
        self._log = verifier.name if is_closed else ""
        self.older = older

    def of_kinds(self, kinds: Iterable[EntryKind], *, since: int = 0) -> tuple[int, list[RecordedEntry]]:
        """Return (tree size, entries of `kinds` from index `since` on, oldest first).

        Raises `LogMismatchError` if an entry is not under the log's checkpoint, and `LogUnavailableError`.
        """
        checkpoint = self._checkpoint()
        found = [
            stored for kind in kinds for stored in _since(since, self._newest_first(kind, checkpoint.size))
        ]
        entries = [self._proven(stored, checkpoint) for stored in found]
        return checkpoint.size, sorted(entries, key=lambda item: item.index)

    def newest(self, kind: EntryKind, count: int) -> list[RecordedEntry]:
        """Return up to `count` entries of `kind`, newest first, those of closed logs too.

        Raises as `of_kinds` does.
        """
        checkpoint = self._checkpoint()
        newest = islice(self._newest_first(kind, checkpoint.size), count)
        entries = [self._proven(stored, checkpoint) for stored in newest]
        if len(entries) < count and self.older is not None:
            entries += self.older.newest(kind, count - len(entries))
        return entries

    def _checkpoint(self) -> Checkpoint:
        try:
            return open_checkpoint(self._reader.checkpoint(), [self._verifier], origin=self._verifier.name)
        except NoteError as error:
            raise LogMismatchError(
                "The audit log's checkpoint is not signed by the log's key; run `gateway audit fsck`."
            ) from error

    def _newest_first(self, kind: EntryKind, before: int) -> Iterator[StoredEntry]:
        wanted = Has(Field.KIND, kind.value)
        while page := self._reader.find(wanted, _PAGE_ENTRIES, before):
            yield from page
            before = page[-1].index

    def _proven(self, stored: StoredEntry, checkpoint: Checkpoint) -> RecordedEntry:
        try:
            hashes = self._reader.inclusion_proof(stored.index, checkpoint.size)
            verify_inclusion(leaf_hash(stored.data), stored.index, checkpoint.size, hashes, checkpoint.root)
            entry = _decoder.decode(stored.data)
        except (ProofError, EntryNotFoundError, *DECODE_ERRORS) as error:
            raise _not_in_the_log(stored.index) from error
        return RecordedEntry(stored.index, entry, self._log)


def recorded_entries(
    reader: AuditReader, verifier: Ed25519Verifier, previous: Sequence[Place], opened: ExitStack
) -> RecordedEntries:
    """Return what is recorded in the log of `reader`, and in the closed ones before it.

    A rotation keeps the key, so `verifier` tells it for all. All are closed with `opened`. Raises
    `LogUnavailableError` if one cannot be opened.
    """
    older: RecordedEntries | None = None
    for place in previous:
        closed = opened.enter_context(open_reader(place))
        origin, _ = closed.identity()
        older = RecordedEntries(closed, Ed25519Verifier(origin, verifier.public), older=older, is_closed=True)
    return RecordedEntries(reader, verifier, older=older)


def _since(first: int, newest_first: Iterator[StoredEntry]) -> Iterator[StoredEntry]:
    for stored in newest_first:
        if stored.index < first:
            return
        yield stored


def _not_in_the_log(index: int) -> LogMismatchError:
    return LogMismatchError(
        f"Entry {index} of the audit log's file is not the one that the log's checkpoint covers; "
        "run `gateway audit fsck`.",
        index=index,
    )
