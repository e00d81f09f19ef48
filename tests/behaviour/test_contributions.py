"""Contributions over real gRPC: taken, resumed, repeated, refused; and each refusal leaves an entry."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio

from gateway.api.v1 import contribution_service_pb2 as api
from gateway.audit.contribution import (
    BatchDigest,
    ContributionReceipt,
    ContributionStatement,
    open_contribution,
    sign_contribution,
    verify_contribution_receipt,
)
from gateway.client import Choice, ClientError
from gateway.contributions.staging import Limits
from gateway.errors import GatewayError, Reason
from gateway.evidence.keys import SigningKey
from gateway.model import ContractState, Held
from gateway.pki.tls13 import require_tls13
from gateway.rpc.convert import envelope_to_wire
from tests.simulators.campaign import scaled
from tests.simulators.contributing import (
    COMPANY,
    CONTRACT,
    DATASET,
    ContributionWorld,
    lines,
    make_contract,
    records,
)
from tests.simulators.cutting_upload import CuttingRelay
from tests.simulators.outcome import refusal_of
from tests.simulators.waiting import until

require_tls13()

CUTS = scaled(50, 500)


@pytest_asyncio.fixture
async def world(tmp_path: Any) -> AsyncIterator[ContributionWorld]:
    """A gateway with one contract in force; whatever a test did, its log is sound."""
    world = await ContributionWorld(tmp_path).start()
    try:
        yield world
        world.log.verify()
    finally:
        await world.stop()


async def many(count: int) -> list[dict[str, Any]]:
    """Return records, made on a thread: the gateway under test lives on this event loop."""
    return await asyncio.to_thread(records, count)


async def reason_of(upload: Any) -> ClientError:
    with pytest.raises(ClientError) as refused:
        await upload
    return refused.value


def assert_recorded(world: ContributionWorld, error: ClientError, reason: Reason) -> None:
    """Fail unless it was refused for `reason`, its entry says so, and nothing is kept, seen or unseen."""
    assert error.reason == reason.value, error
    assert error.entry is not None, "the refusal names no entry"
    [entry] = world.log.entries(error.entry)[:1]
    assert entry.kind.value == "contribution.refused"
    assert entry.reasons == (reason.value,)
    assert entry.records == 0
    assert world.vault.hidden() == 0


class RawUpload:
    """An upload that says whatever a test wants."""

    def __init__(self, world: ContributionWorld, member: str = COMPANY) -> None:
        self._caller = world.caller(member)
        channel = self._caller._channel
        self._call = channel.stream_stream("/gateway.api.v1.ContributionService/Contribute")(timeout=30)

    async def say(self, **step: Any) -> None:
        await self.send(api.ContributeRequest(**step).SerializeToString())

    async def send(self, body: bytes) -> None:
        await self._call.write(body)

    async def open(self, batch: str = "raw", **parts: Any) -> api.ContributionProgress:
        opening = {
            "contract": CONTRACT,
            "dataset": "customers",
            "batch": batch,
            "choice": api.CONTRIBUTION_CHOICE_ALL_OR_NOTHING,
        }
        await self.say(opening=api.ContributionOpening(**{**opening, **parts}))
        return (await self.hear()).progress

    async def page(self, first: int, text: bytes) -> None:
        await self.say(page=api.ContributionPage(first_record=first, records=text))

    async def hear(self) -> api.ContributeResponse:
        return api.ContributeResponse.FromString(await self._call.read())

    async def refusal(self) -> ClientError:
        """Return how the call was refused."""
        from gateway.client.errors import from_rpc_error

        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await self._drain()
        assert refusal_of(ended.value).domain == "sluicegate"
        return from_rpc_error(ended.value)

    async def _drain(self) -> None:
        while await self._call.read() is not grpc.aio.EOF:
            pass

    async def end(self) -> None:
        await self._call.done_writing()


# -- what works --------------------------------------------------------------------------------------


async def test_a_batch_is_taken_with_a_receipt_that_verifies_offline(world: ContributionWorld) -> None:
    rows = records(500)
    done = await world.contribute(rows, batch="march")
    assert (done.accepted, done.report.rows, done.report.accepted) == (True, 500, 500)
    assert world.vault.visible(DATASET) == lines(rows)
    kept = ContributionReceipt.from_json(done.receipt.to_json())
    verified = verify_contribution_receipt(kept, world.trust)
    assert (verified.entry.records, verified.entry.provider) == (500, COMPANY)
    assert verified.entry.contract == make_contract().id
    [begun] = world.entries("contribution.begun")
    assert begun.exchange == verified.entry.exchange
    assert world.log.entries(verified.index)[0] == verified.entry


async def test_no_value_of_a_record_stands_in_the_log(world: ContributionWorld) -> None:
    rows = records(50)
    await world.contribute([*rows, {**rows[0], "uscc": "91310000NOTACODE00"}], choice=Choice.ACCEPT_VALID)
    told = repr(world.log.entries())
    assert "NOTACODE" not in told
    assert not any(row["uscc"] in told or row["name"] in told for row in rows)


async def test_a_record_can_be_shown_to_be_the_companys(world: ContributionWorld) -> None:
    """Line, digest of its page's records, and the batch root that the company signed."""
    rows = lines(records(10))
    done = await world.contribute(rows, batch="shown")
    batch = world.gateway.register.find(COMPANY, "shown")
    assert batch is not None
    digest, digests = BatchDigest().add_page(rows, batch.seed)
    assert digest.root == done.verified.statement.root
    assert world.vault.evidence(DATASET) == list(zip(rows, digests, strict=True))
    altered, _ = BatchDigest().add_page([rows[0].replace(b"true", b"null"), *rows[1:]], batch.seed)
    assert altered.root != digest.root


async def test_bad_rows_are_reported_and_the_others_taken_where_the_company_chose_so(
    world: ContributionWorld,
) -> None:
    rows = records(100)
    bad = [
        {**rows[0], "uscc": rows[0]["uscc"][:-1] + ("0" if rows[0]["uscc"][-1] != "0" else "1")},
        {**rows[1], "registered_on": "2026-02-30"},
        rows[2],
    ]
    done = await world.contribute([*rows, *bad], choice=Choice.ACCEPT_VALID)
    assert (done.accepted, done.report.accepted, done.report.rejected) == (True, 100, 3)
    assert done.report.duplicates == 1
    assert done.report.problems == {
        "uscc": {"identifier-check-digit": 1},
        "registered_on": {"date": 1},
        "": {"duplicate": 1},
    }
    assert [example.row for example in done.report.examples] == [101, 102, 103]
    assert done.verified.entry.detail["rejected.uscc.identifier-check-digit"] == "1"
    assert len(world.vault.visible(DATASET)) == 100


async def test_all_or_nothing_takes_nothing_of_a_batch_with_one_bad_row(world: ContributionWorld) -> None:
    rows = [*records(100), {"name": "no code"}]
    done = await world.contribute(rows, batch="whole")
    assert (done.accepted, done.report.rejected) == (False, 1)
    assert done.verified.entry.reasons == (Reason.CONTRIBUTION_REJECTED.value,)
    assert (world.vault.visible(DATASET), world.vault.hidden()) == ([], 0)
    again = await world.contribute(rows, batch="whole")
    assert again.receipt == done.receipt


async def test_the_same_batch_again_is_answered_with_the_same_report_and_receipt(
    world: ContributionWorld,
) -> None:
    rows = records(3000)
    first = await world.contribute(rows, batch="same")
    size = world.log.size()
    again = await world.contribute(rows, batch="same")
    assert (again.receipt, again.report) == (first.receipt, first.report)
    assert world.log.size() == size
    assert len(world.vault.visible(DATASET)) == 3000


async def test_other_content_under_a_known_batch_id_is_refused_and_changes_nothing(
    world: ContributionWorld,
) -> None:
    rows = records(300)
    first = await world.contribute(rows, batch="known")
    for other in (rows[:-1], [*rows[:-1], {**rows[-1], "employees": 9}], [*rows, *records(5, seed=9)]):
        error = await reason_of(world.contribute(other, batch="known"))
        assert_recorded(world, error, Reason.CONTRIBUTION_CONFLICT)
    error = await reason_of(world.contribute(rows, batch="known", choice=Choice.ACCEPT_VALID))
    assert_recorded(world, error, Reason.CONTRIBUTION_CONFLICT)
    assert world.vault.visible(DATASET) == lines(rows)
    assert (await world.contribute(rows, batch="known")).receipt == first.receipt


async def test_freshness_is_measured_against_the_promise(world: ContributionWorld) -> None:
    today = world.clock().date()
    rows = [{**row, "registered_on": "2020-01-01"} for row in records(3)]
    rows[1]["registered_on"] = today.replace(day=1).isoformat()
    done = await world.contribute(rows)
    assert done.report.newest == rows[1]["registered_on"]
    assert done.report.days_late == max(0, today.day - 1 - 7)
    assert done.report.late == 2 + (today.day - 1 > 7)
    assert world.entries("contribution.accepted")[-1].detail["late"] == str(done.report.late)


async def test_formulas_stay_texts_and_are_flagged(world: ContributionWorld) -> None:
    rows = records(4)
    rows[0]["note"] = '=HYPERLINK("http://example.org")'
    rows[1]["note"] = "@SUM(A1)"
    rows[2]["note"] = "+86 21 5555"
    done = await world.contribute(rows)
    assert done.report.flagged == {"note": 2}
    assert world.vault.visible(DATASET) == lines(rows)


# -- breaks ------------------------------------------------------------------------------------------


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
    from gateway.client.contributing import pages_of

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


async def test_a_second_upload_of_a_batch_takes_over_from_one_that_hangs(world: ContributionWorld) -> None:
    rows = records(100)
    hanging = RawUpload(world)
    await hanging.open(batch="taken-over")
    done = await world.contribute(rows, batch="taken-over")
    assert done.accepted
    assert (await hanging.refusal()).reason == Reason.CONTRIBUTION_BUSY.value


async def test_a_call_that_breaks_off_while_its_batch_is_opened_does_not_keep_it(
    world: ContributionWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    register, reached, go_on = world.gateway.register, threading.Event(), threading.Event()
    find = register.find

    def slow(*arguments: Any) -> Any:
        reached.set()
        go_on.wait(20)
        return find(*arguments)

    monkeypatch.setattr(register, "find", slow)
    broken = RawUpload(world)
    opening = asyncio.ensure_future(broken.open(batch="broken-off"))
    await asyncio.to_thread(reached.wait, 20)
    opening.cancel()
    broken._call.cancel()
    # The gateway hears of it while a thread is still busy for the call.
    await until(lambda: any(task.cancelling() for task in asyncio.all_tasks() - {opening}))
    go_on.set()
    async with asyncio.timeout(20):
        assert (await world.contribute(records(10), batch="broken-off")).accepted


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
    from datetime import timedelta

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


# -- refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("contract", "reason"),
    [
        (make_contract(ContractState.PROPOSED), Reason.CONTRACT_NOT_IN_FORCE),
        (make_contract(valid_from="2098-01-01T00:00:00Z"), Reason.CONTRACT_NOT_IN_FORCE),
        (make_contract(valid_until="2021-01-01T00:00:00Z"), Reason.CONTRACT_NOT_IN_FORCE),
        (make_contract(ContractState.SUSPENDED), Reason.CONTRACT_NOT_IN_FORCE),
        (make_contract(ContractState.TERMINATED), Reason.CONTRACT_NOT_IN_FORCE),
        (make_contract(name="another"), Reason.CONTRACT_UNKNOWN),
        (make_contract(contributor="harbour-bank"), Reason.CONTRACT_NOT_APPLICABLE),
        (make_contract(held=Held.PROVIDER), Reason.DATASET_UNKNOWN),
    ],
    ids=["unsigned", "before", "after", "suspended", "ended", "none", "wrong party", "not for the vault"],
)
async def test_nothing_is_taken_without_a_contract_that_covers_it(
    world: ContributionWorld, contract: Any, reason: Reason
) -> None:
    world.gateway.contracts.listed = [contract]
    upload = RawUpload(world)
    await upload.say(
        opening=api.ContributionOpening(
            contract=CONTRACT, dataset="customers", batch="b", choice=api.CONTRIBUTION_CHOICE_ACCEPT_VALID
        )
    )
    assert_recorded(world, await upload.refusal(), reason)
    assert world.entries("contribution.begun") == []


async def test_a_contract_suspended_during_an_upload_ends_it_within_a_second_and_nothing_stays(
    world: ContributionWorld,
) -> None:
    rows = lines(await many(30_000))
    upload = RawUpload(world)
    await upload.open(batch="suspended")
    for first in range(0, 20_000, 1000):
        await upload.page(first, b"\n".join(rows[first : first + 1000]) + b"\n")
    await upload.hear()
    assert world.vault.hidden() > 0
    world.gateway.contracts.set_state(ContractState.SUSPENDED)
    # The company says nothing more: it is told all the same.
    async with asyncio.timeout(1.0):
        error = await upload.refusal()
    assert_recorded(world, error, Reason.CONTRACT_NOT_IN_FORCE)
    world.gateway.contracts.set_state(ContractState.ACTIVE)
    done = await world.contribute(rows, batch="suspended")
    assert done.accepted


async def finish(upload: RawUpload, envelope: Any) -> ClientError:
    await upload.say(closing=api.ContributionClosing(envelope=envelope_to_wire(envelope)))
    return await upload.refusal()


def signed(world: ContributionWorld, progress: Any, rows: list[bytes], **changes: Any) -> Any:
    digest, _ = BatchDigest().add_page(rows, progress.seed)
    parts = {
        "gateway": world.trust.origin,
        "contract": progress.contract,
        "dataset": progress.dataset,
        "batch": "raw",
        "choice": Choice.ALL_OR_NOTHING,
        "key": SigningKey.load(world.members[COMPANY].signing_key),
        "now": world.clock(),
    }
    return sign_contribution(changes.pop("digest", digest), **{**parts, **changes})


@pytest.mark.parametrize("fault", ["key", "unsigned", "root", "batch", "dataset", "choice", "origin", "old"])
async def test_a_batch_that_is_not_signed_as_it_came_is_refused(world: ContributionWorld, fault: str) -> None:
    from datetime import timedelta

    from gateway.evidence.dsse import Envelope

    rows = lines(records(10))
    upload = RawUpload(world)
    progress = await upload.open()
    await upload.page(0, b"\n".join(rows) + b"\n")
    stranger = SigningKey.load(world.members["harbour-bank"].signing_key)
    other, _ = BatchDigest().add_page(rows[:-1], progress.seed)
    changes: dict[str, Any] = {
        "key": {"key": stranger},
        "root": {"digest": other},
        "batch": {"batch": "another"},
        "dataset": {"dataset": f"members/{COMPANY}/datasets/other"},
        "choice": {"choice": Choice.ACCEPT_VALID},
        "origin": {"gateway": "audit.example.org/log/other"},
        "old": {"now": world.clock() - timedelta(minutes=6)},
    }.get(fault, {})
    envelope = signed(world, progress, rows, **changes)
    if fault == "unsigned":
        envelope = Envelope(envelope.payload, envelope.payload_type, ())
    expected = {
        "key": Reason.SIGNATURE_FOREIGN,
        "unsigned": Reason.SIGNATURE_MISSING,
        "origin": Reason.STATEMENT_AUDIENCE,
        "old": Reason.STATEMENT_STALE,
    }.get(fault, Reason.CONTRIBUTION_MISMATCH)
    assert_recorded(world, await finish(upload, envelope), expected)
    assert world.vault.visible(DATASET) == []


async def test_the_control_the_same_upload_signed_rightly_is_taken(world: ContributionWorld) -> None:
    rows = lines(records(10))
    upload = RawUpload(world)
    progress = await upload.open()
    await upload.page(0, b"\n".join(rows) + b"\n")
    envelope = signed(world, progress, rows)
    keys = world.trust.member_verify_keys(COMPANY)
    statement, _ = open_contribution(envelope, keys)
    assert isinstance(statement, ContributionStatement)
    await upload.say(closing=api.ContributionClosing(envelope=envelope_to_wire(envelope)))
    assert (await upload.hear()).outcome.accepted
    assert world.vault.visible(DATASET) == rows


@pytest.mark.parametrize(
    ("first", "text", "reason"),
    [
        (1, b'{"name":"x"}\n', Reason.REQUEST_MALFORMED),
        (0, b'{"name":"x"}', Reason.REQUEST_MALFORMED),
        (0, b"", Reason.REQUEST_MALFORMED),
        (0, b"x" * 300_000 + b"\n", Reason.MESSAGE_TOO_LARGE),
        (0, b"1\n" * 3000, Reason.REQUEST_MALFORMED),
    ],
    ids=["out of order", "half a line", "empty", "too large", "too many"],
)
async def test_a_page_of_the_wrong_make_is_refused(
    world: ContributionWorld, first: int, text: bytes, reason: Reason
) -> None:
    upload = RawUpload(world)
    await upload.open()
    await upload.page(first, text)
    assert_recorded(world, await upload.refusal(), reason)


@pytest.mark.parametrize(
    "parts",
    [{"batch": ""}, {"batch": "a b"}, {"batch": "x" * 65}, {"batch": "91310115XTFDLQ2033"}, {"choice": 0}],
    ids=["no id", "a space", "too long", "an identifier", "no choice"],
)
async def test_an_opening_of_the_wrong_make_is_refused(
    world: ContributionWorld, parts: dict[str, Any]
) -> None:
    upload = RawUpload(world)
    opening = {"contract": CONTRACT, "dataset": "customers", "batch": "b", "choice": 1}
    await upload.say(opening=api.ContributionOpening(**{**opening, **parts}))
    assert_recorded(world, await upload.refusal(), Reason.REQUEST_MALFORMED)
    assert "91310115XTFDLQ2033" not in repr(world.log.entries())


async def test_what_is_no_message_is_refused(world: ContributionWorld) -> None:
    upload = RawUpload(world)
    await upload.send(b"\xff\xff\xff")
    assert_recorded(world, await upload.refusal(), Reason.REQUEST_MALFORMED)
    later = RawUpload(world)
    await later.open()
    await later.send(b"\xff\xff\xff")
    assert_recorded(world, await later.refusal(), Reason.REQUEST_MALFORMED)


async def test_an_upload_given_up_by_its_sender_leaves_nothing(world: ContributionWorld) -> None:
    rows = await many(20_000)

    def broken() -> Any:
        yield from lines(rows)
        raise ClientError("line 20001 is not UTF-8")

    client = world.client()
    with pytest.raises(ClientError, match="not UTF-8"):
        await client.contribute(broken, contract=CONTRACT, dataset="customers", batch="broken", patience_s=0)
    await until(lambda: world.entries("contribution.refused"))
    [refused] = world.entries("contribution.refused")
    assert refused.reasons == (Reason.CONTRIBUTION_ABANDONED.value,)
    assert world.vault.hidden() == 0


async def test_a_batch_beyond_the_bounds_is_refused(tmp_path: Any) -> None:
    world = await ContributionWorld(tmp_path, limits=Limits(batch_records=150, uploads=1)).start()
    try:
        assert (await world.contribute(records(150), batch="fits")).accepted
        error = await reason_of(world.contribute(records(151), batch="large"))
        assert_recorded(world, error, Reason.CONTRIBUTION_TOO_LARGE)
        held = RawUpload(world)
        await held.open(batch="held")
        error = await reason_of(world.contribute(records(1), patience_s=0.0))
        assert error.reason == Reason.OVERLOADED.value
    finally:
        await world.stop()


async def test_a_vault_without_space_loses_nothing_and_the_upload_goes_on(world: ContributionWorld) -> None:
    rows = records(3000)
    world.vault.fault = GatewayError("no space", reason=Reason.VAULT_UNAVAILABLE)
    error = await reason_of(world.contribute(rows, batch="full", patience_s=0.0))
    assert error.reason == Reason.VAULT_UNAVAILABLE.value
    assert error.entry is not None
    assert world.log.entries(error.entry)[0].reasons == (Reason.VAULT_UNAVAILABLE.value,)
    assert world.vault.visible(DATASET) == []
    upload = asyncio.ensure_future(world.contribute(rows, batch="full"))
    await until(lambda: len(world.entries("contribution.refused")) > 1)
    world.vault.fault = None
    assert (await upload).accepted
    assert world.vault.visible(DATASET) == lines(rows)


async def test_a_log_that_cannot_be_written_takes_no_upload(world: ContributionWorld) -> None:
    append = world.gateway.log.append

    def failing(*_: Any, **__: Any) -> Any:
        raise GatewayError("The log cannot be written.", reason=Reason.LOG_UNAVAILABLE)

    world.gateway.log.append = failing  # type: ignore[method-assign]
    error = await reason_of(world.contribute(records(10), batch="unlogged", patience_s=0.0))
    assert error.reason == Reason.LOG_UNAVAILABLE.value
    assert world.vault.hidden() == 0
    world.gateway.log.append = append  # type: ignore[method-assign]
    assert (await world.contribute(records(10), batch="unlogged")).accepted


# -- withdrawal --------------------------------------------------------------------------------------


async def test_records_are_withdrawn_by_key_with_a_proof(world: ContributionWorld) -> None:
    rows = records(10)
    await world.contribute(rows)
    client = world.client()
    keys = [(rows[3]["uscc"],), (rows[7]["uscc"],), ("91310115XTFDLQ2033",)]
    withdrawn, [proof] = await client.withdraw(keys, contract=CONTRACT, dataset="customers")
    assert withdrawn == 2
    assert world.vault.visible(DATASET) == lines(row for at, row in enumerate(rows) if at not in {3, 7})
    assert proof.entry == world.log.entries(proof.index)[0]
    assert (proof.entry.kind.value, proof.entry.records) == ("contribution.withdrawn", 2)
    assert not any(row["uscc"] in repr(world.log.entries()) for row in rows)


async def test_only_the_contributor_withdraws(world: ContributionWorld) -> None:
    rows = records(3)
    await world.contribute(rows)
    stranger = world.client("harbour-bank")
    error = await reason_of(stranger.withdraw([(rows[0]["uscc"],)], contract=CONTRACT, dataset=DATASET))
    assert error.reason == Reason.CONTRACT_NOT_APPLICABLE.value
    assert len(world.vault.visible(DATASET)) == 3
