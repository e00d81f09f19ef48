"""Events are constants: a text put together at run time could carry a value into the log."""

import ast
import re
from pathlib import Path

import gateway

METHODS = {"debug", "info", "warning", "error", "critical", "exception"}
EVENT = re.compile(r"[a-z_]+(\.[a-z_]+)?")


def odd_events(source):
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        receiver = ast.unparse(node.func.value).lower()
        if node.func.attr in METHODS and receiver.endswith(("log", "logger")):
            event = node.args[0] if len(node.args) == 1 else None
            if not (
                isinstance(event, ast.Constant)
                and isinstance(event.value, str)
                and EVENT.fullmatch(event.value)
            ):
                yield ast.unparse(node)


def test_every_event_of_ours_is_a_constant_name():
    folder = Path(gateway.__file__).parent
    odd = {str(path): list(odd_events(path.read_text())) for path in folder.rglob("*.py")}
    assert {path: found for path, found in odd.items() if found} == {}


def test_the_check_finds_a_text_put_together():
    assert list(odd_events('log.info(f"got {value}")')) == ["log.info(f'got {value}')"]
    assert list(odd_events('self._log.error("x %s", value)'))
    assert not list(odd_events('_log.info("exchange.released", records=3)'))
