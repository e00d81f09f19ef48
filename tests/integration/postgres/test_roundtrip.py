"""Statements sent together: what is prepared stays prepared, and arrays say what they hold."""

from __future__ import annotations

from contextlib import closing

import psycopg
import pytest

from gateway.database.roundtrip import (
    BIGINT,
    RoundTrips,
    Statement,
    prepare_statements,
    read_rows,
    to_array,
    to_bigint,
)
from gateway.database.session import connect

pytestmark = pytest.mark.postgres

COUNT = Statement("count_them", ("bigint[]",), "SELECT cardinality($1), cardinality(array_remove($1, NULL))")


def counted(connection: psycopg.Connection, values: list[bytes | None]) -> list[int]:
    with RoundTrips(connection) as trips:
        trips.send(COUNT, to_array(BIGINT, values))
        [answer] = trips.receive()
    [row] = read_rows(answer)
    return [int.from_bytes(value, "big") for value in row]


def busy(connection: psycopg.Connection) -> None:
    """Use the session as often as the driver needs to prepare a statement itself; then roll back."""
    for turn in range(10):
        connection.execute("SELECT %s::bigint", (turn,))
    connection.execute("BEGIN")
    connection.execute("ROLLBACK")
    connection.execute("SELECT 1")


def test_what_is_prepared_outlives_what_the_driver_rolls_back(address):
    """Control: a driver that prepares by itself has the server forget our statements too."""
    with closing(connect(address, "test")) as connection:
        prepare_statements(connection, [COUNT])
        busy(connection)
        assert counted(connection, [to_bigint(1)]) == [1, 1]
        connection.prepare_threshold = 5
        busy(connection)
        with pytest.raises(psycopg.errors.InvalidSqlStatementName):
            counted(connection, [to_bigint(1)])


def test_an_array_may_be_empty_and_may_hold_nulls(address):
    with closing(connect(address, "test")) as connection:
        prepare_statements(connection, [COUNT])
        assert counted(connection, []) == [0, 0]
        assert counted(connection, [to_bigint(1), None, to_bigint(-(2**63)), None]) == [4, 2]
