import io
import json
import subprocess
import sys

import pytest
import structlog

from gateway.errors import ConfigError, GatewayError, Reason
from gateway.telemetry.faults import MAX_FRAMES, describe_fault, new_reference, record_fault
from gateway.telemetry.logs import Level, configure_logging

log = structlog.get_logger()


def caught(error, cause=None):
    def inner(local_value="LOCAL-CANARY"):
        raise error from cause

    try:
        inner()
    except type(error) as found:
        return found


def test_a_fault_is_told_by_reference_and_type_alone():
    stream = io.StringIO()
    configure_logging(stream)
    reference = record_fault(caught(ValueError("CANARY")), method="/gateway.api.v1.ExchangeService/Query")
    line = json.loads(stream.getvalue())
    assert line["reference"] == reference
    assert line["error_type"] == "ValueError"
    assert line["method"] == "/gateway.api.v1.ExchangeService/Query"
    assert "frames" not in line
    assert "CANARY" not in stream.getvalue()


def test_debug_adds_frames_without_messages_and_locals():
    stream = io.StringIO()
    configure_logging(stream, Level.DEBUG)
    record_fault(caught(ValueError("CANARY"), cause=caught(KeyError("CANARY"))))
    line = json.loads(stream.getvalue())
    assert line["frames"][-1] == "raised ValueError"
    assert "raised KeyError" in line["frames"]
    assert any(frame.endswith(" inner") for frame in line["frames"])
    assert "CANARY" not in stream.getvalue()


def test_the_exception_being_handled_is_found():
    stream = io.StringIO()
    configure_logging(stream)
    try:
        {}["CANARY"]
    except KeyError:
        log.exception("x.failed")
    line = json.loads(stream.getvalue())
    assert (line["error_type"], line["level"]) == ("KeyError", "error")
    assert "CANARY" not in stream.getvalue()


def test_a_refusal_tells_its_reason_and_a_wrong_configuration_its_message():
    refusal = describe_fault(GatewayError("text", reason=Reason.REPLAYED), with_frames=False)
    assert refusal == {"error_type": "GatewayError", "reason": "REPLAYED"}
    assert describe_fault(ConfigError("chmod 600"), with_frames=False)["message"] == "chmod 600"


def test_nothing_is_told_when_there_is_no_exception():
    assert describe_fault(True, with_frames=True) == {}
    assert describe_fault((None, None, None), with_frames=True) == {}


def test_causes_in_a_ring_and_deep_stacks_end():
    def deep(level):
        if level:
            deep(level - 1)
        raise ValueError(level)

    with pytest.raises(ValueError, match="0") as raised:
        deep(200)
    error = raised.value
    error.__cause__ = TypeError()
    error.__cause__.__cause__ = error
    assert len(describe_fault(error, with_frames=True)["frames"]) == MAX_FRAMES


def test_references_differ():
    assert len({new_reference() for _ in range(1000)}) == 1000


_UNCAUGHT = """
import sys, threading
from gateway.telemetry.faults import capture_uncaught
from gateway.telemetry.logs import configure_logging
configure_logging()
if sys.argv[1] == "captured":
    capture_uncaught()
thread = threading.Thread(target=lambda: int("CANARY-THREAD"))
thread.start(); thread.join()
class Finalised:
    def __del__(self):
        raise ValueError("CANARY-FINALISER")
Finalised()
raise ValueError("CANARY-MAIN")
"""


def run_uncaught(mode):
    return subprocess.run(
        [sys.executable, "-c", _UNCAUGHT, mode], capture_output=True, text=True, check=False
    )


def test_what_nobody_caught_is_logged_without_its_message():
    done = run_uncaught("captured")
    assert done.returncode == 1
    assert "CANARY" not in done.stdout + done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["event"] for line in lines] == ["fault.uncaught"] * 3


def test_python_itself_prints_the_message():
    """The control of the test before."""
    assert run_uncaught("plain").stderr.count("CANARY-") >= 3
