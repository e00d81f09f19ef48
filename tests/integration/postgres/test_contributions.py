"""Contributions on two nodes that share one PostgreSQL: what one has begun the other goes on with."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio

from gateway.client import Choice, ClientError, record_line
from gateway.contributions.deployed import open_register
from gateway.model import EntryKind
from gateway.vault import open_vault
from tests.behaviour.test_contributed import CONTRACT, GIVER, agree, give, served, shops, with_bad_rows
from tests.simulators.postgres import PostgresServer
from tests.simulators.two_nodes import TwoNodes
from tests.simulators.waiting import until

pytestmark = [pytest.mark.postgres, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: Any, server: PostgresServer) -> AsyncIterator[TwoNodes]:
    world = TwoNodes(tmp_path_factory.mktemp("world"), server)
    await world.start()
    try:
        await agree(world.on(0))
        yield world
        world.log.verify()
    finally:
        await world.stop()


def begun(world: TwoNodes, batch: str) -> int:
    return sum(
        entry.kind is EntryKind.CONTRIBUTION_BEGUN and entry.detail["batch"] == batch
        for entry in world.log.entries()
    )


async def test_a_batch_that_one_node_has_taken_the_other_tells_of(world: TwoNodes) -> None:
    rows = shops(world)
    done = await give(world.on(0), with_bad_rows(rows), "march")
    assert (done.accepted, done.report.accepted, done.report.rejected) == (True, len(rows), 3)
    again = await give(world.on(1), with_bad_rows(rows), "march")
    assert again.receipt == done.receipt
    assert begun(world, "march") == 1
    for number in (0, 1):
        assert (await served(world.on(number), rows[5])).verified.from_vault


async def test_an_upload_cut_on_one_node_goes_on_at_the_other(world: TwoNodes) -> None:
    rows = [{**row, "remarks": "x" * 60_000} for row in shops(world)]
    lines = [record_line(row) for row in rows]
    stop = threading.Event()

    def cut_short() -> Iterator[bytes]:
        yield from lines[:-1]
        stop.wait(30)

    parts = {"contract": CONTRACT, "dataset": "shops", "batch": "april", "choice": Choice.ACCEPT_VALID}
    first = asyncio.create_task(world.on(0).client(GIVER).contribute(cut_short, **parts))
    with closing(open_vault(world.config.vault, clock=world.clock)) as vault:
        await until(lambda: bool(vault.writer.leftovers(timedelta(seconds=-1))), within_s=20)
    first.cancel()
    stop.set()
    await asyncio.gather(first, return_exceptions=True)
    done = await world.on(1).client(GIVER).contribute(lambda: iter(lines), patience_s=20.0, **parts)
    assert (done.accepted, done.report.accepted, begun(world, "april")) == (True, len(rows), 1)


async def test_a_batch_under_way_elsewhere_is_not_taken(world: TwoNodes) -> None:
    """Control: it is once the other has let go."""
    with closing(open_register(world.address)) as elsewhere:
        with elsewhere.exclusively(GIVER, "may"), pytest.raises(ClientError) as refused:
            await (
                world.on(1)
                .client(GIVER)
                .contribute(
                    lambda: iter([record_line(shops(world)[0])]),
                    contract=CONTRACT,
                    dataset="shops",
                    batch="may",
                    patience_s=0.2,
                )
            )
        assert refused.value.reason == "CONTRIBUTION_BUSY"
        assert begun(world, "may") == 0
        assert (await give(world.on(1), shops(world)[:1], "may")).accepted
