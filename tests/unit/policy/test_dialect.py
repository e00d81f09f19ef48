from __future__ import annotations

import pytest

from gateway.policy.annotations import read_annotations
from gateway.policy.bundle import read_capabilities
from gateway.policy.dialect import IMPURE_BUILTINS, lint_modules
from gateway.policy.errors import BundleError
from gateway.policy.syntax import parse_modules

HEAD = """\
# METADATA
# title: The decision
package exchange.decision

import data.exchange.other

# METADATA
# title: The default
default result := {"allow": false}

# METADATA
# title: A condition
known if input.purpose == "x"

# METADATA
# title: The conditions
conditions := {"known": {"reason": "PURPOSE_UNKNOWN", "after": []}}

# METADATA
# title: A proof
# custom: {citation: Act 1, owner: officer, remedy: Ask.}
first_proofs contains "known" if known

# METADATA
# title: A function
twice(number) := number * 2

"""
OTHER = """\
package exchange.other

# METADATA
# title: A rule elsewhere
elsewhere if input.signed

# METADATA
# title: A function elsewhere
thrice(number) := number * 3
"""
CAPABILITIES = {"count", "object.get", "sort", "http.send", "walk"}


def lint(rule: str, *, head: str = HEAD, path: str = "exchange/decision/decision.rego") -> list[str]:
    modules = {path: head + rule, "exchange/other/other.rego": OTHER}
    annotations = {name: read_annotations(name, text) for name, text in modules.items()}
    found = lint_modules(parse_modules(modules), annotations, {"tiers", "bundle"}, CAPABILITIES)
    return [violation.code for violation in found]


def titled(rule: str) -> str:
    return "# METADATA\n# title: Under test\n" + rule


@pytest.mark.parametrize(
    "rule",
    [
        "r if not known",
        "r contains name if some name in input.fields",
        "r := {name: field | some name, field in input.dataset.fields; field.tier == data.tiers.public}",
        "r := twice(count(input.reads))",
        "r := other.thrice(2) if other.elsewhere",
        "r := data.exchange.other.elsewhere",
        "r if { [first, _] := [1, 2]; first == 1 }",
        "r if { some key; data.tiers[key] }",
        'r := object.get(input, "purpose", "")',
        'r := input["purpose"]',
        "r[name] := 1 if some name in input.fields",
    ],
)
def test_what_both_engines_understand_alike_is_accepted(rule):
    assert lint(titled(rule)) == []


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        ("r if not twice(input.purpose)", "negation"),
        ('r if not "x" in input.fields', "negation"),
        ("r if not input.signed", "negation"),
        ("r if not other.elsewhere", "negation"),
        ("r if not data.exchange.other.elsewhere", "negation"),
        ("r if { flag := true; not flag }", "negation"),
        ("r if not twice", "negation"),
        ("r if not input.purpose == 1", "negation"),
        ("r := [1 | not input.signed]", "negation"),
        ("r if { every x in input.fields { x } }", "construct"),
        ("r if { x = 1; x == 1 }", "construct"),
        ("r := 1 if { known } else := 2", "construct"),
        ("r if known with input as {}", "construct"),
        ("r := upper(input.purpose)", "builtin"),
        ("r := time.now_ns()", "builtin"),
        ('r := http.send({"url": "x"})', "builtin"),
        ("r if walk(input, [_, _])", "builtin"),
        ("r := opa.runtime()", "builtin"),
        ("r := rand.intn(1, 2)", "builtin"),
        ("r if input.purpos == 1", "unbound"),
        ('r := object.get(input, "purpos", "")', "unbound"),
        ("r if data.teirs.public", "unbound"),
        ("r if other.elsewher", "unbound"),
        ("r := other.fourfold(1)", "unbound"),
        ("r if data.exchange.other.elsewher", "unbound"),
        ("r if knwon", "unbound"),
        ("r if data.tiers[key].rank == 1", "unbound"),
        ("r := [name | some name in input.fields; nam == 1]", "unbound"),
        ("r if { known := 1; known == 1 }", "shadow"),
        ("r if some known in input.fields", "shadow"),
    ],
)
def test_what_engines_understand_differently_is_refused(rule, code):
    assert code in lint(titled(rule))


def test_a_rule_without_metadata_is_refused():
    assert lint("r := 1") == ["metadata"]


@pytest.mark.parametrize("missing", ["citation", "owner", "remedy"])
def test_a_proof_must_say_where_it_comes_from_and_what_helps_where_it_fails(missing):
    custom = {"citation": "Act 1", "owner": "officer", "remedy": "Ask."}
    del custom[missing]
    listed = "".join(f"#   {key}: {text}\n" for key, text in custom.items())
    metadata = f"# METADATA\n# title: A proof\n# custom:\n{listed}"
    assert lint(metadata + 'second_proofs contains "known" if known') == ["metadata"]


@pytest.mark.parametrize(
    ("proof", "codes"),
    [
        ('second_proofs contains "known" if known', []),
        ('second_proofs contains "surprise" if known', ["proof"]),
        ("second_proofs contains name if { some name in input.fields }", ["proof"]),
        ('second_proofs := {"known"}', ["proof"]),
    ],
)
def test_a_proof_names_one_condition_that_is_asked_for(proof, codes):
    assert (
        lint(
            "# METADATA\n# title: A proof\n# custom: {citation: Act 1, owner: officer, remedy: Ask.}\n"
            + proof
        )
        == codes
    )


@pytest.mark.parametrize(
    "conditions",
    [
        '{"known": {"reason": "BAD_MOOD", "after": []}}',
        '{"known": {"reason": input.purpose, "after": []}}',
        '{"known": {"reason": "PURPOSE_UNKNOWN"}}',
        '{"known": {"reason": "PURPOSE_UNKNOWN", "after": ["nowhere"]}}',
        '{"known": {"reason": "PURPOSE_UNKNOWN", "after": [], "mood": "good"}}',
        '{"known": {"reason": "TIER_UNKNOWN", "after": []}, "more": {"reason": "TIER_UNKNOWN", "after": []}}',
        "{}",
        "data.tiers",
        'object.get(input, "purpose", {})',
    ],
)
def test_the_conditions_are_a_constant_table_of_what_has_proofs(conditions):
    head = HEAD.replace('{"known": {"reason": "PURPOSE_UNKNOWN", "after": []}}', conditions)
    assert set(lint("", head=head)) == {"proof"}


def test_without_conditions_a_bundle_is_refused():
    assert "proof" in lint("", head=HEAD.replace("conditions :=", "stipulations :="))


def test_a_module_must_stand_in_the_folder_of_its_package():
    assert lint("", path="exchange/elsewhere/decision.rego") == ["package"]


def test_an_import_of_nothing_is_refused():
    assert lint("", head=HEAD.replace("import data.exchange.other", "import data.exchange.nowhere")) == [
        "unbound"
    ]


def test_an_entry_point_without_default_is_refused():
    assert lint("", head=HEAD.replace("default result :=", "result :=")) == ["entrypoint"]


def test_impure_functions_are_refused_whatever_the_capabilities_say():
    assert {"time.now_ns", "http.send", "opa.runtime", "rand.intn"} <= IMPURE_BUILTINS
    assert "http.send" in CAPABILITIES, "the control: the case above was refused in spite of its capabilities"


def test_all_violations_are_told_with_their_places():
    where = "exchange/decision/decision.rego"
    modules = {where: HEAD + titled("a if not input.signed\n\n") + titled("b if nowhere")}
    modules["exchange/other/other.rego"] = OTHER
    annotations = {name: read_annotations(name, text) for name, text in modules.items()}
    found = lint_modules(parse_modules(modules), annotations, {"tiers"}, CAPABILITIES)
    assert [str(violation) for violation in found] == [
        f"{where}:30: negation: 'not' stands only before the name of a rule of this package",
        f"{where}:34: unbound: nowhere is not bound",
    ]


@pytest.mark.parametrize("metadata", ["# titel: x", "# title: [", "# title: x\n# title: y", ""])
def test_metadata_that_is_not_valid_is_refused(metadata):
    with pytest.raises(BundleError, match="METADATA above line"):
        read_annotations("x.rego", f"# METADATA\n{metadata}\nr := 1\n")


def test_the_shipped_capabilities_hold_functions_and_no_operators(bundle):
    from pathlib import Path

    names = read_capabilities(Path(__file__).parents[3] / "policies/capabilities.json")
    assert {"count", "object.get"} <= names
    assert not names & (IMPURE_BUILTINS | {"eq", "and", "internal.member_2"})
