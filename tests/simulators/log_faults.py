"""Faults of the audit log's file, made on the real file: none of them reaches into the code."""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

_HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def disk_full() -> Iterator[None]:
    """Let no file of this process grow: every write beyond 1 KiB fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def locked_by_another_process(database: Path) -> Iterator[None]:
    """Hold SQLite's write lock from another process."""
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(database)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield
        finally:
            process.communicate()


@contextmanager
def read_only(database: Path) -> Iterator[None]:
    """Put a read-only copy of the log in its place, as a restored backup or a remount would."""
    copy = database.with_suffix(".copy")
    shutil.copyfile(database, copy)
    copy.chmod(0o400)
    copy.replace(database)
    try:
        yield
    finally:
        # SQLite gives the files beside the database its mode.
        for path in database.parent.glob(f"{database.name}*"):
            path.chmod(0o600)


@contextmanager
def entries_refused(database: Path, kind: str) -> Iterator[None]:
    """Make the database fail exactly the one INSERT of an entry of `kind`."""
    with closing(sqlite3.connect(database, timeout=5)) as connection, connection:
        connection.execute(
            "CREATE TRIGGER refused BEFORE INSERT ON entry WHEN new.kind = "
            f"'{kind}' BEGIN SELECT RAISE(ABORT, 'refused by the test'); END"
        )
    try:
        yield
    finally:
        with closing(sqlite3.connect(database, timeout=5)) as connection, connection:
            connection.execute("DROP TRIGGER refused")


class _Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _Set(ctypes.Structure):
    _fields_ = [
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    ]


_VERSION_3 = 0x20080522
_READ_AND_WRITE_ANYTHING = 1 << 1 | 1 << 2
"""CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH (capabilities(7))."""


@contextmanager
def bound_by_permissions() -> Iterator[None]:
    """Make file modes hold for this thread and those it starts, also when the tests run as root."""
    if os.geteuid() != 0:
        yield
        return
    library = ctypes.CDLL(None, use_errno=True)
    header, sets = _Header(_VERSION_3, 0), (_Set * 2)()
    if library.capget(ctypes.byref(header), sets):
        raise OSError(ctypes.get_errno(), "capget")
    held = sets[0].effective
    sets[0].effective = held & ~_READ_AND_WRITE_ANYTHING
    if library.capset(ctypes.byref(header), sets):
        raise OSError(ctypes.get_errno(), "capset")
    try:
        yield
    finally:
        sets[0].effective = held
        if library.capset(ctypes.byref(header), sets):
            raise OSError(ctypes.get_errno(), "capset")
