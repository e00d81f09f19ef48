"""One exchange while it is under way: what is known so far, filled in step by step."""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Final

from gateway.evidence.dsse import Envelope
from gateway.exchange.call import Call
from gateway.exchange.resolution import Resolved
from gateway.exchange.statement import OpenedStatement
from gateway.exchange.transform import ReleasedPage, TransformPlan
from gateway.ledger import DebtKind
from gateway.model import NO_DUTIES, Contract, Decision, Duties, Member, Operation
from gateway.policy.policy_input import PolicyInput
from gateway.telemetry.metrics import Stopwatch

RESERVED_SHARE: Final = 0.1
"""Part of the caller's time that is kept for recording and answering."""
MAX_RESERVE_S: Final = 0.25


@dataclass(slots=True)
class Exchange:
    """State of one exchange. Each step of `gateway.exchange.service` sets what it found out."""

    id: str
    operation: Operation
    call: Call
    started: datetime
    stopwatch: Stopwatch
    started_s: float = field(default_factory=time.monotonic)
    consumer: Member | None = None
    statement: OpenedStatement | None = None
    resolved: Resolved | None = None
    contract: Contract | None = None
    """The contract under which the dataset is asked for, if it is under one."""
    reciprocity: Contract | None = None
    """The consumer's own contract by which it gets the dataset in return, if it is not `contract`."""
    provider: Member | None = None
    contracts: tuple[Contract, ...] = ()
    """All that must stay in force for it: the two above, or those of the lists that are asked together."""
    policy_input: PolicyInput | None = None
    """What policy was asked."""
    decision: Decision | None = None
    plan: TransformPlan | None = None
    duties: Duties = NO_DUTIES
    """What binds the exchange as a whole."""
    told: tuple[str, ...] = ()
    """What the answer to a list question tells, sorted; the same for a yes and a no."""
    commitments: dict[str, str] = field(default_factory=dict)
    openings: dict[str, str] = field(default_factory=dict)
    order: Envelope | None = None
    """What the provider is asked, signed; sent once `requested`."""
    requested: bool = False
    """Whether `exchange.requested` stands in the log: from then on a fault is a failure, not a denial."""
    provider_seconds: float = 0.0
    stalled: bool = False
    """Whether the reader of a stream took nothing for too long."""
    provider_key: str = ""
    deliveries: list[Envelope] = field(default_factory=list)
    page_digests: list[bytes] = field(default_factory=list)
    records: int = 0
    pages: int = 0
    bytes: int = 0
    unknown_fields: int = 0
    invalid_identifiers: dict[str, int] = field(default_factory=dict)
    newest: date | None = None
    """The latest day seen in the field by which the dataset's freshness is measured."""
    key_epoch: str = ""
    expired: int = 0
    """Records withheld for their age."""
    metered: bool = False
    """Whether something may have been counted on accounts for it that is not settled."""
    due: dict[DebtKind, datetime] = field(default_factory=dict)
    """What is owed after it, and until when."""
    withdraws: int | None = None
    """Index of the entry of its release, if no receipt was issued after all."""

    def count(self, page: ReleasedPage) -> None:
        """Add `page` to what has left."""
        self.page_digests.append(page.digest)
        self.records += page.count
        self.pages += 1
        self.bytes += len(page.records)
        self.unknown_fields += page.unknown_fields
        self.expired += page.expired
        if page.newest is not None:
            self.newest = max(page.newest, self.newest or page.newest)
        for name, number in page.invalid_identifiers.items():
            self.invalid_identifiers[name] = self.invalid_identifiers.get(name, 0) + number

    def withdraw(self, index: int) -> None:
        """Take note that the release at `index` came to nothing; only pages of a stream have left."""
        self.withdraws = index
        self.retract()

    def retract(self) -> None:
        """Take back what was counted as leaving with a release that came to nothing; a stream's has left."""
        if self.operation is not Operation.STREAM:
            self.discount()

    def discount(self) -> None:
        """Take back what was counted: nothing of it has left."""
        self.page_digests.clear()
        self.records = self.pages = self.bytes = 0

    def remaining_s(self) -> float:
        """Return the seconds left for the provider.

        They end a little before the caller's deadline, so that a provider's silence can still be
        recorded and told for what it is.
        """
        reserved_s = min(MAX_RESERVE_S, RESERVED_SHARE * self.call.timeout_s)
        return self.call.timeout_s - reserved_s - (time.monotonic() - self.started_s)

    def duration_ms(self) -> int:
        """Return the milliseconds since the exchange began."""
        return round((time.monotonic() - self.started_s) * 1000)


class OpenExchanges:
    """Counts the exchanges under way, so that a stop can wait until the last has left its entries."""

    def __init__(self) -> None:
        self.count = 0
        self._none = asyncio.Event()
        self._none.set()

    def begin(self) -> None:
        """Count one more."""
        self.count += 1
        self._none.clear()

    def end(self) -> None:
        """Count one less: its entries are written, or cannot be."""
        self.count -= 1
        if not self.count:
            self._none.set()

    def hold_until_done(self, task: asyncio.Future[Any]) -> None:
        """Count `task`, the last work of an exchange, for itself: its exchange may be given up first."""
        self.begin()

        def done(finished: asyncio.Future[Any]) -> None:
            self.end()
            if not finished.cancelled():
                # Seen here, in case nobody waits for it any more; who does gets it all the same.
                finished.exception()

        task.add_done_callback(done)

    async def wait_until_none(self, timeout_s: float) -> bool:
        """Return True once no exchange is under way; False if some are after `timeout_s` seconds."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._none.wait()
        except TimeoutError:
            return False
        return True


def new_exchange_id(now: datetime) -> str:
    """Return a UUIDv7 (RFC 9562 section 5.7): 48 bits of milliseconds, then randomness."""
    value = (int(now.timestamp() * 1000) & (1 << 48) - 1) << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
