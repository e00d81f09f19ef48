"""A real OPA beside the embedded engine: a second opinion on whatever an officer checks and tests."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gateway.errors import ConfigError
from gateway.policy.bundle import Bundle, write_opa_directory

_CHECK_TIMEOUT_S: Final = 60
_START_TIMEOUT_S: Final = 15
_PAUSE_S: Final = 0.02


class OpaBinaryError(ConfigError):
    """The OPA binary cannot be used; the embedded engine's answer stands without it."""


@dataclass(frozen=True, slots=True)
class OpaBinary:
    """The command line of an OPA."""

    path: str

    @classmethod
    def find(cls, named: Path | None = None) -> OpaBinary | None:
        """Return the binary `named`, or the `opa` on the search path; None if there is none.

        Raise `OpaBinaryError` if the one named is not there.
        """
        found = shutil.which("opa" if named is None else str(named))
        if found is None and named is not None:
            raise OpaBinaryError(f"{named} is no program that can be run; leave out --opa to go without.")
        return None if found is None else cls(found)

    def check(self, directory: Path) -> tuple[tuple[str, int, str], ...]:
        """Return (path, line, message) of all that `opa check --strict` finds in the rules of `directory`."""
        rules = sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*.rego"))
        words = ["check", "--strict", "--format=json", "--capabilities=capabilities.json", *rules]
        done = self._run(words, directory)
        if done.returncode == 0:
            return ()
        answer: Any = _decoded(done.stderr) or _decoded(done.stdout) or {}
        found = [
            (
                str(error.get("location", {}).get("file", ".")),
                int(error.get("location", {}).get("row", 0)),
                str(error.get("message", "opa check refuses it")),
            )
            for error in answer.get("errors", [])
        ]
        return tuple(found) or ((".", 0, f"opa check ends with code {done.returncode}"),)

    def test(self, bundle: Bundle) -> dict[str, bool]:
        """Return whether each test beside the rules passes in OPA, by `package.name`."""
        with self._directory(bundle) as directory:
            for path, text in bundle.tests.items():
                (directory / path).write_text(text, encoding="utf-8")
            done = self._run(["test", "--bundle", "--format=json", "."], directory)
        answer = _decoded(done.stdout)
        if not isinstance(answer, list):
            raise OpaBinaryError("`opa test` does not answer with results; `opa check --strict` may say why.")
        return {
            f"{str(row['package']).removeprefix('data.')}.{row['name']}": not (
                row.get("fail") or row.get("error")
            )
            for row in answer
        }

    @contextmanager
    def serving(self, bundle: Bundle) -> Iterator[str]:
        """Run a server with `bundle` on the loopback address; yield its URL."""
        with socket.socket() as reserved:
            reserved.bind(("127.0.0.1", 0))
            port = reserved.getsockname()[1]
        words = ["run", "--server", "--disable-telemetry", "--log-level=error", f"--addr=127.0.0.1:{port}"]
        with (
            self._directory(bundle) as directory,
            subprocess.Popen(  # noqa: S603 - no shell
                [self.path, *words, str(directory)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            ) as server,
        ):
            try:
                _wait_until_listening(server, port)
                yield f"http://127.0.0.1:{port}"
            finally:
                server.terminate()

    @contextmanager
    def _directory(self, bundle: Bundle) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="sluicegate-opa-") as parent:
            directory = Path(parent) / "bundle"
            write_opa_directory(bundle, directory)
            yield directory

    def _run(self, words: list[str], directory: Path) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(  # noqa: S603 - no shell
                [self.path, *words],
                cwd=directory,
                capture_output=True,
                text=True,
                timeout=_CHECK_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise OpaBinaryError(f"{self.path} cannot be run ({type(error).__name__}).") from error


def _wait_until_listening(server: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except ConnectionRefusedError:
            time.sleep(_PAUSE_S)
        else:
            return
    raise OpaBinaryError("The OPA server did not start.")


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
