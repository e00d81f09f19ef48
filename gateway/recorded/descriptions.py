"""Entries that tell what policy knows of each dataset, so that recorded decisions can be made again.

An entry `dataset.described` holds one piece of a description: its `subject` is the dataset, its detail the
`digest` of the whole, `piece` and `pieces` (from 1), and the `facts` themselves. Each stands in a log once.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Final

import msgspec

from gateway.audit.appender import Log
from gateway.audit.errors import LogMismatchError, OnceTakenError
from gateway.audit.filter import Field, Has
from gateway.audit.store import MAX_PAGE_SIZE, AuditReader, Once
from gateway.clock import Clock, rfc3339
from gateway.evidence.canonical import DECODE_ERRORS
from gateway.model import ENTRY_VERSION, Entry, EntryKind
from gateway.policy.recorded_input import Description, join_pieces

_FOR_EVER: Final = datetime(9999, 1, 1, tzinfo=UTC)

_decode: Final = msgspec.json.Decoder(Entry).decode


async def record_descriptions(
    log: Log, origin: str, descriptions: Iterable[Description], clock: Clock
) -> int:
    """Append those of `descriptions` that the log `origin` does not hold yet; return how many entries.

    Several processes may do so at the same time. Raises `LogUnavailableError`; then no exchange may be
    decided, as nobody could make its decision again.
    """
    entries = [entry for description in descriptions for entry in _entries(description, clock)]
    # Together: they go into the log in a few batches.
    outcomes = await asyncio.gather(
        *(log.append(entry, Once(_once_key(origin, entry), _FOR_EVER)) for entry in entries),
        return_exceptions=True,
    )
    made = 0
    for outcome in outcomes:
        if not isinstance(outcome, BaseException):
            made += 1
        elif not isinstance(outcome, OnceTakenError):
            raise outcome
    return made


class DescriptionRecorder:
    """Has a log hold the descriptions of one process's datasets, as they come."""

    def __init__(self, log: Log, origin: str, clock: Clock) -> None:
        self._log = log
        self._origin = origin
        self._clock = clock
        self._recorded: set[str] = set()

    async def record(self, descriptions: Iterable[Description]) -> None:
        """Append what the log does not hold yet; raise `LogUnavailableError`."""
        new = {one.digest: one for one in descriptions if one.digest not in self._recorded}
        await record_descriptions(self._log, self._origin, new.values(), self._clock)
        self._recorded |= new.keys()


def recorded_descriptions(readers: Iterable[AuditReader]) -> dict[str, str]:
    """Return the descriptions that the logs hold: canonical JSON of the facts by digest.

    A digest tells whether its text is the right one, so that no proof is needed. Raises
    `LogMismatchError` if an entry is none, and `LogUnavailableError`.
    """
    return join_pieces(piece for reader in readers for piece in _pieces(reader))


def _entries(description: Description, clock: Clock) -> Iterator[Entry]:
    pieces = description.pieces()
    for number, text in enumerate(pieces, start=1):
        yield Entry(
            v=ENTRY_VERSION,
            kind=EntryKind.DATASET_DESCRIBED,
            time=rfc3339(clock()),
            subject=description.name,
            detail={
                "digest": description.digest,
                "piece": str(number),
                "pieces": str(len(pieces)),
                "facts": text,
            },
        )


def _once_key(origin: str, entry: Entry) -> bytes:
    # With the origin: the log of a new year tells anew, and can be replayed without the one before.
    content = f"{origin}\n{entry.detail['digest']}\n{entry.detail['piece']}"
    return hashlib.sha256(b"sluicegate-description\x00" + content.encode()).digest()


def _pieces(reader: AuditReader) -> Iterator[tuple[str, int, int, str]]:
    wanted = Has(Field.KIND, EntryKind.DATASET_DESCRIBED.value)
    start, end = 0, reader.size()
    while page := reader.follow(wanted, MAX_PAGE_SIZE, start, end):
        for stored in page:
            try:
                detail = _decode(stored.data).detail
                yield detail["digest"], int(detail["piece"]), int(detail["pieces"]), detail["facts"]
            except (KeyError, ValueError, *DECODE_ERRORS) as error:
                raise LogMismatchError(
                    "An entry that describes a dataset has not the form of one; run `gateway audit fsck`.",
                    index=stored.index,
                ) from error
        start = page[-1].index + 1
