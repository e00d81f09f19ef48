"""What a contributor sees through the gateway: its own records' use, statements that verify, notices."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from datetime import timedelta

import pytest

from gateway.audit.filter import format_filter
from gateway.client import ClientError, error_class
from gateway.demo.world import COMPANIES
from gateway.errors import Reason
from gateway.evidence.keys import SigningKey
from gateway.model import EntryKind, MemberState
from gateway.usage.period import today
from gateway.usage.setting import sign_webhook
from gateway.usage.statement import open_statement
from gateway.usage.verification import verify_statement, wanted_entries
from tests.simulators.commands import run_command
from tests.simulators.world import SimulatedWorld

pytestmark = pytest.mark.asyncio(loop_scope="module")

NEXT_MONTH = timedelta(days=33)


async def ask(world: SimulatedWorld, member: str, **parts) -> int:
    parts = {"purpose": "public-lookup", "filters": {"kind": "none"}, **parts}
    page = await world.client(member).query(COMPANIES, **parts)
    assert page.verified is not None
    return page.verified.index


async def usage_of(world: SimulatedWorld, member: str, *by: str):
    day = today(world.clock())
    return await world.client(member).usage(day, day, by=by)


async def test_a_provider_sees_at_once_who_used_its_records(world: SimulatedWorld) -> None:
    before = await usage_of(world, "registry")
    done = before.rows[0].exchanges if before.rows else 0
    await ask(world, "harbour-bank")
    now = await usage_of(world, "registry")
    assert now.rows[0].exchanges == done + 1
    by = await usage_of(world, "registry", "consumer", "dataset", "purpose")
    assert ["harbour-bank", COMPANIES, "public-lookup"] in [list(row.values) for row in by.rows]


async def test_denials_are_seen_with_their_reasons(world: SimulatedWorld) -> None:
    with pytest.raises(ClientError):
        await ask(world, "harbour-bank", purpose="case-handling")
    rows = (await usage_of(world, "registry", "reasons")).rows
    assert sum(row.denied for row in rows) >= 1
    assert any(row.values[0] for row in rows if row.denied)


async def test_others_see_nothing_of_it(world: SimulatedWorld) -> None:
    await ask(world, "harbour-bank")
    for member in ("northern-bank", "harbour-bank"):
        assert not (await usage_of(world, member, "consumer")).rows


async def test_a_watch_tells_what_happens_as_it_happens(world: SimulatedWorld) -> None:
    async with aclosing(world.client("registry").watch_usage(world.log.size(), timeout_s=20)) as events:
        first = asyncio.ensure_future(anext(events))
        index = await ask(world, "harbour-bank")
        event = await first
    assert event.entry == f"entries/{index}"
    assert (event.kind, event.consumer, event.dataset) == ("exchange.released", "harbour-bank", COMPANIES)


async def test_the_time_of_a_watch_ends_without_an_error(world: SimulatedWorld) -> None:
    assert [event async for event in world.client("registry").watch_usage(timeout_s=0.3)] == []


async def test_malformed_questions_are_refused(world: SimulatedWorld) -> None:
    client = world.client("registry")
    malformed = error_class(Reason.REQUEST_MALFORMED)
    for first, last in (
        ("2026-11-31", "2026-12-01"),
        ("2026-12-01", "2026-11-01"),
        ("2020-01-01", "2026-01-01"),
    ):
        with pytest.raises(malformed):
            await client.usage(first, last)
    with pytest.raises(malformed):
        await client.usage("2026-11-01", "2026-11-01", by=["day", "day"])
    for month in ("2026-13", "October", "2026-1", "../x"):
        with pytest.raises(malformed):
            await client.statement_of_use(month)


async def test_there_is_no_statement_of_a_month_that_has_not_ended(world: SimulatedWorld) -> None:
    with pytest.raises(error_class(Reason.ENTRY_NOT_FOUND)):
        await world.client("registry").statement_of_use(today(world.clock())[:7])


async def test_a_webhook_is_set_by_a_signature_of_the_member_itself(world: SimulatedWorld) -> None:
    client, origin = world.client("registry"), world.trust.origin
    key = SigningKey.load(world.built.members["registry"].signing_key)
    now = world.clock()
    url = "https://hooks.example.org/x"
    signed = sign_webhook(origin, "registry", url, key, now)
    assert await client.set_webhook(signed) == url
    with pytest.raises(error_class(Reason.REPLAYED)):
        await client.set_webhook(signed)
    later = now + timedelta(seconds=1)
    for setting, reason in (
        (sign_webhook(origin, "registry", url, SigningKey.generate(), later), Reason.SIGNATURE_FOREIGN),
        (sign_webhook(origin, "harbour-bank", url, key, later), Reason.STATEMENT_AUDIENCE),
        (sign_webhook("other.example.org/log/1", "registry", url, key, later), Reason.STATEMENT_AUDIENCE),
        (sign_webhook(origin, "registry", url, key, now - timedelta(hours=1)), Reason.STATEMENT_STALE),
        (sign_webhook(origin, "registry", "http://hooks.example.org", key, later), Reason.REQUEST_MALFORMED),
        (
            sign_webhook(origin, "registry", "https://u:p@hooks.example.org", key, later),
            Reason.REQUEST_MALFORMED,
        ),
    ):
        with pytest.raises(error_class(reason)):
            await client.set_webhook(setting)
    assert await client.set_webhook(sign_webhook(origin, "registry", "", key, later)) == ""


async def test_there_are_no_notices_without_a_contract(world: SimulatedWorld) -> None:
    assert [notice async for notice in world.client("registry").notices()] == []


class ServiceProofs:
    """Proofs asked for before they are needed, as verifying does not wait."""

    def __init__(self) -> None:
        self.known: dict[int, tuple[bytes, ...]] = {}

    def of(self, index: int, size: int) -> tuple[bytes, ...]:
        assert size
        return self.known[index]


async def test_a_statement_is_issued_once_stands_in_the_log_and_verifies(own_world: SimulatedWorld) -> None:
    world = own_world
    for member in ("harbour-bank", "harbour-bank", "northern-bank"):
        await ask(world, member)
    month = today(world.clock())[:7]
    world.clock.advance(NEXT_MONTH)
    client = world.client("registry")
    envelope = await client.statement_of_use(month)
    statement, checkpoint = open_statement(envelope, world.trust)
    assert statement.totals.released == 3
    assert {line.consumer for line in statement.lines} == {"harbour-bank", "northern-bank"}
    entries = {index: data async for index, data in client.entries(format_filter(wanted_entries(statement)))}
    proofs = ServiceProofs()
    for index in entries:
        if index < statement.tree_size:
            proofs.known[index] = tuple((await client.inclusion_proof(index, statement.tree_size)).hashes)
    assert verify_statement(statement, checkpoint, entries, proofs).entries == 3
    assert await client.statement_of_use(month) == envelope
    issued = [entry for entry in world.log.entries() if entry.kind is EntryKind.STATEMENT_ISSUED]
    assert [(entry.subject, entry.detail["month"]) for entry in issued] == [("members/registry", month)]


async def test_a_statement_so_far_verifies_and_is_not_issued(own_world: SimulatedWorld) -> None:
    world = own_world
    month, client = today(world.clock())[:7], world.client("registry")
    for asked in range(2):
        await ask(world, "harbour-bank")
        statement, checkpoint = open_statement(await client.statement_of_use(month, so_far=True), world.trust)
        assert (statement.so_far, statement.totals.released) == (True, asked + 1)
        wanted = format_filter(wanted_entries(statement))
        entries = {index: data async for index, data in client.entries(wanted)}
        proofs = ServiceProofs()
        for index in entries:
            if index < statement.tree_size:
                proof = await client.inclusion_proof(index, statement.tree_size)
                proofs.known[index] = tuple(proof.hashes)
        assert verify_statement(statement, checkpoint, entries, proofs).entries == asked + 1
    assert EntryKind.STATEMENT_ISSUED not in {entry.kind for entry in world.log.entries()}
    following = (world.clock() + NEXT_MONTH).isoformat()[:7]
    with pytest.raises(error_class(Reason.ENTRY_NOT_FOUND)):
        await client.statement_of_use(following, so_far=True)
    world.clock.advance(NEXT_MONTH)
    issued, _ = open_statement(await client.statement_of_use(month, so_far=True), world.trust)
    assert not issued.so_far


async def test_a_watch_ends_when_the_member_is_suspended(own_world: SimulatedWorld) -> None:
    world = own_world
    async with aclosing(world.client("registry").watch_usage(timeout_s=20)) as events:
        waiting = asyncio.ensure_future(anext(events))
        await ask(world, "harbour-bank")
        await waiting
        following = asyncio.ensure_future(anext(events))
        await world.set_state("registry", MemberState.SUSPENDED)
        with pytest.raises(error_class(Reason.MEMBER_SUSPENDED)):
            await following


async def test_the_command_line_tells_and_verifies(own_world: SimulatedWorld, tmp_path) -> None:
    world = own_world
    for member in ("harbour-bank", "northern-bank"):
        await ask(world, member)
    day = today(world.clock())
    config = world.members["registry"].client_config
    config.write_text(config.read_text().replace("127.0.0.1:0", f"127.0.0.1:{world.node.port}"))

    async def gateway(*words: object) -> tuple[int, str]:
        done = await asyncio.to_thread(run_command, "usage", *words, "--config", config)
        return done.returncode, done.stdout + done.stderr

    code, told = await gateway("webhook", "http://plain.example.org/")
    assert code == 2, told
    code, told = await gateway("webhook", "https://hooks.example.org/x")
    assert (code, "hooks.example.org" in told) == (0, True), told
    world.clock.advance(NEXT_MONTH)
    signed, entries = tmp_path / "signed.json", tmp_path / "entries"
    code, told = await gateway(
        "show", "--since", day, "--until", day, "--by", "consumer", "--output", "jsonl"
    )
    assert code == 0, told
    assert '"consumer":"northern-bank"' in told
    code, told = await gateway("statement", day[:7], "--out", signed, "--entries", entries)
    assert code == 0, told
    for form, begins in (("csv", b'"row","day"'), ("pdf", b"%PDF-")):
        file = tmp_path / f"statement.{form}"
        assert (await gateway("statement", day[:7], "--out", file, "--form", form))[0] == 0
        assert file.read_bytes().startswith(begins)
        assert (await gateway("verify", file))[0] == 2
    assert (await gateway("verify", signed))[0] == 0
    code, told = await gateway("verify", signed, "--entries", entries)
    assert (code, "holds" in told) == (0, True), told
    lines = entries.read_bytes().splitlines(keepends=True)
    entries.write_bytes(b"".join(line for line in lines if b"northern-bank" not in line))
    code, told = await gateway("verify", signed, "--entries", entries)
    assert (code, "not what" in told) == (3, True), told
    signed.write_bytes(signed.read_bytes().replace(b'"sig":"', b'"sig":"AAAA')[:-10] + b'"}]}')
    assert (await gateway("verify", signed))[0] in {2, 3}
    assert (await gateway("notices"))[0] == 0
    assert (await gateway("watch", "--for", "1s"))[0] == 0
