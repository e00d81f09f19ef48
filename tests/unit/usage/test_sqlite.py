"""The store of usage in SQLite."""

from __future__ import annotations

from contextlib import closing

import pytest

from gateway.errors import ConfigError
from gateway.usage.sqlite import SqliteUsageStore
from gateway.usage.store import UsageStoreUnavailableError
from gateway.usage.stores import open_usage_store
from tests.simulators.usage_store import NOW, UsageStoreContract, finding


@pytest.fixture
def store(tmp_path):
    with closing(open_usage_store(tmp_path / "audit.db")) as opened:
        yield opened


class TestSqliteUsageStore(UsageStoreContract):
    pass


def test_what_is_kept_outlives_a_restart(tmp_path):
    with closing(SqliteUsageStore(tmp_path / "usage.db")) as store:
        made = store.add("amber", [finding("a")], NOW)
    with closing(SqliteUsageStore(tmp_path / "usage.db")) as store:
        assert store.notices("amber", 0, 10) == made


def test_a_file_that_is_open_to_others_is_refused(tmp_path):
    path = tmp_path / "usage.db"
    SqliteUsageStore(path).close()
    path.chmod(0o640)
    with pytest.raises(ConfigError):
        SqliteUsageStore(path)


def test_another_file_is_not_taken_for_a_store(tmp_path):
    path = tmp_path / "usage.db"
    path.write_bytes(b"not a database, but long enough to be looked at" * 100)
    path.chmod(0o600)
    with pytest.raises(UsageStoreUnavailableError):
        SqliteUsageStore(path)
