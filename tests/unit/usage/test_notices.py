"""Notices: found once, kept over restarts, and brought to webhooks until they are taken or given up."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from gateway.clock import FixedClock
from gateway.evidence import dsse
from gateway.evidence.keys import SigningKey
from gateway.model import EntryKind
from gateway.model.contract import ContractState, Per, Quota
from gateway.usage.address import DeliveryError, WebhookRefusedError
from gateway.usage.notice import NOTICE_TYPE, NoticeKind, NoticeRules
from gateway.usage.sqlite import SqliteUsageStore
from gateway.usage.store import Webhook
from gateway.usage.watching import LEASE, MAX_ATTEMPTS, Deliveries, NoticeWatcher, pause_after
from tests.simulators import usage as made

NOW = datetime(2026, 10, 20, 12, tzinfo=UTC)
KEY = SigningKey.generate()
DAY_S = 86400
TODAY_S = 30 * DAY_S + 3600
"""Seconds from the start of the simulated logs to an hour on the day of `NOW`."""


def release(start: int, records: int, consumer: str = made.BANKS[0]) -> made.Exchange:
    return made.Exchange(made.AMBER, consumer, "credit-check", start, (), records, "released", 0)


class Gateway:
    """A log, a store and a watcher that can be restarted."""

    def __init__(self, folder, exchanges, *contracts, floor: int = 10):
        self.folder = folder
        self.clock = FixedClock(NOW)
        self.contracts = made.Contracts(*(contracts or (made.contract_of(made.AMBER),)))
        made.append_to(folder / "audit.db", made.entries_of(exchanges))
        self.floor = floor
        self.store = SqliteUsageStore(folder / "usage.db")
        self.appended = []
        self.start()

    def start(self):
        self.store.close()
        self.store = SqliteUsageStore(self.folder / "usage.db")
        self.reader = made.SqliteReader(self.folder / "audit.db")
        self.watcher = NoticeWatcher(
            self.reader,
            self.contracts,
            lambda: [made.AMBER, made.BIRCH, *made.BANKS],
            self.store,
            NoticeRules(floor_records=self.floor),
            self.clock,
        )

    def close(self):
        self.store.close()
        self.reader.close()

    def deliveries(self, sender):
        async def append(entry):
            self.appended.append(entry)

        return Deliveries(self.store, sender, KEY, made.ORIGIN, self.clock, append)

    def looked(self):
        return [(kept.member, kept.finding.kind) for kept in self.watcher.look()]


@pytest.fixture
def gateway(tmp_path):
    opened = []

    def open_gateway(*parts, **options):
        opened.append(Gateway(tmp_path, *parts, **options))
        return opened[-1]

    yield open_gateway
    for each in opened:
        each.close()


class Endpoint:
    """What takes notices, or fails as it is told."""

    def __init__(self, *faults: Exception | None) -> None:
        self.faults = list(faults)
        self.taken: list[tuple[str, bytes]] = []
        self.tries = 0

    async def send(self, url: str, body: bytes) -> None:
        self.tries += 1
        fault = self.faults.pop(0) if self.faults else None
        if fault is not None:
            raise fault
        self.taken.append((url, body))


def test_a_new_recipient_is_told_of_once_even_over_a_restart(gateway):
    found = gateway([release(TODAY_S, 1), release(TODAY_S + 60, 2), release(TODAY_S + 90, 1, made.BANKS[1])])
    assert found.looked() == [(made.AMBER, NoticeKind.FIRST_USE)] * 2
    assert found.looked() == []
    found.reader.close()
    found.start()
    assert found.looked() == []
    consumers = [kept.finding.consumer for kept in found.store.notices(made.AMBER, 0, 10)]
    assert consumers == list(made.BANKS)


def test_nobody_else_is_told(gateway):
    found = gateway([release(TODAY_S, 1)])
    found.watcher.look()
    for member in (made.BIRCH, *made.BANKS):
        assert found.store.notices(member, 0, 10) == []


def test_a_denial_makes_nobody_a_recipient(gateway):
    denied = made.Exchange(made.AMBER, made.BANKS[0], "credit-check", TODAY_S, (), 5, "denied", 0)
    assert gateway([denied]).looked() == []


@pytest.mark.parametrize(("records", "told"), [(79, False), (80, True), (101, True)])
def test_a_quota_is_told_of_at_eighty_percent(gateway, records, told):
    contract = made.contract_of(made.AMBER, quotas=(Quota(records=100, per=Per.MONTH),))
    found = gateway([release(TODAY_S, records)], contract, floor=1000)
    assert ((made.AMBER, NoticeKind.QUOTA) in found.looked()) is told


@pytest.mark.parametrize(("records", "told"), [(30, False), (31, True)])
def test_a_day_is_unusual_beyond_three_times_the_median_of_fourteen(gateway, records, told):
    usual = [release(TODAY_S - day * DAY_S, 10) for day in range(1, 15)]
    found = gateway([*usual, release(TODAY_S, records)], made.contract_of(made.AMBER, quotas=()))
    assert ((made.AMBER, NoticeKind.UNUSUAL_VOLUME) in found.looked()) is told


@pytest.mark.parametrize(("records", "told"), [(10, False), (11, True)])
def test_a_day_below_the_floor_is_never_unusual(gateway, records, told):
    found = gateway([release(TODAY_S, records)], made.contract_of(made.AMBER, quotas=()))
    assert ((made.AMBER, NoticeKind.UNUSUAL_VOLUME) in found.looked()) is told


def test_a_suspension_is_told_of_and_the_next_one_again(gateway):
    active = made.contract_of(made.AMBER)
    found = gateway([], active)
    assert found.looked() == []
    for changed in ("2026-10-20T10:00:00Z", "2026-10-20T11:00:00Z"):
        found.contracts.all[:] = [
            made.contract_of(made.AMBER, state=ContractState.SUSPENDED, changed=changed)
        ]
        assert found.looked() == [(made.AMBER, NoticeKind.CONTRACT_ENDED)]
        found.contracts.all[:] = [active]
        assert found.looked() == []


async def test_a_notice_is_sent_signed(gateway):
    found = gateway([release(TODAY_S, 1)])
    found.store.set_webhook(made.AMBER, Webhook("https://hooks.example.org/x", NOW))
    (kept,) = found.watcher.look()
    endpoint = Endpoint()
    assert await found.deliveries(endpoint).deliver() == 1
    ((url, body),) = endpoint.taken
    assert url == "https://hooks.example.org/x"
    payload, _ = dsse.verify(dsse.envelope_from_json(body), NOTICE_TYPE, {KEY.key_id: KEY.verify_key})
    assert f'"id":{kept.id}'.encode() in payload
    assert b'"kind":"first-use"' in payload
    assert await found.deliveries(endpoint).deliver() == 0


async def test_nothing_is_queued_without_a_webhook(gateway):
    found = gateway([release(TODAY_S, 1)])
    assert found.watcher.look()
    assert await found.deliveries(Endpoint()).deliver() == 0


async def test_what_fails_is_tried_again_later_also_after_a_restart(gateway):
    found = gateway([release(TODAY_S, 1)])
    found.store.set_webhook(made.AMBER, Webhook("https://hooks.example.org/x", NOW))
    found.watcher.look()
    endpoint = Endpoint(DeliveryError("down"))
    await found.deliveries(endpoint).deliver()
    assert await found.deliveries(endpoint).deliver() == 0, "not before its time"
    found.reader.close()
    found.start()
    found.clock.advance(pause_after(1))
    assert await found.deliveries(endpoint).deliver() == 1
    assert len(endpoint.taken) == 1
    assert found.appended == []


async def test_a_process_that_dies_while_it_delivers_loses_nothing(gateway):
    found = gateway([release(TODAY_S, 1)])
    found.store.set_webhook(made.AMBER, Webhook("https://hooks.example.org/x", NOW))
    found.watcher.look()
    assert len(found.store.claim(NOW, LEASE, 10)) == 1
    endpoint = Endpoint()
    assert await found.deliveries(endpoint).deliver() == 0
    found.clock.advance(LEASE)
    assert await found.deliveries(endpoint).deliver() == 1


async def test_an_endpoint_that_stays_down_is_given_up_with_an_entry(gateway):
    found = gateway([release(TODAY_S, 1)])
    found.store.set_webhook(made.AMBER, Webhook("https://hooks.example.org/token-123", NOW))
    found.watcher.look()
    endpoint = Endpoint(*[DeliveryError("down")] * 99)
    for _ in range(MAX_ATTEMPTS):
        assert await found.deliveries(endpoint).deliver() == 1
        found.clock.advance(timedelta(hours=5))
    assert await found.deliveries(endpoint).deliver() == 0
    assert endpoint.tries == MAX_ATTEMPTS
    (entry,) = found.appended
    assert (entry.kind, entry.subject, entry.reasons) == (
        EntryKind.NOTICE_FAILED,
        "members/amber",
        ("UNREACHED",),
    )
    assert "token-123" not in str(entry)


async def test_an_endpoint_that_is_refused_is_given_up_at_once(gateway):
    found = gateway([release(TODAY_S, 1)])
    found.store.set_webhook(made.AMBER, Webhook("https://hooks.example.org/x", NOW))
    found.watcher.look()
    await found.deliveries(Endpoint(WebhookRefusedError("private"))).deliver()
    (entry,) = found.appended
    assert entry.reasons == ("REFUSED",)
    assert entry.detail["attempts"] == "1"


def test_the_store_is_closed_to_others(tmp_path):
    path = tmp_path / "usage.db"
    with closing(SqliteUsageStore(path)):
        assert path.stat().st_mode & 0o777 == 0o600
