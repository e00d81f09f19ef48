"""Contracts in PostgreSQL: what every store does, notices, rights, and the move."""

from __future__ import annotations

import asyncio
from contextlib import closing

import psycopg
import pytest

from gateway.contracts import negotiation
from gateway.contracts.entries import entry_of
from gateway.contracts.errors import ContractsUnavailableError
from gateway.contracts.postgres import PostgresContractStore
from gateway.contracts.register import REFRESH_INTERVAL_S, ContractRegister
from gateway.contracts.signing import open_signed, sign_terms
from gateway.contracts.sqlite import SqliteContractStore
from gateway.deployment.changes import record_entry
from gateway.evidence.keys import SigningKey
from tests.simulators.negotiated import (
    COMPANY,
    NOW,
    ContractStoreBehaviour,
    active,
    content_of,
    suspend,
    terms_of,
)
from tests.simulators.two_nodes import TwoNodes
from tests.simulators.waiting import until

pytestmark = pytest.mark.postgres

GIVER, TAKER = "tax", "harbour-bank"
DATASET = f"members/{COMPANY}/datasets/customers"


@pytest.fixture
def store(address):
    with closing(PostgresContractStore(address)) as store:
        yield store


@pytest.fixture
def another(address):
    """Return a function that opens the store as another node would; all are closed in the end."""
    opened = []

    def another():
        opened.append(PostgresContractStore(address))
        return opened[-1]

    yield another
    for store in opened:
        store.close()


@pytest.fixture
def edit(server, address):
    """Return a function that edits a row as somebody who owns the tables."""

    def edit(version, column, old, new):
        with server.owner(address) as connection:
            row = connection.execute(
                f"SELECT {column} FROM sluicegate.contracts WHERE id = %s", (version.id,)
            ).fetchone()
            assert old in row[0], "the tampering must hit something"
            connection.execute(
                f"UPDATE sluicegate.contracts SET {column} = %s WHERE id = %s",
                (row[0].replace(old, new), version.id),
            )

    return edit


class TestPostgres(ContractStoreBehaviour):
    """What every store does, in the shared database."""


def test_both_engines_keep_the_same(store, tmp_path):
    version = active(store)
    other = SqliteContractStore(tmp_path / "contracts.db")
    assert active(other) == version
    assert store.versions()[1] == other.versions()[1] == [version]


@pytest.mark.timed
async def test_a_suspension_is_seen_by_the_other_node_by_notice(store, another):
    """P11. Control: it is heard well before anybody would have looked by itself."""
    version = active(store)
    register = ContractRegister(another(), lambda _: True)
    task = asyncio.create_task(register.keep_fresh(lambda _: None))
    try:
        await asyncio.sleep(0)
        assert register.covering(DATASET, NOW) == [version.contract()]
        await asyncio.to_thread(suspend, store, version)
        await until(lambda: register.covering(DATASET, NOW) == [], within_s=1.0)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_notice_ends_the_waiting(store, another):
    listening = another()
    await listening.await_change(0.0)
    loop = asyncio.get_running_loop()
    waiting = asyncio.create_task(listening.await_change(20.0))
    started = loop.time()

    async def told():
        await asyncio.to_thread(active, store, contract=f"c{int(loop.time() * 1000)}")
        return waiting.done()

    await until(told, within_s=10)
    assert loop.time() - started < 10 > REFRESH_INTERVAL_S


def test_whoever_changes_a_row_raises_the_revision(store, server, address):
    version = active(store)
    before = store.revision()
    with server.owner(address) as connection:
        connection.execute("UPDATE sluicegate.contracts SET standing = standing")
    assert store.revision() > before
    assert store.versions()[1] == [version]


def test_the_gateways_role_removes_no_contract(store, another, address):
    """Control: it may change where one stands."""
    version = active(store)
    session = another()
    with (
        pytest.raises(psycopg.errors.InsufficientPrivilege),
        session._reading._open() as connection,
    ):
        connection.execute("DELETE FROM contracts")
    suspend(store, version)


def test_a_server_that_is_gone_is_told_and_found_again(store, server):
    active(store)
    server.stop()
    try:
        for call in (store.revision, store.versions, lambda: active(store, contract="another")):
            with pytest.raises(ContractsUnavailableError):
                call()
    finally:
        server.start()
    assert store.versions()[1][0].terms == terms_of()


def signed_in_files(world):
    """Return a contract in force, kept and recorded in the deployment's files."""
    keys = {member: SigningKey.load(world.members[member].signing_key) for member in (GIVER, TAKER)}
    dataset = {**content_of()["datasets"][0], "name": f"members/{GIVER}/datasets/customers"}
    parties = [{"member": GIVER, "role": "contributor"}, {"member": TAKER, "role": "recipient"}]
    terms = terms_of(
        parties=parties,
        datasets=[dataset],
        valid_from="2020-01-01T00:00:00Z",
        valid_until="2099-01-01T00:00:00Z",
    )
    handed_in = {
        member: open_signed(sign_terms(terms, key), member, {key.key_id: key.verify_key})
        for member, key in keys.items()
    }

    def record(change):
        record_entry(world.config, entry_of(change, world.clock()), clock=world.clock)

    store = SqliteContractStore(world.config.contracts_place)
    now = world.clock()
    name = terms.contract
    store.change(name, lambda history: negotiation.propose(history, handed_in[GIVER], now), record)
    [change] = store.change(name, lambda history: negotiation.sign(history, handed_in[TAKER], now), record)
    return change.version


@pytest.mark.timed
async def test_a_contract_moves_with_its_deployment_and_a_suspension_bites_on_both_nodes(tmp_path, server):
    """P11, over two gateways: signed on files, moved, suspended through one, gone on the other."""
    world = TwoNodes(tmp_path / "world", server)
    version = await asyncio.to_thread(signed_in_files, world)
    await world.start()
    try:
        registers = [node.contracting.register for node in world.nodes]
        dataset = version.terms.datasets[0].name
        for register in registers:
            assert [found.id for found in register.covering(dataset, world.clock())] == [version.id]
        await world.on(0).client(GIVER).contracts.suspend(version.name, "a doubt")
        await until(lambda: registers[1].covering(dataset, world.clock()) == [], within_s=1.0)
        await world.on(1).client(GIVER).contracts.resume(version.name)
        await until(lambda: registers[0].covering(dataset, world.clock()) != [], within_s=1.0)
        world.log.verify()
    finally:
        await world.stop()
