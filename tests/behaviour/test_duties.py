"""What policy lays on an answer as a whole is done, over pages and streams.

Every duty has its control: without it, the same question gives what the duty keeps back.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, timedelta
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from gateway.audit.receipt import verify_receipt
from gateway.demo.world import COMPANIES
from gateway.errors import GatewayError
from gateway.model import DUTY_NAMES, Entry, EntryKind, Obligation, Operation, Subject, Treatment
from tests.simulators.outcome import refused
from tests.simulators.waiting import until
from tests.simulators.world import SimulatedWorld

pytestmark = pytest.mark.asyncio(loop_scope="module")

DENIED = "PERMISSION_DENIED"
PURPOSE = "public-lookup"
NOBODY = "91350100M000100Y43"
YES, NO = b'{"match":true}\n', b'{"match":false}\n'


@pytest_asyncio.fixture(loop_scope="module")
async def lay(world: SimulatedWorld) -> AsyncIterator[Any]:
    """Lay duties on every exchange from now on; after the test there are none."""
    records = list(world.registry.records)

    def lay(**duties: dict[str, Any]) -> None:
        world.node.scripted.duties = duties

    yield lay
    world.node.scripted.duties = None
    world.node.scripted.obligations = {}
    world.registry.records = records


def statement(caller, operation: Operation = Operation.QUERY, **parts: Any):
    return caller.statement(COMPANIES, PURPOSE, operation, **parts)


async def asked(world: SimulatedWorld, **parts: Any):
    """Ask as the bank does, with its own client, which verifies the receipt."""
    return await world.client().query(COMPANIES, purpose=PURPOSE, **parts)


async def paged(world: SimulatedWorld, page_size: int):
    return [page async for page in world.client().pages(COMPANIES, purpose=PURPOSE, page_size=page_size)]


async def streamed(world: SimulatedWorld, **parts: Any):
    return [answer async for answer in world.client().stream(COMPANIES, purpose=PURPOSE, **parts)]


def release_of(world: SimulatedWorld, exchange: str) -> Entry:
    [entry] = [e for e in world.log.of_exchange(exchange) if e.kind is EntryKind.EXCHANGE_RELEASED]
    return entry


def kept(world: SimulatedWorld, number: int) -> None:
    """Let the registry hold so many of its records."""
    world.registry.records = world.registry.records[:number]


# -- unknown duties --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "duties",
    [
        {"burn_after_reading": {}},
        {"smallest_cohort": {}},
        {"smallest_cohort": {"records": 0}},
        {"smallest_cohort": {"records": "5"}},
        {"limit_records": {"records": 5, "more": 1}},
        {"limit_volume": {"records": 5, "per": "year"}},
        {"delay": {"seconds": -1}},
        {"one_bit": {"really": 1}},
        {"acknowledge": {"within_hours": 169}},
        {"retention": {"field": "no_such_field", "years": 5}},
        {"retention": {"field": "capital", "years": 5}},
    ],
    ids=str,
)
async def test_a_duty_that_cannot_be_fulfilled_denies(world: SimulatedWorld, lay, duties) -> None:
    lay(**duties)
    orders = len(world.registry.orders)
    caller = world.caller()
    refusal = await refused(caller.query(statement(caller)))
    entry = world.assert_recorded(refusal, DENIED, "OBLIGATION_UNSUPPORTED")
    assert entry.kind is EntryKind.EXCHANGE_DENIED
    assert len(world.registry.orders) == orders, "the provider was asked"


async def test_the_gateway_offers_every_duty_to_policy(world: SimulatedWorld, monkeypatch) -> None:
    inner, seen = world.node.scripted._engine, []
    decide = inner.decide

    async def watched(policy_input):
        seen.append(policy_input)
        return await decide(policy_input)

    monkeypatch.setattr(inner, "decide", watched)
    await world.works()
    offered = {name.removeprefix("duty:") for name in seen[0].capabilities if name.startswith("duty:")}
    assert offered == set(DUTY_NAMES)


# -- small cohorts ---------------------------------------------------------------------------------


@pytest.mark.parametrize("held", [0, 1, 4])
@pytest.mark.parametrize("page_size", [1, 3, 100])
async def test_of_a_small_cohort_nothing_leaves(
    world: SimulatedWorld, lay, held: int, page_size: int
) -> None:
    """Control: without the duty, the same question is answered."""
    kept(world, held)
    assert len(await asked(world, page_size=page_size)) == min(held, page_size)
    lay(smallest_cohort={"records": 5})
    caller = world.caller()
    refusal = await refused(caller.query(statement(caller), page_size=page_size))
    entry = world.assert_recorded(refusal, DENIED, "COHORT_TOO_SMALL")
    assert (entry.records, entry.pages, entry.bytes) == (0, 0, 0)


async def test_a_refusal_of_a_small_cohort_does_not_tell_its_size(world: SimulatedWorld, lay) -> None:
    lay(smallest_cohort={"records": 5})
    caller = world.caller()
    told = []
    for held in (4, 1, 0):
        kept(world, held)
        refusal = await refused(caller.query(statement(caller)))
        told.append((refusal.code, refusal.message, refusal.details.keys()))
    assert told == [told[0]] * 3


@pytest.mark.parametrize("page_size", [1, 3, 6, 100])
async def test_enough_subjects_pass_in_pages_of_any_size(world: SimulatedWorld, lay, page_size) -> None:
    """The last page may be as small as it likes: what it tells, the pages before it have told."""
    lay(smallest_cohort={"records": 5})
    kept(world, 7)
    pages = await paged(world, page_size)
    assert sum(map(len, pages)) == 7
    assert pages[0].verified.entry.duties == {"smallest_cohort": {"records": 5}}


async def test_a_cohort_counts_subjects_and_not_records(world: SimulatedWorld, lay) -> None:
    """Ten records of one company are about one company, also where it is not told which it is."""
    lay(smallest_cohort={"records": 5})
    world.registry.records = [world.registry.records[0]] * 10
    caller = world.caller()
    for fields in ([], ["name"]):
        for page_size in (2, 100):
            refusal = await refused(caller.query(statement(caller, fields=fields), page_size=page_size))
            world.assert_recorded(refusal, DENIED, "COHORT_TOO_SMALL")


async def test_what_the_cohort_is_counted_by_does_not_leave(world: SimulatedWorld, lay) -> None:
    lay(smallest_cohort={"records": 5})
    page = await asked(world, fields=["name"])
    assert {tuple(record) for record in page} == {("name",)}
    assert page.fields == ("name",)
    assert set(world.registry.orders[-1].fields) == {"name", "uscc"}


async def test_a_small_cohort_of_a_stream_does_not_begin_to_leave(world: SimulatedWorld, lay) -> None:
    """Control: without the duty there are four pages, and the summary."""
    kept(world, 4)
    assert len(await streamed(world, page_size=1)) == 5
    lay(smallest_cohort={"records": 5})
    caller = world.caller()
    refusal = await refused(anext(aiter(caller.stream(statement(caller, Operation.STREAM), page_size=1))))
    world.assert_recorded(refusal, DENIED, "COHORT_TOO_SMALL")
    kinds = {entry.kind for entry in world.log.of_exchange(refusal.exchange)}
    assert EntryKind.EXCHANGE_PAGE not in kinds


async def test_a_large_cohort_of_a_stream_leaves_whole(world: SimulatedWorld, lay) -> None:
    lay(smallest_cohort={"records": 50})
    *pages, summary = await streamed(world, page_size=7)
    assert sum(map(len, pages)) == summary.records == 60


async def test_a_match_is_about_one_subject(world: SimulatedWorld, lay) -> None:
    lay(smallest_cohort={"records": 2})
    caller = world.caller()
    company = world.companies[0]
    subjects = [Subject("uscc", company.uscc)]
    question = statement(caller, Operation.MATCH, subjects=subjects, match={"name": company.name})
    world.assert_recorded(await refused(caller.match(question)), DENIED, "COHORT_TOO_SMALL")


async def test_a_token_of_a_smaller_cohort_does_not_open_a_larger_one(world: SimulatedWorld, lay) -> None:
    lay(smallest_cohort={"records": 5})
    caller = world.caller()
    token = (await caller.query(statement(caller), page_size=10)).next_page_token
    assert (await caller.query(statement(caller), page_token=token, page_size=10)).page.record_count == 10
    lay(smallest_cohort={"records": 6})
    refusal = await refused(caller.query(statement(caller), page_token=token))
    world.assert_recorded(refusal, "INVALID_ARGUMENT", "PAGE_TOKEN_INVALID")


# -- rounded counts --------------------------------------------------------------------------------


async def test_every_count_that_is_told_is_rounded(world: SimulatedWorld, lay) -> None:
    """Control: without the duty, the entry, the page and the provider's statement tell the number."""
    kept(world, 33)
    exact = await asked(world)
    assert (exact.verified.entry.records, exact.verified.deliveries[0].count) == (33, 33)
    lay(round_counts={"to": 10})
    page = await asked(world)
    entry = page.verified.entry
    assert (entry.records, entry.bytes, entry.duties) == (30, 0, {"round_counts": {"to": 10}})
    assert page.verified.deliveries == page.receipt.deliveries == ()
    assert len(page) == 33, "whoever holds the records can count them"
    caller = world.caller()
    assert (await caller.query(statement(caller))).page.record_count == 30
    acknowledged = await world.client().acknowledge(page.receipt)
    assert acknowledged.entry.acknowledges == page.verified.index


async def test_the_counts_of_a_stream_are_rounded_page_by_page(world: SimulatedWorld, lay) -> None:
    lay(round_counts={"to": 50})
    *_, summary = await streamed(world, page_size=24)
    entries = world.log.of_exchange(summary.verified.entry.exchange)
    assert [e.records for e in entries if e.kind is EntryKind.EXCHANGE_PAGE] == [0, 0, 0]
    assert {e.bytes for e in entries} == {0}
    assert (release_of(world, entries[0].exchange).records, summary.records) == (50, 0)


# -- limits ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("page_size", [1, 4, 10, 100])
async def test_an_answer_has_no_more_records_than_its_limit(world: SimulatedWorld, lay, page_size) -> None:
    """Over all its pages. Control: without the duty, there are sixty."""
    assert sum(map(len, await paged(world, 100))) == 60
    lay(limit_records={"records": 10})
    pages = await paged(world, page_size)
    assert [record["uscc"] for page in pages for record in page] == [c.uscc for c in world.companies[:10]]


@pytest.mark.parametrize("page_size", [1, 4, 10, 100])
async def test_a_stream_has_no_more_records_than_its_limit(world: SimulatedWorld, lay, page_size) -> None:
    lay(limit_records={"records": 10})
    *pages, summary = await streamed(world, page_size=page_size)
    assert sum(map(len, pages)) == summary.verified.entry.records == 10
    await until(lambda: world.registry.working == 0)


async def test_a_limit_below_the_cohort_lets_nothing_leave(world: SimulatedWorld, lay) -> None:
    lay(limit_records={"records": 4}, smallest_cohort={"records": 5})
    caller = world.caller()
    world.assert_recorded(await refused(caller.query(statement(caller))), DENIED, "COHORT_TOO_SMALL")


async def test_records_beyond_the_limit_make_no_cohort(world: SimulatedWorld, lay) -> None:
    """The first ten are of one company; that others would follow helps nobody. Control: they do follow."""
    world.registry.records = [world.registry.records[0]] * 10 + world.registry.records
    lay(limit_records={"records": 10}, smallest_cohort={"records": 5})
    caller = world.caller()
    for page_size in (5, 100):
        refusal = await refused(caller.query(statement(caller), page_size=page_size))
        world.assert_recorded(refusal, DENIED, "COHORT_TOO_SMALL")
    lay(limit_records={"records": 20}, smallest_cohort={"records": 5})
    assert len(await asked(world, page_size=5)) == 5


# -- one bit ---------------------------------------------------------------------------------------


async def test_one_bit_is_all_that_leaves(world: SimulatedWorld, lay) -> None:
    """Control: without the duty, records, fields and counts do."""
    company = world.companies[0]
    page = await asked(world, subjects=[Subject("uscc", company.uscc)])
    assert company.name in page.text.decode()
    lay(one_bit={})
    entries = []
    for subject, text in ((company.uscc, YES), (NOBODY, NO)):
        page = await asked(world, subjects=[Subject("uscc", subject)])
        assert (page.text, page.fields, page.next_page_token) == (text, (), "")
        assert page.receipt.deliveries == ()
        entries.append(page.verified.entry)
    yes, no = entries
    for member in ("records", "bytes", "released", "obligations", "duration_ms", "invalid_identifiers"):
        assert getattr(yes, member) == getattr(no, member)
    assert (yes.records, yes.bytes, yes.released, yes.duties) == (1, 0, (), {"one_bit": {}})


async def test_one_bit_of_a_large_answer_is_one_bit(world: SimulatedWorld, lay) -> None:
    lay(one_bit={})
    assert (await asked(world, page_size=1)).text == YES
    page, summary = await streamed(world, page_size=7)
    assert (page.text, page.fields) == (YES, ())
    entries = world.log.of_exchange(summary.verified.entry.exchange)
    assert {(entry.records, entry.bytes) for entry in entries} == {(0, 0), (1, 0)}
    await until(lambda: world.registry.working == 0)


async def test_a_match_under_one_bit_tells_no_more_than_the_bit(world: SimulatedWorld, lay) -> None:
    """A receipt with the provider's statement would tell whether there is such a company at all."""
    lay(one_bit={})
    for subject in (world.companies[0].uscc, NOBODY):
        answer = await world.client().match(
            COMPANIES, purpose=PURPOSE, subject=Subject("uscc", subject), match={"name": "Another"}
        )
        assert not answer
        assert answer.receipt.deliveries == ()
        assert (answer.verified.entry.records, answer.verified.entry.bytes) == (1, 0)


# -- retention -------------------------------------------------------------------------------------


def aged(world: SimulatedWorld, *dates: Any) -> None:
    """Give the first records these dates of registration, and keep no others."""
    records = world.registry.records[: len(dates)]
    assert len(records) == len(dates)
    world.registry.records = [
        {**record, "registered_on": day} for record, day in zip(records, dates, strict=True)
    ]


def years_ago(world: SimulatedWorld, years: int, days: int = 0) -> str:
    today = world.clock().astimezone(UTC).date()
    return (today.replace(year=today.year - years) - timedelta(days=days)).isoformat()


async def test_old_records_never_leave(world: SimulatedWorld, lay) -> None:
    """Nor those whose age nobody can tell. Control: without the duty, the old ones leave."""
    aged(world, years_ago(world, 5), years_ago(world, 5, days=1), years_ago(world, 30))
    assert len(await asked(world)) == 3
    world.registry.records = [{**record} for record in world.registry.records]
    lay(retention={"field": "registered_on", "years": 5})
    assert [record["uscc"] for record in await asked(world)] == [world.companies[0].uscc]


async def test_records_of_unknown_age_never_leave(world: SimulatedWorld, lay) -> None:
    strange = ["yesterday", None, 20200101, {"deep": [1]}, "2020-02-30", "", "\uff12026-01-01", True]
    aged(world, years_ago(world, 1), *strange)
    lay(retention={"field": "registered_on", "years": 5})
    page = await asked(world)
    assert [record["uscc"] for record in page] == [world.companies[0].uscc]
    told = {"field": "registered_on", "years": 5, "withheld": len(strange)}
    assert page.verified.entry.duties == {"retention": told}
    withheld = f'sluicegate_records_withheld_total{{dataset="{COMPANIES}"}}'
    assert withheld in world.metrics_text()


async def test_the_date_by_which_age_is_told_need_not_be_released(world: SimulatedWorld, lay) -> None:
    aged(world, years_ago(world, 1), years_ago(world, 9))
    lay(retention={"field": "registered_on", "years": 5})
    page = await asked(world, fields=["name"])
    assert page.records == [{"name": world.companies[0].name}]
    decade = Obligation(Treatment.GENERALISE, {"method": "decade"})
    world.node.scripted.obligations = {"registered_on": decade}
    [record] = await asked(world, fields=["registered_on"])
    assert record == {"registered_on": years_ago(world, 1)[:3] + "0s"}


async def test_an_old_record_answers_no_match_and_no_bit(world: SimulatedWorld, lay) -> None:
    company = world.companies[0]
    aged(world, years_ago(world, 9))
    subject = Subject("uscc", company.uscc)

    async def matched() -> bool:
        wanted = {"name": company.name}
        return bool(await world.client().match(COMPANIES, purpose=PURPOSE, subject=subject, match=wanted))

    assert await matched()
    lay(retention={"field": "registered_on", "years": 5})
    assert not await matched()
    lay(retention={"field": "registered_on", "years": 5}, one_bit={})
    page = await asked(world, subjects=[subject])
    assert page.text == NO
    assert page.verified.entry.duties["retention"] == {"field": "registered_on", "years": 5}


async def test_the_bit_is_found_behind_pages_of_old_records(world: SimulatedWorld, lay) -> None:
    aged(world, *[years_ago(world, 9)] * 20, years_ago(world, 1))
    lay(retention={"field": "registered_on", "years": 5}, one_bit={})
    assert (await asked(world, page_size=5)).text == YES


async def test_old_records_make_no_cohort(world: SimulatedWorld, lay) -> None:
    """Control: young ones do."""
    retention = {"field": "registered_on", "years": 5}
    aged(world, *[years_ago(world, 9)] * 20, *[years_ago(world, 1)] * 5)
    lay(retention=retention, smallest_cohort={"records": 6})
    caller = world.caller()
    world.assert_recorded(await refused(caller.query(statement(caller))), DENIED, "COHORT_TOO_SMALL")
    lay(retention=retention, smallest_cohort={"records": 5})
    assert len(await asked(world)) == 5


# -- receipts --------------------------------------------------------------------------------------


async def test_a_receipt_lacks_the_providers_word_only_where_its_entry_says_why(
    world: SimulatedWorld, lay
) -> None:
    """Control: under a duty that keeps no count back, a receipt without it does not verify."""
    lay(smallest_cohort={"records": 5})
    page = await asked(world)
    stripped = msgspec.structs.replace(page.receipt, deliveries=())
    with pytest.raises(GatewayError):
        verify_receipt(stripped, world.trust)
    lay(round_counts={"to": 10})
    page = await asked(world)
    assert verify_receipt(page.receipt, world.trust).deliveries == ()
