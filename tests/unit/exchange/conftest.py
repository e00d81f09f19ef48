from datetime import UTC, datetime

import pytest

from gateway.catalogue import Catalogue
from gateway.identifiers import load_area_table
from gateway.model import Dataset, Field, FieldType, Operation, Query

NAME = "members/registry/datasets/companies"


@pytest.fixture(scope="session", autouse=True)
def areas():
    load_area_table()


@pytest.fixture
def now():
    return datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture
def dataset():
    fields = (
        Field(name="uscc", type=FieldType.STRING, tier="public", identifier="uscc", lookup=True),
        Field(name="person", type=FieldType.STRING, tier="public", identifier="national-id", lookup=True),
        Field(name="area", type=FieldType.STRING, tier="public", identifier="area-code"),
        Field(name="title", type=FieldType.STRING, tier="public", lookup=True),
        Field(name="capital", type=FieldType.INTEGER, tier="public"),
        Field(name="open", type=FieldType.BOOLEAN, tier="public"),
        Field(name="founded", type=FieldType.DATE, tier="public"),
    )
    return Dataset(
        name=NAME,
        provider="registry",
        title="Companies",
        version="1",
        tier="public",
        fields={field.name: field for field in fields},
    )


@pytest.fixture
def catalogue(dataset):
    return Catalogue([dataset])


@pytest.fixture
def make_query():
    """Make a query with the parts given, for `NAME` unless they say otherwise."""

    def make(operation=Operation.QUERY, **parts):
        return Query(
            **{
                "audience": "audit.example.org/log/test",
                "operation": operation,
                "dataset": NAME,
                "purpose": "credit-check",
                "nonce": "A" * 22,
                "time": "2026-11-21T12:00:00Z",
                **parts,
            }
        )

    return make
