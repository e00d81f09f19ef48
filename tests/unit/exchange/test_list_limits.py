"""The schedule of answers, and what a claim remembers."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from gateway.audit.note import Ed25519Signer
from gateway.audit.sqlite import SqliteStore
from gateway.audit.sqlite_reader import SqliteReader
from gateway.audit.writer import AuditLog
from gateway.clock import rfc3339
from gateway.errors import GatewayError, Reason
from gateway.evidence.keys import SigningKey
from gateway.exchange.call import Call
from gateway.exchange.list_limits import ListLimits, ListRules, Schedule
from gateway.exchange.state import Exchange
from gateway.model import ENTRY_VERSION, Entry, EntryKind, Operation
from gateway.telemetry.metrics import Metrics

ORIGIN = "audit.example.org/log/test"
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
RULES = ListRules(answer_after_s=0.02, smallest_list=20, questions_a_day=3, again_after=timedelta(hours=1))


def exchange(timeout_s: float, *, ago_s: float = 0.0) -> Exchange:
    call = Call(caller=None, timeout_s=timeout_s)
    return Exchange("x", Operation.LIST, call, NOW, Metrics().stopwatch(), started_s=time.monotonic() - ago_s)


@pytest.mark.timed
@pytest.mark.parametrize(("ago_s", "leaves_s"), [(0.0, 0.05), (0.03, 0.05), (0.051, 0.1), (0.12, 0.15)])
async def test_an_answer_leaves_at_the_next_multiple(ago_s: float, leaves_s: float) -> None:
    began = exchange(5, ago_s=ago_s)
    await Schedule(began, 0.05).wait()
    elapsed = time.monotonic() - began.started_s
    # Late if the machine is busy, and then by a multiple only if it slept through one; never early.
    assert leaves_s <= elapsed + 0.001


@pytest.mark.parametrize(
    ("timeout_s", "step_s", "until_s"), [(1.0, 0.5, 0.45), (2.0, 0.5, 1.45), (10.0, 0.5, 9.45)]
)
def test_providers_are_given_up_before_the_last_multiple(timeout_s, step_s, until_s):
    left = Schedule(exchange(timeout_s), step_s).provider_s()
    assert until_s - 0.1 < left <= until_s


def test_a_deadline_before_the_first_multiple_is_refused():
    with pytest.raises(GatewayError) as raised:
        Schedule(exchange(0.5), 0.5)
    assert raised.value.reason is Reason.DEADLINE_INVALID


@pytest.fixture
def log(tmp_path) -> Iterator[AuditLog]:
    signer = Ed25519Signer(ORIGIN, SigningKey.generate())
    with AuditLog(SqliteStore(tmp_path / "audit.db"), signer, origin=ORIGIN) as log:
        yield log


@pytest.fixture
def reader(log, tmp_path) -> Iterator[SqliteReader]:
    with SqliteReader(tmp_path / "audit.db") as reader:
        yield reader


@pytest.fixture
def limits(reader) -> ListLimits:
    return ListLimits(RULES, reader, b"s" * 32)


async def record(log: AuditLog, count: int = 1, **members) -> None:
    entry = {
        "kind": EntryKind.EXCHANGE_REQUESTED,
        "time": rfc3339(NOW),
        "consumer": "bank",
        "operation": "list",
        "dataset": "list-sets/warning",
        **members,
    }
    for _ in range(count):
        await log.append(Entry(v=ENTRY_VERSION, **entry))


async def test_only_todays_questions_of_this_member_to_this_list_are_counted(log, limits, reader) -> None:
    for others in (
        {"time": rfc3339(NOW - timedelta(days=1))},
        {"consumer": "other"},
        {"dataset": "list-sets/other"},
        {"operation": "query"},
        {"kind": EntryKind.EXCHANGE_DENIED},
    ):
        await record(log, 4, **others)
    await record(log, 3)
    await limits.spend("bank", "list-sets/warning", NOW)
    await record(log)
    with pytest.raises(GatewayError) as raised:
        await limits.spend("bank", "list-sets/warning", NOW)
    assert raised.value.reason is Reason.BUDGET_EXHAUSTED
    # Who begins anew with the same log counts the same.
    with pytest.raises(GatewayError):
        await ListLimits(RULES, reader, b"s" * 32).spend("bank", "list-sets/warning", NOW)
    await limits.spend("bank", "list-sets/warning", NOW + timedelta(days=1))


async def test_more_questions_than_one_page_of_the_log_are_counted(log, reader) -> None:
    many = rules_with(questions_a_day=1002)
    await asyncio.gather(*(record(log) for _ in range(1002)))
    limits = ListLimits(many, reader, b"s" * 32)
    await limits.spend("bank", "list-sets/warning", NOW)
    await record(log)
    with pytest.raises(GatewayError):
        await limits.spend("bank", "list-sets/warning", NOW)


def rules_with(**numbers) -> ListRules:
    return replace(RULES, **numbers)


def test_a_claim_is_of_one_member_one_list_and_one_subject(limits):
    parts = [("bank", "list", "X1"), ("other", "list", "X1"), ("bank", "other", "X1"), ("bank", "list", "X2")]
    claims = [limits.once(*part, NOW) for part in parts]
    assert len({claim.key for claim in claims}) == len(parts)
    assert claims[0] == limits.once(*parts[0], NOW)
    assert claims[0].until == NOW + timedelta(hours=1)
    # Names that run into each other are still two.
    assert limits.once("a", "bc", "d", NOW).key != limits.once("ab", "c", "d", NOW).key


def test_a_claim_cannot_be_computed_without_the_secret(limits, reader):
    key = limits.once("bank", "list", "X1", NOW).key
    others = ListLimits(RULES, reader, b"t" * 32)
    assert key != others.once("bank", "list", "X1", NOW).key
    assert key != hashlib.sha256(b'["bank","list","X1"]').digest()


@pytest.mark.parametrize(("records", "refused"), [(0, True), (19, True), (20, False), (10**9, False)])
def test_a_short_list_is_not_asked(limits, records, refused):
    if not refused:
        limits.verify_size(records)
        return
    with pytest.raises(GatewayError) as raised:
        limits.verify_size(records)
    assert raised.value.reason is Reason.COHORT_TOO_SMALL
    assert str(records) not in raised.value.message.replace("one bit", "")
