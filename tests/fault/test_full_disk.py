"""A disk without space, and space again."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.simulators.campaign import scaled
from tests.simulators.disk import Disk
from tests.simulators.log_process import FAULTS, acknowledged, lost, start_appender

CYCLES = scaled(1, 20)


def fill_and_free(disk: Disk, path: Path, *options: str) -> list[str]:
    """Append on a disk that becomes full, make space while the appender runs, and return what it said."""
    ballast = disk.fill()
    process = start_appender(path, "until-full", *options)
    assert process.stdin is not None
    assert process.stdout is not None
    lines = []
    while lines.count("failed LOG_UNAVAILABLE") < 3:
        line = process.stdout.readline()
        assert line, "it ended before the disk was full"
        lines.append(line.rstrip("\n"))
    assert shutil.disk_usage(disk.folder).free < 2**20
    ballast.unlink()
    rest, _ = process.communicate("space\n", timeout=60)
    assert process.returncode == 0
    return lines + rest.splitlines()


def test_a_disk_that_was_full_loses_nothing_and_the_log_serves_again_unaided(
    make_disk: Callable[..., Disk], assert_sound: Callable[..., None]
) -> None:
    disk = make_disk(size_mib=16)
    path = disk.folder / "audit.db"
    for _ in range(CYCLES):
        lines = fill_and_free(disk, path)
        assert [line for line in lines if FAULTS.fullmatch(line)][-1] == "healed"
        acks = acknowledged(lines)
        assert len(acks) >= 20
        assert_sound(path, acks)
        for file in disk.folder.glob("audit.db*"):
            file.unlink()


def test_the_control_a_careless_log_acknowledges_what_a_full_disk_did_not_take(
    make_disk: Callable[..., Disk], assert_sound: Callable[..., None]
) -> None:
    disk = make_disk(size_mib=16)
    path = disk.folder / "audit.db"
    assert_sound(path, [])
    assert lost(path, acknowledged(fill_and_free(disk, path, "careless"))) != []


@pytest.mark.parametrize("options", [(), ("direct",)], ids=["a thread of its own", "one thread"])
def test_files_that_may_not_grow_are_as_a_full_disk(
    path: Path, assert_sound: Callable[..., None], options: tuple[str, ...]
) -> None:
    process = start_appender(path, "full-disk", *options)
    try:
        output, _ = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    lines = output.splitlines()
    assert process.returncode == 0
    assert lines.count("failed LOG_UNAVAILABLE") == 3
    assert_sound(path, acknowledged(lines))
