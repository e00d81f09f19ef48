"""Log lines, written from a thread of their own.

Writing a line to a pipe costs tens of microseconds, and blocks when nobody reads at the other end.
Neither may happen on the event loop.
"""

from __future__ import annotations

import io
import select
import threading
from queue import Empty, SimpleQueue
from time import sleep
from typing import Final, TextIO

_GATHER_S: Final = 0.02
"""How long lines are gathered before they are written together: under the time a reader notices."""

MAX_WAITING_LINES: Final = 100_000
"""Lines kept while nobody reads; beyond them `write` fails, and the logger counts the loss."""


class LineWriter(io.TextIOBase):
    """A text stream before another: `write` returns at once, a thread writes. Threads may share it."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._lines: SimpleQueue[str | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._write_all, name="log-lines", daemon=True)
        self._thread.start()

    def write(self, text: str) -> int:
        """Take `text`; raise `OSError` if too much is waiting, `ValueError` after `close`."""
        if self.closed:
            raise ValueError("the stream is closed")
        if self._lines.qsize() >= MAX_WAITING_LINES:
            raise OSError("nobody reads the log")
        self._lines.put(text)
        return len(text)

    def flush(self) -> None:
        """Do nothing: lines are written within a few hundredths of a second, and by `close`."""

    def isatty(self) -> bool:
        """Tell whether the lines end at a terminal."""
        return self._stream.isatty()

    def close(self) -> None:
        """Write what is waiting and end the thread; give up after five seconds if nobody reads."""
        if not self.closed:
            self._lines.put(None)
            self._thread.join(5)
        super().close()

    def _write_all(self) -> None:
        while (line := self._lines.get()) is not None:
            sleep(_GATHER_S)
            lines = [line]
            ended = False
            try:
                while (line := self._lines.get_nowait()) is not None:
                    lines.append(line)
                ended = True
            except Empty:
                pass
            try:
                self._stream.write("".join(lines))
                self._stream.flush()
            except (OSError, ValueError):
                # The reader went away: there is nobody left to tell.
                return
            if ended:
                return


class PolledLines(io.TextIOBase):
    """A text stream before another for a process without threads: a line that would block is refused."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream

    def write(self, text: str) -> int:
        """Write `text` at once, or raise `OSError`."""
        _, ready, _ = select.select((), (self._stream,), (), 0)
        if not ready:
            raise OSError("nobody reads the log")
        return self._stream.write(text)

    def flush(self) -> None:
        """Hand on what was written."""
        self._stream.flush()

    def isatty(self) -> bool:
        """Tell whether the lines end at a terminal."""
        return self._stream.isatty()
