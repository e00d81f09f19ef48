import os
import signal

import pytest

from gateway.telemetry.last_told import _HALF_BYTES, LastTold


@pytest.fixture
def memory():
    made = LastTold()
    yield made
    made.close()


def damage(memory, half):
    """Leave a half as a writer does that is killed within it."""
    os.pwrite(memory._file, b"\xff" * 8, half * _HALF_BYTES + 20)


def test_at_first_nothing_is_kept(memory):
    assert memory.read() == b""


def test_the_last_is_kept(memory):
    for number in range(5):
        memory.keep(b"%d" % number * 100)
        assert memory.read() == b"%d" % number * 100


def test_a_shorter_one_takes_the_place_of_a_longer(memory):
    for told in (b"x" * 100_000, b"x" * 100_000, b"short", b"s"):
        memory.keep(told)
    assert memory.read() == b"s"


def test_it_outlives_the_process_that_wrote_it(memory):
    """Killed, not ended: nothing is flushed, nothing is closed."""
    memory.keep(b"before")
    child = os.fork()
    if not child:
        memory.keep(b"of the child")
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert memory.read() == b"of the child"


def test_a_successor_goes_on_where_its_predecessor_ended(memory):
    for told in (b"one", b"two", b"three"):
        memory.keep(told)
    successor = LastTold()
    os.dup2(memory._file, successor._file)
    successor.keep(b"four")
    assert successor.read() == memory.read() == b"four"
    successor.close()


@pytest.mark.parametrize("writes", [2, 3])
def test_a_writer_killed_half_way_leaves_what_was_there_before(memory, writes):
    for number in range(1, writes + 1):
        memory.keep(b"told %d, more than eight bytes" % number)
    damage(memory, writes % 2)
    assert memory.read() == b"told %d, more than eight bytes" % (writes - 1)
    memory.keep(b"and on")
    assert memory.read() == b"and on"


def test_closing_twice_is_allowed(memory):
    memory.close()
    memory.close()
