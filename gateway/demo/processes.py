"""The demonstration's processes: started, watched, stopped, and heard when one fails."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gateway.errors import GatewayError

START_TIMEOUT_S: Final = 45.0
"""Takes a second or two; a busy machine may need many."""
STOP_TIMEOUT_S: Final = 15.0
TAIL_LINES: Final = 12
_POLL_S: Final = 0.05

GATEWAY_COMMAND: Final = (sys.executable, "-c", "from gateway.cli.main import run; run()")
"""The `gateway` command of this very installation, whether or not it is on the PATH."""


class ProcessError(GatewayError):
    """A process of the demonstration did not start, or ended before its time."""


@dataclass(frozen=True, slots=True)
class RunningProcess:
    """One started process."""

    title: str
    process: subprocess.Popen[bytes]
    log: Path
    """Its standard output and standard error."""

    @property
    def pid(self) -> int:
        """The process's id."""
        return self.process.pid


class Processes:
    """Starts processes and, as a context manager, leaves none behind."""

    def __init__(self, log_directory: Path) -> None:
        self._logs = log_directory
        self._running: list[RunningProcess] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, title: str, arguments: Sequence[str]) -> RunningProcess:
        """Start `gateway` with `arguments`; its output goes to a file of its own."""
        log = self._logs / f"{title.lower().replace(' ', '-')}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603 - our own command
                [*GATEWAY_COMMAND, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self._logs,
                # Ctrl-C at the terminal is for us; we then stop the others in their order.
                process_group=0,
            )
        running = RunningProcess(title, process, log)
        self._running.append(running)
        return running

    async def wait_until_serving(
        self, running: RunningProcess, address: str, credentials: grpc.ChannelCredentials, host: str = ""
    ) -> None:
        """Return when the process's health service says it serves; raise `ProcessError` otherwise.

        `host` is the name in its certificate, where that is not the one in `address`.
        """
        options: list[tuple[str, Any]] = [("grpc.initial_reconnect_backoff_ms", 100)]
        if host:
            options.append(("grpc.ssl_target_name_override", host))
        deadline_s = time.monotonic() + START_TIMEOUT_S
        async with grpc.aio.secure_channel(address, credentials, options=options) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            while time.monotonic() < deadline_s:
                self.check()
                with contextlib.suppress(grpc.aio.AioRpcError):
                    answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=1)
                    if answer.status == health_pb2.HealthCheckResponse.SERVING:
                        return
                await asyncio.sleep(_POLL_S)
        raise ProcessError(f"{running.title} does not serve after {START_TIMEOUT_S:.0f} seconds.")

    def check(self) -> None:
        """Raise `ProcessError` if a process has ended."""
        for running in self._running:
            code = running.process.poll()
            if code is not None:
                how = f"was killed ({signal.Signals(-code).name})" if code < 0 else f"ended with code {code}"
                raise ProcessError(f"{running.title} (process {running.pid}) {how} before its time.")

    async def watch(self) -> None:
        """Wait for ever; raise `ProcessError` when a process ends."""
        while True:
            self.check()
            await asyncio.sleep(10 * _POLL_S)

    def stop(self) -> None:
        """Stop all, in the order of their start: none outlives this call, also not one that hangs."""
        try:
            for running in self._running:
                running.process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    running.process.wait(STOP_TIMEOUT_S)
        finally:
            for running in self._running:
                if running.process.poll() is None:
                    running.process.kill()
                    running.process.wait()
            self._running.clear()

    def tails(self) -> list[tuple[str, list[str]]]:
        """Return (title, last lines) of the log of each process that has not been stopped."""
        found = []
        for running in self._running:
            lines = running.log.read_text(errors="replace").splitlines()
            found.append((running.title, lines[-TAIL_LINES:]))
        return found


def free_ports(count: int) -> list[int]:
    """Return `count` different TCP ports that are free on loopback now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


@contextlib.contextmanager
def own_environment() -> Iterator[None]:
    """Keep another deployment's settings, and proxies, away from the demonstration while the block runs."""
    before = dict(os.environ)
    for name in before:
        if name.startswith("SLUICEGATE_"):
            del os.environ[name]
    os.environ["no_grpc_proxy"] = "127.0.0.1"  # noqa: SIM112 - grpc reads it in small letters
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
