"""Uploads that break off at any point go on where they were, and never hold a batch for good."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio

from gateway.api.v1 import contribution_service_pb2 as api
from gateway.client import Choice
from gateway.client.contributing import pages_of
from gateway.errors import GatewayError, Reason
from gateway.pki.tls13 import require_tls13
from tests.simulators.campaign import scaled
from tests.simulators.contributing import (
    DATASET,
    ContributionWorld,
    contribution_world,
    lines,
    records,
)
from tests.simulators.cutting_upload import CuttingRelay
from tests.simulators.raw_upload import RawUpload, many, reason_of
from tests.simulators.waiting import until

require_tls13()

CUTS = scaled(50, 500)


@pytest_asyncio.fixture
async def world(tmp_path: Any) -> AsyncIterator[ContributionWorld]:
    """A gateway with one contract in force; whatever a test did, its log is sound."""
    async with contribution_world(tmp_path) as world:
        yield world


@pytest.mark.timeout(1800)
async def test_an_upload_cut_at_any_byte_ends_as_one_that_was_not(world: ContributionWorld) -> None:
    rows = [*await many(12_000), *records(20), {"name": "x"}]
    whole = await world.contribute(rows, batch="whole", choice=Choice.ACCEPT_VALID)
    sent = sum(map(len, lines(rows)))
    dice = random.Random(5)
    broken = 0
    batch = 0
    while broken < CUTS:
        cuts = [dice.randrange(200, sent // 2) for _ in range(12)]
        async with CuttingRelay(world.gateway.port, cuts) as relay:
            done = await world.contribute(
                rows,
                batch=f"cut-{batch}",
                choice=Choice.ACCEPT_VALID,
                client=world.client(port=relay.port),
                patience_s=60.0,
            )
            broken += relay.broken
        batch += 1
        assert done.report == whole.report
        assert done.verified.statement.records == len(rows)
    evidence = world.vault.visible(DATASET)
    taken = evidence[: whole.report.accepted]
    assert evidence == taken * (batch + 1)
    assert world.vault.hidden() == 0


async def test_what_is_durable_is_not_sent_again(world: ContributionWorld) -> None:
    rows = lines(await many(40_000))
    upload = RawUpload(world)
    await upload.open(batch="long")
    first = 0
    progress = api.ContributionProgress()
    while progress.records == 0:
        page = rows[first : first + 1000]
        await upload.page(first, b"\n".join(page) + b"\n")
        first += 1000
        if first == 20_000:
            progress = (await upload.hear()).progress
    upload._call.cancel()
    again = RawUpload(world)
    opened = await again.open(batch="long")
    assert opened.records >= progress.records > 0
    assert world.vault.visible(DATASET) == []
    again._call.cancel()


async def test_records_that_changed_during_a_break_are_noticed(world: ContributionWorld) -> None:
    rows = await many(30_000)
    upload = RawUpload(world)
    await upload.open(batch="changed", choice=api.CONTRIBUTION_CHOICE_ACCEPT_VALID)
    first = 0
    for page in list(pages_of(lines(rows)))[:12]:
        await upload.page(first, b"\n".join(page) + b"\n")
        first += len(page)
    await upload.hear()
    upload._call.cancel()
    rows[5] = {**rows[5], "employees": 499}
    error = await reason_of(world.contribute(rows, batch="changed", choice=Choice.ACCEPT_VALID))
    assert "no longer those" in error.message
    assert world.vault.visible(DATASET) == []


class Held:
    """Holds every call of a blocking method until `release`."""

    def __init__(self, method: Callable[..., Any]) -> None:
        self._method = method
        self._go_on = threading.Event()
        self.entered = threading.Event()

    def __call__(self, *arguments: Any) -> Any:
        self.entered.set()
        assert self._go_on.wait(20)
        return self._method(*arguments)

    def release(self) -> None:
        self._go_on.set()


async def test_an_upload_that_breaks_while_it_is_opened_lets_go_of_the_batch(
    world: ContributionWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gateway has the lock and no answer is out yet: no caller has the upload to leave it."""
    begin = Held(world.vault.begin)
    monkeypatch.setattr(world.vault, "begin", begin)
    upload = RawUpload(world)
    await upload.say(opening=upload.opening("early"))
    await until(begin.entered.is_set)
    upload._call.cancel()
    await asyncio.sleep(0.2)
    begin.release()
    await until(lambda: not world.gateway.service._uploads)
    assert (await world.contribute(records(10), batch="early")).accepted


async def test_an_upload_whose_last_pages_cannot_be_kept_lets_go_of_the_batch(
    world: ContributionWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_: Any) -> Any:
        raise RuntimeError("the vault broke in a way nobody thought of")

    upload = RawUpload(world)
    await upload.open(batch="late")
    await upload.page(0, b"\n".join(lines(records(10))) + b"\n")
    [under_way] = world.gateway.service._uploads.values()
    await until(lambda: bool(under_way._staging and under_way._staging._waiting))
    monkeypatch.setattr(world.vault, "stage", lost)
    upload._call.cancel()
    await until(lambda: not world.gateway.service._uploads)
    monkeypatch.undo()
    assert (await world.contribute(records(10), batch="late")).accepted


async def test_a_second_upload_of_a_batch_takes_over_from_one_that_hangs(world: ContributionWorld) -> None:
    rows = records(100)
    hanging = RawUpload(world)
    await hanging.open(batch="taken-over")
    done = await world.contribute(rows, batch="taken-over")
    assert done.accepted
    assert (await hanging.refusal()).reason == Reason.CONTRIBUTION_BUSY.value


async def test_a_sealed_batch_is_completed_by_the_next_start(world: ContributionWorld) -> None:
    """The log takes the entry, and then the vault cannot commit: the end is decided and will come."""
    rows = records(2000)
    vault = world.vault
    commit = vault.commit

    def failing(*_: Any) -> int:
        raise GatewayError("no space", reason=Reason.VAULT_UNAVAILABLE)

    vault.commit = failing  # type: ignore[method-assign]
    error = await reason_of(world.contribute(rows, batch="sealed", patience_s=0.0))
    assert error.reason == Reason.VAULT_UNAVAILABLE.value
    assert vault.visible(DATASET) == []
    vault.commit = commit  # type: ignore[method-assign]
    [accepted] = world.entries("contribution.accepted")
    await world.restart()
    assert world.vault.visible(DATASET) == lines(rows)
    done = await world.contribute(rows, batch="sealed")
    assert (done.accepted, done.verified.entry) == (True, accepted)
    assert world.entries("contribution.accepted") == [accepted]


async def test_a_batch_that_lies_for_a_week_is_let_go(world: ContributionWorld) -> None:
    rows = lines(await many(20_000))
    upload = RawUpload(world)
    await upload.open(batch="forgotten")
    for first in range(0, 20_000, 1000):
        await upload.page(first, b"\n".join(rows[first : first + 1000]) + b"\n")
    await upload.hear()
    upload._call.cancel()
    await until(lambda: not world.gateway.service._uploads)
    assert world.vault.hidden() > 0
    world.clock.advance(timedelta(days=6))
    await world.gateway.service.recover()
    assert world.vault.hidden() > 0
    world.clock.advance(timedelta(days=2))
    await world.gateway.service.recover()
    assert world.vault.hidden() == 0
    assert world.log.entries()[-1].reasons == (Reason.CONTRIBUTION_ABANDONED.value,)
    assert world.gateway.register.unfinished() == []
