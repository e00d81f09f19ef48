"""What officers may find out later: sealed at once, opened by two, found blindly, erased for good."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from datetime import date, timedelta
from pathlib import Path

import grpc
import msgspec
import pytest
import pytest_asyncio

from gateway.audit.receipt import verify_receipt
from gateway.demo.world import COMPANIES
from gateway.deployment.erasures import erase_details
from gateway.deployment.openings import open_details, request_opening
from gateway.deployment.searches import find_subject
from gateway.details import (
    ApprovalError,
    Custodian,
    DetailsAlteredError,
    DetailsErasedError,
    DetailsMissingError,
    SqliteDetailsStore,
)
from gateway.details.opening import approve, verify_request
from gateway.details.sealing import SealedContent
from gateway.errors import ConfigError, GatewayError
from gateway.model import Entry, EntryKind, Subject
from tests.simulators.officers import REASON, Officers
from tests.simulators.world import SimulatedWorld

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def officers(tmp_path: Path) -> AsyncIterator[Officers]:
    found = Officers(
        SimulatedWorld(tmp_path / "world"),
        [Custodian.generate(name) for name in ("chen", "lin", "zhao")],
    )
    await found.start()
    try:
        yield found
        found.world.log.verify()
    finally:
        await found.world.stop()


async def test_two_custodians_open_what_was_asked_and_the_log_says_so_first(officers: Officers) -> None:
    uscc = officers.world.companies[0].uscc
    released = await officers.ask(uscc)
    await officers.settle()
    opened = officers.open(officers.index_of(released.exchange))
    assert opened.details.subject.subjects == (uscc,)
    query = json.loads(opened.details.envelope.payload)
    assert query["actor"] == {"case": "loan 2026/881", "id": "clerk-17"}
    assert (opened.signature, opened.approved_by) == ("valid", ("chen", "lin"))
    told = officers.newest()
    assert told.kind is EntryKind.DETAILS_OPENED
    assert told.subject == f"entries/{officers.index_of(released.exchange)}"
    assert told.detail["reason"] == REASON
    assert told.detail["approved_by"] == "chen,lin"
    # The release carries the same commitments, so that it opens as well.
    closing = officers.index_of(released.exchange, EntryKind.EXCHANGE_RELEASED)
    assert officers.open(closing).details == opened.details


async def test_a_denial_is_kept_too(officers: Officers) -> None:
    caller = officers.world.caller()
    uscc = officers.world.companies[0].uscc
    asked = caller.statement(COMPANIES, "marketing", subjects=(Subject("uscc", uscc),))
    with pytest.raises(grpc.aio.AioRpcError):
        await caller.query(asked)
    await officers.settle()
    [denied] = [e for e in officers.world.log.entries() if e.kind is EntryKind.EXCHANGE_DENIED]
    opened = officers.open(officers.index_of(denied.exchange, EntryKind.EXCHANGE_DENIED))
    assert opened.details.subject.subjects == (uscc,)


async def test_nothing_is_shown_when_it_cannot_be_recorded(officers: Officers, monkeypatch) -> None:
    released = await officers.ask(officers.world.companies[0].uscc)
    await officers.settle()
    size = officers.world.log.size()

    def refuse(*args, **options):
        raise GatewayError("no")

    for module in ("openings", "searches", "erasures"):
        monkeypatch.setattr(f"gateway.deployment.{module}.record_change", refuse)
    with pytest.raises(GatewayError, match="no"):
        officers.open(officers.index_of(released.exchange))
    with pytest.raises(GatewayError, match="no"):
        find_subject(officers.config, "uscc", officers.world.companies[0].uscc, reason=REASON, by="o")
    assert officers.world.log.size() == size


async def test_one_custodian_or_one_twice_or_a_stranger_opens_nothing(officers: Officers) -> None:
    released = await officers.ask(officers.world.companies[0].uscc)
    await officers.settle()
    index = officers.index_of(released.exchange)
    chen, lin, zhao = officers.custodians
    size = officers.world.log.size()
    for approvers in ([], [chen], [chen, chen]):
        with pytest.raises(ApprovalError):
            officers.open(index, approvers)
    for stranger in (zhao, Custodian.generate("stranger")):
        with pytest.raises(ApprovalError, match="not sealed to this custodian"):
            officers.open(index, [chen, stranger])
    assert officers.world.log.size() == size, "no opening is recorded that did not take place"
    assert officers.open(index, [chen, lin])


async def test_an_approval_is_for_one_request_for_an_hour_and_once(officers: Officers) -> None:
    first = await officers.ask(officers.world.companies[0].uscc)
    second = await officers.ask(officers.world.companies[1].uscc)
    await officers.settle()
    config, clock = officers.config, officers.world.clock
    chen, lin, _ = officers.custodians

    def request(entry: Entry, reason: str = REASON):
        return request_opening(
            config, officers.index_of(entry.exchange), reason=reason, by="officer", clock=clock
        )

    def approvals(asked, *, at=None):
        verified = verify_request(asked, officers.world.trust)
        return [approve(verified, custodian, at or clock()) for custodian in (chen, lin)]

    asked, secret = request(first)
    good = approvals(asked)
    other, other_secret = request(second)
    for wrong, key in (
        (other, other_secret),
        (request(first)[0], secret),
        (request(first, "other")[0], secret),
    ):
        with pytest.raises(ApprovalError, match="another request"):
            open_details(config, wrong, key, good, clock=clock)
    with pytest.raises(ApprovalError, match="hour old"):
        open_details(config, asked, secret, approvals(asked, at=clock() - timedelta(minutes=61)), clock=clock)
    with pytest.raises(ApprovalError, match="not yet"):
        open_details(config, asked, secret, approvals(asked, at=clock() + timedelta(minutes=6)), clock=clock)
    assert open_details(config, asked, secret, good, clock=clock).details
    with pytest.raises(ApprovalError, match="carried out before"):
        open_details(config, asked, secret, good, clock=clock)


async def test_a_request_that_lies_about_the_entry_is_not_approved(officers: Officers) -> None:
    first = await officers.ask(officers.world.companies[0].uscc)
    second = await officers.ask(officers.world.companies[1].uscc)
    await officers.settle()
    request, _ = request_opening(
        officers.config, officers.index_of(first.exchange), reason=REASON, by="o", clock=officers.world.clock
    )
    other, _ = request_opening(
        officers.config, officers.index_of(second.exchange), reason=REASON, by="o", clock=officers.world.clock
    )
    assert verify_request(request, officers.world.trust)
    for change in (
        {"entry": other.entry},
        {"index": other.index},
        {"proof": other.proof},
        {"origin": "audit.example.net/log/2026"},
    ):
        with pytest.raises(GatewayError):
            verify_request(msgspec.structs.replace(request, **change), officers.world.trust)


async def test_a_row_that_was_changed_or_exchanged_is_noticed(officers: Officers) -> None:
    first = await officers.ask(officers.world.companies[0].uscc)
    second = await officers.ask(officers.world.companies[1].uscc)
    await officers.settle()
    index = officers.index_of(first.exchange)
    assert officers.open(index)
    with SqliteDetailsStore(officers.config.details.database, officers.world.trust.origin) as store:
        database = store._connection
        [(content, wraps)] = database.execute(
            "SELECT content, wraps FROM details WHERE exchange = ?", (first.exchange,)
        ).fetchall()

        def put(column: str, value: bytes) -> None:
            database.execute(f"UPDATE details SET {column} = ? WHERE exchange = ?", (value, first.exchange))

        other = database.execute(
            "SELECT content FROM details WHERE exchange = ?", (second.exchange,)
        ).fetchone()[0]
        for changed in (content[:-1] + bytes([content[-1] ^ 1]), other, b""):
            put("content", changed)
            with pytest.raises(DetailsAlteredError, match="commits to"):
                officers.open(index)
        put("content", content)
        put("wraps", bytes(len(wraps)))
        with pytest.raises(DetailsAlteredError):
            officers.open(index)
        put("wraps", wraps)
        assert officers.open(index)
        database.execute("DELETE FROM token")
        database.execute("DELETE FROM details WHERE exchange = ?", (first.exchange,))
    with pytest.raises(DetailsMissingError, match="behind the log's back"):
        officers.open(index)


async def test_a_subject_is_found_and_the_search_stands_in_the_log_without_saying_for_whom(
    officers: Officers,
) -> None:
    wanted, other = (company.uscc for company in officers.world.companies[:2])
    exchanges = [(await officers.ask(uscc)).exchange for uscc in (wanted, other, wanted)]
    await officers.settle()
    size = officers.world.log.size()
    found = find_subject(
        officers.config,
        "uscc",
        f" {wanted.lower()} ",
        reason=REASON,
        by="officer",
        clock=officers.world.clock,
    )
    entries = [msgspec.json.decode(item.data, type=Entry) for item in found.entries]
    assert [entry.exchange for entry in entries] == [exchanges[2], exchanges[0]]
    told = officers.newest()
    assert (officers.world.log.size(), found.recorded) == (size + 1, size)
    assert told.kind is EntryKind.DETAILS_SEARCHED
    assert told.detail == {"reason": REASON, "by": "officer", "kind": "uscc"}
    assert set(told.commitments) == {"subject", "token", "details"}
    assert wanted not in msgspec.json.encode(told).decode()
    # Whoever looks for the same subject later sees that it was looked for; two custodians see for whom.
    again = find_subject(
        officers.config, "uscc", wanted, reason=REASON, by="officer", clock=officers.world.clock
    )
    assert again.entries[0].index == found.recorded
    assert officers.open(found.recorded).details.subject.subjects == (wanted,)


async def test_a_search_with_a_bad_identifier_or_reason_searches_nothing(officers: Officers) -> None:
    uscc = officers.world.companies[0].uscc
    await officers.settle()
    size = officers.world.log.size()
    for kind, value, reason in (
        ("uscc", "no identifier", REASON),
        ("party", uscc, REASON),
        ("uscc", uscc, ""),
        ("uscc", uscc, f"because of {uscc}"),
        ("uscc", uscc, f"because of:{uscc.lower()},"),
        ("uscc", uscc, "two\nlines"),
        ("uscc", uscc, "x" * 301),
    ):
        with pytest.raises((ConfigError, GatewayError)):
            find_subject(officers.config, kind, value, reason=reason, by="o", clock=officers.world.clock)
    assert officers.world.log.size() == size


async def test_erasing_one_entry_leaves_every_proof_and_says_when(officers: Officers) -> None:
    page = await officers.world.client().query(
        COMPANIES,
        purpose="public-lookup",
        subjects=[Subject("uscc", officers.world.companies[0].uscc)],
    )
    kept = await officers.ask(officers.world.companies[1].uscc)
    await officers.settle()
    index = officers.index_of(page.verified.entry.exchange)
    count, recorded = erase_details(
        officers.config, legal_basis="erasure act 17", by="officer", index=index, clock=officers.world.clock
    )
    assert count == 1
    told = officers.newest()
    assert told.kind is EntryKind.DETAILS_ERASED
    assert (told.subject, told.detail["count"]) == (f"entries/{index}", "1")
    assert told.detail["legal_basis"] == "erasure act 17"
    with pytest.raises(DetailsErasedError) as raised:
        officers.open(index)
    assert f"entry {recorded}" in raised.value.message
    assert raised.value.details["time"] == told.time
    with pytest.raises(DetailsErasedError):
        erase_details(officers.config, legal_basis="x", by="o", index=index, clock=officers.world.clock)
    assert officers.open(officers.index_of(kept.exchange))
    assert verify_receipt(page.receipt, officers.world.trust).entry == page.verified.entry
    officers.world.log.verify()


async def test_erasing_a_subject_or_a_time_takes_the_tokens_with_it(officers: Officers) -> None:
    wanted, other = (company.uscc for company in officers.world.companies[:2])
    for uscc in (wanted, other, wanted):
        await officers.ask(uscc)
    await officers.settle()

    def search(uscc: str) -> int:
        return len(
            find_subject(
                officers.config, "uscc", uscc, reason=REASON, by="o", clock=officers.world.clock
            ).entries
        )

    assert (search(wanted), search(other)) == (2, 1)
    count, _ = erase_details(
        officers.config, legal_basis="request", by="o", subject=("uscc", wanted), clock=officers.world.clock
    )
    assert count == 3, "two questions, and the search"
    assert (search(wanted), search(other)) == (0, 2)
    tomorrow = officers.world.clock().date() + timedelta(days=1)
    assert erase_details(
        officers.config, legal_basis="retention", by="o", before=tomorrow, clock=officers.world.clock
    )[0]
    with SqliteDetailsStore(officers.config.details.database, officers.world.trust.origin) as store:
        assert store.count() == 0
        assert store._connection.execute("SELECT count(*) FROM token").fetchone() == (0,)
    assert erase_details(
        officers.config, legal_basis="retention", by="o", before=date(2000, 1, 1), clock=officers.world.clock
    ) == (0, None)


async def test_a_store_that_claims_an_erasing_the_log_does_not_know_is_not_believed(
    officers: Officers,
) -> None:
    entries = [await officers.ask(company.uscc) for company in officers.world.companies[:2]]
    await officers.settle()
    first, second = (officers.index_of(entry.exchange) for entry in entries)
    _, recorded = erase_details(
        officers.config, legal_basis="x", by="o", index=first, clock=officers.world.clock
    )
    with SqliteDetailsStore(officers.config.details.database, officers.world.trust.origin) as store:
        store._connection.execute("DELETE FROM details WHERE exchange = ?", (entries[1].exchange,))
        store._connection.execute(
            "INSERT INTO erased VALUES (?, ?, ?)", (entries[1].exchange, "exchange.requested", recorded)
        )
    with pytest.raises(DetailsAlteredError, match="does not bear that out"):
        officers.open(second)


async def test_without_its_store_the_gateway_denies_and_still_logs(officers: Officers) -> None:
    node = officers.world.node
    await asyncio.to_thread(node._details.close)
    caller = officers.world.caller()
    uscc = officers.world.companies[0].uscc
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await caller.query(caller.statement(COMPANIES, "public-lookup", subjects=(Subject("uscc", uscc),)))
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    denied = officers.newest()
    assert (denied.kind, denied.reasons) == (EntryKind.EXCHANGE_DENIED, ("DETAILS_UNAVAILABLE",))
    assert "details" not in denied.commitments


async def test_a_start_says_whether_details_are_kept_and_who_can_open_them(officers: Officers) -> None:
    [started] = [e for e in officers.world.log.entries() if e.kind is EntryKind.GATEWAY_STARTED]
    chen, lin, _ = officers.custodians
    assert started.detail["details"] == f"2 of chen {chen.card.id[:8]}, lin {lin.card.id[:8]}"
    await officers.world.stop_node()
    await officers.world.start_node()
    started = [e for e in officers.world.log.entries() if e.kind is EntryKind.GATEWAY_STARTED][-1]
    assert started.detail["details"] == "not kept"
    assert '"details.not_kept"' in officers.world.output.getvalue()


# -- leaks -----------------------------------------------------------------------------------------


def readable(officers: Officers) -> dict[str, bytes]:
    """Everything that whoever has the gateway's disk can read."""
    directory = officers.world.deployment.directory
    found = {str(path): path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    found["operators' log"] = officers.world.output.getvalue().encode()
    return found


def forms(value: str) -> list[bytes]:
    """The value in clear and as base64 at any offset would show it."""
    raw = value.encode()
    shifted = [base64.b64encode(b"\0" * shift + raw)[4:-4] for shift in range(3)]
    return [raw, raw.lower(), *shifted]


async def test_no_identifier_stands_in_clear_anywhere_and_none_is_left_after_erasing(
    officers: Officers,
) -> None:
    uscc, actor = officers.world.companies[0].uscc, "canary-actor-zqxj"
    await officers.ask(uscc, actor)
    caller = officers.world.caller()
    denied = caller.statement(COMPANIES, "marketing", subjects=(Subject("uscc", uscc),))
    with pytest.raises(grpc.aio.AioRpcError):
        await caller.query(denied)
    await officers.settle()
    find_subject(officers.config, "uscc", uscc, reason=REASON, by="o", clock=officers.world.clock)
    searched = readable(officers)
    store = officers.config.details.database
    assert any(name.startswith(str(store)) for name in searched)
    sought = [*forms(uscc), *forms(actor)]
    assert [name for name, content in searched.items() if any(form in content for form in sought)] == []
    with SqliteDetailsStore(store, officers.world.trust.origin) as opened:
        rows = opened._connection.execute("SELECT content, wraps FROM details").fetchall()
        tokens = [token for (token,) in opened._connection.execute("SELECT token FROM token")]
    assert len(rows) == len(tokens) == 3
    traces = [part for content, wraps in rows for part in (content[:48], content[-48:], wraps)] + tokens
    before = b"".join(readable(officers).values())
    assert all(trace in before for trace in traces), "the test must look for what is there"
    erase_details(
        officers.config, legal_basis="x", by="o", subject=("uscc", uscc), clock=officers.world.clock
    )
    after = b"".join(readable(officers).values())
    assert [trace.hex() for trace in traces if trace in after] == []


async def test_a_store_in_clear_would_be_found(officers: Officers, monkeypatch) -> None:
    """The control: were the details not sealed, the same search would find identifier and actor."""
    monkeypatch.setattr(
        "gateway.details.keeper.seal_content",
        lambda plaintext, context: SealedContent(plaintext, bytes(32)),
    )
    uscc, actor = officers.world.companies[0].uscc, "canary-actor-zqxj"
    await officers.ask(uscc, actor)
    await officers.settle()
    found = readable(officers)
    for value in (uscc, actor):
        assert any(form in content for content in found.values() for form in forms(value))
