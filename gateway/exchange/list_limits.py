"""What bounds questions to lists: how small a list may be, how often may be asked, when answers leave."""

from __future__ import annotations

import asyncio
import hmac
import math
import threading
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import msgspec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gateway.audit import filter as filters
from gateway.audit.filter import Field, Has
from gateway.audit.store import MAX_PAGE_SIZE, AuditReader, Once
from gateway.errors import GatewayError, Reason
from gateway.exchange.state import Exchange
from gateway.model import Entry, EntryKind, Operation

PROVIDER_SHARE: Final = 0.9
"""Part of the last step before the caller's deadline in which providers must have answered."""

_KEY_PURPOSE: Final = b"sluicegate list questions asked recently v1"
_decode: Final = msgspec.json.Decoder(Entry).decode


@dataclass(frozen=True, slots=True)
class ListRules:
    """The numbers."""

    answer_after_s: float
    """Answers leave so long after their question, or twice as long, three times ... if it must be."""
    smallest_list: int
    """Records of the smallest list that is asked."""
    questions_a_day: int
    """Questions of one member to one list or list set on one day (UTC)."""
    again_after: timedelta
    """When a member that was answered may ask the same of the same subject again."""


@dataclass(slots=True)
class _Tally:
    """How many questions of one member to one list stand in the log, up to where it has been read."""

    day: datetime
    read: int = 0
    asked: int = 0


class ListLimits:
    """Counts by the log alone, so that the limits hold over all workers and nodes, and across restarts."""

    def __init__(self, rules: ListRules, reader: AuditReader, secret: bytes) -> None:
        """Take a secret (32 bytes) that all nodes share; a key of its own is derived from it."""
        self.rules: Final = rules
        self._reader = reader
        self._key = HKDF(SHA256(), 32, None, _KEY_PURPOSE).derive(secret)
        self._tallies: dict[tuple[str, str], _Tally] = {}
        self._lock = threading.Lock()

    async def spend(self, consumer: str, asked: str, now: datetime) -> None:
        """Raise `BUDGET_EXHAUSTED` if `consumer` has asked too much of `asked` today.

        To be called when the question itself stands in the log: of several at once, none is overlooked.
        """
        count = await asyncio.to_thread(self._count, consumer, asked, now)
        if count > self.rules.questions_a_day:
            raise GatewayError(
                "This member has used up its questions to this list for today; they begin anew at midnight "
                "UTC. Ask the operator if they are too few.",
                reason=Reason.BUDGET_EXHAUSTED,
                limit=self.rules.questions_a_day,
            )

    def once(self, consumer: str, asked: str, subject: str, now: datetime) -> Once:
        """Return the claim that an answer makes: the same is not answered again for a while.

        What is kept of the subject is a digest under a key, of no use to who has only the log.
        """
        text = msgspec.json.encode([consumer, asked, subject])
        return Once(hmac.digest(self._key, text, "sha256"), until=now + self.rules.again_after)

    def verify_size(self, records: int) -> None:
        """Raise `COHORT_TOO_SMALL` for a list so small that an answer would tell much of each on it."""
        if records < self.rules.smallest_list:
            raise GatewayError(
                "A list has so few records that an answer would say too much about each; it is not asked.",
                reason=Reason.COHORT_TOO_SMALL,
            )

    def _count(self, consumer: str, asked: str, now: datetime) -> int:
        day = now.replace(hour=0, minute=0, second=0, microsecond=0)
        wanted = filters.both(
            Has(Field.CONSUMER, consumer),
            Has(Field.KIND, EntryKind.EXCHANGE_REQUESTED),
            Has(Field.DATASET, asked),
            filters.since(day),
        )
        with self._lock:
            tally = self._tallies.get((consumer, asked))
            if tally is None or tally.day != day:
                tally = self._tallies[consumer, asked] = _Tally(day)
            end = self._reader.size()
            while tally.read < end:
                page = self._reader.follow(wanted, MAX_PAGE_SIZE, tally.read, end)
                tally.asked += sum(_decode(item.data).operation == Operation.LIST for item in page)
                tally.read = page[-1].index + 1 if len(page) == MAX_PAGE_SIZE else end
            return tally.asked


class Schedule:
    """When an answer leaves: at a multiple of `step_s` after the question came, whatever was found.

    What depends on the subject is done before; after it, a yes and a no take the same way.
    """

    def __init__(self, exchange: Exchange, step_s: float) -> None:
        """Raise `DEADLINE_INVALID` if the caller's deadline comes before the first multiple."""
        self._began_s = exchange.started_s
        self._step_s = step_s
        elapsed_s = time.monotonic() - self._began_s
        steps = math.floor((exchange.remaining_s() + elapsed_s) / step_s)
        if steps < 1:
            raise GatewayError(
                f"Answers to list questions leave no sooner than {step_s:g} seconds after the question; give "
                "the call a deadline beyond that.",
                reason=Reason.DEADLINE_INVALID,
            )
        self._provider_until_s = (steps - 1 + PROVIDER_SHARE) * step_s

    def provider_s(self) -> float:
        """Return the seconds that providers have from now."""
        return self._provider_until_s - (time.monotonic() - self._began_s)

    async def wait(self) -> None:
        """Return at the next multiple."""
        elapsed_s = time.monotonic() - self._began_s
        steps = max(1, math.ceil(elapsed_s / self._step_s))
        await asyncio.sleep(steps * self._step_s - elapsed_s)
