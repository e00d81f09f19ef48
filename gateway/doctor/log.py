"""Looking at the audit log: its tables and triggers, its right edge or all of it, its clock and its disk."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path

from gateway.audit.anchor import Anchor
from gateway.audit.checkpoint import open_checkpoint
from gateway.audit.errors import EntryNotFoundError
from gateway.audit.fsck import Progress, fsck
from gateway.audit.guards import DiskLimits, DiskState, latest_time, used_ratio
from gateway.audit.note import Ed25519Verifier
from gateway.audit.prover import TreeHashes
from gateway.audit.sqlite_reader import SqliteReader
from gateway.audit.sqlite_schema import (
    check_schema,
    connect_for_reading,
    expected_objects,
)
from gateway.audit.tree import leaf_hash
from gateway.clock import parse_rfc3339
from gateway.config import LogConfig
from gateway.doctor.finding import Finding, State

_NEWEST_LOOKED_AT = 256
_RESTORE = "Keep the file as it is, run `gateway audit fsck`, and restore a sound copy."


def examine_schema(path: Path) -> Iterator[Finding]:
    """Look whether tables, indices and triggers are those of the file's version."""
    with closing(connect_for_reading(path)) as connection:
        check_schema(connection)
        there = set(connection.execute("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL"))
    expected = expected_objects()
    missing = sorted(f"{kind} {name}" for kind, name, _ in expected - there)
    surplus = sorted(f"{kind} {name}" for kind, name, _ in there - expected)
    if not missing and not surplus:
        yield Finding(
            "log tables", State.OK, "those of this version, with the triggers that keep rows as they are"
        )
        return
    told = [f"missing or changed: {', '.join(missing)}"] if missing else []
    told += [f"not ours: {', '.join(surplus)}"] if surplus else []
    yield Finding(
        "log tables",
        State.FAIL,
        "; ".join(told),
        "Somebody has changed the log's tables: run `gateway audit fsck`, and restore a copy that is whole.",
    )


def examine_edge(reader: SqliteReader, verifier: Ed25519Verifier) -> Iterator[Finding]:
    """Compare the checkpoint with the tree, and the newest entries with their leaf hashes."""
    checkpoint = open_checkpoint(reader.checkpoint(), [verifier], origin=verifier.name)
    size = checkpoint.size
    try:
        sound = TreeHashes(reader, size).frontier().root() == checkpoint.root
        for index in range(max(0, size - _NEWEST_LOOKED_AT), size):
            sound = sound and reader.tile(0, index // 256, index % 256 + 1)[-32:] == leaf_hash(
                reader.entry(index).data
            )
    except EntryNotFoundError:
        sound = False
    if sound:
        yield Finding("log", State.OK, f"{size} entries under a checkpoint of its key; --deep examines all")
    else:
        yield Finding("log", State.FAIL, "the entries do not fit the checkpoint", _RESTORE)


def examine_all(path: Path, verifier: Ed25519Verifier, progress: Progress) -> Iterator[Finding]:
    """Examine the whole log."""
    report = fsck(path, verifier, progress)
    if not report.findings:
        yield Finding(
            "log", State.OK, f"all {report.entries} entries and {report.checkpoints} checkpoints examined"
        )
    for finding in report.findings[:10]:
        at = "" if finding.index is None else f" {finding.index}"
        yield Finding("log", State.FAIL, f"{finding.place}{at}: {finding.what}", _RESTORE)


def examine_anchor(config: LogConfig, reader: SqliteReader, verifier: Ed25519Verifier) -> Iterator[Finding]:
    """Look whether the log goes on from its anchor, and whether it has one."""
    if config.anchor is None:
        yield Finding(
            "log anchor",
            State.OK,
            "none is configured (`log.anchor`): only witnesses and receipts notice an older copy of the log",
        )
        return
    anchored = Anchor(config.anchor, verifier).verify(reader)
    yield Finding("log anchor", State.OK, f"the log goes on from the {anchored.size} entries it saw")


def examine_clock(config: LogConfig, reader: SqliteReader, now: datetime) -> Iterator[Finding]:
    """Compare the clock with the newest entry."""
    latest = latest_time(reader, reader.size())
    behind_s = (parse_rfc3339(latest) - now).total_seconds() if latest else 0.0
    if behind_s > config.clock_tolerance_s:
        yield Finding(
            "clock",
            State.FAIL,
            f"lies {behind_s:.0f} seconds before the newest entry; nothing can be appended",
            "Set the clock; if the entry's time is the wrong one, run `gateway audit accept-clock`.",
        )
    elif behind_s > config.clock_jump_s:
        yield Finding(
            "clock",
            State.WARN,
            f"lies {behind_s:.0f} seconds before the newest entry",
            "Look after the clock.",
        )
    else:
        yield Finding("clock", State.OK, "not before the newest entry")


def examine_disk(config: LogConfig) -> Iterator[Finding]:
    """Look how full the log's disk is."""
    ratio = used_ratio(config.database.parent)
    limits = DiskLimits(config.database, config.disk_filling_ratio, config.disk_full_ratio)
    state = {DiskState.SPACIOUS: State.OK, DiskState.FILLING: State.WARN, DiskState.FULL: State.FAIL}[
        limits.state(ratio)
    ]
    more = {State.OK: "", State.WARN: "", State.FAIL: "; new exchanges are refused"}[state]
    advice = "" if state is State.OK else "Make room on the log's disk, or move the log to a larger one."
    yield Finding("log disk", state, f"{ratio:.0%} used{more}", advice)


def open_problem(error: sqlite3.Error) -> str:
    """Return what to tell of a file that SQLite cannot read."""
    return f"SQLite cannot read the file ({type(error).__name__})"
