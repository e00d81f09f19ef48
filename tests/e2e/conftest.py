"""The demonstration as a process of its own, as a person starts it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

GATEWAY = Path(sys.executable).with_name("gateway")
PROCESS = re.compile(r"^ +(gateway|registry's provider|tax office's provider) +[0-9.:]+ +([0-9]+)$")


@dataclass
class RunningDemo:
    """A demonstration under way. Its standard output is read line by line."""

    process: subprocess.Popen[str]

    def read_processes(self) -> dict[str, int]:
        """Read on until the three processes have been told of; return their ids by name."""
        found: dict[str, int] = {}
        while len(found) < 3:
            match = PROCESS.match(self.read_line())
            if match is not None:
                found[match[1]] = int(match[2])
        return found

    def read_until(self, beginning: str) -> list[str]:
        """Return the lines up to the first that begins with `beginning`."""
        lines = [self.read_line()]
        while not lines[-1].startswith(beginning):
            lines.append(self.read_line())
        return lines

    def read_line(self) -> str:
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"The demonstration ended before its time:\n{self.process.stderr.read()}")
        return line.rstrip("\n")

    def left(self) -> list[int]:
        """Return the ids of its processes that run now, itself included."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if fields[0] != "Z" and int(fields[3]) == self.process.pid:
                found.append(int(stat.parent.name))
        return found

    def finish(self) -> tuple[int, str, str]:
        """Wait for its end; return the exit code and the rest of what it has printed."""
        out, err = self.process.communicate(timeout=90)
        return self.process.returncode, out, err


StartDemo = Callable[..., RunningDemo]


@pytest.fixture(scope="session")
def start_demo() -> StartDemo:
    """Return the function that starts `gateway demo` in a session of its own, with an empty home."""

    def start(directory: Path, *options: str, **environment: str) -> RunningDemo:
        own = {"PATH": os.environ["PATH"], "HOME": str(directory), "TMPDIR": str(directory)}
        return RunningDemo(
            subprocess.Popen(
                [GATEWAY, "demo", "--companies", "300", *options],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                cwd=directory,
                env=own | environment,
                start_new_session=True,
            )
        )

    return start


@dataclass(frozen=True)
class KeptDemo:
    """A demonstration that has told its story and keeps running."""

    directory: Path
    told: str

    def member_folder(self, to: Path, member: str = "harbour-bank") -> Path:
        """Return a copy of what a member was handed, for one reader to work in."""
        return Path(shutil.copytree(self.directory / "members" / member, to))


@pytest.fixture(scope="session")
def kept_demo(tmp_path_factory: pytest.TempPathFactory, start_demo: StartDemo) -> Iterator[KeptDemo]:
    demo = start_demo(tmp_path_factory.mktemp("kept"), "--keep")
    try:
        told = "\n".join(demo.read_until("demo: "))
        environment = re.search(r"^\. (\S+)/env\.sh$", told, re.MULTILINE)
        assert environment is not None
        yield KeptDemo(Path(environment[1]), told)
        demo.process.send_signal(signal.SIGINT)
        code, rest, errors = demo.finish()
        assert (code, rest) == (0, ""), errors
        assert demo.left() == []
    finally:
        demo.process.kill()
        demo.process.wait()
