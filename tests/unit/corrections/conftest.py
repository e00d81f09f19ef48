"""The tables of corrections in both engines: every test here runs over SQLite and over PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gateway.corrections.database import Tables, open_tables
from gateway.corrections.tokens import CorrectionKeys
from gateway.database import PostgresAddress
from tests.simulators.postgres import PostgresServer, running_postgres


@pytest.fixture(scope="session")
def server() -> Iterator[PostgresServer]:
    with running_postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | PostgresAddress:
    """Where a deployment has its log."""
    if request.param == "sqlite":
        return tmp_path / "audit.db"
    server: PostgresServer = request.getfixturevalue("server")
    return server.database()


@pytest.fixture
def tables(place: Path | PostgresAddress) -> Iterator[Tables]:
    with closing(open_tables(place)) as tables:
        yield tables


@pytest.fixture
def keys() -> CorrectionKeys:
    return CorrectionKeys(bytes(range(32)))
