"""A small ext4 of its own on a loop device: its power can be cut, and it can be full."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_EXT4_IOC_SHUTDOWN = 0x8004587D
_NO_LOG_FLUSH = 2
"""EXT4_GOING_FLAGS_NOLOGFLUSH (fs/ext4/ext4.h): what is not on the disk yet, journal included, is gone."""


class DiskError(Exception):
    """This machine does not let us make or mount a file system."""


class Disk:
    """An ext4 in the file `image`, mounted at `folder`."""

    def __init__(self, image: Path, folder: Path, *, size_mib: int) -> None:
        self.image = image
        self.folder = folder
        with image.open("wb") as file:
            file.truncate(size_mib * 2**20)
        folder.mkdir()
        _run("mkfs.ext4", "-q", str(image))
        self.mount()

    def mount(self) -> None:
        _run("mount", "-o", "loop", str(self.image), str(self.folder))

    def unmount(self) -> None:
        _run("umount", str(self.folder))

    def lose_power(self) -> None:
        """Stop the file system where it stands. Nothing reaches the disk any more; mount it anew after."""
        descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(descriptor, _EXT4_IOC_SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
        finally:
            os.close(descriptor)

    def fill(self) -> Path:
        """Write a file until there is no space left; return it. Deleting it makes space again."""
        ballast = self.folder / "ballast"
        with ballast.open("wb", buffering=0) as file:
            free = os.statvfs(self.folder)
            os.posix_fallocate(file.fileno(), 0, max(1, free.f_bavail * free.f_frsize - 2**20))
        return ballast


@contextmanager
def disk(folder: Path, *, size_mib: int = 32) -> Iterator[Disk]:
    """Yield a mounted disk made in `folder`; raise `DiskError` where that is not permitted."""
    made = Disk(folder / "disk.img", folder / "disk", size_mib=size_mib)
    try:
        yield made
    finally:
        made.unmount()


def _run(*words: str) -> None:
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    except FileNotFoundError as error:
        raise DiskError(f"{words[0]} is not installed") from error
    if done.returncode:
        raise DiskError(f"{words[0]}: {done.stderr.strip()}")
