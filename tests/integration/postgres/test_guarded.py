"""The guards of a log that are each node's own, on a log in PostgreSQL."""

from datetime import timedelta

import pytest

from gateway.audit.anchor import Anchor
from gateway.audit.errors import LogRolledBackError, LogUnavailableError
from gateway.audit.guards import LogGuards
from gateway.audit.stores import open_reader
from gateway.errors import ConfigError
from tests.simulators.entries import NOON

pytestmark = pytest.mark.postgres


def test_an_older_state_of_the_database_is_refused_by_a_nodes_anchor(
    address, server, open_store, sign, batch, signer, examined, tmp_path
):
    anchor = Anchor(tmp_path / "anchor", signer.verifier)
    store = open_store(address)
    store.append(batch(0, 10), sign, NOON)
    with open_reader(address) as reader:
        with pytest.raises(ConfigError, match="is missing"):
            anchor.verify(reader)
        anchor.write(reader.checkpoint())
        store.append(batch(10, 300), sign, NOON)
        assert anchor.verify(reader).size == 10, "the control: a log that went on is taken"
    restored = server.database()
    open_store(restored).append(batch(0, 4), sign, NOON)
    assert examined(restored).entries == 4, "the control: nothing is wrong with it by itself"
    with open_reader(restored) as reader, pytest.raises(LogRolledBackError, match="an older copy"):
        anchor.verify(reader)


def test_a_node_whose_clock_lies_before_the_newest_entry_appends_nothing(address, open_store, sign, batch):
    pending = batch(0, 5)
    open_store(address).append(pending, sign, NOON)
    newest = NOON
    with open_reader(address) as reader:
        guards = LogGuards(reader)
        with pytest.raises(LogUnavailableError, match="before the latest"):
            guards.check(newest - timedelta(days=400))
        guards.check(newest + timedelta(days=1))
