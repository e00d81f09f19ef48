"""What a worker has last told of its counts, in memory that outlives it.

Without it a sum over workers would fall when one of them dies, and Prometheus would take the fall for
a restart from zero: it would count everything once more.
"""

from __future__ import annotations

import os
import struct
import zlib
from typing import Final

_HEAD: Final = struct.Struct("<QLL")
"""Sequence number from 1, length and CRC-32 of what follows."""

_HALF_BYTES: Final = 1 << 32
"""Where the second half begins. The file is sparse: only what is written takes memory."""

_ATTEMPTS: Final = 3


class LastTold:
    """A place in memory (memfd_create(2)) that processes forked after it was made share.

    One process at a time writes, any may read. Writing goes to two halves in turn, so that a writer
    killed half-way leaves what it wrote before.
    """

    def __init__(self) -> None:
        self._file = os.memfd_create("sluicegate-last-told")
        self._sequence = 0

    def keep(self, data: bytes) -> None:
        """Put `data` in the place of what was kept before; only for the process that writes."""
        if not self._sequence:
            self._sequence = self._newest()[0]
        self._sequence += 1
        head = _HEAD.pack(self._sequence, len(data), zlib.crc32(data))
        _write_all(self._file, head + data, self._sequence % 2 * _HALF_BYTES)

    def read(self) -> bytes:
        """Return what was kept last; nothing, if nothing was."""
        return self._newest()[1]

    def close(self) -> None:
        """Let go of the memory in this process. May be called again."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _newest(self) -> tuple[int, bytes]:
        halves = [self._half(0), self._half(1)]
        for _ in range(_ATTEMPTS - 1):
            # A half that is broken is being written, or its writer died: the first passes.
            if None not in halves:
                break
            halves = [self._half(0), self._half(1)]
        return max((half for half in halves if half is not None), default=(0, b""))

    def _half(self, number: int) -> tuple[int, bytes] | None:
        """Return sequence number and data of one half, (0, b"") if it is unused, None if it is broken."""
        start = number * _HALF_BYTES
        head = os.pread(self._file, _HEAD.size, start)
        if not any(head):
            return 0, b""
        if len(head) < _HEAD.size:
            return None
        sequence, length, checksum = _HEAD.unpack(head)
        data = os.pread(self._file, length, start + _HEAD.size)
        return (sequence, data) if len(data) == length and zlib.crc32(data) == checksum else None


def _write_all(file: int, data: bytes, start: int) -> None:
    while data:
        written = os.pwrite(file, data, start)
        data, start = data[written:], start + written
