"""What was published, in PostgreSQL: as in SQLite, from several nodes at once, for ever, examined."""

import threading
from datetime import timedelta

import psycopg
import pytest

from gateway.audit.errors import LogUnavailableError
from gateway.audit.fsck import FsckReport
from gateway.audit.postgres_fsck import fsck_database
from gateway.audit.postgres_publications import PostgresPublications
from gateway.audit.postgres_reader import PostgresReader
from gateway.audit.publication import Grade, Publication
from gateway.audit.sqlite import SqliteStore
from gateway.audit.sqlite_publications import SqlitePublications
from gateway.audit.stores import open_publications
from tests.simulators.entries import NOON

pytestmark = pytest.mark.postgres

SIZES = (3, 7, 12)


@pytest.fixture
def notes(address, open_store, sign, batch):
    """Return the checkpoints of a log of 12 entries, by size."""
    store = open_store(address)
    sizes = zip((0, *SIZES), SIZES, strict=False)
    return {end: store.append(batch(start, end - start), sign, NOON).note for start, end in sizes}


@pytest.fixture
def publications(notes):
    """Return what two nodes published, in order; the checkpoint over 7 entries twice."""
    published = [(3, Grade.PUBLISHED), (7, Grade.WITNESSED), (7, Grade.PUBLISHED), (12, Grade.PUBLISHED)]
    return [
        Publication(size, notes[size], NOON + timedelta(seconds=at), grade)
        for at, (size, grade) in enumerate(published)
    ]


def test_they_are_found_as_in_sqlite(address, publications, identity, sign, tmp_path):
    path = tmp_path / "audit.db"
    with SqliteStore(path) as store:
        store.open(identity, sign)
    with SqlitePublications(path) as expected, open_publications(address) as kept:
        assert isinstance(kept, PostgresPublications)
        assert kept.latest() is expected.latest() is None
        for publication in publications:
            expected.record(publication)
            kept.record(publication)
        assert kept.latest() == expected.latest() == publications[-1]
        assert kept.latest(Grade.WITNESSED) == expected.latest(Grade.WITNESSED) == publications[1]
        for size in (3, 7, 8):
            assert kept.at(size) == expected.at(size)
        for limit, below in ((10, None), (2, None), (10, 12), (1, 7), (5, 0)):
            assert kept.page(limit, below) == expected.page(limit, below)
        with pytest.raises(ValueError, match="1 to 1000"):
            kept.page(0)


def test_nodes_that_publish_at_once_lose_nothing(address, publications):
    def publish() -> None:
        with PostgresPublications(address) as kept:
            for publication in publications:
                kept.record(publication)

    nodes = [threading.Thread(target=publish) for _ in range(4)]
    for node in nodes:
        node.start()
    for node in nodes:
        node.join()
    assert len(PostgresPublications(address).page(100)) == 4 * len(publications)


def test_what_was_published_cannot_be_changed(address, server, publications):
    PostgresPublications(address).record(publications[0])
    with server.owner(address) as owner, pytest.raises(psycopg.errors.RestrictViolation):
        owner.execute("UPDATE sluicegate.published SET size = 4")


def test_an_examination_finds_what_the_log_never_signed(address, identity, sign, publications, examined):
    kept = PostgresPublications(address)
    kept.record(publications[0])
    examined(address)
    kept.record(Publication(7, sign(7, bytes(32)), NOON, Grade.PUBLISHED))
    report: FsckReport = fsck_database(address, identity.verifier)
    assert [finding.what for finding in report.findings] == [
        "the published checkpoint is not the one that the log signed"
    ]


def test_a_database_that_cannot_be_reached_is_an_error_of_ours(address, server, publications):
    gone = server.address("nowhere")
    with pytest.raises(LogUnavailableError):
        PostgresPublications(gone).latest()
    with PostgresReader(address) as reader:
        assert reader.size() == SIZES[-1], "the control: the address itself leads to the log"
