"""Making the log's decisions again: by the bundle of then as proof, by a candidate to see what changes.

The bundle of then must give the recorded id and outcome; whatever it does not give is an integrity fault of
the log or of the bundle. A candidate is asked what it would decide on the same facts, by a gateway of today:
facts that this release added are filled in, and `capabilities` are today's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import msgspec

from gateway.exchange.resolution import CAPABILITIES
from gateway.model import Decision
from gateway.policy.bundle import Bundle
from gateway.policy.comparison import ChangeKind, Divergence, compare
from gateway.policy.embedded import EmbeddedEngine
from gateway.policy.errors import PolicyError
from gateway.policy.policy_input import PolicyInput, encode_input
from gateway.policy_review.decided import (
    SAMPLES,
    DecisionLog,
    IntegrityFault,
    LoggedDecision,
    LoggedOutcome,
    rebuilt,
)
from gateway.policy_review.judges import SMALL, Advance, in_chunks, judging, start_engine

_IN_TASK: Final = 250
_CAPABILITIES: Final = list(CAPABILITIES)

_encode: Final = msgspec.json.Encoder(order="sorted").encode


class ReplayTask(msgspec.Struct, frozen=True):
    """Decisions to be made again: canonical input, digest of the bundle of then, allow, tier, reasons."""

    inputs: tuple[bytes, ...]
    bundles: tuple[str, ...]
    outcomes: tuple[tuple[bool, str, tuple[str, ...]], ...]


class Replayed(msgspec.Struct, frozen=True):
    """What came of one decision."""

    divergences: tuple[tuple[ChangeKind, tuple[str, ...], tuple[str, ...]], ...] = ()
    """Kind, rules and details of what the candidate changes."""
    fault: str = ""
    """What the bundle of then does not bear out."""
    proven: bool = False
    """Whether the bundle of then was there, and bears the decision out."""


class ReplayGroup(msgspec.Struct, frozen=True, kw_only=True):
    """What the candidate changes alike: one kind, member, dataset, purpose and rules."""

    kind: ChangeKind
    member: str
    dataset: str
    purpose: str
    rules: tuple[str, ...]
    details: tuple[str, ...]
    exchanges: int
    decisions: int
    first: str
    last: str
    samples: tuple[str, ...]


@dataclass(slots=True)
class ReplayReport:
    """What replaying a part of the log has shown."""

    exchanges: int
    undecided: int
    without_input: int
    decisions: int
    """Distinct inputs, with the bundle that decided each."""
    proven: int = 0
    """Decisions that the bundle of then gives again, id and outcome."""
    missing_bundles: dict[str, int] = field(default_factory=dict)
    """Digest of a bundle of then that was not at hand, to the decisions made by it."""
    faults: list[IntegrityFault] = field(default_factory=list)
    changes: list[tuple[LoggedDecision, Divergence]] = field(default_factory=list)

    def counts(self) -> dict[ChangeKind, int]:
        """Return how many exchanges each kind of change concerns."""
        found = dict.fromkeys(ChangeKind, 0)
        for decision, divergence in self.changes:
            found[divergence.kind] += decision.count
        return found

    def groups(self) -> tuple[ReplayGroup, ...]:
        """Return the changes grouped; within each kind those first that concern most exchanges."""
        found: dict[tuple[ChangeKind, str, str, str, tuple[str, ...]], list[LoggedDecision]] = {}
        details: dict[tuple[ChangeKind, str, str, str, tuple[str, ...]], set[str]] = {}
        for decision, divergence in self.changes:
            key = (
                divergence.kind,
                decision.consumer,
                decision.dataset,
                decision.purpose,
                divergence.rules,
            )
            found.setdefault(key, []).append(decision)
            details.setdefault(key, set()).update(divergence.details)
        order = list(ChangeKind)
        groups = [
            ReplayGroup(
                kind=key[0],
                member=key[1],
                dataset=key[2],
                purpose=key[3],
                rules=key[4],
                details=tuple(sorted(details[key])),
                exchanges=sum(decision.count for decision in decisions),
                decisions=len(decisions),
                first=min(decision.first for decision in decisions),
                last=max(decision.last for decision in decisions),
                samples=tuple(sample for decision in decisions for sample in decision.samples)[:SAMPLES],
            )
            for key, decisions in found.items()
        ]
        return tuple(sorted(groups, key=lambda group: (order.index(group.kind), -group.exchanges)))


@dataclass(slots=True)
class ReplayJudge:
    """Makes decisions again, in one process."""

    engines: Mapping[str, EmbeddedEngine]
    """Of the bundles of then, by digest."""
    candidate: EmbeddedEngine | None

    def replay(self, encoded: bytes, bundle: str, outcome: LoggedOutcome) -> Replayed:
        """Return what comes of one decision; `encoded` has been held against its id."""
        engine = self.engines.get(bundle)
        before: Decision | None = None
        fault = ""
        if engine is not None:
            try:
                before = engine.judge(encoded)
                given = LoggedOutcome(before.allow, before.tier, before.reasons)
                if given != outcome:
                    fault = "the bundle of then gives another outcome than the log tells"
            except PolicyError as error:
                fault = f"the bundle of then cannot decide it again: {error.message}"
        divergences: tuple[Divergence, ...] = ()
        if self.candidate is not None:
            after = self.candidate.judge(as_of_today(encoded))
            divergences = compare(before, after) if before is not None else _compare_outcome(outcome, after)
        return Replayed(
            tuple((each.kind, each.rules, each.details) for each in divergences),
            fault,
            proven=engine is not None and not fault,
        )


def as_of_today(encoded: bytes) -> bytes:
    """Return the input `encoded` as a gateway of this release would hand it over.

    One that is not of today's shape stays as it is; the rules then say what they think of it.
    """
    facts: dict[str, Any] = msgspec.json.decode(encoded)
    facts["capabilities"] = _CAPABILITIES
    try:
        return encode_input(msgspec.convert(facts, PolicyInput))
    except (msgspec.ValidationError, ValueError):
        return _encode(facts)


def _compare_outcome(logged: LoggedOutcome, after: Decision) -> tuple[Divergence, ...]:
    """Return what can be told without the bundle of then: the log holds no obligations of a request."""
    if logged.allow == after.allow:
        return ()
    kind = ChangeKind.ALLOWED if after.allow else ChangeKind.DENIED
    return (Divergence(kind, () if after.allow else after.rule_ids),)


def prepare(bundles: Sequence[Bundle], candidate: Bundle | None) -> ReplayJudge:
    """Return what replays in this process."""
    return ReplayJudge(
        {bundle.digest: start_engine(bundle) for bundle in bundles},
        None if candidate is None else start_engine(candidate),
    )


def replay_task(judge: ReplayJudge, task: ReplayTask) -> bytes:
    """Return what comes of each decision of `task`, as MessagePack."""
    return msgspec.msgpack.encode(
        [
            judge.replay(encoded, bundle, LoggedOutcome(*outcome))
            for encoded, bundle, outcome in zip(task.inputs, task.bundles, task.outcomes, strict=True)
        ]
    )


def replay(
    log: DecisionLog,
    descriptions: Mapping[str, str],
    bundles: Sequence[Bundle],
    candidate: Bundle | None,
    *,
    processes: int | None = None,
    advance: Advance = lambda _done, _all: None,
) -> ReplayReport:
    """Return what the decisions of `log` come to.

    `descriptions` are those that the log holds; `bundles` those of then that are at hand; without a
    `candidate` the decisions are proven only. Raises `PolicyError` if the candidate has no answer.
    """
    decisions = list(log.decisions.values())
    report = ReplayReport(
        exchanges=log.exchanges,
        undecided=log.undecided,
        without_input=log.without_input,
        decisions=len(decisions),
        faults=list(log.faults),
    )
    known = {bundle.digest for bundle in bundles}
    for decision in decisions:
        if decision.bundle not in known:
            report.missing_bundles[decision.bundle] = report.missing_bundles.get(decision.bundle, 0) + 1
    faults: list[IntegrityFault] = []
    under_way: deque[list[LoggedDecision]] = deque()

    def tasks() -> Iterator[ReplayTask]:
        for chunk in in_chunks(decisions, _IN_TASK):
            sound = list(_sound(chunk, descriptions, report))
            under_way.append([decision for decision, _ in sound])
            yield _task(sound)

    done = 0
    few = len(decisions) < SMALL
    with judging(partial(prepare, bundles, candidate), 1 if few else processes) as judges:
        for _, encoded in judges.map(replay_task, tasks()):
            answers = msgspec.msgpack.decode(encoded, type=list[Replayed])
            for decision, replayed in zip(under_way.popleft(), answers, strict=True):
                _add(report, faults, decision, replayed)
            done = min(done + _IN_TASK, len(decisions))
            advance(done, len(decisions))
    report.faults += faults
    return report


def _sound(
    decisions: Iterable[LoggedDecision], descriptions: Mapping[str, str], report: ReplayReport
) -> Iterator[tuple[LoggedDecision, bytes]]:
    for decision in decisions:
        try:
            yield decision, rebuilt(decision, descriptions)
        except PolicyError as error:
            report.faults.append(IntegrityFault(decision.id, decision.samples[0], error.message))


def _task(chunk: Sequence[tuple[LoggedDecision, bytes]]) -> ReplayTask:
    return ReplayTask(
        tuple(encoded for _, encoded in chunk),
        tuple(decision.bundle for decision, _ in chunk),
        tuple(
            (decision.outcome.allow, decision.outcome.tier, decision.outcome.reasons) for decision, _ in chunk
        ),
    )


def _add(
    report: ReplayReport, faults: list[IntegrityFault], decision: LoggedDecision, replayed: Replayed
) -> None:
    if replayed.fault:
        faults.append(IntegrityFault(decision.id, decision.samples[0], replayed.fault))
    report.proven += replayed.proven
    report.changes += [(decision, Divergence(*each)) for each in replayed.divergences]
