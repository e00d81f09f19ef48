"""Contracts in SQLite: what every store does, and the file itself."""

from __future__ import annotations

import sqlite3
import stat
import threading
from contextlib import closing

import pytest

from gateway.contracts.errors import ContractsUnavailableError
from gateway.contracts.sqlite import SqliteContractStore
from gateway.contracts.stores import open_contract_store
from gateway.errors import ConfigError
from tests.simulators.negotiated import ContractStoreBehaviour, active, terms_of


@pytest.fixture
def path(tmp_path):
    return tmp_path / "contracts.db"


@pytest.fixture
def store(path):
    return SqliteContractStore(path)


@pytest.fixture
def another(path):
    return lambda: SqliteContractStore(path)


@pytest.fixture
def edit(path):
    """Return a function that edits a row as somebody who can write the file."""

    def edit(version, column, old, new):
        with closing(sqlite3.connect(path)) as database, database:
            (value,) = database.execute(
                f"SELECT {column} FROM contracts WHERE id = ?", (version.id,)
            ).fetchone()
            assert old in value, "the tampering must hit something"
            database.execute(
                f"UPDATE contracts SET {column} = ? WHERE id = ?", (value.replace(old, new), version.id)
            )

    return edit


class TestSqlite(ContractStoreBehaviour):
    """What every store does, on a file."""


def test_the_file_is_for_nobody_else(store, path):
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        open_contract_store(path)


def test_contracts_are_kept_over_restarts(store, path):
    version = active(store)
    assert SqliteContractStore(path).versions()[1] == [version]


def test_many_can_open_a_new_store_at_once(path):
    gate, found = threading.Barrier(8), []

    def run():
        gate.wait()
        found.append(SqliteContractStore(path).revision())

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [0] * 8


def test_another_file_is_refused(path):
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE something (x)")
    path.chmod(0o600)
    with pytest.raises(ContractsUnavailableError, match="no contract store"):
        SqliteContractStore(path)


def test_a_store_that_is_gone_is_not_taken_for_an_empty_one(store, path):
    path.unlink()
    for call in (store.revision, store.versions, lambda: active(store)):
        with pytest.raises(ContractsUnavailableError):
            call()
    assert not path.exists()


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(ContractsUnavailableError, match="cannot be made"):
        SqliteContractStore(tmp_path / "nowhere" / "contracts.db")


def test_what_is_moved_elsewhere_must_verify(store, edit):
    """Control: unedited, all versions are given."""
    version = active(store)
    assert store.all_versions() == [version]
    edit(version, "terms", b"credit-check", b"advertising!")
    with pytest.raises(ContractsUnavailableError, match="edited"):
        store.all_versions()
    assert terms_of() == version.terms
