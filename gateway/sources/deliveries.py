"""The provider's own record of what it delivered: a file to which it only ever adds.

Each line holds a statement that the provider signed, and for whom it was; never a record, an
identifier or what was asked for. With it a provider can compare what it delivered with what the
gateway's log says (`gateway audit reconcile`). See docs/formats/holdings.md.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Final, Self

import msgspec

from gateway.audit.holdings import DeliveryLine
from gateway.errors import ConfigError, GatewayError, Reason
from gateway.evidence import dsse

_CHUNK_BYTES: Final = 64 * 1024


class DeliveryFile:
    """A file of deliveries, of mode 0600. Safe from any thread.

    Opening raises `ConfigError`. A line that a crash cut off, whose page therefore never left, is
    taken away.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self._descriptor = os.open(path, flags, 0o600)
            if os.fstat(self._descriptor).st_mode & 0o077:
                os.close(self._descriptor)
                raise ConfigError(f"The file of deliveries {path} is open to others; run: chmod 600 {path}")
            os.ftruncate(self._descriptor, _end_of_last_line(self._descriptor))
        except OSError as error:
            raise ConfigError(f"The file of deliveries {path} cannot be used ({error.strerror}).") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, consumer: str, delivery: dsse.Envelope) -> None:
        """Add a delivery for `consumer`; when this returns, it is durable, and its page may leave.

        Raises `GatewayError` with `PROVIDER_REFUSED`: then the page must not leave.
        """
        line = msgspec.json.encode(DeliveryLine(v=1, consumer=consumer, delivery=delivery)) + b"\n"
        with self._lock:
            try:
                size = os.fstat(self._descriptor).st_size
                self._write(line, size)
            except OSError as error:
                raise GatewayError(
                    "The provider cannot record its deliveries, and delivers nothing until it can; its "
                    "operator must look at its disk.",
                    reason=Reason.PROVIDER_REFUSED,
                ) from error

    def close(self) -> None:
        """Close the file. May be called twice."""
        with self._lock:
            descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _write(self, line: bytes, size: int) -> None:
        """Write a whole line durably, or leave the file at `size`."""
        try:
            written = os.write(self._descriptor, line)
            os.fdatasync(self._descriptor)
        except OSError:
            os.ftruncate(self._descriptor, size)
            raise
        if written != len(line):
            os.ftruncate(self._descriptor, size)
            raise OSError("only a part of the line could be written")


def _end_of_last_line(descriptor: int) -> int:
    """Return the size of the file up to and with its last line feed."""
    end = os.fstat(descriptor).st_size
    while end:
        start = max(0, end - _CHUNK_BYTES)
        at = os.pread(descriptor, end - start, start).rfind(b"\n")
        if at >= 0:
            return start + at + 1
        end = start
    return 0
