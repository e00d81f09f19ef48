"""A stop waits for the last entries, and not for ever."""

import asyncio

import pytest

from gateway.exchange.state import OpenExchanges

pytestmark = pytest.mark.asyncio


async def test_nothing_under_way_is_not_waited_for():
    assert await OpenExchanges().wait_until_none(0.01)


async def test_the_last_end_ends_the_wait():
    exchanges = OpenExchanges()
    exchanges.begin()
    exchanges.begin()
    waiting = asyncio.create_task(exchanges.wait_until_none(5))
    exchanges.end()
    await asyncio.sleep(0)
    assert not waiting.done()
    exchanges.end()
    assert await waiting


async def test_the_wait_has_an_end():
    exchanges = OpenExchanges()
    exchanges.begin()
    assert not await exchanges.wait_until_none(0.01)
    assert exchanges.count == 1


async def test_an_entry_that_outlives_its_exchange_is_waited_for():
    exchanges = OpenExchanges()
    written = asyncio.get_running_loop().create_future()
    exchanges.begin()
    exchanges.hold_until_done(written)
    exchanges.end()
    assert not await exchanges.wait_until_none(0.01)
    written.set_exception(OSError())  # nobody is left to hear of it
    assert await exchanges.wait_until_none(1)
