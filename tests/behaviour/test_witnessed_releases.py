"""At a tier that policy wants witnessed, nothing leaves before other people's witnesses have seen it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.audit.errors import WitnessQuorumError
from gateway.audit.holdings import Outcome
from gateway.audit.log_holdings import read_holdings
from gateway.audit.publication import Grade
from gateway.audit.receipt import Receipt, VerifiedReceipt, verify_receipt
from gateway.audit.sqlite_publications import SqlitePublications
from gateway.audit.sqlite_reader import SqliteReader
from gateway.audit.witness_policy import WitnessPolicy
from gateway.client import Page, StreamSummary, error_class
from gateway.client.errors import ClientError
from gateway.config import GatewayConfig, WitnessesConfig
from gateway.demo.world import COMPANIES
from gateway.errors import ConfigError, Reason
from gateway.model import Entry, EntryKind, Subject
from tests.simulators.waiting import until
from tests.simulators.witness import RealWitness, ScriptedWitness
from tests.simulators.world import SimulatedWorld

pytestmark = pytest.mark.asyncio(loop_scope="module")

CREDIT = {
    "purpose": "credit-check",
    "legal_basis": "credit-reporting-act-14",
    "memorandum": "registry-harbour-bank",
}
STATISTICS = {
    "purpose": "statistics",
    "legal_basis": "statistics-act-9",
    "memorandum": "registry-harbour-bank",
}
RELEASE_TIMEOUT_S = 1.0


def silent() -> ScriptedWitness:
    """Return a witness that takes what it is sent and says nothing."""
    return ScriptedWitness(lambda _: (503, "text/plain", b""), hanging=True)


class WitnessedWorld(SimulatedWorld):
    """A world whose tier `limited` wants two of three witnesses."""

    def __init__(self, directory: Path, *, evidence: str = "witnessed", timeout_s: float = 30) -> None:
        super().__init__(directory)
        self._timeout_s = timeout_s
        tiers = self.config.policy.directory / "data" / "tiers.yaml"
        text = tiers.read_text()
        assert text.count("  - name: limited\n") == 1
        tiers.write_text(
            text.replace("  - name: limited\n", f"  - name: limited\n    evidence: {evidence}\n")
        )
        self.witnesses = [
            RealWitness(directory, number, self.trust.origin, self.trust.log_keys[0]) for number in (1, 2, 3)
        ]
        self.policy_file = directory / "witnesses.policy"

    async def begin(self, *more: str, quorum: int = 2) -> WitnessedWorld:
        """Start witnesses and gateway; `more` are lines of further witnesses."""
        lines = [(await witness.start()).policy_line for witness in self.witnesses]
        lines += more
        names = " ".join(line.split()[1] for line in lines)
        group = f"group all-of-them {quorum} {names}"
        self.policy_file.write_text("\n".join([*lines, group, "quorum all-of-them", ""]))
        await self.start(self.configure)
        return self

    def configure(self, config: GatewayConfig) -> GatewayConfig:
        witnesses = WitnessesConfig(
            policy=self.policy_file,
            interval_s=3600,
            timeout_s=self._timeout_s,
            release_timeout_s=RELEASE_TIMEOUT_S,
        )
        return config.model_copy(update={"log": config.log.model_copy(update={"witnesses": witnesses})})

    async def end(self) -> None:
        await self.stop()
        for witness in self.witnesses:
            await witness.close()

    @property
    def policy(self) -> WitnessPolicy:
        return WitnessPolicy.load(self.policy_file)

    async def credit(self, **options: Any) -> Page:
        """Ask at the tier `limited`."""
        return await self.client().query(COMPANIES, **CREDIT, **options)

    def verify(self, receipt: Receipt | None) -> VerifiedReceipt:
        assert receipt is not None
        return verify_receipt(receipt, self.trust, self.policy)

    def closing(self, exchange: str) -> list[Entry]:
        first = EntryKind.EXCHANGE_REQUESTED
        return [entry for entry in self.log.of_exchange(exchange) if entry.kind is not first]

    def witnessed_size(self) -> int:
        """Return how many entries witnesses have seen."""
        with SqlitePublications(self.config.log.database) as publications:
            latest = publications.latest(Grade.WITNESSED)
        return 0 if latest is None else latest.size


@pytest_asyncio.fixture(loop_scope="module")
async def world(tmp_path: Path) -> AsyncIterator[WitnessedWorld]:
    world = WitnessedWorld(tmp_path / "world")
    try:
        yield await world.begin()
        world.log.verify()
    finally:
        await world.end()


async def refused_for_lack_of_witnesses(world: WitnessedWorld) -> ClientError:
    with pytest.raises(error_class(Reason.WITNESS_UNAVAILABLE)) as raised:
        await world.credit()
    return raised.value


# -- what goes right -------------------------------------------------------------------------------


async def test_the_receipt_carries_the_cosignatures_of_a_quorum(world: WitnessedWorld) -> None:
    page = await world.credit()
    assert len(page) > 0
    assert len(world.verify(page.receipt).witnessed) >= 2


async def test_other_tiers_wait_for_nobody(world: WitnessedWorld) -> None:
    """Control of the above: a receipt of the tier `public` does not satisfy the same policy."""
    page = await world.client().query(COMPANIES, purpose="public-lookup", filters={"kind": "none"})
    verify_receipt(page.receipt, world.trust)
    with pytest.raises(WitnessQuorumError):
        world.verify(page.receipt)


async def test_many_at_once_share_what_is_asked_of_the_witnesses(world: WitnessedWorld) -> None:
    asked = world.witnesses[0].asked
    pages = await asyncio.gather(*(world.credit() for _ in range(24)))
    for page in pages:
        world.verify(page.receipt)
    assert world.witnesses[0].asked - asked < 24


async def test_each_page_of_a_stream_is_witnessed_before_it_leaves(world: WitnessedWorld) -> None:
    async for answer in world.client().stream(COMPANIES, **STATISTICS, page_size=20):
        pages = [entry.page for entry in world.log.entries()[: world.witnessed_size()]]
        if isinstance(answer, StreamSummary):
            world.verify(answer.receipt)
            assert answer.pages == 3
        else:
            assert answer.number in pages


async def test_a_match_is_witnessed_too(world: WitnessedWorld) -> None:
    company = world.companies[0]
    answer = await world.client().match(
        COMPANIES, **CREDIT, subject=Subject("uscc", company.uscc), match={"name": company.name}
    )
    world.verify(answer.receipt)


# -- witnesses that fail ---------------------------------------------------------------------------


async def test_one_witness_that_is_down_is_not_missed(world: WitnessedWorld) -> None:
    await world.witnesses[0].stop()
    assert len(world.verify((await world.credit()).receipt).witnessed) == 2


async def test_too_few_witnesses_stop_the_release_and_the_log_says_so(world: WitnessedWorld) -> None:
    """Control: the tier `public` goes on meanwhile, and this one once they are back."""
    for witness in world.witnesses[:2]:
        await witness.stop()
    error = await refused_for_lack_of_witnesses(world)
    released, failed = world.closing(error.exchange)
    assert (released.kind, failed.kind) == (EntryKind.EXCHANGE_RELEASED, EntryKind.EXCHANGE_FAILED)
    assert failed.reasons == (Reason.WITNESS_UNAVAILABLE.value,)
    assert world.log.entries(failed.withdraws)[0] == released
    assert error.details["withdrawn"] == str(failed.withdraws)
    assert world.log.entries(error.entry)[0] == failed
    assert (failed.records, failed.pages, failed.bytes) == (0, 0, 0)
    await world.works()
    for witness in world.witnesses[:2]:
        await witness.start()
    world.verify((await world.credit()).receipt)
    with SqliteReader(world.config.log.database) as reader:
        holdings = read_holdings(reader, "harbour-bank", world.trust.origin)
    outcomes = {item.exchange: item.outcome for item in holdings.items}
    assert outcomes.pop(error.exchange) is Outcome.WITHDRAWN
    assert set(outcomes.values()) == {Outcome.RELEASED}


async def test_the_same_fault_stops_nothing_at_a_tier_that_asks_for_no_witnesses(tmp_path: Path) -> None:
    """The control of the test above: the same query with the tier's evidence at `committed`."""
    world = WitnessedWorld(tmp_path / "world", evidence="committed")
    try:
        await world.begin()
        for witness in world.witnesses[:2]:
            await witness.stop()
        page = await world.credit()
        assert len(page) > 0
        with pytest.raises(WitnessQuorumError):
            world.verify(page.receipt)
    finally:
        await world.end()


@pytest.mark.timed
async def test_a_witness_that_hangs_is_not_waited_for_once_there_is_a_quorum(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        slow = await stack.enter_async_context(
            ScriptedWitness(lambda _: (503, "text/plain", b""), hanging=True)
        )
        world = WitnessedWorld(tmp_path / "world", timeout_s=0.5)
        stack.push_async_callback(world.end)
        spare = RealWitness(tmp_path, 4, world.trust.origin, world.trust.log_keys[0])
        line = spare.policy_line.rpartition(" ")[0] + f" {slow.url}"
        await world.begin(line)
        started = time.monotonic()
        world.verify((await world.credit()).receipt)
        assert time.monotonic() - started < RELEASE_TIMEOUT_S
        assert slow.bodies


@pytest.mark.timed
async def test_witnesses_that_hang_stop_the_release_after_the_time_that_is_set(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        slow = [await stack.enter_async_context(silent()) for _ in range(2)]
        world = WitnessedWorld(tmp_path / "world", timeout_s=0.5)
        stack.push_async_callback(world.end)
        lines = []
        for number, witness in enumerate(slow, start=4):
            spare = RealWitness(tmp_path, number, world.trust.origin, world.trust.log_keys[0])
            lines.append(spare.policy_line.rpartition(" ")[0] + f" {witness.url}")
        await world.begin(*lines, quorum=4)
        started = time.monotonic()
        await refused_for_lack_of_witnesses(world)
        assert RELEASE_TIMEOUT_S <= time.monotonic() - started < 3 * RELEASE_TIMEOUT_S


async def test_a_witness_that_forgot_everything_cosigns_again(world: WitnessedWorld) -> None:
    await world.credit()
    await world.witnesses[2].stop()
    await world.witnesses[0].forget()
    assert len(world.verify((await world.credit()).receipt).witnessed) == 2


async def test_a_stream_is_cut_when_its_witnesses_go(world: WitnessedWorld) -> None:
    """And the log says what had left."""
    world.registry.gate.clear()
    received: list[Page] = []

    async def receive() -> None:
        async for answer in world.client().stream(COMPANIES, **STATISTICS, page_size=20):
            assert isinstance(answer, Page)
            received.append(answer)
            if len(received) == 2:
                for witness in world.witnesses[:2]:
                    await witness.stop()
                world.registry.gate.set()

    with pytest.raises(error_class(Reason.WITNESS_UNAVAILABLE)) as raised:
        await receive()
    failed = world.closing(raised.value.exchange)[-1]
    assert failed.kind is EntryKind.EXCHANGE_FAILED
    assert (failed.pages, failed.records) == (len(received), sum(map(len, received))) == (2, 40)


async def test_a_caller_that_does_not_wait_leaves_a_withdrawn_release(world: WitnessedWorld) -> None:
    for witness in world.witnesses[:2]:
        await witness.stop()
    with pytest.raises(ClientError):
        await world.credit(timeout_s=0.5)

    def is_withdrawn() -> bool:
        return any(entry.withdraws is not None for entry in world.log.entries())

    await until(is_withdrawn)


# -- configuration ---------------------------------------------------------------------------------


async def test_a_gateway_without_witnesses_does_not_start_under_such_a_policy(tmp_path: Path) -> None:
    world = WitnessedWorld(tmp_path / "world")
    with pytest.raises(ConfigError, match=r"limited.*log\.witnesses"):
        await world.start()


async def test_a_grade_of_evidence_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    world = WitnessedWorld(tmp_path / "world", evidence="notarised")
    with pytest.raises(ConfigError, match="evidence"):
        await world.start()
