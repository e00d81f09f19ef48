"""Usage and statements of members, as the gateway answers for them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final

from gateway.audit.note import Ed25519Verifier
from gateway.audit.store import AuditReader
from gateway.clock import Clock, rfc3339
from gateway.errors import GatewayError, Reason
from gateway.evidence import dsse
from gateway.evidence.keys import SignatureError, SigningKey
from gateway.model import ENTRY_VERSION, Entry, EntryKind, member_name
from gateway.usage.book import Counted
from gateway.usage.books import Books
from gateway.usage.contracts import ContractSource, contributed_by
from gateway.usage.period import CLOSING_TIME, Period, month_of
from gateway.usage.statement import (
    ContractTerms,
    Statement,
    figures,
    issuable_from,
    make_statement,
    needed_since,
    sign_statement,
    told_contracts,
)
from gateway.usage.store import UsageStore, damaged

AppendEntry = Callable[[Entry], Awaitable[object]]
"""Makes an entry durable; returns when it is, and raises `GatewayError` if it is not."""

STATEMENTS_AT_ONCE: Final = 1
"""Statements and long periods are counted one after the other: each takes a core for some seconds."""


class Accounts:
    """What a member may know of the use of its records. Reads the log on threads."""

    def __init__(
        self,
        reader: AuditReader,
        contracts: ContractSource,
        store: UsageStore,
        signer: SigningKey,
        clock: Clock,
        append: AppendEntry,
    ) -> None:
        """Take the log, the register of contracts, and what statements are kept in and signed with.

        `append` makes the entry of a statement durable.
        """
        self._reader = reader
        self._contracts = contracts
        self._store = store
        self._signer = signer
        self._clock = clock
        self._append = append
        self._books = Books(reader)
        self._turn = asyncio.Semaphore(STATEMENTS_AT_ONCE)

    async def usage(self, member: str, period: Period) -> tuple[list[Counted], int]:
        """Return what was counted for `member` in `period`, and the size of the log that was counted.

        Raises `LogUnavailableError`.
        """

        def read() -> tuple[list[Counted], int]:
            size = self._reader.size()
            # The same books for all periods that begin in a month, so that asking again costs little.
            begins = Period(period.first.replace(day=1), period.last).begins
            return self._books.lines(member, period, begins, None, size), size

        async with self._turn:
            return await asyncio.to_thread(read)

    async def statement(self, member: str, month: str, *, so_far: bool = False) -> dsse.Envelope:
        """Return the statement of a month; it is issued once, and the same whenever it is asked for again.

        Its entry `statement.issued` is durable before it leaves. With `so_far` there is one of a running
        month, too: counted anew each time, neither kept nor in the log. Raises `GatewayError`:
        `ENTRY_NOT_FOUND` while the month has not ended (or, with `so_far`, begun), `LOG_UNAVAILABLE`,
        `LEDGER_UNAVAILABLE`.
        """
        period, now = month_of(month), self._clock()
        if so_far and period.begins <= now < issuable_from(period):
            async with self._turn:
                counted = await asyncio.to_thread(self._count, member, period, month, now, so_far=True)
            return sign_statement(counted, self._signer)
        if now < issuable_from(period):
            raise GatewayError(
                "The statement of a month is made an hour after its end, when all its exchanges have ended.",
                reason=Reason.ENTRY_NOT_FOUND,
                issuable_from=rfc3339(issuable_from(period)),
            )
        async with self._turn:
            kept = await asyncio.to_thread(self._store.statement, member, month)
            if kept is None:
                statement = await asyncio.to_thread(self._count, member, period, month, now)
                envelope = sign_statement(statement, self._signer)
                await self._append(issued_entry(statement, envelope, now))
                encoded = dsse.envelope_to_json(envelope)
                kept = await asyncio.to_thread(self._store.keep_statement, member, month, encoded)
        try:
            return dsse.envelope_from_json(kept)
        except SignatureError as error:
            raise damaged() from error

    def _count(
        self, member: str, period: Period, month: str, now: datetime, *, so_far: bool = False
    ) -> Statement:
        contracts = {
            id_: ContractTerms.of(contract)
            for id_, contract in contributed_by(member, self._contracts).items()
        }
        size = self._reader.size()
        ends = period.ends + CLOSING_TIME
        # Which contracts are told of depends on the use, and from when on use is counted on the contracts.
        own = self._books.lines(member, period, period.begins, ends, size)
        told = told_contracts(period, own, contracts)
        since = needed_since(period, list(told.values()))
        span = Period(since.date(), period.last)
        lines = own if since == period.begins else self._books.lines(member, span, since, ends, size)
        _, vkey = self._reader.identity()
        return make_statement(
            figures(period, lines, told),
            member=member,
            month=month,
            so_far=so_far,
            since=since,
            issued=now,
            checkpoint=self._reader.checkpoint_at(size),
            verifier=Ed25519Verifier.from_vkey(vkey),
        )


def issued_entry(statement: Statement, envelope: dsse.Envelope, now: datetime) -> Entry:
    """Return the entry that tells of a statement: to whom, for which month, and its digest."""
    return Entry(
        v=ENTRY_VERSION,
        kind=EntryKind.STATEMENT_ISSUED,
        time=rfc3339(now),
        provider=statement.member,
        records=statement.totals.records,
        subject=member_name(statement.member),
        detail={
            "month": statement.month,
            "tree_size": str(statement.tree_size),
            "exchanges": str(statement.totals.exchanges),
            "statement": f"sha256:{hashlib.sha256(envelope.payload).hexdigest()}",
        },
    )
