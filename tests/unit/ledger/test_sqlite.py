"""The ledger in SQLite: durable, shared, exact under many writers, and closed to others."""

from __future__ import annotations

import sqlite3
import stat
import threading
from contextlib import ExitStack, closing

import pytest

from gateway.errors import ConfigError
from gateway.ledger import DebtKind, LedgerUnavailableError, open_ledger
from gateway.ledger.sqlite import SqliteLedger
from gateway.ledger.stores import ledger_file
from tests.simulators.ledger import DAILY, LedgerContract, charge, debt, on, reserve


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.db"


@pytest.fixture
def opened(path):
    with ExitStack() as stack:
        yield lambda: stack.enter_context(closing(SqliteLedger(path)))


@pytest.fixture
def ledger(opened):
    return opened()


class TestSqliteLedger(LedgerContract):
    """All that a ledger must do."""


def test_many_can_open_a_new_ledger_at_once(path):
    """As the workers of a gateway do that starts for the first time."""
    gate, faults = threading.Barrier(8), []

    def open_it() -> None:
        gate.wait()
        try:
            with closing(SqliteLedger(path)) as own:
                reserve(own, 1, charge(DAILY, 8))
        except LedgerUnavailableError as error:
            faults.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    with closing(SqliteLedger(path)) as ledger:
        assert on(ledger, DAILY) == 8


def test_the_file_is_beside_the_log_and_for_nobody_else(tmp_path):
    open_ledger(tmp_path / "audit.db").close()
    file = ledger_file(tmp_path / "audit.db")
    assert file == tmp_path / "audit-ledger.db"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        SqliteLedger(file)


def test_another_file_is_refused(path):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE something (x)")
    path.chmod(0o600)
    with pytest.raises(LedgerUnavailableError, match="no ledger"):
        SqliteLedger(path)


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(LedgerUnavailableError, match="cannot be made"):
        SqliteLedger(tmp_path / "nowhere" / "ledger.db")


def test_a_row_that_nobody_writes_is_told(ledger, path):
    ledger.owe(debt())
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE debt SET until = 'soon'")
    with pytest.raises(LedgerUnavailableError):
        ledger.debts(DebtKind.NOTICE)


def test_a_ledger_that_is_gone_is_told_without_its_name(ledger, path):
    reserve(ledger, 1, charge(DAILY, 10))
    ledger.close()
    with pytest.raises(sqlite3.ProgrammingError):
        ledger._connection.execute("SELECT 1")
    with pytest.raises(LedgerUnavailableError) as raised:
        on(ledger, DAILY)
    assert str(path) not in raised.value.message


_VERSION_1 = """
CREATE TABLE spent (
    consumer TEXT NOT NULL,
    purpose TEXT NOT NULL,
    day TEXT NOT NULL,
    records INTEGER NOT NULL CHECK (records >= 0),
    PRIMARY KEY (consumer, purpose, day)
) STRICT, WITHOUT ROWID;
CREATE INDEX spent_day ON spent (day);
CREATE TABLE debt (
    kind TEXT NOT NULL,
    exchange TEXT NOT NULL,
    consumer TEXT NOT NULL,
    provider TEXT NOT NULL,
    dataset TEXT NOT NULL,
    until TEXT NOT NULL,
    subject TEXT NOT NULL,
    PRIMARY KEY (kind, exchange)
) STRICT, WITHOUT ROWID;
CREATE INDEX debt_until ON debt (kind, until);
INSERT INTO spent VALUES ('harbour-bank', 'credit-check', '2026-11-22', 7);
PRAGMA application_id = 0x534C4C45;
PRAGMA user_version = 1;
"""


def test_a_ledger_of_the_first_version_is_brought_up_to_date(path):
    """By one of several workers; what was spent stays spent. Control: an unknown version is refused."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(_VERSION_1)
    path.chmod(0o600)
    gate, faults = threading.Barrier(4), []

    def open_it() -> None:
        gate.wait()
        try:
            SqliteLedger(path).close()
        except LedgerUnavailableError as error:
            faults.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    with closing(SqliteLedger(path)) as ledger:
        assert on(ledger, DAILY) == 7
        assert reserve(ledger, 4, charge(DAILY, 10)) is not None
        ledger.owe(debt())
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 3")
    with pytest.raises(LedgerUnavailableError, match="no ledger"):
        SqliteLedger(path)
