"""List questions: one bit about one subject, of one list or of several together."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest
import pytest_asyncio

from gateway.client import Subject
from gateway.client.errors import ReceiptInvalidError
from gateway.demo.world import ARREARS, COMPANIES
from gateway.evidence.list_answer import ANSWER_BYTES
from gateway.model import EntryKind, MemberState
from tests.simulators.lists import (
    DEFAULTERS,
    LISTS,
    RESTRICTION,
    SET,
    WARNING,
    defaulter,
    merged,
    on,
    start_with_lists,
    warning,
)
from tests.simulators.outcome import reason_of, refused
from tests.simulators.provider import Fault
from tests.simulators.waiting import until
from tests.simulators.world import SimulatedWorld

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SimulatedWorld]:
    world = SimulatedWorld(tmp_path_factory.mktemp("world"))
    codes = [company.uscc for company in world.companies]
    entries = merged(
        on(LISTS[:2], codes[1]),
        on(LISTS[2:], codes[2]),
        on(LISTS, codes[3]),
        on([DEFAULTERS], codes[4], "luxury", "flights", "flights"),
    )
    try:
        yield await start_with_lists(world, entries)
        world.log.verify()
    finally:
        await world.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def world(shared_world: SimulatedWorld) -> AsyncIterator[SimulatedWorld]:
    """The module's world; what a test broke in it is whole again afterwards."""
    held = dict(shared_world.registry.lists)
    yield shared_world
    shared_world.registry.fault = None
    shared_world.registry.says_size = True
    shared_world.registry.lists = held


@pytest.mark.parametrize(("at", "listed"), [(0, False), (1, False), (2, True), (3, True)])
async def test_a_company_on_three_of_five_lists_is_told_by_one_bit(world, at: int, listed: bool) -> None:
    client = world.client("inspectorate")
    answer = await client.ask_lists(
        SET, subject=Subject("uscc", world.companies[at].uscc), at_least=3, **WARNING
    )
    assert (answer.listed, bool(answer), answer.restrictions) == (listed, listed, ())
    assert answer.verified is not None


async def test_a_single_list_tells_the_classes_of_restriction_and_nothing_else(world) -> None:
    client = world.client("tradeplatform")
    answer = await client.ask_lists(
        DEFAULTERS, subject=Subject("uscc", world.companies[4].uscc), **RESTRICTION
    )
    assert answer.listed
    assert answer.restrictions == ("flights", "luxury")
    assert b"case" not in answer.line
    answer = await client.ask_lists(
        DEFAULTERS, subject=Subject("uscc", world.companies[0].uscc), **RESTRICTION
    )
    assert not answer.listed
    assert answer.restrictions == ()


async def test_who_stands_on_one_list_three_times_is_on_one_list(world) -> None:
    code = world.companies[0].uscc
    name = LISTS[0]
    row = {**world.registry.lists[name][0], "credit_code": code}
    world.registry.lists[name] = [*world.registry.lists[name], row, row, row]
    assert not await world.client("inspectorate").ask_lists(
        SET, subject=Subject("uscc", code), at_least=3, **WARNING
    )


async def test_an_identifier_is_asked_for_in_its_one_spelling(world) -> None:
    code = world.companies[2].uscc
    answer = await world.client("inspectorate").ask_lists(
        SET, subject=Subject("uscc", f" {code.lower()} "), at_least=3, **WARNING
    )
    assert answer.listed


async def test_each_list_is_asked_on_a_signed_order_for_one_field(world) -> None:
    world.registry.orders.clear()
    await world.client("inspectorate").ask_lists(
        SET, subject=Subject("uscc", world.companies[0].uscc), at_least=3, **WARNING
    )
    orders = world.registry.orders
    assert {order.dataset for order in orders} == {*LISTS[:3]}
    assert {order.fields for order in orders} == {("credit_code",)}
    assert {order.list_question for order in orders} == {"joint"}
    assert {order.memorandum for order in orders} == {"registry-lists-inspectorate"}


async def test_the_receipt_proves_the_answer_and_can_be_acknowledged(world) -> None:
    client = world.client("inspectorate")
    answer = await client.ask_lists(
        SET,
        subject=Subject("uscc", world.companies[2].uscc),
        at_least=3,
        acknowledge=True,
        **WARNING,
    )
    assert answer.acknowledged is not None
    assert answer.verified is not None
    entry = answer.verified.entry
    assert (entry.operation, entry.dataset, entry.provider) == ("list", SET, "")
    assert (entry.released, entry.records, entry.bytes) == (("listed",), 1, ANSWER_BYTES + 1)
    answer.verified.verify_page(0, answer.line, answer.seed)


async def test_a_gateway_that_answers_other_than_its_log_says_is_found_out(world, monkeypatch) -> None:
    client = world.client("inspectorate")
    ask = client._exchange.AskLists

    async def turned(request, **options):
        response = await ask(request, **options)
        response.answer = response.answer.replace('"listed":1', '"listed":0')
        return response

    monkeypatch.setattr(client._exchange, "AskLists", turned)
    with pytest.raises(ReceiptInvalidError):
        await client.ask_lists(SET, subject=Subject("uscc", world.companies[2].uscc), at_least=3, **WARNING)


async def test_officers_and_the_consumer_find_its_entries_by_the_name_of_the_set(world) -> None:
    client = world.client("inspectorate")
    answer = await client.ask_lists(
        SET, subject=Subject("uscc", world.companies[2].uscc), at_least=3, **WARNING
    )
    assert answer.verified is not None
    wanted = f"dataset = {SET} AND kind = exchange.released"
    found = [index async for index, _ in client.entries(wanted, page_size=1)]
    assert found[0] == answer.verified.index


async def test_a_replayed_question_is_refused(world) -> None:
    caller = world.caller("inspectorate")
    question = warning(caller, world.companies[0].uscc)
    await caller.ask_lists(question)
    world.assert_recorded(await refused(caller.ask_lists(question)), "ALREADY_EXISTS", "REPLAYED")


async def test_a_question_that_nobody_signed_is_refused_before_policy_is_asked(world) -> None:
    """Policy could allow it where the list's tier is public; whoever asks about somebody says so by name."""
    caller = world.caller("inspectorate")
    caller.signing_key = None
    refusal = await refused(caller.ask_lists(warning(caller, world.companies[0].uscc)))
    entry = world.assert_recorded(refusal, "UNAUTHENTICATED", "SIGNATURE_REQUIRED")
    assert entry.decision == ""


INVALID, DENIED = "INVALID_ARGUMENT", "PERMISSION_DENIED"


@pytest.mark.parametrize(
    ("parts", "code", "reason"),
    [
        ({"at_least": 2}, INVALID, "FILTER_UNSUPPORTED"),
        ({"at_least": 4}, INVALID, "FILTER_UNSUPPORTED"),
        ({"at_least": None}, INVALID, "FILTER_UNSUPPORTED"),
        ({"subjects": []}, INVALID, "SUBJECT_MISSING"),
        ({"subjects": [Subject("uscc", "x"), Subject("uscc", "y")]}, INVALID, "SUBJECT_MISSING"),
        ({"subjects": [Subject("uscc", "91350100M000100Y4X")]}, INVALID, "IDENTIFIER_INVALID"),
        ({"subjects": [Subject("credit_code", "91350100M000100Y43")]}, INVALID, "FILTER_UNSUPPORTED"),
        ({"subjects": [Subject("area-code", "110101")]}, INVALID, "FILTER_UNSUPPORTED"),
        ({"subjects": [Subject("uscc", "9" * 513)]}, INVALID, "STATEMENT_MALFORMED"),
        ({"filters": {"case_number": "case-1"}}, INVALID, "STATEMENT_MALFORMED"),
        ({"fields": ["case_number"]}, INVALID, "STATEMENT_MALFORMED"),
        ({"match": {"case_number": "case-1"}}, INVALID, "STATEMENT_MALFORMED"),
        ({"memorandum": "registry-lists-inspectorate"}, INVALID, "STATEMENT_MALFORMED"),
        ({"purpose": "public-lookup"}, DENIED, "OPERATION_NOT_PERMITTED"),
        ({"purpose": "law-enforcement"}, DENIED, "OPERATION_NOT_PERMITTED"),
        ({"legal_basis": ""}, DENIED, "LEGAL_BASIS_MISSING"),
    ],
)
async def test_a_question_to_a_set_is_refused_for(world, parts, code: str, reason: str) -> None:
    caller = world.caller("inspectorate")
    before = len(world.registry.orders)
    refusal = await refused(caller.ask_lists(warning(caller, world.companies[0].uscc, **parts)))
    # Policy gives all its reasons; the caller's is the first of them.
    entry = world.assert_recorded(refusal, code, refusal.reason)
    assert reason in entry.reasons
    assert len(world.registry.orders) == before, "a list was asked all the same"
    assert not any(name in str(refusal) for name in LISTS)


@pytest.mark.parametrize(
    ("lists", "code", "reason"),
    [
        ("list-sets/unheard-of", "NOT_FOUND", "DATASET_UNKNOWN"),
        ("list-sets/", "NOT_FOUND", "DATASET_UNKNOWN"),
        ("members/registry/datasets/unheard-of", "NOT_FOUND", "DATASET_UNKNOWN"),
        (COMPANIES, DENIED, "OPERATION_NOT_PERMITTED"),
        (ARREARS, DENIED, "OPERATION_NOT_PERMITTED"),
    ],
)
async def test_what_is_no_list_takes_no_question(world, lists: str, code: str, reason: str) -> None:
    caller = world.caller("inspectorate")
    asked = warning(caller, world.companies[0].uscc, lists, at_least=None)
    world.assert_recorded(await refused(caller.ask_lists(asked)), code, reason)


async def test_a_list_of_a_set_cannot_be_asked_alone(world) -> None:
    """Else who asks the set could take it apart."""
    caller = world.caller("inspectorate")
    for name in LISTS:
        asked = warning(caller, world.companies[2].uscc, name, at_least=None)
        refusal = await refused(caller.ask_lists(asked))
        world.assert_recorded(refusal, DENIED, "OPERATION_NOT_PERMITTED")


async def test_a_list_gives_no_records_for_the_purpose_of_a_question(world) -> None:
    caller = world.caller("tradeplatform")
    for name, parts in ((DEFAULTERS, RESTRICTION), (LISTS[0], WARNING)):
        refusal = await refused(caller.query(caller.statement(name, **parts)))
        assert refusal.code == DENIED


async def test_one_denial_denies_the_whole_question_and_does_not_tell_which_list(world) -> None:
    """The bank stands in none of the memoranda: whichever list it is, the words are the same."""
    caller = world.caller("harbour-bank")
    refusal = await refused(caller.ask_lists(warning(caller, world.companies[2].uscc)))
    entry = world.assert_recorded(refusal, DENIED, refusal.reason)
    assert "MEMORANDUM_NOT_APPLICABLE" in entry.reasons
    assert (entry.dataset, entry.provider, entry.memorandum) == (SET, "", "")
    assert not any(name in str(refusal) for name in (*LISTS, "registry", "tax-"))


async def test_two_lists_denied_for_two_reasons_are_told_by_one_sum_of_reasons(world) -> None:
    caller = world.caller("tradeplatform")
    on_list = await refused(caller.ask_lists(warning(caller, world.companies[3].uscc)))
    on_none = await refused(caller.ask_lists(warning(caller, world.companies[0].uscc)))
    assert (on_list.code, on_list.reason) == (on_none.code, on_none.reason)
    reasons = [world.log.of_exchange(one.exchange)[-1].reasons for one in (on_list, on_none)]
    assert reasons[0] == reasons[1]


_FAULTS = (
    Fault.REFUSES,
    Fault.NOT_JSON,
    Fault.OVER_DEEP_JSON,
    Fault.INVALID_UTF8,
    Fault.TOO_MANY_RECORDS,
    Fault.SIGNATURE_BROKEN,
    Fault.SIGNATURE_MISSING,
    Fault.SIGNATURE_OF_OTHER_KEY,
    Fault.SIGNATURE_OF_OTHER_EXCHANGE,
    Fault.SIGNATURE_OF_OTHER_RECORDS,
    Fault.SIGNATURE_STALE,
    Fault.COUNT_WRONG,
    Fault.PAGE_TOO_LARGE,
)


@pytest.mark.parametrize("fault", _FAULTS)
async def test_a_list_that_fails_leaves_no_answer_at_all(world, fault: Fault) -> None:
    """The others' answers are thrown away, though they alone would have made the yes or the no."""
    world.registry.fault = fault
    caller = world.caller("inspectorate")
    refusal = await refused(caller.ask_lists(warning(caller, world.companies[3].uscc)))
    entry = world.assert_recorded(refusal, "UNAVAILABLE", "LIST_UNAVAILABLE")
    assert (entry.kind, entry.records, entry.pages, entry.bytes) == (EntryKind.EXCHANGE_FAILED, 0, 0, 0)
    assert not any(name in str(refusal) for name in (*LISTS, "registry"))


async def test_a_list_that_hangs_is_given_up_before_the_callers_deadline(world) -> None:
    world.registry.fault = Fault.HANGS
    caller = world.caller("inspectorate")
    refusal = await refused(caller.ask_lists(warning(caller, world.companies[3].uscc), timeout_s=0.6))
    world.assert_recorded(refusal, "UNAVAILABLE", "LIST_UNAVAILABLE")


async def test_a_deadline_before_the_first_answer_is_refused_before_any_list_is_asked(world) -> None:
    caller = world.caller("inspectorate")
    before = len(world.registry.orders)
    refusal = await refused(caller.ask_lists(warning(caller, world.companies[3].uscc), timeout_s=0.09))
    world.assert_recorded(refusal, INVALID, "DEADLINE_INVALID")
    assert len(world.registry.orders) == before


async def test_a_suspended_provider_leaves_no_answer(world) -> None:
    caller = world.caller("inspectorate")
    await world.set_state("registry", MemberState.SUSPENDED)

    async def reason() -> str:
        return await reason_of(caller.ask_lists(warning(caller, world.companies[3].uscc)))

    async def refuses() -> bool:
        return await reason() == "LIST_UNAVAILABLE"

    async def answers() -> bool:
        return not await reason()

    try:
        await until(refuses)
        refusal = await refused(caller.ask_lists(warning(caller, world.companies[3].uscc)))
        world.assert_recorded(refusal, "UNAVAILABLE", "LIST_UNAVAILABLE")
    finally:
        await world.set_state("registry", MemberState.ACTIVE)
        await until(answers)


async def test_a_list_with_few_entries_is_not_asked(world) -> None:
    world.registry.lists[LISTS[0]] = world.registry.lists[LISTS[0]][:19]
    caller = world.caller("inspectorate")
    refusal = await refused(caller.ask_lists(warning(caller, world.companies[3].uscc)))
    world.assert_recorded(refusal, DENIED, "COHORT_TOO_SMALL")
    assert not any(name in str(refusal) for name in (*LISTS, "registry"))


async def test_a_provider_that_does_not_say_how_long_its_list_is_is_not_believed(world) -> None:
    world.registry.says_size = False
    caller = world.caller("tradeplatform")
    refusal = await refused(caller.ask_lists(defaulter(caller, world.companies[4].uscc)))
    world.assert_recorded(refusal, "UNAVAILABLE", "LIST_UNAVAILABLE")


async def test_a_receipt_with_a_delivery_put_back_does_not_verify(world) -> None:
    client = world.client("inspectorate")
    answer = await client.ask_lists(
        SET, subject=Subject("uscc", world.companies[2].uscc), at_least=3, **WARNING
    )
    assert answer.receipt.deliveries == ()
    other = msgspec.structs.replace(answer.receipt, deliveries=(answer.receipt.statement,))
    with pytest.raises(ReceiptInvalidError):
        client._check(other, b"")
