"""The tests that stand beside the rules, on both engines, and what the rules rely on."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import msgspec
import pytest
import regorus

from gateway.policy.bundle import read_capabilities
from gateway.policy.syntax import parse_modules

POLICIES = Path(__file__).parents[2] / "policies"

# One expression for each function in `capabilities.json`, with the value that both engines must give.
EXPRESSIONS = {
    "abs": ("abs(-2)", 2),
    "array.concat": ("array.concat([1], [2])", [1, 2]),
    "array.slice": ("array.slice([1, 2, 3], 1, 3)", [2, 3]),
    "ceil": ("ceil(1.2)", 2),
    "concat": ('concat("/", ["a", "b"])', "a/b"),
    "contains": ('contains("gateway", "tew")', True),
    "count": ("count({1, 1, 2})", 2),
    "endswith": ('endswith("gateway", "way")', True),
    "floor": ("floor(1.8)", 1),
    "is_array": ("is_array([])", True),
    "is_boolean": ("is_boolean(false)", True),
    "is_null": ("is_null(null)", True),
    "is_number": ("is_number(1)", True),
    "is_object": ("is_object({})", True),
    "is_set": ("is_set(set())", True),
    "is_string": ('is_string("")', True),
    "lower": ('lower("ABC")', "abc"),
    "max": ("max([1, 3, 2])", 3),
    "min": ("min([3, 1, 2])", 1),
    "object.filter": ('object.filter({"a": 1, "b": 2}, ["a"])', {"a": 1}),
    "object.get": ('object.get({"a": 1}, "b", 0)', 0),
    "object.keys": ('count(object.keys({"a": 1}))', 1),
    "object.remove": ('object.remove({"a": 1, "b": 2}, ["a"])', {"b": 2}),
    "object.union": ('object.union({"a": 1}, {"b": 2})', {"a": 1, "b": 2}),
    "replace": ('replace("a-b", "-", "+")', "a+b"),
    "round": ("round(1.5)", 2),
    "sort": ('sort(["b", "a", 1, null])', [None, 1, "a", "b"]),
    "split": ('split("a.b", ".")', ["a", "b"]),
    "startswith": ('startswith("gateway", "gate")', True),
    "sum": ("sum([1, 2])", 3),
    "to_number": ('to_number("-12")', -12),
    "trim_space": ('trim_space(" a ")', "a"),
    "upper": ('upper("abc")', "ABC"),
}


def rego_tests(bundle) -> list[str]:
    modules = parse_modules(bundle.tests)
    return sorted(
        {
            f"data.{'.'.join(module.package)}.{rule.name}"
            for module in modules
            for rule in module.rules
            if rule.name.startswith("test_")
        }
    )


def test_there_are_rego_tests_beside_every_module(bundle):
    assert {path.replace("_test.rego", ".rego") for path in bundle.tests} == set(bundle.modules)


@pytest.mark.opa
def test_every_rego_test_holds_in_opa(opa_binary, bundle, tmp_path):
    # On OPA alone: the embedded engine loses statements of long bodies under `with`; the dialect has none.
    # What the rules mean there, the golden cases and the differential tests prove.
    (tmp_path / "data.json").write_bytes(msgspec.json.encode(dict(bundle.data)))
    command = [opa_binary, "test", "--format=json", str(tmp_path / "data.json"), str(POLICIES / "exchange")]
    finished = subprocess.run(command, capture_output=True, check=False, timeout=60)
    results = json.loads(finished.stdout)
    assert len(results) >= 50
    assert sorted(f"{result['package']}.{result['name']}" for result in results) == rego_tests(bundle)
    assert [result["name"] for result in results if result.get("fail") or result.get("error")] == []


@pytest.mark.opa
def test_opa_finds_nothing_to_complain_of(opa_binary):
    capabilities, schema = POLICIES / "capabilities.json", POLICIES / "schemas/input.json"
    for arguments in (
        [
            "check",
            "--strict",
            f"--capabilities={capabilities}",
            f"--schema={schema}",
            str(POLICIES / "exchange"),
        ],
        ["fmt", "--list", "--fail", str(POLICIES / "exchange")],
    ):
        finished = subprocess.run(
            [opa_binary, *arguments], capture_output=True, check=False, text=True, timeout=60
        )
        assert (finished.returncode, finished.stdout) == (0, ""), finished.stderr


def test_there_is_an_expression_for_every_function_allowed():
    assert set(EXPRESSIONS) == read_capabilities(POLICIES / "capabilities.json")


@pytest.mark.parametrize("function", EXPRESSIONS)
def test_the_embedded_engine_has_every_function_allowed(function):
    expression, value = EXPRESSIONS[function]
    engine = regorus.Engine()
    engine.add_policy("x.rego", f"package x\n\nanswer := {expression}\n")
    assert json.loads(engine.eval_rule_as_json("data.x.answer")) == value


@pytest.mark.opa
def test_opa_gives_every_function_allowed_the_same_meaning(opa_binary):
    query = "{" + ", ".join(f'"{name}": {expression}' for name, (expression, _) in EXPRESSIONS.items()) + "}"
    finished = subprocess.run(
        [opa_binary, "eval", "--format=raw", query], capture_output=True, check=True, text=True, timeout=60
    )
    assert json.loads(finished.stdout) == {name: value for name, (_, value) in EXPRESSIONS.items()}
