"""All that is allowed: every member, dataset and purpose, with the best way to ask and what it gives."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, product
from typing import Final

import msgspec

from gateway.model import Decision, Treatment
from gateway.policy.bundle import Bundle
from gateway.policy.obligations import TREATMENT_ORDER
from gateway.policy_review.judges import SMALL, Advance, in_chunks, judging
from gateway.policy_review.looks import Asking, Look, count_asked, find_looks
from gateway.policy_review.questions import Agreements, Way, World, may_need_basis

_QUESTIONS_IN_TASK: Final = 8
"""Of each member; who interrupts a command waits for what is under way."""

_RANK: Final = {treatment: rank for rank, treatment in enumerate(TREATMENT_ORDER)}


class Cell(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one member gets of one dataset for one purpose and operation."""

    member: str
    dataset: str
    purpose: str
    operation: str
    allow: bool
    tier: str = ""
    legal_basis: str = ""
    """The best way found: legal basis and memorandum to state; empty where none is needed."""
    memorandum: str = ""
    treatments: dict[str, list[str]] = {}
    """Treatment to the fields that get it, sorted; dropped fields too."""
    duties: dict[str, dict[str, str | int]] = {}
    reasons: tuple[str, ...] = ()
    """Why not, when asked without a memorandum, or under the one that there is."""


class CellsTask(msgspec.Struct, frozen=True):
    """Some cells: one dataset, some purposes, all operations and members."""

    dataset: str
    purposes: tuple[str, ...]


@dataclass(slots=True)
class MatrixJudge:
    """Finds cells under one bundle, in one process."""

    world: World
    asking: Asking
    agreements: Agreements

    def cell(self, member: str, dataset: str, purpose: str, operation: str) -> Cell:
        """Return what the best way of asking gives; of a denial, the reasons."""
        ways = [*self.agreements.under_memoranda(member, dataset, purpose), ("", "")]
        found = [self._ask(Way(member, dataset, purpose, operation, *way)) for way in ways]
        if may_need_basis(found[-1][1]):
            found += [
                self._ask(Way(member, dataset, purpose, operation, basis, ""))
                for basis in self.agreements.bases(purpose)
            ]
        return _cell(*max(found, key=lambda each: _openness(each[1], self.asking.bundle)))

    def _ask(self, way: Way) -> tuple[Way, Decision]:
        return way, self.asking.decide(way)


def prepare(bundle: Bundle, world: World, looks: tuple[Look, ...] | None) -> MatrixJudge:
    """Return what finds cells in this process."""
    return MatrixJudge(world, Asking(bundle, world, looks), Agreements(bundle.data))


def find_cells(judge: MatrixJudge, task: CellsTask) -> bytes:
    """Return the cells of `task` as MessagePack: for each member those by purpose and operation."""
    members = list(judge.world.members)
    cells: list[list[Cell]] = [[] for _ in members]
    # The members last: of those that policy cannot tell apart only one is asked for.
    for purpose, operation in product(task.purposes, judge.world.operations):
        for own, member in zip(cells, members, strict=True):
            own.append(judge.cell(member, task.dataset, purpose, operation))
    return msgspec.msgpack.encode(cells)


def matrix(
    bundle: Bundle,
    world: World,
    *,
    processes: int | None = None,
    advance: Advance = lambda _done, _all: None,
) -> list[Cell]:
    """Return every cell of `world` under `bundle`, by member, dataset, purpose and operation.

    Raises `PolicyError` if policy has no answer on one.
    """
    purposes = world.purposes([bundle])
    looks = find_looks(bundle.modules)
    each = len(world.datasets) * len(purposes) * len(world.operations)
    total = len(world.members) * each
    if count_asked(world, looks) * each < SMALL:
        processes = 1
    cells: list[list[Cell]] = [[] for _ in world.members]
    done = 0
    with judging(partial(prepare, bundle, world, looks), processes) as judges:
        for _, encoded in judges.map(find_cells, cell_tasks(world, purposes)):
            for own, more in zip(cells, msgspec.msgpack.decode(encoded, type=list[list[Cell]]), strict=True):
                own.extend(more)
                done += len(more)
            advance(done, total)
    return list(chain.from_iterable(cells))


def cell_tasks(world: World, purposes: Sequence[str]) -> Iterable[CellsTask]:
    """Yield the tasks that make up `world`, by dataset and purpose."""
    parts = list(in_chunks(purposes, max(1, _QUESTIONS_IN_TASK // len(world.operations))))
    for dataset, part in product(world.datasets, parts):
        yield CellsTask(dataset, tuple(part))


def _openness(decision: Decision, bundle: Bundle) -> tuple[bool, int, int]:
    """Order decisions: allowed before denied, then by tier, then by how little is hidden."""
    if not decision.allow:
        return False, 0, 0
    hidden = sum(_RANK[obligation.treatment] for obligation in decision.obligations.values())
    return True, int(bundle.data["tiers"][decision.tier]["rank"]), -hidden


def _cell(way: Way, decision: Decision) -> Cell:
    treatments: dict[str, list[str]] = {}
    for treatment in Treatment:
        names = sorted(
            name for name, obligation in decision.obligations.items() if obligation.treatment is treatment
        )
        if names:
            treatments[treatment.value] = names
    return Cell(
        member=way.member,
        dataset=way.dataset,
        purpose=way.purpose,
        operation=way.operation,
        allow=decision.allow,
        tier=decision.tier,
        legal_basis=way.legal_basis,
        memorandum=way.memorandum,
        treatments=treatments,
        duties=decision.duties,
        reasons=decision.reasons,
    )
