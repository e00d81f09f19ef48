"""Reading administrative entries: few among many, each proven to stand in the log."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import msgspec

from gateway.audit.checkpoint import Checkpoint, open_checkpoint
from gateway.audit.errors import EntryNotFoundError, LogMismatchError, NoteError, ProofError
from gateway.audit.note import Ed25519Verifier
from gateway.audit.proof import verify_inclusion
from gateway.audit.search import EntryFilter
from gateway.audit.store import AuditReader, StoredEntry
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


class RecordedEntries:
    """The log's entries by kind. Blocks; safe from any thread.

    With the log's verifier, every entry handed out is proven to stand under a checkpoint that the log's
    key has signed: rows that somebody has written into the log's file do not count.
    """

    def __init__(self, reader: AuditReader, verifier: Ed25519Verifier) -> None:
        self._reader = reader
        self._verifier = verifier

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
        """Return up to `count` entries of `kind`, newest first; raises as `of_kinds` does."""
        checkpoint = self._checkpoint()
        entries = []
        for stored in self._newest_first(kind, checkpoint.size):
            entries.append(self._proven(stored, checkpoint))
            if len(entries) == count:
                break
        return entries

    def _checkpoint(self) -> Checkpoint:
        try:
            return open_checkpoint(self._reader.checkpoint(), [self._verifier], origin=self._verifier.name)
        except NoteError as error:
            raise LogMismatchError(
                "The audit log's checkpoint is not signed by the log's key; run `gateway audit fsck`."
            ) from error

    def _newest_first(self, kind: EntryKind, before: int) -> Iterator[StoredEntry]:
        wanted = EntryFilter(kind=kind)
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
        return RecordedEntry(stored.index, entry)


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
