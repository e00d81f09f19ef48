"""What policy knows of each dataset stands in the log once, whole, also of wide ones."""

from __future__ import annotations

import pytest

from gateway.audit.errors import LogMismatchError, LogUnavailableError, OnceTakenError
from gateway.audit.store import StoredEntry, prepare_entry
from gateway.clock import system_clock
from gateway.model import Entry, EntryKind
from gateway.policy.policy_input import DatasetFacts, FieldFacts
from gateway.policy.recorded_input import describe
from gateway.recorded.descriptions import record_descriptions, recorded_descriptions

ORIGIN = "audit.example.org/log/2026"


def described(name: str, fields: int):
    facts = {f"field_{at}": FieldFacts("public", None, "band:1000") for at in range(fields)}
    return describe(DatasetFacts(name, "public", "record", facts))


class MemoryLog:
    """Takes entries that fit, each once-key once; and reads them."""

    def __init__(self) -> None:
        self.entries: list[bytes] = []
        self.fault: Exception | None = None
        self._keys: set[bytes] = set()

    async def append(self, entry, once):
        if self.fault is not None:
            raise self.fault
        pending = prepare_entry(entry, once)
        if once.key in self._keys:
            raise OnceTakenError("taken")
        self._keys.add(once.key)
        self.entries.append(pending.data)

    def size(self):
        return len(self.entries)

    def follow(self, wanted, page_size, start, end):
        page = range(start, min(end, start + 2))
        return [StoredEntry(index, self.entries[index]) for index in page]


async def record(log, *descriptions, origin=ORIGIN):
    return await record_descriptions(log, origin, descriptions, system_clock)


async def test_descriptions_of_any_width_come_back():
    log = MemoryLog()
    told = [described("members/a/datasets/narrow", 3), described("members/a/datasets/wide", 900)]
    assert await record(log, *told) == len(log.entries) > 5
    assert recorded_descriptions([log]) == {each.digest: each.text for each in told}


async def test_each_is_recorded_once_in_a_log_and_anew_in_the_next():
    log = MemoryLog()
    one, other = described("members/a/datasets/x", 3), described("members/a/datasets/x", 4)
    assert await record(log, one) == 1
    assert await record(log, one) == 0
    assert await record(log, one, other) == 1
    assert await record(log, one, origin="audit.example.org/log/2027") == 1


async def test_a_log_that_takes_nothing_is_told():
    log = MemoryLog()
    log.fault = LogUnavailableError("the disk is full")
    with pytest.raises(LogUnavailableError):
        await record(log, described("members/a/datasets/x", 3))


def test_an_entry_that_is_no_description_is_told():
    log = MemoryLog()
    entry = Entry(
        v=1, kind=EntryKind.DATASET_DESCRIBED, time="2026-11-21T12:00:00.000000Z", detail={"digest": "x"}
    )
    log.entries.append(prepare_entry(entry).data)
    with pytest.raises(LogMismatchError):
        recorded_descriptions([log])
