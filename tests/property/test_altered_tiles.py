"""An exported log in which any one file was altered: none is taken for sound.

The number of alterations is scaled by SLUICEGATE_FAULT_SCALE.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway.audit.appender import Appender
from gateway.audit.export import export_tiles
from gateway.audit.note import Ed25519Signer
from gateway.audit.sqlite import SqliteStore
from gateway.audit.sqlite_reader import SqliteReader
from gateway.audit.store import prepare_entry
from gateway.audit.tile_directory import examine_directory
from gateway.clock import rfc3339
from gateway.model.entry import Entry, EntryKind
from tests.simulators.campaign import scaled

ORIGIN = "audit.example.org/log/2026"
SIGNER = Ed25519Signer.from_seed(ORIGIN, bytes(range(32)))
SIZES = {12: scaled(500, 30_000), 300: scaled(50, 1000)}
"""Entries of a log, and how many alterations of it are tried; the larger has tiles of two levels."""


def export_log(folder: Path, size: int) -> Path:
    time = rfc3339(datetime(2026, 3, 1, 12, tzinfo=UTC))
    with SqliteStore(folder / "audit.db") as store:
        appender = Appender(store, SIGNER, origin=ORIGIN)
        appender.append(
            [
                prepare_entry(Entry(v=1, kind=EntryKind.EXCHANGE_RELEASED, time=time, records=number))
                for number in range(size)
            ]
        )
    with SqliteReader(folder / "audit.db") as reader:
        export_tiles(reader, folder / "exported", [SIGNER.verifier])
    return folder / "exported"


def alter(data: bytes, chance: random.Random) -> bytes:
    """Return `data` with one thing changed: a bit, a byte, a piece cut, doubled, swapped or moved."""
    while True:
        at = chance.randrange(len(data))
        end = chance.randrange(at, len(data)) + 1
        piece = data[at:end]
        match chance.randrange(6):
            case 0 | 1:
                altered = data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]
            case 2:
                altered = data[:at] + chance.randbytes(len(piece)) + data[end:]
            case 3:
                altered = data[:at] + data[end:]
            case 4:
                altered = data[:at] + piece + data[at:]
            case _:
                altered = data[:at] + data[end:] + piece
        if altered != data:
            return altered


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("size", SIZES)
def test_no_altered_file_of_an_export_is_accepted(tmp_path: Path, size: int) -> None:
    directory = export_log(tmp_path, size)
    assert examine_directory(directory, [SIGNER.verifier]).findings == ()  # the control
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    assert len(files) >= 3
    chance = random.Random(size)
    accepted = []
    for number in range(SIZES[size]):
        file = files[number % len(files)]
        data = file.read_bytes()
        altered = alter(data, chance)
        file.write_bytes(altered)
        if not examine_directory(directory, [SIGNER.verifier]).findings:
            accepted.append((file.relative_to(directory), data, altered))
        file.write_bytes(data)
    assert accepted == []
    assert examine_directory(directory, [SIGNER.verifier]).findings == ()
