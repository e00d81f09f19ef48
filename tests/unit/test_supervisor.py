"""A supervisor in a process of its own, and what it makes of the processes below it."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

PROGRAM = """
import os, signal, sys, time
from functools import partial
from gateway.process import STOP
from gateway.supervisor import Role, SharedMark, Supervisor

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

served = SharedMark()

def serve(name):
    if "served" in sys.argv:
        served.set()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    say("started", name, os.getpid())
    # As for the real ones: all are held back until somebody listens.
    signal.sigwait({STOP} if name == "log" else {STOP, signal.SIGTERM})
    say("stopped", name)
    return 0

def end(code):
    say("started", "ender", os.getpid())
    return code

def hang():
    say("started", "hanger", os.getpid())
    while True:
        time.sleep(60)

def miss():
    # Finds, as it starts, that what it needs is not there.
    say("started", "misser", os.getpid())
    signal.sigwait({signal.SIGUSR2})
    return 4

signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
worker = {
    "miss": miss,
    "serve": partial(serve, "worker"),
    "hang": hang,
}.get(sys.argv[1]) or partial(end, int(sys.argv[1]))
code = Supervisor([[Role("log", partial(serve, "log"))], [Role("worker", worker)]], served).run()
say("code", code)
sys.exit(code)
"""


class Supervised:
    def __init__(self, process):
        self.process = process
        self.seen = []

    def line(self):
        words = self.process.stdout.readline().split()
        self.seen.append(words)
        return words

    def started(self, name):
        """Return the process number of the next start of `name`."""
        for words in self.seen:
            if words[:2] == ["started", name]:
                self.seen.remove(words)
                return int(words[2])
        while words := self.line():
            if words[:2] == ["started", name]:
                self.seen.remove(words)
                return int(words[2])
        raise AssertionError(f"{name} was not started")

    def end(self):
        # Not `communicate`: with a time limit it reads past what `readline` has buffered.
        rest = self.process.stdout.read()
        return [line.split() for line in rest.splitlines()], self.process.wait(20)


@contextmanager
def supervised(*what):
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *what], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        yield Supervised(process)
    finally:
        process.kill()
        process.communicate()


def gone(pid):
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_ends_the_stages_in_the_reverse_order(number):
    with supervised("serve") as run:
        run.started("log"), run.started("worker")
        run.process.send_signal(number)
        lines, code = run.end()
    assert lines == [["stopped", "worker"], ["stopped", "log"], ["code", "0"]]
    assert code == 0


def test_a_stop_that_reaches_all_at_once_ends_them_in_that_order_too():
    """As service managers do, and `timeout`: whoever serves the others outlasts them."""
    with supervised("serve") as run:
        run.started("log"), run.started("worker")
        os.killpg(run.process.pid, signal.SIGTERM)
        lines, code = run.end()
    assert lines == [["stopped", "worker"], ["stopped", "log"], ["code", "0"]]
    assert code == 0


@pytest.mark.parametrize("name", ["log", "worker"])
def test_a_killed_process_is_started_anew_and_the_others_stay(name):
    with supervised("serve") as run:
        first = {each: run.started(each) for each in ("log", "worker")}
        os.kill(first[name], signal.SIGKILL)
        assert run.started(name) != first[name]
        other = "worker" if name == "log" else "log"
        os.kill(first[other], 0)
        run.process.send_signal(signal.SIGTERM)
        assert run.end()[1] == 0


@pytest.mark.timed
def test_an_internal_fault_is_tried_again_and_again_ever_more_slowly():
    with supervised("5") as run:
        run.started("log")
        begun = time.monotonic()
        for _ in range(4):
            run.started("ender")
        # 0.1 + 0.2 + 0.4 seconds between them.
        assert time.monotonic() - begun > 0.6


@pytest.mark.parametrize("code", [1, 2, 3, 4])
def test_a_process_that_says_why_it_cannot_run_ends_all_with_its_code(code):
    with supervised(str(code)) as run:
        run.started("log"), run.started("ender")
        lines, ended = run.end()
    assert ended == code
    assert ["code", str(code)] in lines
    assert ["stopped", "log"] in lines


def test_who_misses_a_process_that_was_killed_meanwhile_is_started_anew():
    with supervised("miss") as run:
        first, log = run.started("misser"), run.started("log")
        os.kill(log, signal.SIGKILL)
        assert run.started("log") != log
        os.kill(first, signal.SIGUSR2)
        assert run.started("misser") != first
        run.process.send_signal(signal.SIGTERM)


def test_who_misses_what_was_there_once_is_started_anew():
    """A worker of two that is started while the database restarts: the whole has served, and will again."""
    with supervised("miss", "served") as run:
        run.started("log")
        first = run.started("misser")
        os.kill(first, signal.SIGUSR2)
        assert run.started("misser") != first
        run.process.send_signal(signal.SIGTERM)


def test_who_misses_something_though_nothing_was_killed_ends_all():
    """The control: what is not there and never was will not come."""
    with supervised("miss") as run:
        first = run.started("misser")
        os.kill(first, signal.SIGUSR2)
        assert run.end()[1] == 4


def test_a_process_that_ends_without_a_word_is_a_fault():
    with supervised("0") as run:
        assert run.end()[1] == 5


@pytest.mark.timed
def test_a_second_signal_kills_what_does_not_stop():
    with supervised("hang") as run:
        log, hanger = run.started("log"), run.started("hanger")
        run.process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            run.process.wait(0.5)  # the hanging one holds its signals back
        run.process.send_signal(signal.SIGTERM)
        run.end()
    assert gone(log)
    assert gone(hanger)


def test_none_outlives_a_supervisor_that_is_killed():
    with supervised("serve") as run:
        below = [run.started("log"), run.started("worker")]
        run.process.kill()
        run.process.wait()
        assert all(map(gone, below))
