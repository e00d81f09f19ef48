"""A quota raced by 32 clients on two nodes gives out what it says, and not one record more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import closing
from typing import Any

import grpc
import pytest
import pytest_asyncio

from gateway.ledger import AccountKind, open_ledger
from gateway.model import EntryKind, Operation
from gateway.model.contract import Contract, Per, Quota
from tests.simulators.in_force import SELLERS, sellers, sellers_terms, until_listed
from tests.simulators.postgres import PostgresServer
from tests.simulators.two_nodes import TwoNodes
from tests.simulators.waiting import until

pytestmark = [pytest.mark.postgres, pytest.mark.asyncio(loop_scope="module")]

CLIENTS = 32
QUOTA = 500


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: Any, server: PostgresServer) -> AsyncIterator[TwoNodes]:
    world = TwoNodes(tmp_path_factory.mktemp("world"), server)
    await world.start()
    try:
        yield world
    finally:
        await world.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def contract(world: TwoNodes) -> Contract:
    """In force on both nodes."""
    world.registry.lists[SELLERS] = sellers(world.companies)
    quotas = (Quota(records=QUOTA, per=Per.TERM),)
    for node in world.nodes:
        contract = node.contracts.put(sellers_terms(quotas=quotas))
    for number in range(2):
        await until_listed(world.on(number).client(), SELLERS)
    return contract


async def test_a_quota_raced_on_two_nodes_is_used_up_to_the_last_record(
    world: TwoNodes, contract: Contract
) -> None:
    """Control: without the quota they would have got more than twice as much."""
    callers = [world.on(number % 2).caller() for number in range(CLIENTS)]
    got: list[int] = []
    refusals: list[grpc.StatusCode] = []

    async def ask(number: int) -> None:
        for turn in range(4):
            size = 1 + (number + turn) % 7
            caller = callers[number]
            try:
                if turn % 2:
                    signed = caller.statement(SELLERS, "public-lookup", Operation.STREAM)
                    async for message in caller.stream(signed, page_size=size):
                        got.append(message.page.record_count)  # noqa: PERF401 - what came before a refusal
                else:
                    signed = caller.statement(SELLERS, "public-lookup", Operation.QUERY)
                    got.append((await caller.query(signed, page_size=size)).page.record_count)
            except grpc.aio.AioRpcError as error:
                refusals.append(error.code())

    await asyncio.gather(*map(ask, range(CLIENTS)))
    # What is left is less than the largest question; the smallest takes it.
    while True:
        signed = callers[0].statement(SELLERS, "public-lookup", Operation.QUERY)
        try:
            got.append((await callers[0].query(signed, page_size=1)).page.record_count)
        except grpc.aio.AioRpcError:
            break
    assert set(refusals) == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert len(refusals) > CLIENTS, "there was hardly a race"
    assert sum(got) == QUOTA
    closing_kinds = {EntryKind.EXCHANGE_RELEASED, EntryKind.EXCHANGE_FAILED}
    entries = [entry for entry in world.log.entries() if entry.kind in closing_kinds]
    assert sum(entry.records for entry in entries if entry.contract == contract.id) == QUOTA
    with closing(open_ledger(world.address)) as ledger:
        await until(lambda: not ledger.holds())
        [standing] = [one for one in ledger.standings() if one.account.kind is AccountKind.QUOTA]
    assert (standing.records, standing.limit) == (QUOTA, QUOTA)
