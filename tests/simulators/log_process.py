"""A process that appends to a log: started, killed, and its acknowledgements held against the log."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from gateway.audit.sqlite_reader import SqliteReader
from gateway.audit.tree import leaf_hash

FAULTS = re.compile(r"failed LOG_UNAVAILABLE|healed")
"""What an appender says of a fault, beside its acknowledgements."""

Acknowledged = tuple[int, bytes]
"""Index and leaf hash of an entry."""

_APPENDER = Path(__file__).with_name("appender.py")


def start_appender(path: Path, mode: str, *options: str, under: Iterable[str] = ()) -> subprocess.Popen[str]:
    """Start an appender on the log at `path`, `under` a tracer if one is given."""
    return subprocess.Popen(
        [*under, sys.executable, str(_APPENDER), str(path), mode, *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def traced(path: Path, *options: str) -> list[str]:
    """Return the words before a command whose calls on the files of the log at `path` are traced."""
    files = [path, *(path.with_name(f"{path.name}{end}") for end in ("-wal", "-shm", ".lock")), path.parent]
    return ["strace", "-f", "-qq", *(word for file in files for word in ("-P", str(file))), *options]


def finish(process: subprocess.Popen[str]) -> list[str]:
    """Return the lines of a process that must end well."""
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return output.splitlines()


def acknowledged(lines: Iterable[str]) -> list[Acknowledged]:
    """Return the acknowledgements among `lines`."""
    words = (line.split() for line in lines if line[:1].isdigit())
    return [(int(index), bytes.fromhex(hashed)) for index, hashed in words]


def read_acknowledged(process: subprocess.Popen[str], count: int) -> list[Acknowledged]:
    """Wait until the process has acknowledged `count` entries, and return them."""
    assert process.stdout is not None
    return acknowledged([process.stdout.readline() for _ in range(count + 1)])


def rest_acknowledged(process: subprocess.Popen[str]) -> list[Acknowledged]:
    """Return what a process that was killed had said besides.

    The last line may be cut short by the kill: then nobody was told.
    """
    rest, _ = process.communicate(timeout=60)
    return acknowledged(line for line in rest.splitlines(keepends=True) if line.endswith("\n"))


def kill_after(process: subprocess.Popen[str], count: int) -> list[Acknowledged]:
    """Read `count` acknowledgements, kill the process at once, and return all it has given."""
    acks = read_acknowledged(process, count)
    process.send_signal(signal.SIGKILL)
    return acks + rest_acknowledged(process)


def lost(path: Path, acks: Iterable[Acknowledged]) -> list[Acknowledged]:
    """Return the acknowledged entries that the log does not hold."""
    with SqliteReader(path) as reader:
        size = reader.size()
        return [
            (index, hashed)
            for index, hashed in acks
            if index >= size or leaf_hash(reader.entry(index).data) != hashed
        ]
