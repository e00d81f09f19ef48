"""A `gateway` command as operators run it: a process, and the events it tells of."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from typing import Any

_ROOT = Path(__file__).parents[2]
_PROGRAM = "from gateway.cli.main import run; run()"


class Command:
    """A running `gateway` command, and the events it has told of."""

    def __init__(self, *words: object, before: str = "") -> None:
        """Run the command; `before` is a statement that switches a defence off, for a control."""
        self.process = start_command(*words, before=before)
        self.events: list[dict[str, Any]] = []
        self._new: Queue[dict[str, Any] | None] = Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._new.put(json.loads(line))
        self._new.put(None)

    def wait_for(self, name: str) -> dict[str, Any]:
        """Return the next event of this name."""
        while (event := self._new.get(timeout=60)) is not None:
            self.events.append(event)
            if event["event"] == name:
                return event
        assert self.process.stderr is not None
        raise AssertionError(self.process.stderr.read())

    def told(self) -> list[dict[str, Any]]:
        """Return the events so far."""
        while not self._new.empty():
            if (event := self._new.get()) is not None:
                self.events.append(event)
        return self.events

    def below(self) -> list[int]:
        """Return the processes it has started: the log process first."""
        pid = self.process.pid
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def stop(self) -> int:
        self.process.terminate()
        self.process.wait(30)
        return self.process.returncode


def start_command(*words: object, before: str = "") -> subprocess.Popen[str]:
    """Start a command; `before` is a statement that switches a defence off, for a control."""
    settings = {name: value for name, value in os.environ.items() if not name.startswith("SLUICEGATE_")}
    return subprocess.Popen(
        [sys.executable, "-c", f"{before}\n{_PROGRAM}", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**settings, "PYTHONPATH": str(_ROOT)},
    )


@contextmanager
def running(*words: object, before: str = "") -> Iterator[Command]:
    """Yield a running command; it is killed in the end, if it still runs."""
    command = Command(*words, before=before)
    try:
        yield command
    finally:
        command.process.kill()
        command.process.communicate()


def run_command(*words: object, text: str = "", before: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command to its end, with `text` on its standard input; return what it printed, and its code."""
    settings = {name: value for name, value in os.environ.items() if not name.startswith("SLUICEGATE_")}
    return subprocess.run(
        [sys.executable, "-c", f"{before}\n{_PROGRAM}", *map(str, words)],
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**settings, "PYTHONPATH": str(_ROOT)},
    )
