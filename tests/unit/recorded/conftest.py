"""A deployment with two members, and a way to change its databases behind its back."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from gateway.audit.note import Ed25519Verifier
from gateway.audit.sqlite_reader import SqliteReader
from gateway.config import GatewayConfig
from gateway.demo.world import build_world
from gateway.evidence.keys import SigningKey
from gateway.members import MemberStore
from gateway.recorded.entries import RecordedEntries
from gateway.recorded.members import MemberContradiction, RecordedMembers


@pytest.fixture(scope="session")
def pristine_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("recorded")
    build_world(directory, gateway_port=0, registry_port=0, tax_port=0, company_count=3)
    return directory


@pytest.fixture
def config(tmp_path: Path, pristine_world: Path) -> GatewayConfig:
    shutil.copytree(pristine_world, tmp_path / "world")
    return GatewayConfig.load(tmp_path / "world" / "gateway" / "config.toml")


@pytest.fixture
def verifier(config: GatewayConfig) -> Ed25519Verifier:
    return Ed25519Verifier(config.log.origin, SigningKey.load(config.log.key).verify_key.public)


@pytest.fixture
def entries(config: GatewayConfig, verifier: Ed25519Verifier) -> Iterator[RecordedEntries]:
    with ExitStack() as opened:
        yield RecordedEntries(opened.enter_context(SqliteReader(config.log.database)), verifier)


@pytest.fixture
def store(config: GatewayConfig) -> MemberStore:
    return MemberStore(config.members.database)


@pytest.fixture
def contradictions(entries: RecordedEntries, store: MemberStore) -> Callable[[], list[MemberContradiction]]:
    """Return a function that compares store and log anew."""
    return lambda: RecordedMembers(entries).contradictions(store.members()[1])


@pytest.fixture
def behind_the_back(config: GatewayConfig) -> Callable[..., None]:
    """Return a function that runs a statement on the member store, as somebody who can write the file."""

    def run(statement: str, *values: object, raise_revision: bool = True) -> None:
        with closing(sqlite3.connect(config.members.database)) as database, database:
            assert database.execute(statement, values).rowcount > 0, "the tampering must hit something"
            if raise_revision:
                database.execute("UPDATE registry SET revision = revision + 1")

    return run
