"""Who serves from a log: every gateway process holds a shared lock, a rotation needs them all gone.

The lock is a file beside the database (`flock`, so that it is free again when its holder dies,
however it dies). It has nothing to do with the lock of a write transaction.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.audit.errors import LogUnavailableError
from gateway.errors import ConfigError


@contextmanager
def serving(database: Path) -> Iterator[None]:
    """Hold the log as one of the processes that serve from it.

    Raises `LogUnavailableError` while the log is being closed.
    """
    with _locked(database, fcntl.LOCK_SH) as held:
        if not held:
            raise LogUnavailableError(
                "The audit log is being closed (`gateway audit rotate`); wait for that to end, and start "
                "with the next log."
            )
        yield


@contextmanager
def vacated(database: Path) -> Iterator[None]:
    """Hold the log as nobody serves from it; raise `ConfigError` if a gateway does."""
    with _locked(database, fcntl.LOCK_EX) as held:
        if not held:
            raise ConfigError(
                "A gateway is running on this audit log, or another rotation is under way: stop it first "
                "(all of its workers), then close the log."
            )
        yield


@contextmanager
def _locked(database: Path, operation: int) -> Iterator[bool]:
    """Yield whether the lock was free."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        descriptor = os.open(f"{database}.serving", flags, 0o600)
    except OSError as error:
        raise LogUnavailableError(
            "The file beside the audit log that tells who serves from it cannot be opened; check the folder "
            "and its permissions."
        ) from error
    try:
        try:
            fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
        except BlockingIOError:
            held = False
        else:
            held = True
        yield held
    finally:
        os.close(descriptor)
