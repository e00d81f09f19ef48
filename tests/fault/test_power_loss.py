"""The power fails under a process that appends: what was acknowledged is on the disk."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.simulators.campaign import scaled
from tests.simulators.disk import Disk
from tests.simulators.log_process import (
    Acknowledged,
    lost,
    read_acknowledged,
    rest_acknowledged,
    start_appender,
)

CYCLES = scaled(5, 100)


def lose_power_after(disk: Disk, path: Path, count: int, *options: str) -> list[Acknowledged]:
    """Append `count` entries and some more, cut the power, start anew; return what was acknowledged."""
    process = start_appender(path, "for-ever", *options)
    acks = read_acknowledged(process, count)
    # Stopped first: power stops the processor with the disk. It could acknowledge meanwhile otherwise.
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED)
    disk.lose_power()
    process.kill()
    acks += rest_acknowledged(process)
    disk.unmount()
    disk.mount()
    return acks


@pytest.mark.timeout(1200)
def test_what_was_acknowledged_before_the_power_failed_is_there(
    make_disk: Callable[[], Disk], assert_sound: Callable[..., None]
) -> None:
    disk = make_disk()
    path = disk.folder / "audit.db"
    chance = random.Random(11)
    total: list[Acknowledged] = []
    for _ in range(CYCLES):
        acks = lose_power_after(disk, path, chance.randrange(1, 200))
        assert acks
        total.extend(acks)
        assert_sound(path, total)


def test_the_control_a_log_that_does_not_flush_loses_what_it_acknowledged(
    make_disk: Callable[[], Disk], assert_sound: Callable[..., None]
) -> None:
    disk = make_disk()
    path = disk.folder / "audit.db"
    assert_sound(path, [])
    acks = lose_power_after(disk, path, 100, "unflushed")
    assert lost(path, acks) != []
