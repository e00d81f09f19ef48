import sqlite3
import stat
import threading

import pytest

from gateway.audit.errors import LogUnavailableError
from gateway.errors import ConfigError
from gateway.witness.judgement import TreeHead
from gateway.witness.state import NEVER, Cosigned, WitnessState

ORIGIN = "audit.example.org/log/2026"


def cosigned(size, root=b"\x01" * 32, time_s=100):
    return Cosigned(TreeHead(size, root), time_s, f"note {size}\n")


def test_nothing_has_been_cosigned_of_a_new_log(state):
    assert state.latest(ORIGIN) == NEVER
    assert NEVER.moment is None


def test_what_was_cosigned_is_remembered_across_a_restart(state):
    state.advance(ORIGIN, lambda latest: cosigned(3))
    with WitnessState(state.path) as again:
        assert again.latest(ORIGIN) == cosigned(3)


def test_a_decision_that_fails_changes_nothing(state):
    state.advance(ORIGIN, lambda latest: cosigned(3))

    def fail(latest):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        state.advance(ORIGIN, fail)
    assert state.latest(ORIGIN) == cosigned(3)


@pytest.mark.parametrize(
    "backwards",
    [cosigned(2, time_s=200), cosigned(3, b"\x02" * 32, 200), cosigned(4, time_s=99)],
    ids=["smaller", "another root", "earlier"],
)
def test_the_file_itself_refuses_to_go_back(state, backwards):
    state.advance(ORIGIN, lambda latest: cosigned(3))
    with pytest.raises(LogUnavailableError):
        state.advance(ORIGIN, lambda latest: backwards)
    assert state.latest(ORIGIN) == cosigned(3)


def test_two_processes_take_turns(state):
    """The second decides on what the first has made durable, however they meet."""
    with WitnessState(state.path) as other:
        inside, release = threading.Event(), threading.Event()
        seen = []

        def slow(latest):
            inside.set()
            assert release.wait(5)
            return cosigned(5)

        first = threading.Thread(target=state.advance, args=(ORIGIN, slow))
        first.start()
        assert inside.wait(5)

        def second_decision(latest):
            seen.append(latest)
            return cosigned(6)

        second = threading.Thread(target=other.advance, args=(ORIGIN, second_decision))
        second.start()
        assert seen == []
        release.set()
        first.join()
        second.join()
        assert seen == [cosigned(5)]
    assert state.latest(ORIGIN) == cosigned(6)


def test_the_file_is_for_its_owner_only(state):
    assert stat.S_IMODE(state.path.stat().st_mode) == 0o600
    state.path.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        WitnessState(state.path)


def test_a_missing_state_is_never_made_unasked(tmp_path):
    with pytest.raises(ConfigError, match="new key"):
        WitnessState(tmp_path / "witness.db")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_state_is_never_made_anew(state):
    with pytest.raises(ConfigError, match="cannot be made"):
        WitnessState.create(state.path)


def test_another_database_is_refused(tmp_path):
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (x)")
    connection.close()
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="not the state of a witness"):
        WitnessState(path)


def test_a_damaged_file_is_unavailable(tmp_path):
    path = tmp_path / "witness.db"
    path.write_bytes(b"no database at all, but long enough to be taken for one" * 100)
    path.chmod(0o600)
    with pytest.raises(LogUnavailableError):
        WitnessState(path)


def test_a_log_may_have_several_keys_and_a_key_is_added_once(state, log):
    from gateway.audit.note import Ed25519Signer

    second = Ed25519Signer.from_seed(ORIGIN, bytes(32)).verifier
    state.add_key(ORIGIN, second.vkey())
    assert state.verifiers(ORIGIN) == (log.signer.verifier, second)
    with pytest.raises(ConfigError, match="knows this key"):
        state.add_key(ORIGIN, second.vkey())
    (known,) = state.logs()
    assert (known.origin, len(known.vkeys), known.latest) == (ORIGIN, 2, NEVER)
    assert state.verifiers("other.example/log") == ()
