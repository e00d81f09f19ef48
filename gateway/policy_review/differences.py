"""What another bundle would change, over every question that the two could be asked: a finite proof.

Each member, dataset, purpose and operation is asked about in every way that one of the bundles knows; what
is not told differs in nothing that is released.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, product

import msgspec

from gateway.policy.bundle import Bundle
from gateway.policy.comparison import ChangeKind, compare
from gateway.policy_review.judges import SMALL, Advance, judging
from gateway.policy_review.looks import Asking, Look, count_asked, find_looks
from gateway.policy_review.matrix import CellsTask, cell_tasks
from gateway.policy_review.questions import Agreements, Way, World, may_need_basis


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One question that two bundles decide differently."""

    kind: ChangeKind
    member: str
    dataset: str
    purpose: str
    operation: str
    legal_basis: str
    memorandum: str
    rules: tuple[str, ...]
    details: tuple[str, ...]


class ChangeGroup(msgspec.Struct, frozen=True, kw_only=True):
    """Changes of one kind by the same rules for one member, dataset and purpose."""

    kind: ChangeKind
    member: str
    dataset: str
    purpose: str
    rules: tuple[str, ...]
    operations: tuple[str, ...]
    ways: int
    """How many ways of asking are concerned."""
    details: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Differences:
    """All that two bundles decide differently."""

    asked: int
    """How many questions were asked of both."""
    changes: tuple[Change, ...]

    def counts(self) -> dict[ChangeKind, int]:
        """Return how many questions each kind of change concerns; 0 for the others."""
        found = Counter(change.kind for change in self.changes)
        return {kind: found[kind] for kind in ChangeKind}

    def groups(self) -> tuple[ChangeGroup, ...]:
        """Return the changes by kind, member, dataset, purpose and rules."""
        found: dict[tuple[ChangeKind, str, str, str, tuple[str, ...]], list[Change]] = {}
        for change in self.changes:
            key = (change.kind, change.member, change.dataset, change.purpose, change.rules)
            found.setdefault(key, []).append(change)
        order = list(ChangeKind)
        return tuple(
            ChangeGroup(
                kind=kind,
                member=member,
                dataset=dataset,
                purpose=purpose,
                rules=rules,
                operations=tuple(sorted({change.operation for change in changes})),
                ways=len(changes),
                details=tuple(sorted({detail for change in changes for detail in change.details})),
            )
            for (kind, member, dataset, purpose, rules), changes in sorted(
                found.items(), key=lambda item: (order.index(item[0][0]), item[0][1:])
            )
        )


@dataclass(slots=True)
class DifferenceJudge:
    """Compares two bundles, in one process."""

    world: World
    before: Asking
    after: Asking
    agreements: tuple[Agreements, Agreements]

    def changes(self, member: str, dataset: str, purpose: str, operation: str) -> tuple[int, list[Change]]:
        """Return how many ways of asking there are, and what differs."""
        ways = {
            ("", ""),
            *(way for side in self.agreements for way in side.under_memoranda(member, dataset, purpose)),
        }
        found: list[Change] = []
        bases: set[str] = set()
        for basis, memorandum in sorted(ways):
            missing, changes = self._compare(Way(member, dataset, purpose, operation, basis, memorandum))
            found += changes
            if missing:
                bases.update(*(side.bases(purpose) for side in self.agreements))
        for basis in sorted(bases):
            found += self._compare(Way(member, dataset, purpose, operation, basis, ""))[1]
        return len(ways) + len(bases), found

    def _compare(self, way: Way) -> tuple[bool, list[Change]]:
        """Return whether one side misses a legal basis, and what differs."""
        before, after = self.before.decide(way), self.after.decide(way)
        changes = [
            Change(
                kind=divergence.kind,
                member=way.member,
                dataset=way.dataset,
                purpose=way.purpose,
                operation=way.operation,
                legal_basis=way.legal_basis,
                memorandum=way.memorandum,
                rules=divergence.rules,
                details=divergence.details,
            )
            for divergence in compare(before, after)
        ]
        return may_need_basis(before) or may_need_basis(after), changes


def prepare(
    before: Bundle, after: Bundle, world: World, looks: Sequence[tuple[Look, ...] | None]
) -> DifferenceJudge:
    """Return what compares in this process; `looks` are those of the two bundles."""
    return DifferenceJudge(
        world,
        Asking(before, world, looks[0]),
        Asking(after, world, looks[1]),
        (Agreements(before.data), Agreements(after.data)),
    )


def find_changes(judge: DifferenceJudge, task: CellsTask) -> bytes:
    """Return how many questions `task` asks, and for each member the changes, as MessagePack."""
    members = list(judge.world.members)
    asked = 0
    changes: list[list[Change]] = [[] for _ in members]
    # The members last, as for the matrix.
    for purpose, operation in product(task.purposes, judge.world.operations):
        for own, member in zip(changes, members, strict=True):
            count, found = judge.changes(member, task.dataset, purpose, operation)
            asked += count
            own.extend(found)
    return msgspec.msgpack.encode((asked, changes))


def find_differences(
    before: Bundle,
    after: Bundle,
    world: World,
    *,
    processes: int | None = None,
    advance: Advance = lambda _done, _all: None,
) -> Differences:
    """Return every question of `world` that the two bundles decide differently.

    Raises `PolicyError` if one of them has no answer.
    """
    purposes = world.purposes([before, after])
    looks = [find_looks(bundle.modules) for bundle in (before, after)]
    each = len(world.datasets) * len(purposes) * len(world.operations)
    total = len(world.members) * each
    if max(count_asked(world, one) for one in looks) * each < SMALL:
        processes = 1
    asked, done = 0, 0
    changes: list[list[Change]] = [[] for _ in world.members]
    with judging(partial(prepare, before, after, world, looks), processes) as judges:
        for task, encoded in judges.map(find_changes, cell_tasks(world, purposes)):
            count, found = msgspec.msgpack.decode(encoded, type=tuple[int, list[list[Change]]])
            asked += count
            for own, more in zip(changes, found, strict=True):
                own.extend(more)
            done += len(world.members) * len(task.purposes) * len(world.operations)
            advance(done, total)
    return Differences(asked, tuple(chain.from_iterable(changes)))
