"""All that is allowed: every member, dataset and purpose, with the best way to ask and what it gives."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import msgspec

from gateway.model import Decision, Treatment
from gateway.policy.bundle import Bundle
from gateway.policy.embedded import EmbeddedEngine
from gateway.policy.obligations import TREATMENT_ORDER
from gateway.policy_review.judges import SMALL, Advance, in_chunks, judging, start_engine
from gateway.policy_review.questions import Agreements, Questions, Way, World, may_need_basis

_DATASETS_IN_TASK: Final = 20
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
    """Some cells: one member, some datasets, all purposes and operations."""

    member: str
    datasets: tuple[str, ...]


@dataclass(slots=True)
class MatrixJudge:
    """Finds cells under one bundle, in one process."""

    world: World
    purposes: tuple[str, ...]
    engine: EmbeddedEngine
    agreements: Agreements
    questions: Questions

    def cell(self, member: str, dataset: str, purpose: str, operation: str) -> Cell:
        """Return what the best way of asking gives; of a denial, the reasons."""
        ways = [*self.agreements.under_memoranda(member, dataset, purpose), ("", "")]
        found = [self._ask(Way(member, dataset, purpose, operation, *way)) for way in ways]
        if may_need_basis(found[-1][1]):
            found += [
                self._ask(Way(member, dataset, purpose, operation, basis, ""))
                for basis in self.agreements.bases(purpose)
            ]
        return _cell(*max(found, key=lambda each: _openness(each[1], self.engine.bundle)))

    def _ask(self, way: Way) -> tuple[Way, Decision]:
        return way, self.engine.judge(self.questions.encode(way))


def prepare(bundle: Bundle, world: World) -> MatrixJudge:
    """Return what finds cells in this process."""
    engine = start_engine(bundle)
    return MatrixJudge(world, world.purposes([bundle]), engine, Agreements(bundle.data), Questions(world))


def find_cells(judge: MatrixJudge, task: CellsTask) -> bytes:
    """Return the cells of `task`, as MessagePack."""
    return msgspec.msgpack.encode(
        [
            judge.cell(task.member, dataset, purpose, operation)
            for dataset in task.datasets
            for purpose in judge.purposes
            for operation in judge.world.operations
        ]
    )


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
    tasks = list(cell_tasks(world))
    each = len(world.purposes([bundle])) * len(world.operations)
    total = len(world.members) * len(world.datasets) * each
    if total < SMALL:
        processes = 1
    cells: list[Cell] = []
    with judging(partial(prepare, bundle, world), processes) as judges:
        for _, encoded in judges.map(find_cells, tasks):
            cells += msgspec.msgpack.decode(encoded, type=list[Cell])
            advance(len(cells), total)
    return cells


def cell_tasks(world: World) -> Iterable[CellsTask]:
    """Yield the tasks that make up `world`."""
    datasets: Sequence[str] = tuple(world.datasets)
    for member in world.members:
        for part in in_chunks(datasets, _DATASETS_IN_TASK):
            yield CellsTask(member, tuple(part))


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
