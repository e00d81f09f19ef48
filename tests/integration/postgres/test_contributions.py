"""Contributions on two nodes that share one PostgreSQL: what one has begun the other goes on with."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio

from gateway.client import Choice, ClientError, Page, record_line
from gateway.contributions.deployed import open_register
from gateway.model import EntryKind
from gateway.vault import open_vault
from tests.behaviour.test_contributed import (
    CONTRACT,
    GIVER,
    SHOPS,
    TAKER,
    agree,
    ask,
    give,
    served,
    shops,
    with_bad_rows,
)
from tests.simulators.in_force import until_listed
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
        await until_listed(world.on(1).client(TAKER), SHOPS)
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


async def test_what_one_node_takes_the_other_gives_corrected_and_no_more_once_it_is_withdrawn(
    world: TwoNodes,
) -> None:
    rows = shops(world)
    for turn, (here, there) in enumerate([(0, 1), (1, 0)]):
        row = {**rows[20 + turn], "name": f"Shop of turn {turn}"}
        assert (await give(world.on(here), [row], f"given-{turn}")).accepted
        await served(world.on(there), row)
        corrected = {**row, "name": f"Shop of turn {turn}, corrected"}
        assert (await give(world.on(there), [corrected], f"corrected-{turn}")).accepted
        await served(world.on(here), corrected)
        withdrawn, _ = (
            await world.on(here).client(GIVER).withdraw([(row["uscc"],)], contract=CONTRACT, dataset="shops")
        )
        assert withdrawn == 1

        async def is_gone(code: str = row["uscc"], number: int = there) -> bool:
            return not (await ask(world.on(number), code)).records

        await until(is_gone)


@pytest_asyncio.fixture(loop_scope="module")
async def suspended_at_the_other(world: TwoNodes) -> AsyncIterator[Callable[[], Awaitable[float]]]:
    """Return a function that suspends the contract at node 0 and returns when; in the end it is resumed."""

    async def suspend() -> float:
        await contracts.suspend(name, "a doubt")
        return time.monotonic()

    contracts = world.on(0).client(GIVER).contracts
    [name] = [each.name for each in await contracts.list()]
    yield suspend
    await contracts.resume(name)
    for number in (0, 1):
        await until_listed(world.on(number).client(TAKER), SHOPS)


@pytest.mark.timed
async def test_a_suspension_at_one_node_stops_an_upload_at_the_other_within_a_second(
    world: TwoNodes, suspended_at_the_other: Callable[[], Awaitable[float]]
) -> None:
    lines = [record_line({**row, "remarks": "x" * 60_000}) for row in shops(world)]
    goes_on = threading.Event()

    def waiting() -> Iterator[bytes]:
        yield from lines[:-1]
        goes_on.wait(30)
        yield lines[-1]

    parts = {"contract": CONTRACT, "dataset": "shops", "batch": "stopped", "choice": Choice.ACCEPT_VALID}
    upload = asyncio.create_task(world.on(1).client(GIVER).contribute(waiting, **parts))
    with closing(open_vault(world.config.vault, clock=world.clock)) as vault:
        await until(lambda: bool(vault.writer.leftovers(timedelta(seconds=-1))), within_s=20)
        begun = await suspended_at_the_other()
        # The company says nothing more: it is told all the same.
        with pytest.raises(ClientError) as refused:
            await upload
        assert time.monotonic() - begun < 1.0
        goes_on.set()
        assert refused.value.reason == "CONTRACT_NOT_IN_FORCE"
        assert vault.writer.leftovers(timedelta(seconds=-1)) == []
    refusal = [each for each in world.log.entries() if each.kind is EntryKind.CONTRIBUTION_REFUSED][-1]
    assert (refusal.detail["batch"], refusal.reasons) == ("stopped", ("CONTRACT_NOT_IN_FORCE",))


@pytest.mark.timed
async def test_a_suspension_at_one_node_stops_an_answer_from_the_vault_at_the_other_within_a_second(
    world: TwoNodes, suspended_at_the_other: Callable[[], Awaitable[float]]
) -> None:
    """Control: read to its end it has a page for each record."""
    rows = [{**row, "name": "n" * 50_000} for row in shops(world)]
    assert (await give(world.on(1), rows, "long")).accepted
    await served(world.on(1), rows[3])
    parts = {"purpose": "public-lookup", "page_size": 1}
    client = world.on(1).client(TAKER)
    whole = [page async for page in client.stream(SHOPS, **parts) if isinstance(page, Page)]
    assert sum(len(page.records) for page in whole) == len(rows)

    answer = client.stream(SHOPS, **parts)
    pages = [await anext(answer) for _ in range(2)]
    begun = await suspended_at_the_other()
    # A page that left before may still be on its way.
    reasons = []
    try:
        async for page in answer:
            pages.append(page)  # noqa: PERF401 - what came before the end
    except ClientError as error:
        reasons.append(error.reason)
    assert time.monotonic() - begun < 1.0
    assert reasons == ["CONTRACT_NOT_IN_FORCE"]
    assert len(pages) < len(rows)
    failed = [each for each in world.log.entries() if each.kind is EntryKind.EXCHANGE_FAILED][-1]
    assert (failed.reasons, failed.provider) == (("CONTRACT_NOT_IN_FORCE",), GIVER)
    assert len(pages) <= failed.records < len(rows)


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
