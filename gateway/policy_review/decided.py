"""Decisions as the log tells of them: what was asked, what came of it, how often.

Read from `exchange.requested` and `exchange.denied`; of each the input is rebuilt from the entry and the
dataset's description, and must give the decision's id. What does not is an integrity fault: entry,
description or id are not those of one decision.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from gateway.audit.filter import Field, Filter, Has, Or
from gateway.audit.report.formats import decode_entry
from gateway.audit.store import MAX_PAGE_SIZE, AuditReader
from gateway.model import Entry, EntryKind
from gateway.policy.errors import PolicyError
from gateway.policy.policy_input import decision_id
from gateway.policy.recorded_input import rebuild_input
from gateway.policy_review.judges import Advance

DECIDED: Final[Filter] = Or(
    (
        Has(Field.KIND, EntryKind.EXCHANGE_REQUESTED.value),
        Has(Field.KIND, EntryKind.EXCHANGE_DENIED.value),
    )
)
"""The entries that hold policy inputs."""

SAMPLES: Final = 3
"""Exchange ids kept of each decision."""

_encode: Final = msgspec.json.Encoder(order="sorted").encode


@dataclass(frozen=True, slots=True)
class LoggedOutcome:
    """What policy decided, as far as the log tells it."""

    allow: bool
    tier: str
    reasons: tuple[str, ...]

    @classmethod
    def of(cls, entry: Entry) -> LoggedOutcome:
        """Return it from an entry; a tier stands in one only if policy allowed the exchange."""
        allow = bool(entry.tier)
        return cls(allow, entry.tier, () if allow else entry.reasons)


@dataclass(slots=True)
class LoggedDecision:
    """One decision and the exchanges that it was made for."""

    id: str
    bundle: str
    """Digest of the bundle that decided."""
    outcome: LoggedOutcome
    recorded: bytes
    """The member `policy_input` of its entries, canonical JSON."""
    consumer: str
    dataset: str
    purpose: str
    first: str
    last: str
    count: int = 0
    samples: list[str] = field(default_factory=list)

    def see(self, entry: Entry) -> None:
        """Count one more exchange, which is not before those seen."""
        self.count += 1
        self.last = entry.time
        if len(self.samples) < SAMPLES:
            self.samples.append(entry.exchange)


@dataclass(frozen=True, slots=True)
class IntegrityFault:
    """Something in the log about a decision that cannot be so."""

    decision: str
    exchange: str
    what: str


@dataclass(slots=True)
class DecisionLog:
    """The decisions of a part of the log."""

    decisions: dict[tuple[str, bytes], LoggedDecision] = field(default_factory=dict)
    """By decision id and recorded input: an honest log has one input for each id."""
    exchanges: int = 0
    undecided: int = 0
    """Exchanges that were refused before policy was asked."""
    without_input: int = 0
    """Decisions by a release that did not record what policy was asked."""
    faults: list[IntegrityFault] = field(default_factory=list)


def read_decisions(
    reader: AuditReader, wanted: Filter, advance: Advance = lambda _done, _all: None
) -> DecisionLog:
    """Return the decisions in the entries `wanted`, which are of the kinds `DECIDED`.

    Raises `LogMismatchError` and `LogUnavailableError`.
    """
    found = DecisionLog()
    start, end = 0, reader.size()
    while page := reader.follow(wanted, MAX_PAGE_SIZE, start, end):
        for stored in page:
            _take(found, decode_entry(stored))
        start = page[-1].index + 1
        advance(start, end)
    return found


def _take(found: DecisionLog, entry: Entry) -> None:
    found.exchanges += 1
    if not entry.decision:
        found.undecided += 1
        return
    if not entry.policy_input:
        found.without_input += 1
        return
    decision = read_decision(entry)
    known = found.decisions.setdefault((decision.id, decision.recorded), decision)
    if (known.outcome, known.bundle) != (decision.outcome, decision.bundle):
        found.faults.append(
            IntegrityFault(
                entry.decision, entry.exchange, "the log tells two outcomes of one decision on one input"
            )
        )
    known.see(entry)


def read_decision(entry: Entry) -> LoggedDecision:
    """Return the decision that `entry`, which has a `policy_input`, tells of; no exchange is counted yet."""
    return LoggedDecision(
        id=entry.decision,
        bundle=entry.bundle,
        outcome=LoggedOutcome.of(entry),
        recorded=_encode(entry.policy_input),
        consumer=entry.consumer,
        dataset=entry.dataset,
        purpose=entry.purpose,
        first=entry.time,
        last=entry.time,
    )


def rebuilt(decision: LoggedDecision, descriptions: Mapping[str, str]) -> bytes:
    """Return the canonical input of `decision`; raise `PolicyError` if it does not give the decision's id."""
    recorded: dict[str, Any] = msgspec.json.decode(decision.recorded)
    encoded = rebuild_input(recorded, descriptions)
    if decision_id(decision.bundle, encoded) != decision.id:
        raise PolicyError("the recorded input and bundle do not give the recorded decision id")
    return encoded


def find_exchange(reader: AuditReader, exchange: str) -> Iterator[Entry]:
    """Yield the entries of one exchange, oldest first."""
    for stored in reader.follow(Has(Field.EXCHANGE, exchange), MAX_PAGE_SIZE, 0, reader.size()):
        yield decode_entry(stored)
