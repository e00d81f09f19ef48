"""Keeping an answer: records, receipts and seeds as files, all of them or none."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from gateway.audit.receipt import Receipt, VerifiedReceipt
from gateway.cli.failures import CommandError
from gateway.cli.options import require_new_file
from gateway.cli.seeds import PageSeed, encode_seeds, seeds_path


class Keeper:
    """Writes what an answer brings to files of mode 0600.

    Records go to a file `.part` beside their final place and get their name, like the receipts, only
    in `finish`, when everything has been verified. Leaving without it leaves nothing behind.
    """

    def __init__(self, records: Path | None, receipt: Path | None) -> None:
        """Take the files wanted; raise `CommandError`, before anything is asked, if one is there already."""
        self.records = records
        self.receipt = receipt
        if receipt is None and records is not None:
            self.receipt = records.with_name(records.name + ".receipt.json")
        self._seeds: list[PageSeed] = []
        self._pending: list[tuple[int, int, bytes]] = []
        self._receipts: list[Receipt] = []
        self._part: IO[bytes] | None = None
        for path in (self.records, self._part_path, self.receipt):
            if path is not None:
                require_new_file(path)
        if self.receipt is not None:
            require_new_file(seeds_path(self.receipt))

    def __enter__(self) -> Self:
        if self._part_path is not None:
            self._part = _create(self._part_path)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._part is not None and self._part_path is not None:
            self._part.close()
            self._part_path.unlink(missing_ok=True)

    @property
    def _part_path(self) -> Path | None:
        return None if self.records is None else self.records.with_name(self.records.name + ".part")

    def take_page(self, number: int, text: bytes, seed: bytes) -> None:
        """Take one page of records, JSON Lines, as it came."""
        if self._part is not None:
            self._part.write(text)
        self._pending.append((number, text.count(b"\n"), seed))

    def take_receipt(self, receipt: Receipt, verified: VerifiedReceipt) -> None:
        """Take the receipt of the pages taken since the last one."""
        self._seeds += [
            PageSeed(exchange=verified.entry.exchange, page=number, records=count, seed=seed)
            for number, count, seed in self._pending
        ]
        self._pending = []
        self._receipts.append(receipt)

    def finish(self) -> list[Path]:
        """Give everything its name; return the receipts' files. If one cannot be written, none is."""
        files: dict[Path, bytes] = {}
        if self.receipt is not None:
            for number, receipt in enumerate(self._receipts, start=1):
                files[_numbered(self.receipt, number)] = receipt.to_json()
        receipts = list(files)
        if self.receipt is not None and self._seeds:
            files[seeds_path(self.receipt)] = encode_seeds(self._seeds)
        written: list[Path] = []
        try:
            for path, content in files.items():
                with _create(path) as file:
                    written.append(path)
                    _write(file, content)
            if self._part is not None and self.records is not None and self._part_path is not None:
                _write(self._part, b"")
                self._part_path.rename(self.records)
        except BaseException:
            for path in written:
                path.unlink(missing_ok=True)
            raise
        return receipts


def _numbered(path: Path, number: int) -> Path:
    return path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")


def _create(path: Path) -> IO[bytes]:
    try:
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")
    except OSError as error:
        raise CommandError(f"{path} cannot be created ({error.strerror}).") from error


def _write(file: IO[bytes], content: bytes) -> None:
    """Write `content` and make the file durable."""
    file.write(content)
    file.flush()
    os.fsync(file.fileno())
