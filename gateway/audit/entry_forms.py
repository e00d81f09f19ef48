"""Whether entries have the form and the times that entries must have.

Sound entries are told in bulk, since a log has millions of them: a chunk that holds together as a
whole needs no look at each. One that does not is examined entry by entry, to say what is wrong where.
Both ways apply the same rules; whatever the quick way does not understand goes the slow way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Annotated, Any, Final, Literal, cast

import msgspec

from gateway.audit.findings import Finding
from gateway.audit.store import ENTRY_TIME, MAX_ENTRY_BYTES
from gateway.evidence.canonical import DECODE_ERRORS, encode_canonical
from gateway.model.entry import ENTRY_VERSION, Entry, EntryKind

CLOCK_TOLERANCE: Final = timedelta(minutes=5)
"""By how much an entry's time may lie before that of an earlier one. Times are taken before entries
queue, so that neighbours may be out of order; more than this is a clock set back."""

_TIME: Final = b"0000-00-00T00:00:00.000000Z\n"
"""`ENTRY_TIME` and a line break, with 0 for any digit."""
_DIGITS_AS_ZEROS: Final = bytes.maketrans(b"123456789", b"000000000")
_FILLED: Final = msgspec.Meta(min_length=1)
_SECOND: Final = len("2026-03-01T12:00:00")


def _sorted_entry() -> type[Entry]:
    """Return `Entry` with its members declared in canonical order, which encodes three times as fast.

    Only the known version is read. A mapping without members, which the canonical form leaves out, is None
    when it is left out and refused when it is there: to make four of them for every entry takes a third of
    the time. It is kept out of cyclic garbage collection: an entry holds no reference to another object
    of ours.
    """
    fields = sorted(msgspec.structs.fields(Entry), key=lambda field: field.encode_name)
    definitions: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    for field in fields:
        if field.name == "v":
            definitions.append((field.name, Literal[ENTRY_VERSION]))
        elif field.required:
            definitions.append((field.name, field.type))
        elif field.default is msgspec.NODEFAULT:
            definitions.append((field.name, Annotated[field.type, _FILLED], None))
        else:
            definitions.append((field.name, field.type, field.default))
    made = msgspec.defstruct(
        "SortedEntry",
        definitions,
        frozen=True,
        kw_only=True,
        omit_defaults=True,
        forbid_unknown_fields=True,
        gc=False,
    )
    return cast("type[Entry]", made)


_decode_lines: Final = msgspec.json.Decoder(_sorted_entry()).decode_lines
# Sorts the members of dictionaries; those of structs stand in the order of their declaration.
_encode_lines: Final = msgspec.json.Encoder(order="deterministic").encode_lines
_decode: Final = msgspec.json.Decoder(Entry).decode


@dataclass(frozen=True, slots=True)
class ExaminedEntries:
    """A chunk of entries after examination."""

    entries: Sequence[Entry | None]
    """Each entry; None where its bytes are not one."""
    findings: Sequence[Finding]


class EntryForms:
    """Examines the entries of one log, in their order."""

    def __init__(self) -> None:
        self._latest: datetime | None = None

    def examine_together(self, chunk: Sequence[bytes]) -> Sequence[Entry] | None:
        """Return the next entries, at least one, if nothing is wrong with any; None if something may be.

        Then nothing is remembered of them, and `examine` tells what it is. In the entries returned, None
        stands for a mapping without members.
        """
        return self.examine_lines(b"\n".join(chunk), chunk)

    def examine_lines(self, lines: bytes, chunk: Sequence[bytes]) -> Sequence[Entry] | None:
        """Do as `examine_together`, given the same entries joined by line breaks as well."""
        sound = _decode_sound(lines, chunk)
        return sound if sound is not None and self._follow(list(map(attrgetter("time"), sound))) else None

    def examine(self, first: int, chunk: Sequence[bytes]) -> ExaminedEntries:
        """Examine the next entries one by one; the first has the index `first`."""
        entries: list[Entry | None] = []
        findings: list[Finding] = []
        for index, data in enumerate(chunk, first):
            entry = _decode_one(data)
            entries.append(entry)
            if entry is None:
                findings.append(Finding("entry", "its bytes are not an entry of the known form", index))
                continue
            findings.extend(_examine_form(index, data, entry))
            findings.extend(self._examine_time(index, entry))
        return ExaminedEntries(entries, findings)

    def _follow(self, times: Sequence[str]) -> bool:
        """Take note of the times of a chunk if nothing can be wrong with them; return whether it is so."""
        shape = "\n".join([*times, ""]).encode().translate(_DIGITS_AS_ZEROS)
        if shape != _TIME * len(times):
            return False
        try:
            for second in {time[:_SECOND] for time in times}:
                datetime.fromisoformat(second)
            # Of fixed width, so that the text sorts as the time does.
            earliest, latest = datetime.fromisoformat(min(times)), datetime.fromisoformat(max(times))
        except ValueError:
            return False
        if self._latest is not None:
            latest = max(latest, self._latest)
        if latest - earliest > CLOCK_TOLERANCE:
            return False
        self._latest = latest
        return True

    def _examine_time(self, index: int, entry: Entry) -> Iterator[Finding]:
        if ENTRY_TIME.fullmatch(entry.time) is None:
            yield Finding("entry", "its time is not in the one form for times", index)
            return
        try:
            time = datetime.fromisoformat(entry.time)
        except ValueError:
            yield Finding("entry", "its time does not exist", index)
            return
        # A jump of the clock that has an entry is no secret: time goes on from there.
        if self._latest is None or time > self._latest or entry.kind is EntryKind.CLOCK_JUMPED:
            self._latest = time
        elif self._latest - time > CLOCK_TOLERANCE:
            yield Finding("entry", "its time lies far before that of an earlier entry", index)


def _decode_sound(lines: bytes, chunk: Sequence[bytes]) -> list[Entry] | None:
    """Return the entries if all are in canonical form, of the known version and not too large."""
    try:
        entries = _decode_lines(lines)
    except DECODE_ERRORS:
        return None
    # A canonical entry has no line break: equal texts of equally many lines are equal line by line.
    if len(entries) != len(chunk) or _encode_lines(entries) != lines + b"\n":
        return None
    return entries if max(map(len, chunk)) <= MAX_ENTRY_BYTES else None


def _decode_one(data: bytes) -> Entry | None:
    try:
        return _decode(data)
    except DECODE_ERRORS:
        return None


def _examine_form(index: int, data: bytes, entry: Entry) -> Iterator[Finding]:
    if encode_canonical(entry) != data:
        yield Finding("entry", "its bytes are not in canonical form", index)
    if entry.v != ENTRY_VERSION or len(data) > MAX_ENTRY_BYTES:
        yield Finding("entry", "its version is unknown, or it is too large", index)
