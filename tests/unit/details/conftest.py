"""Custodians, keys, a store, and details to put into it."""

import pytest

from gateway.details import BlindIndex, Custodian, Custodians, Details, SqliteDetailsStore, SubjectDetails
from gateway.details.sealing import Batch, Context, seal_content
from gateway.details.store import StoredDetails
from gateway.evidence.canonical import encode_canonical
from gateway.evidence.commitment import commit
from gateway.identifiers import load_area_table

ORIGIN = "audit.example.org/log/2026"


@pytest.fixture(scope="session", autouse=True)
def areas():
    load_area_table()


@pytest.fixture(scope="session")
def people():
    return [Custodian.generate(name) for name in ("chen", "lin", "zhao")]


@pytest.fixture(scope="session")
def custodians(people):
    return Custodians([person.card for person in people])


@pytest.fixture
def index():
    return BlindIndex(bytes(range(32)))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "details.sqlite"


@pytest.fixture
def store(path):
    with SqliteDetailsStore(path, ORIGIN, busy_timeout_s=0.05) as store:
        yield store


@pytest.fixture
def make_details():
    """Return details about a subject, and the commitments of their entry."""

    def make(subject="X"):
        content = SubjectDetails(field="uscc", subjects=(subject,), filters={})
        commitment, salt = commit(encode_canonical(content))
        return Details(v=1, openings={"subject": salt}, subject=content), {"subject": commitment}

    return make


@pytest.fixture
def put(store, custodians, make_details):
    """Return a function that stores details of an exchange; it returns them as stored."""

    def put(exchange, *, day="2026-03-01", kind="exchange.requested", tokens=(), subject="X"):
        context = Context(ORIGIN, exchange, kind)
        sealed = seal_content(make_details(subject)[0].encode(), context)
        batch = Batch(ORIGIN, custodians)
        stored = StoredDetails(
            exchange, kind, day, sealed.content, batch.wrap(sealed.key, context), tuple(tokens)
        )
        store.add(batch.keys, [stored])
        return stored

    return put
