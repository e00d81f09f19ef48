"""What is kept for contributors beside the log: webhooks, notices and their delivery, statements issued.

It is no evidence; the log is. What is lost with it is found anew, and given again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

import msgspec

from gateway.clock import rfc3339
from gateway.errors import GatewayError, Reason
from gateway.evidence.canonical import DECODE_ERRORS
from gateway.usage.notice import Finding, Notice

MAX_WAITING: Final = 1000
"""Notices of one member that wait for its webhook; further ones stand in the list only."""

KEPT_FOR: Final = timedelta(days=400)
"""For so long a notice can be listed."""

_decode_finding: Final = msgspec.json.Decoder(Finding).decode


class UsageStoreUnavailableError(GatewayError):
    """What is kept for contributors cannot be read or written now."""

    reason = Reason.LEDGER_UNAVAILABLE


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where a member's notices are sent."""

    url: str
    """Empty: nowhere."""
    set: datetime
    """When the member signed that; an older setting does not take its place."""


@dataclass(frozen=True, slots=True)
class KeptNotice:
    """A notice of a member as it is kept."""

    id: int
    member: str
    time: str
    finding: Finding

    def told(self, gateway: str) -> Notice:
        """Return the notice that the gateway with the log `gateway` gives."""
        finding = self.finding
        return Notice(
            v=1,
            gateway=gateway,
            member=self.member,
            id=self.id,
            time=self.time,
            kind=finding.kind,
            contract=finding.contract,
            consumer=finding.consumer,
            dataset=finding.dataset,
            detail=finding.detail,
        )


@dataclass(frozen=True, slots=True)
class Delivery:
    """A notice on its way to a webhook."""

    notice: KeptNotice
    url: str
    attempts: int
    """That have failed."""


class UsageStore(Protocol):
    """Safe from any thread and process; each method is one durable transaction and blocks.

    All raise `UsageStoreUnavailableError`, having changed nothing.
    """

    def set_webhook(self, member: str, webhook: Webhook) -> bool:
        """Keep `webhook` unless one is kept that was set then or later; return whether it was kept."""
        ...

    def webhook(self, member: str) -> Webhook | None:
        """Return what `member` has set last; None if it never has."""
        ...

    def add(self, member: str, findings: Iterable[Finding], now: datetime) -> list[KeptNotice]:
        """Keep the findings whose key the member has no notice of; return these, and queue their delivery.

        Nothing is queued for a member without a webhook, or with `MAX_WAITING` notices waiting.
        """
        ...

    def notices(self, member: str, after: int, limit: int) -> list[KeptNotice]:
        """Return the notices of `member` with an id above `after`, oldest first, at most `limit`."""
        ...

    def claim(self, now: datetime, lease: timedelta, limit: int) -> list[Delivery]:
        """Return deliveries that are due at `now`; nobody else is given them before `lease` has passed."""
        ...

    def delivered(self, notice: int) -> None:
        """Forget a delivery: it is made, or given up."""
        ...

    def put_off(self, notice: int, until: datetime) -> None:
        """Count a failed attempt; the delivery is due again at `until`."""
        ...

    def keep_statement(self, member: str, month: str, envelope: bytes) -> bytes:
        """Keep the statement of a month if none is kept yet; return the one that is."""
        ...

    def statement(self, member: str, month: str) -> bytes | None:
        """Return the statement that was issued; None if none was."""
        ...

    def close(self) -> None:
        """Release everything. May be called twice."""
        ...


NoticeRow = Sequence[object]


def write_finding(finding: Finding) -> str:
    """Return a finding as it is stored."""
    return msgspec.json.encode(finding).decode()


def read_notice(row: NoticeRow) -> KeptNotice:
    """Return the notice of a row (id, member, time, body); raise `UsageStoreUnavailableError`."""
    id_, member, time, body = row
    try:
        finding = _decode_finding(str(body))
    except DECODE_ERRORS as error:
        raise damaged() from error
    return KeptNotice(int(str(id_)), str(member), str(time), finding)


def read_webhook(url: object, moment: object) -> Webhook:
    """Return the webhook of a row; raise `UsageStoreUnavailableError`."""
    try:
        return Webhook(str(url), datetime.fromisoformat(str(moment)))
    except ValueError as error:
        raise damaged() from error


def oldest_kept(now: datetime) -> str:
    """Return the time before which notices are forgotten, as it is stored."""
    return rfc3339(now - KEPT_FOR)


def damaged() -> UsageStoreUnavailableError:
    """Return the error that tells of rows that no gateway writes."""
    return UsageStoreUnavailableError(
        "The store of usage holds what no gateway writes; restore it, or remove it and start anew."
    )
