"""A log of its own for each test, and disks that can fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from gateway.audit.appender import Appender
from gateway.audit.fsck import fsck
from gateway.audit.note import Ed25519Signer
from gateway.audit.sqlite import SqliteStore
from gateway.audit.store import prepare_entry
from gateway.errors import GatewayError
from tests.simulators.appender import ORIGIN, entry
from tests.simulators.disk import Disk, DiskError, disk
from tests.simulators.log_process import Acknowledged, lost


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.db"


@pytest.fixture
def signer() -> Ed25519Signer:
    return Ed25519Signer.from_seed(ORIGIN, bytes(range(32)))


@pytest.fixture
def assert_sound(signer: Ed25519Signer) -> Callable[..., None]:
    """Return what must hold after every fault: nothing lost, nothing doubled, `fsck` clean, it serves."""

    def assert_sound(path: Path, acks: list[Acknowledged]) -> None:
        assert len({index for index, _ in acks}) == len(acks), "an index was given away twice"
        with SqliteStore(path) as store:
            appender = Appender(store, signer, origin=ORIGIN)
            [outcome] = appender.append([prepare_entry(entry(0))])
            assert not isinstance(outcome, GatewayError)
            assert lost(path, acks) == []
            report = fsck(path, signer.verifier)
        assert report.findings == ()
        assert report.entries == outcome.size

    return assert_sound


@pytest.fixture
def make_disk(tmp_path: Path) -> Iterator[Callable[..., Disk]]:
    """Return a function that mounts a disk; the test is skipped where that is not permitted."""
    with ExitStack() as stack:

        def make_disk(**options: int) -> Disk:
            try:
                return stack.enter_context(disk(tmp_path, **options))
            except DiskError as error:
                pytest.skip(f"no file system can be mounted here: {error}")

        yield make_disk
