"""Every decision can be made again from the log by the bundle of then; a candidate is only asked."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager

import msgspec
import pytest

from gateway.audit.sqlite_reader import SqliteReader
from gateway.audit.store import StoredEntry
from gateway.config import GatewayConfig
from gateway.demo.world import ARREARS, COMPANIES
from gateway.model import EntryKind, Operation
from gateway.policy import Bundle, PolicyError, load_bundle
from gateway.policy.comparison import ChangeKind
from gateway.policy_review.decided import DECIDED, DecisionLog, LoggedOutcome, read_decisions, rebuilt
from gateway.policy_review.replay import replay
from gateway.recorded.descriptions import recorded_descriptions
from tests.simulators.outcome import refused
from tests.simulators.waiting import until
from tests.simulators.world import SimulatedWorld

pytestmark = pytest.mark.asyncio(loop_scope="module")

CREDIT = {"legal_basis": "credit-reporting-act-14", "memorandum": "registry-harbour-bank"}
MADE_UP = "440301199001011234"


@contextmanager
def reading(world: SimulatedWorld) -> Iterator[SqliteReader]:
    with closing(SqliteReader(world.config.log.database)) as reader:
        yield reader


def decisions(world: SimulatedWorld) -> tuple[DecisionLog, dict[str, str]]:
    with reading(world) as reader:
        return read_decisions(reader, DECIDED), recorded_descriptions([reader])


def bundle_of(world: SimulatedWorld) -> Bundle:
    return load_bundle(world.config.policy.directory)


def candidate_of(world: SimulatedWorld, directory) -> Bundle:
    """Return a policy that coarsens nothing."""
    shutil.copytree(world.config.policy.directory, directory)
    path = directory / "data/member_classes.yaml"
    path.write_text(path.read_text().replace("coarse: true", "coarse: false"))
    return load_bundle(directory)


async def ask(world: SimulatedWorld) -> None:
    """Ask in several ways, allowed and denied, well and badly."""
    caller = world.caller()
    uscc = {"uscc": world.companies[0].uscc}
    for purpose, parts in (
        ("public-lookup", {}),
        ("credit-check", CREDIT),
        ("credit-check", CREDIT | {"fields": ["name", "capital"]}),
    ):
        await caller.query(caller.statement(COMPANIES, purpose, filters=uscc, **parts))
    for dataset, purpose, parts in (
        (COMPANIES, "law-enforcement", {}),
        (COMPANIES, "credit-check", CREDIT | {"memorandum": "registry-northern-bank"}),
        (COMPANIES, "public-lookup", {"fields": ["phone"]}),
        (ARREARS, "credit-check", {}),
        (COMPANIES, MADE_UP, {}),
        (COMPANIES, "public-lookup", {"memorandum": MADE_UP}),
        (COMPANIES, "public-lookup", {"legal_basis": MADE_UP}),
        ("members/registry/datasets/secrets", "public-lookup", {}),
    ):
        refusal = await refused(caller.query(caller.statement(dataset, purpose, **parts)))
        assert refusal is not None


async def test_every_decision_is_made_again_from_the_log(world: SimulatedWorld) -> None:
    await ask(world)
    log, descriptions = decisions(world)
    report = replay(log, descriptions, [bundle_of(world)], None)
    assert report.faults == []
    assert report.proven == report.decisions >= 10
    assert (report.without_input, report.undecided, report.missing_bundles) == (0, 1, {})
    outcomes = {decision.outcome.allow for decision in log.decisions.values()}
    assert outcomes == {True, False}


async def test_what_a_caller_made_up_stands_nowhere_in_the_log(world: SimulatedWorld) -> None:
    await ask(world)
    with reading(world) as reader:
        entries = [reader.entry(index).data for index in range(reader.size())]
    assert not any(MADE_UP.encode() in entry for entry in entries)
    assert any(b'"purpose":"(unknown)"' in entry for entry in entries), "the control: it was asked"


async def test_a_decision_that_is_not_borne_out_is_an_integrity_fault(world: SimulatedWorld) -> None:
    await ask(world)
    bundle = bundle_of(world)

    def faults(change) -> list[str]:
        log, descriptions = decisions(world)
        one = next(each for each in log.decisions.values() if each.outcome.allow)
        change(one, descriptions)
        return [fault.what for fault in replay(log, descriptions, [bundle], None).faults]

    def alter_input(one, descriptions) -> None:
        one.recorded = one.recorded.replace(b'"signed":true', b'"signed":false')

    def alter_outcome(one, descriptions) -> None:
        one.outcome = LoggedOutcome(allow=False, tier="", reasons=("PURPOSE_UNKNOWN",))

    def alter_descriptions(one, descriptions) -> None:
        descriptions.clear()

    assert faults(lambda one, descriptions: None) == [], "the control"
    assert faults(alter_input) == ["the recorded input and bundle do not give the recorded decision id"]
    assert faults(alter_outcome) == ["the bundle of then gives another outcome than the log tells"]
    assert len(faults(alter_descriptions)) == len(decisions(world)[0].decisions)


async def test_two_outcomes_of_one_decision_are_an_integrity_fault(world: SimulatedWorld) -> None:
    await ask(world)
    with reading(world) as reader:
        log = read_decisions(reader, DECIDED)
        wanted = next(each for each in log.decisions.values() if each.outcome.allow)
        entry = next(each for each in world.log.entries() if each.decision == wanted.id and each.policy_input)

    class Altered:
        def __init__(self) -> None:
            self.entries = [entry, msgspec.structs.replace(entry, tier="", reasons=("PURPOSE_UNKNOWN",))]

        def size(self) -> int:
            return 2

        def follow(self, wanted, page_size, start, end):
            return [
                StoredEntry(index, msgspec.json.encode(each))
                for index, each in enumerate(self.entries)
                if start <= index < end
            ]

    [fault] = read_decisions(Altered(), DECIDED).faults
    assert fault.decision == wanted.id


async def test_a_candidate_is_held_against_what_was_decided(world: SimulatedWorld, tmp_path) -> None:
    await ask(world)
    log, descriptions = decisions(world)
    candidate = candidate_of(world, tmp_path / "candidate")
    report = replay(log, descriptions, [bundle_of(world)], candidate)
    assert report.faults == []
    assert report.counts()[ChangeKind.WEAKENED] >= 1
    group = report.groups()[0]
    assert (group.kind, group.member, group.dataset) == (ChangeKind.WEAKENED, "harbour-bank", COMPANIES)
    assert group.samples
    assert group.first <= group.last
    told = {entry.exchange for entry in world.log.entries()}
    assert set(group.samples) <= told
    same = replay(log, descriptions, [bundle_of(world)], bundle_of(world))
    assert same.changes == [], "the control: the policy in force changes nothing"


async def test_without_the_bundle_of_then_that_is_said_and_the_answers_are_still_compared(
    world: SimulatedWorld, tmp_path
) -> None:
    await ask(world)
    log, descriptions = decisions(world)
    report = replay(log, descriptions, [], candidate_of(world, tmp_path / "candidate"))
    assert report.missing_bundles == {bundle_of(world).digest: report.decisions}
    assert report.proven == 0
    assert not report.counts()[ChangeKind.ALLOWED]


async def test_each_description_stands_in_the_log_once(own_world: SimulatedWorld) -> None:
    def described() -> int:
        return sum(entry.kind is EntryKind.DATASET_DESCRIBED for entry in own_world.log.entries())

    datasets = len(list(own_world.config.catalogue.glob("*.yaml")))
    assert described() == datasets
    await own_world.restart_node()
    assert described() == datasets
    path = next(iter(sorted(own_world.config.catalogue.glob("*companies*.yaml"))))
    path.write_text(path.read_text().replace("band:1000000", "band:5000000"))
    await own_world.restart_node()
    assert described() == datasets + 1
    await ask(own_world)
    log, descriptions = decisions(own_world)
    assert replay(log, descriptions, [bundle_of(own_world)], None).faults == []
    assert len(descriptions) == datasets + 1


async def test_a_decision_cannot_be_rebuilt_without_its_description(world: SimulatedWorld) -> None:
    await ask(world)
    log, _ = decisions(world)
    with pytest.raises(PolicyError):
        rebuilt(next(iter(log.decisions.values())), {})


async def test_a_candidate_beside_the_policy_in_force_is_counted_and_not_obeyed(tmp_path) -> None:
    world = SimulatedWorld(tmp_path / "world")
    candidate_of(world, tmp_path / "candidate")

    def shadow(config: GatewayConfig) -> GatewayConfig:
        policy = config.policy.model_copy(update={"shadow": tmp_path / "candidate"})
        return config.model_copy(update={"policy": policy})

    await world.start(shadow)
    try:
        caller = world.caller()
        statement = caller.statement(
            COMPANIES, "credit-check", filters={"uscc": world.companies[0].uscc}, **CREDIT
        )
        answer = await caller.query(statement)
        assert '"capital":"' in answer.page.records, "a band, as the policy in force says"
        registry = world.node.metrics.registry

        def count(name: str, **labels: str) -> float:
            return registry.get_sample_value(name, labels) or 0

        await until(lambda: _is(count("sluicegate_policy_shadow_total", result="differs")))
        rule = {"kind": "weakened", "rule": "memoranda.registry-harbour-bank"}
        assert count("sluicegate_policy_shadow_divergences_total", **rule) == 1
        await caller.query(caller.statement(COMPANIES, "public-lookup", Operation.QUERY))
        await until(lambda: _is(count("sluicegate_policy_shadow_total", result="same")))
        assert "policy.shadow_differs" in world.output.getvalue()
    finally:
        await world.stop()


async def _is(count: float) -> bool:
    return count >= 1
