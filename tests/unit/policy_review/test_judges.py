"""Several processes give what one gives; what goes wrong in one of them is the command's error."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path

import msgspec
import pytest

from gateway.errors import Reason
from gateway.policy import PolicyError, load_bundle
from gateway.policy_review.decided import LoggedOutcome
from gateway.policy_review.differences import find_differences
from gateway.policy_review.judges import Judges, judging
from gateway.policy_review.matrix import matrix
from gateway.policy_review.replay import replay
from tests.bench.policy_review import load_policy, logged
from tests.simulators.waiting import wait_until
from tests.unit.policy_review.conftest import make_world

pytestmark = pytest.mark.timeout(120)

CANNOT_START = "The embedded policy engine cannot load the bundle."
NO_RULE = "No rule of the policy speaks about this exchange."


def prepare(fault: str) -> str:
    if fault == "prepare":
        raise PolicyError(CANNOT_START)
    return fault


def work(fault: str, number: int) -> int:
    if fault == "work" and number == 5:
        raise PolicyError(NO_RULE, reason=Reason.POLICY_UNDEFINED, rule="tiers")
    if fault == "end" and number == 5:
        os._exit(9)
    return number * number


def squares(processes: int, fault: str = "") -> list[int]:
    with judging(partial(prepare, fault), processes) as judges:
        return [answer for _, answer in judges.map(work, range(20))]


@pytest.mark.parametrize("processes", [1, 2])
def test_answers_come_in_the_order_of_the_tasks(processes):
    assert squares(processes) == [number * number for number in range(20)]


@pytest.mark.parametrize("processes", [1, 2])
def test_a_fault_in_the_work_is_the_error_with_its_reason(processes):
    with pytest.raises(PolicyError) as raised:
        squares(processes, "work")
    assert (raised.value.message, raised.value.reason) == (NO_RULE, Reason.POLICY_UNDEFINED)
    assert raised.value.details == {"rule": "tiers"}


@pytest.mark.parametrize("processes", [1, 2])
def test_a_fault_before_the_work_is_the_error(processes, capfd):
    with pytest.raises(PolicyError) as raised:
        squares(processes, "prepare")
    assert raised.value.message == CANNOT_START
    assert capfd.readouterr().err == "", "nothing is told beside the error"


def test_a_process_that_ends_by_itself_is_told():
    with pytest.raises(PolicyError) as raised:
        squares(2, "end")
    assert "--processes" in raised.value.message


def test_what_several_processes_find_is_the_same_to_the_byte(bundle, catalogue, policy, edit, monkeypatch):
    edit("data/member_classes.yaml", "coarse: true", "coarse: false")
    other = load_bundle(policy)
    world = make_world([bundle, other], catalogue, ("query", "match"))
    for module in ("matrix", "differences"):
        monkeypatch.setattr(f"gateway.policy_review.{module}.SMALL", 0)

    def found(processes: int) -> bytes:
        differences = find_differences(bundle, other, world, processes=processes)
        cells = matrix(bundle, world, processes=processes)
        return msgspec.json.encode((cells, differences.asked, differences.changes))

    alone = found(1)
    assert b'"weakened"' in alone, "there is something to find"
    assert found(2) == alone


def test_several_processes_replay_the_same_to_the_byte(tmp_path, monkeypatch):
    before = load_policy(tmp_path / "before", coarse=True)
    load_policy(tmp_path / "after", coarse=True)
    purposes = tmp_path / "after/data/purposes.yaml"
    purposes.write_text(purposes.read_text().replace("[agency, bank]", "[bank]"))
    after = load_bundle(tmp_path / "after")
    log, descriptions = logged(before, 120)
    spoilt = [list(log.decisions.values())[at] for at in (3, 40, 41, 90)]
    spoilt[0].recorded = spoilt[0].recorded.replace(b'"signed":true', b'"signed":false')
    for one in spoilt[1:]:
        one.outcome = LoggedOutcome(not one.outcome.allow, "public", ())
    monkeypatch.setattr("gateway.policy_review.replay.SMALL", 0)
    monkeypatch.setattr("gateway.policy_review.replay._IN_TASK", 10)

    def found(processes: int) -> tuple[bytes, list[int]]:
        seen: list[int] = []
        report = replay(
            log, descriptions, [before], after, processes=processes, advance=lambda done, _: seen.append(done)
        )
        assert (len(report.faults), report.proven, len(report.changes) > 0) == (4, 116, True)
        return msgspec.json.encode(report), seen

    alone = found(1)
    assert found(2) == alone
    assert alone[1] == list(range(10, 121, 10))


def test_what_is_small_stays_in_one_process(bundle, world, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a process is started")

    monkeypatch.setattr("gateway.policy_review.judges.ProcessPoolExecutor", refuse)
    assert matrix(bundle, world, processes=8)
    assert find_differences(bundle, bundle, world, processes=8).asked
    monkeypatch.setattr("gateway.policy_review.matrix.SMALL", 0)
    with pytest.raises(AssertionError, match="a process is started"):
        matrix(bundle, world, processes=8)  # the control


LONG = """
import os, sys, time
from gateway.policy_review.judges import judging

def prepare():
    return None

def work(_, number):
    with open(sys.argv[1], "a") as file:
        file.write(f"{os.getpid()}\\n")
    time.sleep(0.2)
    return number

if __name__ == "__main__":
    with judging(prepare, 2) as judges:
        for _ in judges.map(work, range(100_000)):
            pass
"""


@pytest.mark.parametrize("stop", ["ctrl-c", "killed"])
def test_processes_end_with_the_one_that_started_them(tmp_path: Path, stop: str):
    script, seen = tmp_path / "long.py", tmp_path / "seen"
    script.write_text(LONG)
    seen.touch()

    def workers() -> set[str]:
        return set(seen.read_text().splitlines())

    command = [sys.executable, script, seen]
    with subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True, text=True) as running:
        try:
            wait_until(lambda: len(workers()) == 2, within_s=30)
            assert all(_runs(worker) for worker in workers()), "the control"
            if stop == "ctrl-c":
                os.killpg(running.pid, signal.SIGINT)  # as a terminal does: to all of them
            else:
                running.kill()
            running.wait(30)
            wait_until(lambda: not any(_runs(worker) for worker in workers()), within_s=30)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)
        assert running.stderr is not None
        told = running.stderr.read()
    assert told.count("Traceback") == (1 if stop == "ctrl-c" else 0), told


def _runs(process: str) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_few_tasks_are_under_way_at_a_time(monkeypatch):
    taken: list[int] = []

    def tasks():
        for number in range(100):
            taken.append(number)
            yield number

    with judging(partial(prepare, ""), 2) as judges:
        assert isinstance(judges, Judges)
        answers = judges.map(work, tasks())
        next(answers)
        assert len(taken) < 20
        assert len(list(answers)) == 99
