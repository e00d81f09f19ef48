"""The log process dies between its commit and its answer: who asked learns that nothing is certain."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.audit.errors import LogUnavailableError, OnceTakenError
from gateway.audit.fsck import fsck
from gateway.audit.note import Ed25519Signer
from gateway.audit.remote import RemoteLog
from gateway.audit.sqlite_reader import SqliteReader
from gateway.audit.store import Once, prepare_entry
from gateway.local_socket import listen_locally
from tests.simulators.appender import entry

_PROGRAM = """
import asyncio, os, signal, socket, sys
from pathlib import Path
from gateway.audit.appender import Appender
from gateway.audit.note import Ed25519Signer
from gateway.audit.service import LogService
from gateway.audit.sqlite import SqliteStore

ORIGIN = "audit.example.org/log/2026"

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

class DiesBeforeItAnswers(LogService):
    _answer = die

class DiesBeforeItCommits(LogService):
    _commit = die

SERVICES = {"answers": LogService, "dies committed": DiesBeforeItAnswers, "dies first": DiesBeforeItCommits}

async def main():
    signer = Ed25519Signer.from_seed(ORIGIN, bytes(range(32)))
    service = SERVICES[sys.argv[3]](Appender(SqliteStore(Path(sys.argv[1])), signer, origin=ORIGIN))
    await service.start(socket.socket(fileno=int(sys.argv[2])))
    await asyncio.Event().wait()

asyncio.run(main())
"""


class LogProcess:
    """The log process at one address, started as the test wants it to behave."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.listener, self._address = listen_locally()

    @contextmanager
    def behaving(self, how: str) -> Iterator[subprocess.Popen[bytes]]:
        words = [sys.executable, "-c", _PROGRAM, str(self._path), str(self.listener.fileno()), how]
        with subprocess.Popen(words, pass_fds=[self.listener.fileno()]) as process:
            try:
                yield process
            finally:
                process.kill()

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[RemoteLog]:
        log = RemoteLog(self._address, queue_limit=10)
        try:
            await log.wait_until_open(30)
            yield log
        finally:
            await log.close()


@pytest.fixture
def process(path: Path) -> Iterator[LogProcess]:
    process = LogProcess(path)
    yield process
    process.listener.close()


@pytest.mark.parametrize(("how", "already_there"), [("dies committed", True), ("dies first", False)])
async def test_an_answer_that_is_lost_is_a_failure_and_its_entry_counts_once(
    process: LogProcess, path: Path, signer: Ed25519Signer, how: str, already_there: bool
) -> None:
    """The second case is the control: there the entry is missing, and sending it again adds it."""
    sent = entry(7)
    once = Once(b"n" * 32, datetime.now(UTC) + timedelta(minutes=5))
    with process.behaving("answers"):
        async with process.connected() as log:
            await log.append(entry(1))
    with process.behaving(how) as dying:
        async with process.connected() as log:
            with pytest.raises(LogUnavailableError, match="went away before it answered"):
                await log.append(sent, once)
        await asyncio.to_thread(dying.wait, 30)
    with SqliteReader(path) as reader:
        assert reader.size() == 1 + already_there
    with process.behaving("answers"):
        async with process.connected() as log:
            if already_there:
                with pytest.raises(OnceTakenError):
                    await log.append(sent, once)
            else:
                await log.append(sent, once)
            assert (await log.append(entry(8))).index == 2
    with SqliteReader(path) as reader:
        assert reader.entries(0, reader.size()).count(prepare_entry(sent).data) == 1
    report = fsck(path, signer.verifier)
    assert (report.entries, report.findings) == (3, ())
