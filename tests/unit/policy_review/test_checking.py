"""Every fault of a policy is listed, with file and line."""

from __future__ import annotations

import pytest

from gateway.policy_review.checking import check_directory

ABOUT_REGO = "exchange/decision/reads.rego"


def line_of(policy, name: str, text: str) -> int:
    lines = (policy / name).read_text().splitlines()
    return next(number for number, line in enumerate(lines, start=1) if text in line)


def test_the_shipped_policy_has_no_fault(policy):
    assert check_directory(policy) == ()


def test_several_faults_in_several_files_are_told_at_once(policy, edit):
    edit("bundle.yaml", "revision: 1", "revision: none")
    edit("data/purposes.yaml", "enforcement: false", "enforcement: maybe")
    edit("data/purposes.yaml", "enforcement: false", "enforcment: false")
    edit("data/tiers.yaml", "tiers:", "tiers: [")
    edit(ABOUT_REGO, "package exchange.decision", "package exchange.decision := :=")
    edit("exchange/decision/tiers.rego", "# title:", "# titel:")
    faults = check_directory(policy)
    told = {(fault.path, fault.code) for fault in faults}
    assert {
        ("bundle.yaml", "schema"),
        ("data/purposes.yaml", "schema"),
        ("data/tiers.yaml", "yaml"),
        (ABOUT_REGO, "rego"),
        ("exchange/decision/tiers.rego", "metadata"),
    } == told
    assert sum(fault.path == "data/purposes.yaml" for fault in faults) == 2
    assert all(fault.line for fault in faults)


def test_a_wrong_value_is_told_with_its_line(policy, edit):
    edit("data/purposes.yaml", "enforcement: true", "enforcement: maybe")
    [fault] = check_directory(policy)
    assert fault.line == line_of(policy, "data/purposes.yaml", "enforcement: maybe")
    assert str(fault).startswith(f"data/purposes.yaml:{fault.line}: schema: Expected `bool`, got `str`")


def test_a_name_that_points_nowhere_is_told_with_the_line_of_its_row(policy, edit):
    edit("data/memoranda.yaml", "consumers: [harbour-bank]", "consumers: [harbour-bank, nobody]")
    [fault] = check_directory(policy)
    assert (fault.code, fault.path) == ("reference", "data/memoranda.yaml")
    assert "nobody" in fault.message
    assert fault.line == line_of(policy, "data/memoranda.yaml", "registry-harbour-bank:")


def test_a_rule_outside_the_dialect_is_told_with_its_line(policy):
    path = policy / ABOUT_REGO
    path.write_text(path.read_text() + "\n# METADATA\n# title: Wrong\nwrong if not input.signed\n")
    [fault] = check_directory(policy)
    assert (fault.path, fault.code) == (ABOUT_REGO, "negation")
    assert fault.line == len(path.read_text().splitlines())


@pytest.mark.parametrize(
    ("name", "text", "code"),
    [("cases/broken.yaml", "cases: none\n", "cases"), ("datasets/broken.yaml", "kind: Poem\n", "dataset")],
)
def test_cases_and_descriptions_are_looked_at_too(policy, name, text, code):
    (policy / name).write_text(text)
    [fault] = check_directory(policy)
    assert fault.code == code


def test_a_folder_without_anything_is_told_and_nothing_is_raised(tmp_path):
    assert {fault.path for fault in check_directory(tmp_path)} >= {"bundle.yaml", "capabilities.json"}
