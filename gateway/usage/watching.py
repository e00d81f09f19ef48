"""Noticing what contributors are to be told of, and telling their webhooks until they have taken it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import date, datetime, timedelta
from typing import Final, Protocol

from gateway.audit.store import AuditReader
from gateway.clock import Clock, rfc3339
from gateway.errors import GatewayError
from gateway.evidence import dsse
from gateway.evidence.keys import SigningKey
from gateway.model import ENTRY_VERSION, Entry, EntryKind, member_name
from gateway.usage.address import DeliveryError, WebhookRefusedError
from gateway.usage.books import LogBook
from gateway.usage.contracts import ContractSource, contributed_by
from gateway.usage.notice import Finding, NoticeRules, find, sign_notice
from gateway.usage.period import Period, today
from gateway.usage.store import Delivery, KeptNotice, UsageStore

WATCH_INTERVAL_S: Final = 1.0
"""How often the log and the contracts are looked at."""
DELIVERY_INTERVAL_S: Final = 1.0

MAX_ATTEMPTS: Final = 12
"""With the pauses between them, about a day; then a notice is given up."""
FIRST_PAUSE: Final = timedelta(seconds=30)
LONGEST_PAUSE: Final = timedelta(hours=4)
LEASE: Final = timedelta(minutes=2)
"""A process that claimed a delivery and died holds it up for so long."""
AT_ONCE: Final = 16
"""Deliveries under way at the same time."""

_ALL_DAYS: Final = Period(date(2000, 1, 1), date(9998, 12, 31))


class Sender(Protocol):
    """Who brings a notice to a webhook."""

    async def send(self, url: str, body: bytes) -> None:
        """Return once the endpoint has taken `body`; raise `DeliveryError` or `WebhookRefusedError`."""
        ...


class NoticeWatcher:
    """Follows the log for every contributor; what its rules find is kept and queued once."""

    def __init__(
        self,
        reader: AuditReader,
        contracts: ContractSource,
        contributors: Callable[[], Sequence[str]],
        store: UsageStore,
        rules: NoticeRules,
        clock: Clock,
    ) -> None:
        """Take the log, the contracts, who may contribute, where notices are kept, and the rules."""
        self._reader = reader
        self._contracts = contracts
        self._contributors = contributors
        self._store = store
        self._rules = rules
        self._clock = clock
        self._books: dict[str, LogBook] = {}
        self._known: dict[str, set[str]] = {}
        self._looked_at: dict[str, object] = {}

    def look(self) -> list[KeptNotice]:
        """Read what is new, and return the notices that come of it. Blocks; not for several threads at once.

        Raises `LogUnavailableError` and `UsageStoreUnavailableError`; the next look finds the same again.
        """
        now, size = self._clock(), self._reader.size()
        found: list[KeptNotice] = []
        for member in self._contributors():
            contracts = contributed_by(member, self._contracts)
            if not contracts:
                continue
            book = self._books.get(member)
            if book is None:
                book = self._books[member] = LogBook(self._reader, member, with_entries=False)
            book.read(size)
            state = (
                book.counted,
                today(now),
                frozenset((each.id, each.state, each.changed) for each in contracts.values()),
            )
            if self._looked_at.get(member) == state:
                continue
            known = self._known.setdefault(member, set())
            findings = [
                finding
                for finding in find(book.lines(_ALL_DAYS), contracts, today(now), self._rules)
                if finding.key not in known
            ]
            if findings:
                found += self._store.add(member, findings, now)
                known.update(finding.key for finding in findings)
            self._looked_at[member] = state
        return found

    async def run(self, on_error: Callable[[GatewayError], None]) -> None:
        """Look again and again until cancelled; `on_error` hears of each look that failed."""
        while True:
            try:
                await asyncio.to_thread(self.look)
            except GatewayError as error:
                on_error(error)
            await asyncio.sleep(WATCH_INTERVAL_S)


class Deliveries:
    """Brings queued notices to webhooks; what fails is tried again, over restarts, until it is given up."""

    def __init__(
        self,
        store: UsageStore,
        sender: Sender,
        signer: SigningKey,
        origin: str,
        clock: Clock,
        append: Callable[[Entry], Awaitable[object]],
    ) -> None:
        """Take the queue, who sends, what signs notices, and `append` for the entry of a failure."""
        self._store = store
        self._sender = sender
        self._signer = signer
        self._origin = origin
        self._clock = clock
        self._append = append

    async def deliver(self) -> int:
        """Try each delivery that is due; return how many were.

        Raises `GatewayError` if the queue or the log cannot be used now; what was not done is due again.
        """
        due = await asyncio.to_thread(self._store.claim, self._clock(), LEASE, AT_ONCE)
        outcomes = await asyncio.gather(*map(self._attempt, due), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return len(due)

    async def run(self, on_error: Callable[[GatewayError], None]) -> None:
        """Deliver until cancelled; `on_error` hears when the queue or the log could not be used."""
        while True:
            busy = False
            try:
                busy = await self.deliver() == AT_ONCE
            except GatewayError as error:
                on_error(error)
            await asyncio.sleep(0 if busy else DELIVERY_INTERVAL_S)

    async def _attempt(self, delivery: Delivery) -> None:
        notice = delivery.notice
        body = dsse.envelope_to_json(sign_notice(notice.told(self._origin), self._signer))
        attempts = delivery.attempts + 1
        try:
            await self._sender.send(delivery.url, body)
        except WebhookRefusedError as error:
            await self._give_up(notice, attempts, error)
            return
        except DeliveryError as error:
            if attempts >= MAX_ATTEMPTS:
                await self._give_up(notice, attempts, error)
                return
            until = self._clock() + pause_after(attempts)
            await asyncio.to_thread(self._store.put_off, notice.id, until)
            return
        await asyncio.to_thread(self._store.delivered, notice.id)

    async def _give_up(self, notice: KeptNotice, attempts: int, error: GatewayError) -> None:
        # The entry first: a notice is not given up without one.
        await self._append(failed_entry(notice, attempts, error, self._clock()))
        await asyncio.to_thread(self._store.delivered, notice.id)


def pause_after(attempts: int) -> timedelta:
    """Return how long to wait after so many failed attempts: twice as long each time, up to a bound."""
    return min(FIRST_PAUSE * (1 << attempts - 1), LONGEST_PAUSE)


def failed_entry(notice: KeptNotice, attempts: int, error: GatewayError, now: datetime) -> Entry:
    """Return the entry that tells of a notice that was given up. Its address may hold secrets."""
    finding: Finding = notice.finding
    return Entry(
        v=ENTRY_VERSION,
        kind=EntryKind.NOTICE_FAILED,
        time=rfc3339(now),
        provider=notice.member,
        contract=finding.contract,
        reasons=("REFUSED" if isinstance(error, WebhookRefusedError) else "UNREACHED",),
        subject=member_name(notice.member),
        detail={"notice": str(notice.id), "kind": finding.kind.value, "attempts": str(attempts)},
    )
