"""A vault whose process dies, whose disk is full, whose keys are destroyed: nothing half, nothing lost."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.clock import system_clock
from gateway.model.contract import ContractState
from gateway.sources.cursor import CursorSeal
from gateway.sources.source import FetchRequest
from gateway.vault import Upkeep, VaultUnavailableError
from gateway.vault.dataset import HeldDataset
from gateway.vault.sqlite import SqliteEngine
from tests.simulators.campaign import scaled
from tests.simulators.disk import Disk
from tests.simulators.vault import LOANS, OpenedVault, contract, described, lines, loan
from tests.simulators.vault_process import PIECE, PIECES, TERMS

SECRET = "a-name-that-nobody-has"


def run(folder: Path, kill_at: int, *options: str) -> list[list[str]]:
    """Return what the contributor acknowledged, word by word."""
    command = [sys.executable, "-m", "tests.simulators.vault_process", str(folder), str(kill_at), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == (0 if done.stdout.count("statements") else -9), done.stderr
    return [line.split() for line in done.stdout.splitlines()]


def acknowledged(told: list[list[str]]) -> tuple[int, int]:
    """Return (records staged, version) that were acknowledged last."""
    staged = [int(count) for word, count in told if word == "staged"]
    committed = [int(version) for word, version in told if word == "committed"]
    return (staged or [0])[-1], (committed or [0])[-1]


def found(folder: Path) -> tuple[int, int, int]:
    """Return (records staged, version, records readable) as the next process finds them."""
    with closing(SqliteEngine(folder / "vault.db")) as engine:
        vault = OpenedVault(engine, folder, system_clock)
        holding = vault.store.holding("acme-harbour", LOANS)
        if holding is None:
            return 0, 0, 0
        batch = vault.writer.staged(TERMS, LOANS, "b1")
        source = HeldDataset(vault.reader, holding, CursorSeal())
        readable = sum(page.count for page in source.stream(FetchRequest(fields=("number",))))
        assert readable == holding.alive
        return (batch.records if batch else 0), holding.version, readable


def statements_of_a_whole_run(folder: Path) -> int:
    folder.mkdir()
    told = run(folder, 0)
    assert acknowledged(told) == (PIECE * PIECES, 1)
    return int(told[-1][1])


def test_a_contributor_killed_at_any_statement_loses_nothing_and_leaves_nothing_half(tmp_path):
    count = statements_of_a_whole_run(tmp_path / "whole")
    step = max(1, count // scaled(8, count))
    for kill_at in range(1, count + 1, step):
        folder = tmp_path / str(kill_at)
        folder.mkdir()
        staged, version = acknowledged(run(folder, kill_at))
        is_staged, is_version, readable = found(folder)
        assert is_staged in {staged, staged + PIECE}, kill_at
        assert is_version in {version, 1}, kill_at
        assert readable == (PIECE * PIECES if is_version else 0), kill_at
        # It goes on from there, and comes to the same.
        assert acknowledged(run(folder, 0))[1] == 1
        assert found(folder) == (PIECE * PIECES, 1, PIECE * PIECES)


def test_the_control_a_careless_contributor_acknowledges_what_is_lost(tmp_path):
    count = statements_of_a_whole_run(tmp_path / "whole")
    lost = []
    for kill_at in range(10, count, count // 4):
        folder = tmp_path / str(kill_at)
        folder.mkdir()
        staged, version = acknowledged(run(folder, kill_at, "careless"))
        is_staged, is_version, _ = found(folder)
        lost.append(is_staged < staged or is_version < version)
    assert any(lost)


def test_a_full_disk_takes_nothing_half_and_all_of_it_later(make_disk: Callable[..., Disk]) -> None:
    disk = make_disk(size_mib=24)
    with closing(SqliteEngine(disk.folder / "vault.db")) as engine:
        vault = OpenedVault(engine, disk.folder, system_clock)
        staged = vault.writer.begin(TERMS, LOANS, "b1")
        ballast = disk.fill()
        fault = None
        while fault is None:
            assert staged.records < 1000 * PIECE, "the disk was never full"
            first = staged.records
            piece = lines([loan(number) for number in range(first, first + PIECE)])
            try:
                staged = vault.writer.stage(staged, piece)
            except VaultUnavailableError as error:
                fault = error
        assert str(disk.folder) not in fault.message
        assert vault.writer.staged(TERMS, LOANS, "b1") == staged
        ballast.unlink()
        staged = vault.writer.stage(staged, piece)
        assert vault.writer.commit(staged) == 1
        assert vault.store.holdings()[0].alive == staged.records == first + PIECE


def test_a_database_that_may_not_grow_undoes_a_commit_as_a_whole(tmp_path):
    with closing(SqliteEngine(tmp_path / "vault.db")) as engine:
        vault = OpenedVault(engine, tmp_path, system_clock)
        vault.contribute(TERMS, "b0", [loan(number) for number in range(3000)])
        staged = vault.writer.begin(TERMS, LOANS, "b1")
        staged = vault.writer.stage(staged, lines([loan(number) for number in range(3000)]))
        (pages,) = engine._writer.execute("PRAGMA page_count").fetchone()
        engine._writer.execute(f"PRAGMA max_page_count = {pages + 2}")
        with pytest.raises(VaultUnavailableError):
            vault.writer.commit(staged)
        holding = vault.holding()
        assert (holding.version, holding.alive) == (1, 3000)
        with engine.reading() as session:
            assert session.rows("SELECT count(*) FROM vault_dead", {}) == [(0,)]
        engine._writer.execute("PRAGMA max_page_count = 1000000")
        assert vault.writer.commit(staged) == 2
        assert vault.holding().alive == 3000


# -- crypto-shredding ------------------------------------------------------------------------------


def raw(folder: Path) -> bytes:
    """Return every byte of the vault's files, as a thief of the disk would read them."""
    return b"".join(path.read_bytes() for path in sorted(folder.glob("vault.db*")))


def test_after_destruction_the_files_hold_neither_key_nor_plaintext(tmp_path):
    ended = contract(state=ContractState.TERMINATED, ended="2026-01-02T00:00:00Z")

    class Contracts:
        def contracts(self):
            return [ended]

    with closing(SqliteEngine(tmp_path / "vault.db")) as engine:
        vault = OpenedVault(engine, tmp_path, system_clock)
        vault.contribute(ended, "b1", [loan(number, uscc=SECRET) for number in range(1000)])
        vault.store.add_key(vault.holding().number, vault.keys.make, "now")
        vault.contribute(ended, "b2", [loan(number, uscc=SECRET) for number in range(1000)])
        wrapped = vault.wrapped_keys()
        assert len(wrapped) == 2
        # The control: both keys are there before; the plaintext never is.
        assert all(key in raw(tmp_path) for key in wrapped)
        assert SECRET.encode() not in raw(tmp_path)
        pages = [row[0] for row in engine._reader.execute("SELECT content FROM vault_page")]
        assert all(page[:64] in raw(tmp_path) for page in pages)
        Upkeep(vault.store, vault.keys, system_clock, lambda _: 5, Contracts()).run(timedelta(days=1))
        left = raw(tmp_path)
        assert not any(key in left for key in wrapped)
        assert not any(page[:64] in left for page in pages)
        assert SECRET.encode() not in left
    assert not any(key in raw(tmp_path) for key in wrapped)


def test_the_control_a_key_that_is_only_deleted_stays_in_the_file(tmp_path):
    with closing(SqliteEngine(tmp_path / "vault.db")) as engine:
        vault = OpenedVault(engine, tmp_path, system_clock)
        vault.contribute(TERMS, "b1", [loan(1)])
        [wrapped] = vault.wrapped_keys()
    with closing(sqlite3.connect(tmp_path / "vault.db")) as careless:
        careless.execute("PRAGMA secure_delete = OFF")
        careless.execute("DELETE FROM vault_key")
        careless.commit()
    assert wrapped in raw(tmp_path)


def test_purged_records_are_gone_from_the_files_with_their_tokens(tmp_path):
    terms = contract(description=described(retention="signed_on:5"))
    with closing(SqliteEngine(tmp_path / "vault.db")) as engine:
        vault = OpenedVault(engine, tmp_path, system_clock)
        vault.contribute(terms, "b1", [loan(1, signed_on="2001-01-01"), loan(2, signed_on=None)])
        [page] = [row[0] for row in engine._reader.execute("SELECT content FROM vault_page")]
        tokens = [row[0] for row in engine._reader.execute("SELECT token FROM vault_keyed")]
        assert page in raw(tmp_path)
        Upkeep(vault.store, vault.keys, system_clock, lambda _: 5).run(timedelta(days=1))
        left = raw(tmp_path)
        assert page not in left
        assert [token in left for token in tokens].count(True) == 1
        request = FetchRequest(fields=("number",))
        source = HeldDataset(vault.reader, vault.holding(), CursorSeal())
        assert [json.loads(page.records) for page in source.stream(request)] == [{"number": 2}]
