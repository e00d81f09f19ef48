"""docs/cli.md says what the commands' help says: every command, every option, every exit code."""

import re
from pathlib import Path

import pytest
from typer.main import get_command

from gateway.cli.exits import Exit
from gateway.cli.main import COMMANDS, app

PAGE = (Path(__file__).parents[3] / "docs" / "cli.md").read_text()


def commands():
    root = get_command(app)
    for name in COMMANDS:
        command = root.load(name)
        verbs = getattr(command, "commands", None)
        if verbs is None:
            yield (name,), command
        else:
            yield from (((name, verb), found) for verb, found in verbs.items())


ALL = dict(commands())


def section(path):
    """The part of the page about one command."""
    heading = f"### gateway {' '.join(path)}\n"
    assert PAGE.count(heading) == 1, heading
    return re.split(r"\n##+ gateway |\n## ", PAGE.split(heading)[1])[0]


def options(command):
    return {name for parameter in command.params for name in parameter.opts if name.startswith("--")}


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_a_command_is_described_as_in_its_help(path):
    text = section(path)
    command = ALL[path]
    sentence = " ".join(command.help.strip().split("\n\n")[0].split())
    assert sentence in text
    documented = set(re.findall(r"^\| `(--[a-z-]+)`", text, re.MULTILINE))
    assert documented == options(command) - {"--help"}
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            assert f"| `{parameter.metavar}` |" in text
    assert re.search(r"^Exit codes: 0", text, re.MULTILINE)
    assert f"gateway {' '.join(path)}" in text


def test_no_command_is_described_that_is_not_there():
    described = re.findall(r"^### gateway (.+)$", PAGE, re.MULTILINE)
    assert sorted(described) == sorted(map(" ".join, ALL))


def test_the_exit_codes_are_those_of_the_code():
    table = re.findall(r"^\| (\d) \| `([A-Z]+)` \|", PAGE, re.MULTILINE)
    assert table == [(str(int(code)), code.name) for code in Exit]


def test_an_option_left_out_would_be_noticed():
    text = section(("keys", "rotate"))
    documented = set(re.findall(r"^\| `(--[a-z-]+)`", text.replace("| `--overlap-days`", ""), re.MULTILINE))
    assert documented != options(ALL["keys", "rotate"]) - {"--help"}
