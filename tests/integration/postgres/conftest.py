"""A real PostgreSQL, a log in it, and entries to put into that."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from gateway.audit.checkpoint import Checkpoint, sign_checkpoint
from gateway.audit.fsck import FsckReport
from gateway.audit.note import Ed25519Signer
from gateway.audit.postgres import PostgresStore
from gateway.audit.postgres_fsck import fsck_database
from gateway.audit.store import LogIdentity, Once, PendingEntry, SignHead, prepare_entry
from gateway.database import PostgresAddress
from tests.simulators.entries import ORIGIN, make_entry
from tests.simulators.postgres import PostgresServer, running_postgres


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with running_postgres() as server:
        yield server


@pytest.fixture
def address(server: PostgresServer) -> PostgresAddress:
    return server.database()


@pytest.fixture(scope="session")
def signer() -> Ed25519Signer:
    return Ed25519Signer.from_seed(ORIGIN, bytes(range(32)))


@pytest.fixture(scope="session")
def sign(signer: Ed25519Signer) -> SignHead:
    return lambda size, root: sign_checkpoint(Checkpoint(ORIGIN, size, root), signer)


@pytest.fixture(scope="session")
def identity(signer: Ed25519Signer) -> LogIdentity:
    return LogIdentity(ORIGIN, signer.verifier)


@pytest.fixture
def open_store(identity: LogIdentity, sign: SignHead) -> Iterator[Callable[[PostgresAddress], PostgresStore]]:
    """Return a function that opens a store, as a node of its own would; all are closed in the end."""
    stores: list[PostgresStore] = []

    def open_store(address: PostgresAddress) -> PostgresStore:
        store = PostgresStore(address)
        stores.append(store)
        store.open(identity, sign)
        return store

    yield open_store
    for store in stores:
        store.close()


@pytest.fixture(scope="session")
def batch() -> Callable[..., list[PendingEntry]]:
    """Return a function that makes `count` entries from the number `first` on."""

    def batch(first: int, count: int, once: Once | None = None) -> list[PendingEntry]:
        return [prepare_entry(make_entry(first + at), once) for at in range(count)]

    return batch


@pytest.fixture
def examined(identity: LogIdentity) -> Callable[[PostgresAddress], FsckReport]:
    """Return a function that examines a log and fails on findings."""

    def examined(address: PostgresAddress) -> FsckReport:
        report = fsck_database(address, identity.verifier)
        assert report.findings == ()
        return report

    return examined
