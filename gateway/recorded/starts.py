"""The starts and stops that the log records: what changed since the last one, and who never stopped."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from gateway.audit.appender import Log
from gateway.audit.errors import OnceTakenError
from gateway.audit.store import Once
from gateway.clock import Clock, rfc3339
from gateway.evidence.canonical import encode_canonical
from gateway.model import ENTRY_VERSION, Entry, EntryKind
from gateway.recorded.deployment import DeploymentState, PartChange, changes_between
from gateway.recorded.entries import RecordedEntries, RecordedEntry

_STARTS_LOOKED_AT: Final = 200
"""The newest entries of each kind that a start looks at: more than any deployment has workers."""

_START_TOGETHER: Final = timedelta(hours=1)
"""Processes that start further apart than this see each other's entries."""


@dataclass(frozen=True, slots=True)
class Instance:
    """One serving process: how its start and its stop are told to belong together."""

    run: str
    """Random; the same for all processes of one `gateway serve`."""
    worker: str = "1"
    """Its place among them; a process that died is followed by another in the same place."""
    node: str = ""
    """Which of several nodes with one log; empty where the log has one only."""

    @classmethod
    def alone(cls) -> Instance:
        """Return a new one that has no others beside it."""
        return cls(new_run())

    @classmethod
    def of(cls, entry: Entry) -> Instance | None:
        """Return the process that an entry tells of; None if it is of a release that did not tell."""
        detail = entry.detail
        run = detail.get("run")
        return cls(run, detail.get("worker", ""), detail.get("node", "")) if run else None

    def detail(self) -> dict[str, str]:
        """Return it as part of an entry's detail."""
        told = {"run": self.run, "worker": self.worker, "node": self.node}
        return {name: value for name, value in told.items() if value}

    def is_over_for(self, own: Instance) -> bool:
        """Whether it cannot be running any more now that `own` starts: its place is taken."""
        return self.node == own.node and (self.run != own.run or self.worker == own.worker)


def new_run() -> str:
    """Return a name for one `gateway serve`."""
    return secrets.token_hex(8)


@dataclass(frozen=True, slots=True)
class Announcement:
    """An entry that a start makes on account of what was before it."""

    kind: EntryKind
    subject: str
    detail: dict[str, str]

    def once_key(self) -> bytes:
        """Return what several processes that start together claim, so that one of them says it."""
        content = [self.kind.value, self.subject, self.detail]
        return hashlib.sha256(b"sluicegate-announcement\x00" + encode_canonical(content)).digest()


def last_state(entries: RecordedEntries) -> tuple[RecordedEntry, DeploymentState] | None:
    """Return the newest `gateway.started` and the state it tells; None in a log without one."""
    newest = entries.newest(EntryKind.GATEWAY_STARTED, 1)
    return (newest[0], DeploymentState.of(newest[0].entry)) if newest else None


async def announce(
    log: Log, entries: RecordedEntries, now: DeploymentState, own: Instance, clock: Clock
) -> list[tuple[Announcement, int]]:
    """Append the entries that the start of `own`, in the state `now`, has to make; return them, with indices.

    Of several processes that start together one makes each. Raises `GatewayError`; then the process
    must not serve.
    """
    made = []
    for announcement in announcements(entries, now, own):
        entry = Entry(
            v=ENTRY_VERSION,
            kind=announcement.kind,
            time=rfc3339(clock()),
            subject=announcement.subject,
            detail=announcement.detail,
        )
        try:
            committed = await log.append(entry, Once(announcement.once_key(), clock() + _START_TOGETHER))
        except OnceTakenError:
            continue
        made.append((announcement, committed.index))
    return made


def announcements(entries: RecordedEntries, now: DeploymentState, own: Instance) -> list[Announcement]:
    """Return what the start of `own`, in the state `now`, has to tell first; oldest news first.

    Raises `LogMismatchError` and `LogUnavailableError`.
    """
    told = [
        Announcement(
            EntryKind.GATEWAY_CRASHED,
            started.name,
            {"started": started.entry.time, **instance.detail()},
        )
        for started, instance in crashed(entries, own)
    ]
    last = last_state(entries)
    if last is not None:
        started, before = last
        told += [_of_change(change, started.name) for change in changes_between(before, now)]
    return told


def crashed(entries: RecordedEntries, own: Instance) -> list[tuple[RecordedEntry, Instance]]:
    """Return the starts of processes that are over and of which neither stop nor crash is told."""
    ended = set(_instances(entries.newest(EntryKind.GATEWAY_STOPPED, _STARTS_LOOKED_AT)))
    accounted = {item.entry.subject for item in entries.newest(EntryKind.GATEWAY_CRASHED, _STARTS_LOOKED_AT)}
    found = []
    last_of_place: set[Instance] = set()
    for started in entries.newest(EntryKind.GATEWAY_STARTED, _STARTS_LOOKED_AT):
        instance = Instance.of(started.entry)
        if instance is None or not instance.is_over_for(own):
            continue
        # A place is stopped once, by the last that had it; those before it in the same run crashed.
        is_last = instance not in last_of_place
        last_of_place.add(instance)
        if (is_last and instance in ended) or started.name in accounted:
            continue
        found.append((started, instance))
    return found[::-1]


def _instances(items: Iterable[RecordedEntry]) -> Iterable[Instance]:
    return (instance for item in items if (instance := Instance.of(item.entry)) is not None)


def _of_change(change: PartChange, since: str) -> Announcement:
    return Announcement(change.kind, change.part, {**change.detail(), "since": since})
