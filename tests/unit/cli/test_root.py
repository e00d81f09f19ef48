"""The root command: help, global options, start-up, and the one place where errors end."""

import json
import subprocess
import sys
import types

import grpc
import pytest
import typer
from typer.testing import CliRunner

from gateway.cli.exits import OF_ANSWER, Exit, exit_of
from gateway.cli.failures import CommandFailed, Failure
from gateway.cli.lazy import Listed, hoist_global_options, root_of
from gateway.cli.main import COMMANDS, app, gateway
from gateway.errors import ConfigError, GatewayError, Reason
from gateway.rpc.status import CODES


def test_the_help_lists_every_command_in_its_panel(cli):
    text = cli("--help").stdout
    for name, listed in COMMANDS.items():
        assert f" {name} " in text
        assert listed.help in text
        assert listed.panel in text
    assert "Exit codes" in text


def test_no_arguments_show_the_help(cli):
    result = cli()
    assert "Usage" in result.output
    assert result.exit_code == 2


def commands_below(name):
    from typer.main import get_command

    root = get_command(app)
    command = root.load(name)
    return [(name,), *((name, verb) for verb in getattr(command, "commands", {}))]


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "demo"])
def test_every_command_has_a_help_that_says_what_it_does(cli, name):
    for words in commands_below(name):
        for option in ("--help", "-h"):
            result = cli(*words, option)
            assert result.exit_code == 0, result.output
            assert f"Usage: gateway {' '.join(words)}" in result.stdout


def test_the_help_comes_fast_and_imports_no_grpc():
    script = (
        "import sys, time; start = time.process_time()\n"
        "from gateway.cli.main import app\n"
        "try: app(['--help'], prog_name='gateway')\n"
        "except SystemExit: pass\n"
        "heavy = {'grpc', 'pydantic_settings', 'sqlalchemy', 'regorus', 'cryptography'} & set(sys.modules)\n"
        "print(time.process_time() - start, sorted(heavy), file=sys.stderr)\n"
    )
    best = 9.0
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        seconds, heavy = done.stderr.strip().splitlines()[-1].split(" ", 1)
        assert heavy == "[]"
        best = min(best, float(seconds))
    assert best < 1.0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--colour",), "No such option"),
        (("audti",), "Did you mean 'audit'"),
        (("audit", "lst"), "Did you mean 'list'"),
        (("--output", "xml", "version"), "'xml'"),
        (("query", "registry/companies"), "--purpose"),
    ],
)
def test_a_wrong_command_line_is_a_usage_error(cli, words, told):
    result = cli(*words)
    assert result.exit_code == 2
    assert told in result.stderr


def test_the_version_is_the_packages(cli):
    from gateway import __version__

    assert cli.json("version")["sluicegate"] == __version__
    assert f"sluicegate         {__version__}" in cli("version").stdout


def test_global_options_may_stand_anywhere():
    assert hoist_global_options(["audit", "list", "--output", "json", "--limit", "3", "--no-color"]) == [
        *("--output", "json", "--no-color", "audit", "list", "--limit", "3"),
    ]
    assert hoist_global_options(["a", "--output=json"]) == ["--output=json", "a"]
    assert hoist_global_options(["a", "--", "--output", "json"]) == ["a", "--", "--output", "json"]
    assert hoist_global_options(["a", "--output"]) == ["--output", "a"]


# -- errors --------------------------------------------------------------------------------------


@pytest.fixture
def failing(monkeypatch):
    """Return a function that runs a command which raises what it is given."""

    def run(error, *words):
        def fail() -> None:
            raise error

        module = types.ModuleType("tests_failing_command")
        module.app = typer.Typer(add_completion=False)
        module.app.command()(fail)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        root = typer.Typer(
            cls=root_of({"fail": Listed(module.__name__, "Fail.", "More")}), pretty_exceptions_enable=False
        )
        root.callback()(gateway)
        return CliRunner().invoke(root, ["fail", *words])

    return run


def test_an_expected_error_is_one_line_with_its_code(failing):
    result = failing(ConfigError("The key is missing; make one."))
    assert (result.exit_code, result.stderr) == (2, "error: The key is missing; make one.\n")
    assert result.stdout == ""


def test_a_failure_tells_reason_exchange_entry_and_what_to_do(failing):
    failure = Failure(
        *("Denied.", Exit.NO, "A", ("A", "B"), "0199", 17, "Ask differently."),
    )
    lines = failing(CommandFailed(failure)).stderr.splitlines()
    assert lines == [
        "error: Denied.",
        "  reason    A, B",
        "  exchange  0199",
        "  log entry 17",
        "  next      Ask differently.",
    ]


@pytest.mark.parametrize("form", ["json", "jsonl"])
def test_programs_get_errors_as_json(failing, form):
    failure = Failure("Denied.", Exit.NO, reason="A", exchange="0199", entry=17)
    result = failing(CommandFailed(failure), "--output", form)
    assert json.loads(result.stderr) == {
        "error": {"message": "Denied.", "exit": 1, "reason": "A", "exchange": "0199", "entry": 17}
    }
    assert result.exit_code == 1


def test_an_unexpected_error_shows_a_reference_and_neither_message_nor_traceback(failing, monkeypatch):
    result = failing(ValueError("310101199001011234"))
    assert result.exit_code == 5
    assert "310101199001011234" not in result.output
    assert "Traceback" not in result.output
    assert "ValueError" in result.stderr
    assert "reference" in result.stderr
    assert "SLUICEGATE_DEBUG=1" in result.stderr
    monkeypatch.setenv("SLUICEGATE_DEBUG", "1")
    debugged = failing(ValueError("310101199001011234"))
    assert debugged.exit_code == 5
    assert "test_root.py" in debugged.stderr
    assert "310101199001011234" not in debugged.output


def test_a_file_that_cannot_be_used_is_no_internal_fault(failing):
    result = failing(PermissionError(13, "Permission denied", "/some/file"))
    assert result.exit_code == 2
    assert "/some/file: Permission denied." in result.stderr


def test_a_closed_pipe_ends_quietly(failing):
    result = failing(BrokenPipeError(32, "Broken pipe"))
    assert result.exit_code == 1
    assert result.stderr == ""


def test_an_exit_of_a_command_is_kept(failing):
    assert failing(typer.Exit(3)).exit_code == 3


def test_control_characters_in_messages_never_reach_a_terminal(failing):
    result = failing(GatewayError("\x1b[2Jclear\rfake: ok\u202e"))
    assert "\x1b" not in result.stderr
    assert "\r" not in result.stderr
    assert "\\u001b" in result.stderr


def test_every_reason_has_an_exit_code():
    assert set(OF_ANSWER) == {reason.value for reason in Reason}
    assert OF_ANSWER["PURPOSE_NOT_PERMITTED"] is Exit.NO
    assert OF_ANSWER["LOG_UNAVAILABLE"] is Exit.UNREACHED
    assert OF_ANSWER["IDENTIFIER_INVALID"] is Exit.USAGE


@pytest.mark.parametrize(
    "reason",
    [
        reason
        for reason, code in CODES.items()
        if code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
    ],
)
def test_what_may_come_back_is_told_so_on_either_side(reason):
    """A process that ends with this code is started anew (`gateway.supervisor`); any other ends all."""
    assert OF_ANSWER[reason.value] is exit_of(GatewayError("x", reason=reason)) is Exit.UNREACHED


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        (Reason.PROOF_INVALID, Exit.UNVERIFIED),
        (Reason.SIGNATURE_INVALID, Exit.UNVERIFIED),
        (Reason.ENTRY_NOT_FOUND, Exit.NO),
        (Reason.LOG_UNAVAILABLE, Exit.UNREACHED),
        (Reason.CERTIFICATE_INVALID, Exit.USAGE),
        (Reason.INTERNAL, Exit.INTERNAL),
    ],
)
def test_local_errors_have_their_exit_code(reason, code):
    assert exit_of(GatewayError("x", reason=reason)) is code
