"""Files of a static tlog-tiles directory: read with care, written in one step and never changed."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from gateway.audit.bundle import MAX_BUNDLE_BYTES
from gateway.audit.errors import LogMismatchError, LogUnavailableError, ProofError
from gateway.audit.note import MAX_NOTE_CHARACTERS
from gateway.audit.tiles import TILE_WIDTH, Tile, tile_path
from gateway.audit.tree import HASH_BYTES
from gateway.errors import ConfigError

CHECKPOINT: Final = "checkpoint"
TILES: Final = "tile"
WRITING: Final = ".writing"
"""Where files are written before they are moved to their place; of no interest to readers."""

_MAX_NOTE_BYTES: Final = 4 * MAX_NOTE_CHARACTERS


def read_checkpoint(directory: Path) -> str | None:
    """Return the note in the file `checkpoint`, None if there is none; raise as `read_tile` does."""
    raw = _read(directory / CHECKPOINT, _MAX_NOTE_BYTES)
    if raw is None:
        return None
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise ProofError("The checkpoint is not text in UTF-8.") from error


def read_tile(directory: Path, tile: Tile) -> bytes | None:
    """Return the content of the tile's file, None if there is none.

    Raises `ProofError` for what no such file can be (a link, a device, too large), and
    `LogUnavailableError` if it cannot be read.
    """
    limit = MAX_BUNDLE_BYTES if tile.level is None else TILE_WIDTH * HASH_BYTES
    return _read(directory / tile_path(tile), limit)


def _read(path: Path, limit: int) -> bytes | None:
    try:
        # Neither follows a link out of the directory nor waits for the other end of a pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _no_plain_file() from error
        raise LogUnavailableError("A file of the log's directory cannot be opened.") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > limit:
            raise _no_plain_file()
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(limit)
    except OSError as error:
        raise LogUnavailableError("A file of the log's directory cannot be read.") from error
    finally:
        os.close(descriptor)


def _no_plain_file() -> ProofError:
    return ProofError("A file of the log's directory is no plain file, or too large for what it is.")


class TileWriter:
    """Adds files to a directory; what stands there is compared and never replaced, but the checkpoint."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._touched: set[Path] = set()
        self.written = 0

    def add(self, tile: Tile, content: bytes) -> None:
        """Make the tile's file durable in its place.

        Raises `LogMismatchError` if another content stands there, and `OSError`.
        """
        path = self._directory / tile_path(tile)
        present = read_tile(self._directory, tile)
        if present is not None:
            if present != content:
                raise LogMismatchError(
                    "The directory holds another tile of this log where this one belongs. Tiles never "
                    "change: keep both, and export to a fresh folder."
                )
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        self._place(path, content)
        self._touched.update(parent for parent in path.parents if parent.is_relative_to(self._directory))
        self.written += 1

    def finish(self, checkpoint: str) -> None:
        """Put the checkpoint in its place, once all it covers is durable; raise `OSError`."""
        for directory in sorted(self._touched):
            _flush(directory)
        self._touched.clear()
        self._place(self._directory / CHECKPOINT, checkpoint.encode())
        _flush(self._directory)

    def _place(self, path: Path, content: bytes) -> None:
        fresh = self._directory / WRITING / secrets.token_hex(8)
        with fresh.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)


@contextmanager
def writing_to(directory: Path) -> Iterator[TileWriter]:
    """Make the directory where it is missing, keep other writers out, and yield what writes to it.

    Raises `ConfigError` if the folder holds other things than a log's tiles, and `LogUnavailableError`
    if another process writes there or it cannot be written.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if {path.name for path in directory.iterdir()} - {CHECKPOINT, TILES, WRITING}:
                raise ConfigError("The folder holds other files than those of a log; name an empty one.")
            shutil.rmtree(directory / WRITING, ignore_errors=True)
            (directory / WRITING).mkdir()
            yield TileWriter(directory)
            (directory / WRITING).rmdir()
        finally:
            os.close(lock)
    except BlockingIOError as error:
        raise LogUnavailableError("Another export writes to this folder; let it end first.") from error
    except OSError as error:
        raise LogUnavailableError(
            "The folder cannot be written: check path, permissions and space; what is there stays usable."
        ) from error


def _flush(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
