"""A time that several processes share and a test moves while they run."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from gateway.clock import system_clock

_BEFORE = """\
import datetime, pathlib
import gateway.clock
def _moved(now=gateway.clock.system_clock, file=pathlib.Path({path!r})):
    return now() + datetime.timedelta(seconds=int(file.read_text()))
gateway.clock.system_clock = _moved
"""


class SharedTime:
    """The machine's time, moved forward by what stands in a file.

    For the processes a clock jumps, which the log tells of (`clock.jumped`); nothing else is simulated.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.ahead = timedelta()
        self._write()

    def __call__(self) -> datetime:
        return system_clock() + self.ahead

    @property
    def before(self) -> str:
        """The statements with which a process starts that is to live in this time."""
        return _BEFORE.format(path=str(self._path))

    def advance(self, by: timedelta) -> None:
        """Move the time forward for everybody."""
        self.ahead += by
        self._write()

    def _write(self) -> None:
        written = self._path.with_suffix(".new")
        written.write_text(str(int(self.ahead.total_seconds())))
        written.replace(self._path)
