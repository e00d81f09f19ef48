"""Custodians, keys, a store, and details to put into it."""

import pytest

from gateway.details import BlindIndex, Custodian, Custodians, SqliteDetailsStore
from gateway.identifiers import load_area_table
from tests.simulators.details import details_about, sealed_details

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
    return lambda subject="X": details_about(subject)


@pytest.fixture
def put(store, custodians):
    """Return a function that stores details of an exchange; it returns them as stored."""

    def put(exchange, **facts):
        keys, stored = sealed_details(ORIGIN, custodians, exchange, **facts)
        store.add(keys, [stored])
        return stored

    return put
