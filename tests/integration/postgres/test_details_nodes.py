"""Two gateways that keep details in one database, and what officers do with them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.database.session import connect
from gateway.deployment import move
from gateway.deployment.erasures import erase_details
from gateway.deployment.kept import open_store
from gateway.deployment.move import move_to_postgres
from gateway.deployment.searches import find_subject
from gateway.details import (
    Custodian,
    DetailsAlteredError,
    DetailsErasedError,
    DetailsMissingError,
    open_details_store,
)
from gateway.model import Entry, EntryKind
from tests.simulators.officers import Officers
from tests.simulators.postgres import PostgresServer, name_database, running_postgres
from tests.simulators.two_nodes import TwoNodes
from tests.simulators.waiting import until
from tests.simulators.world import SimulatedWorld

pytestmark = [pytest.mark.postgres, pytest.mark.asyncio(loop_scope="module")]


@pytest.fixture(scope="module")
def server() -> Any:
    with running_postgres() as server:
        yield server


def custodians() -> list[Custodian]:
    return [Custodian.generate(name) for name in ("chen", "lin", "zhao")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def officers(tmp_path_factory: Any, server: PostgresServer) -> AsyncIterator[Officers]:
    """Two nodes that keep details, and the people around them. Opening them started both on one store."""
    found = Officers(TwoNodes(tmp_path_factory.mktemp("world"), server), custodians())
    await found.start()
    try:
        yield found
        found.world.log.verify()
    finally:
        await found.world.stop()


def nodes_of(officers: Officers) -> TwoNodes:
    assert isinstance(officers.world, TwoNodes)
    return officers.world


async def asked(officers: Officers, number: int, uscc: str) -> Entry:
    """Ask one node about a company; return the entry, once its details are kept."""
    nodes_of(officers).on(number)
    entry = await officers.ask(uscc)
    keeper = officers.world.node._details
    assert keeper is not None
    await until(lambda: keeper.depth == 0)
    return entry


async def test_what_either_node_keeps_is_opened_by_two_custodians(officers: Officers) -> None:
    for number in (0, 1):
        uscc = officers.world.companies[number].uscc
        entry = await asked(officers, number, uscc)
        opened = await asyncio.to_thread(officers.open, officers.index_of(entry.exchange))
        assert opened.details.subject is not None
        assert opened.details.subject.subjects == (uscc,)
        recorded = officers.newest()
        assert recorded.kind is EntryKind.DETAILS_OPENED
        assert recorded.detail["approved_by"] == "chen,lin"


async def test_a_start_of_each_node_says_who_can_open_them(officers: Officers) -> None:
    started = [entry for entry in officers.world.log.entries() if entry.kind is EntryKind.GATEWAY_STARTED]
    told = {entry.detail["node"]: entry.detail["details"] for entry in started}
    assert set(told) >= {"node-0", "node-1"}
    assert all(text.startswith("2 of chen ") for text in told.values())


async def test_a_subject_is_found_whichever_node_was_asked_and_erased_from_both(officers: Officers) -> None:
    wanted, other = (company.uscc for company in officers.world.companies[2:4])
    entries = [await asked(officers, number, wanted) for number in (0, 1)]
    kept = await asked(officers, 1, other)

    def search() -> list[str]:
        found = find_subject(
            officers.config, "uscc", wanted, reason="request 1", by="o", clock=officers.world.clock
        )
        return [json.loads(entry.data)["exchange"] for entry in found.entries]

    assert set(await asyncio.to_thread(search)) == {entry.exchange for entry in entries}
    count, recorded = await asyncio.to_thread(
        lambda: erase_details(
            officers.config,
            legal_basis="request 1",
            by="o",
            subject=("uscc", wanted),
            clock=officers.world.clock,
        )
    )
    assert count == 3, "two questions, and the search"
    assert await asyncio.to_thread(search) == []
    for entry in entries:
        with pytest.raises(DetailsErasedError, match=f"as entry {recorded} says"):
            await asyncio.to_thread(officers.open, officers.index_of(entry.exchange))
    await asyncio.to_thread(officers.open, officers.index_of(kept.exchange))
    officers.world.log.verify()


async def test_while_the_nodes_serve_everything_before_a_day_is_erased(officers: Officers) -> None:
    """Both go on meanwhile, and what they ask then is kept."""
    for number in (0, 1):
        await asked(officers, number, officers.world.companies[number].uscc)
    tomorrow = officers.world.clock().date() + timedelta(days=1)
    erasing = asyncio.create_task(
        asyncio.to_thread(
            lambda: erase_details(
                officers.config, legal_basis="retention", by="o", before=tomorrow, clock=officers.world.clock
            )
        )
    )
    while not erasing.done():
        await asked(officers, 0, officers.world.companies[4].uscc)
    assert (await erasing)[0] >= 2
    entry = await asked(officers, 1, officers.world.companies[5].uscc)
    await asyncio.to_thread(officers.open, officers.index_of(entry.exchange))


# -- attacks: who has taken a node has the rights of its role; a careless owner has more -----------


async def test_rows_that_were_exchanged_are_noticed(officers: Officers, server: PostgresServer) -> None:
    entries = [await asked(officers, 0, company.uscc) for company in officers.world.companies[:2]]
    first, second = (officers.index_of(entry.exchange) for entry in entries)
    await asyncio.to_thread(officers.open, first)
    assert officers.config.details is not None

    one, other = (entry.exchange for entry in entries)

    def swap() -> None:
        with server.owner(nodes_of(officers).address) as connection:
            connection.execute(
                "UPDATE sluicegate.details SET exchange = CASE exchange WHEN %s THEN %s ELSE %s END"
                " WHERE exchange IN (%s, %s)",
                (one, other, one, one, other),
            )

    await asyncio.to_thread(swap)
    for index in (first, second):
        with pytest.raises(DetailsAlteredError, match="altered or exchanged"):
            await asyncio.to_thread(officers.open, index)
    await asyncio.to_thread(swap)
    await asyncio.to_thread(officers.open, first)


async def test_a_row_that_was_deleted_with_the_gateways_own_rights_is_told_as_missing(
    officers: Officers,
) -> None:
    entry = await asked(officers, 0, officers.world.companies[0].uscc)
    index = officers.index_of(entry.exchange)

    def delete() -> int:
        with connect(nodes_of(officers).address, "attack") as session:
            return session.execute("DELETE FROM details WHERE exchange = %s", (entry.exchange,)).rowcount

    assert await asyncio.to_thread(delete) == 1
    with pytest.raises(DetailsMissingError, match="behind the log's back"):
        await asyncio.to_thread(officers.open, index)


async def test_an_erasing_that_the_log_does_not_know_is_not_believed(officers: Officers) -> None:
    entries = [await asked(officers, 0, company.uscc) for company in officers.world.companies[:2]]
    first, second = (officers.index_of(entry.exchange) for entry in entries)
    _, recorded = await asyncio.to_thread(
        lambda: erase_details(
            officers.config, legal_basis="x", by="o", index=first, clock=officers.world.clock
        )
    )

    def claim() -> None:
        with connect(nodes_of(officers).address, "attack") as session:
            session.execute("DELETE FROM details WHERE exchange = %s", (entries[1].exchange,))
            session.execute(
                "INSERT INTO erased VALUES (%s, 'exchange.requested', %s)", (entries[1].exchange, recorded)
            )

    with pytest.raises(DetailsErasedError):
        await asyncio.to_thread(officers.open, first)
    await asyncio.to_thread(claim)
    for index in (first, second):
        with pytest.raises(DetailsAlteredError, match="does not bear that out"):
            await asyncio.to_thread(officers.open, index)


async def test_no_identifier_stands_in_clear_in_the_server_and_none_is_left_after_erasing(
    officers: Officers, server: PostgresServer
) -> None:
    uscc = officers.world.companies[6].uscc
    entry = await asked(officers, 1, uscc)
    with closing(open_store(officers.config)) as store:
        [(stored, _)] = store.of_exchange(entry.exchange)

    def readable() -> bytes:
        with server.admin() as connection:
            connection.execute("CHECKPOINT")
        return b"".join(path.read_bytes() for path in (server.data / "base").rglob("*") if path.is_file())

    content = await asyncio.to_thread(readable)
    assert uscc.encode() not in content
    assert stored.content in content, "the control: what is kept is there, sealed"
    await asyncio.to_thread(
        lambda: erase_details(
            officers.config, legal_basis="x", by="o", subject=("uscc", uscc), clock=officers.world.clock
        )
    )
    content = await asyncio.to_thread(readable)
    assert stored.content[:48] not in content
    assert stored.wraps not in content


# -- moving there ----------------------------------------------------------------------------------


@pytest_asyncio.fixture(loop_scope="module")
async def moving(tmp_path: Path) -> AsyncIterator[tuple[Officers, list[Entry], int]]:
    """A stopped deployment in files: two exchanges whose details are kept, and one whose were erased."""
    found = Officers(SimulatedWorld(tmp_path / "world"), custodians())
    await found.start()
    try:
        entries = [await found.ask(company.uscc) for company in found.world.companies[:3]]
        await found.world.stop_node()
        erased = found.index_of(entries[2].exchange)
        erase_details(found.config, legal_basis="x", by="o", index=erased, clock=found.world.clock)
        yield found, entries, erased
    finally:
        await found.world.stop()


def in_postgres(officers: Officers, address: Any) -> None:
    """Do what the operator does after a move."""
    name_database(officers.world.deployment.config, address)
    members = officers.config.members.model_copy(update={"database": address})
    log = officers.config.log.model_copy(update={"database": address})
    assert officers.config.details is not None
    details = officers.config.details.model_copy(update={"database": address})
    officers.config = officers.config.model_copy(update={"log": log, "members": members, "details": details})


async def test_details_move_with_the_log_and_the_file_does_not_stay_behind(
    moving: tuple[Officers, list[Entry], int], server: PostgresServer
) -> None:
    officers, entries, erased = moving
    indices = [officers.index_of(entry.exchange) for entry in entries[:2]]
    uscc = officers.world.companies[0].uscc
    trust, address = officers.world.trust, server.database()
    assert officers.config.details is not None
    file = officers.config.details.database
    assert isinstance(file, Path)
    with closing(open_details_store(file, trust.origin)) as store:
        [(stored, keys)] = store.of_exchange(entries[0].exchange)
    moved = await asyncio.to_thread(move_to_postgres, officers.config, address)
    assert moved.details == 2
    assert sorted(path.name for path in file.parent.iterdir() if "details" in path.name) == []
    in_postgres(officers, address)
    with closing(open_store(officers.config)) as store:
        assert store.of_exchange(entries[0].exchange) == [(stored, keys)]

    def open_there(index: int) -> Any:
        return officers.open(index).details.subject.subjects

    assert await asyncio.to_thread(open_there, indices[0]) == (uscc,)
    with pytest.raises(DetailsErasedError):
        await asyncio.to_thread(open_there, erased)
    found = await asyncio.to_thread(
        lambda: find_subject(
            officers.config, "uscc", uscc, reason="request 2", by="o", clock=officers.world.clock
        )
    )
    assert len(found.entries) == 1


async def test_a_move_that_broke_off_before_the_file_was_removed_is_taken_up_again(
    moving: tuple[Officers, list[Entry], int], server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    officers, _, _ = moving
    address = server.database()
    assert officers.config.details is not None
    file = officers.config.details.database
    assert isinstance(file, Path)
    removing = move.destroy

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(move, "destroy", interrupted)
    with pytest.raises(KeyboardInterrupt):
        await asyncio.to_thread(move_to_postgres, officers.config, address)
    assert file.exists()
    monkeypatch.setattr(move, "destroy", removing)
    assert (await asyncio.to_thread(move_to_postgres, officers.config, address)).details == 2
    assert not file.exists()


async def test_a_file_whose_copy_differs_is_not_removed(
    moving: tuple[Officers, list[Entry], int], server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    officers, _, _ = moving
    address = server.database()
    assert officers.config.details is not None
    file = officers.config.details.database
    assert isinstance(file, Path)
    verifying = move.verify_copy

    def alter_first(*values: Any) -> None:
        with server.owner(address) as connection:
            connection.execute("UPDATE sluicegate.details SET day = '1999-01-01' WHERE number = 1")
        verifying(*values)

    monkeypatch.setattr(move, "verify_copy", alter_first)
    with pytest.raises(DetailsAlteredError, match="other details than the file"):
        await asyncio.to_thread(move_to_postgres, officers.config, address)
    assert file.exists()
    assert isinstance(officers.config.log.database, Path)
    assert officers.config.log.database.exists(), "nothing was retired"
