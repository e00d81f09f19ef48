"""`gateway policy`: what officers see, and the exit codes that their pipelines go by."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from gateway.catalogue import Catalogue
from gateway.cli.exits import Exit
from gateway.policy import load_bundle
from gateway.policy_review.questions import Questions, Way, World

POLICIES = Path(__file__).parents[3] / "policies"
COMPANIES = "members/registry/datasets/companies"
SMALL = ("--processes", "1")


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    return shutil.copytree(POLICIES, tmp_path / "policies")


@pytest.fixture
def datasets(tmp_path: Path) -> Path:
    """A catalogue of one dataset, so that a matrix takes no time."""
    folder = tmp_path / "datasets"
    folder.mkdir()
    shutil.copy(POLICIES / "datasets/registry-companies.yaml", folder)
    return folder


@pytest.fixture
def relaxed(tmp_path: Path) -> Path:
    """The shipped policy, but banks see everything exactly."""
    folder = shutil.copytree(POLICIES, tmp_path / "relaxed")
    path = folder / "data/member_classes.yaml"
    path.write_text(path.read_text().replace("coarse: true", "coarse: false"))
    return folder


@pytest.fixture
def asked(tmp_path: Path) -> Path:
    """The file of a policy input."""
    bundle = load_bundle(POLICIES)
    catalogue = Catalogue.read(POLICIES / "datasets", list(bundle.data["tiers"]))
    world = World.of([bundle], catalogue, "2026-11-21T12:00:00Z", ["query"])
    way = Way("harbour-bank", COMPANIES, "credit-check", "query", "statistics-act-9", "registry-harbour-bank")
    path = tmp_path / "input.json"
    path.write_bytes(Questions(world).encode(way))
    return path


def test_check_finds_nothing_in_the_shipped_policy(cli, policy):
    assert cli("policy", "check", policy).exit_code == Exit.OK
    assert cli.json("policy", "check", policy) == []


def test_check_lists_faults_with_their_places(cli, policy):
    path = policy / "data/purposes.yaml"
    path.write_text(path.read_text().replace("enforcement: true", "enforcement: maybe", 1))
    result = cli("policy", "check", policy, "--output", "json")
    assert result.exit_code == Exit.NO
    [fault] = json.loads(result.stdout)
    assert fault["path"] == "data/purposes.yaml"
    assert fault["line"] > 1
    assert "data/purposes.yaml:" in cli("policy", "check", policy).stdout


def test_a_folder_or_an_opa_that_is_not_there_is_a_matter_of_usage(cli, tmp_path, policy):
    assert cli("policy", "check", tmp_path / "none").exit_code == Exit.USAGE
    assert cli("policy", "check", policy, "--opa", tmp_path / "none").exit_code == Exit.USAGE


def test_test_tells_what_fails_and_how(cli, policy):
    for path in policy.rglob("*_test.rego"):
        path.unlink()
    (policy / "exchange/decision/own_test.rego").write_text(
        "package exchange.decision_test\n\ntest_own if 1 == 1\n"
    )
    cases = policy / "cases/public.yaml"
    result = cli("policy", "test", policy)
    assert result.exit_code == Exit.OK
    assert result.stdout.endswith("pass, on the embedded engine.\n")
    assert "1 test beside the rules not run" in result.stderr
    cases.write_text(cases.read_text().replace("tier: public", "tier: limited", 1))
    result = cli("policy", "test", policy)
    assert result.exit_code == Exit.NO
    assert "FAIL embedded" in result.stdout
    assert "tier: expected limited, got public" in result.stdout


def test_coverage_has_a_floor(cli, policy):
    found = cli.json("policy", "coverage", policy)
    assert found["percent"] >= 95
    assert any(each["denials"] for each in found["conditions"])
    shutil.rmtree(policy / "cases")
    assert cli("policy", "coverage", policy, "--fail-under", "95").exit_code == Exit.NO
    assert cli("policy", "coverage", policy).exit_code == Exit.OK


def test_explain_tells_of_an_input_what_is_wrong_and_what_would_be_allowed(cli, policy, asked):
    result = cli("policy", "explain", asked, "--bundle", policy)
    assert result.exit_code == Exit.OK
    assert "LEGAL_BASIS_NOT_PERMITTED (legal_bases.purpose)" in result.stdout
    assert "What helps:" in result.stdout
    assert "state the legal basis credit-reporting-act-14" in result.stdout
    found = cli.json("policy", "explain", asked, "--bundle", policy)
    assert found["least_change"]["complete"] is True
    assert ["state the legal basis credit-reporting-act-14"] in found["least_change"]["changes"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"purpose":1}', "{" * 5000])
def test_an_input_that_is_none_is_refused(cli, policy, tmp_path, text):
    path = tmp_path / "input.json"
    path.write_text(text)
    result = cli("policy", "explain", path, "--bundle", policy)
    assert result.exit_code == Exit.USAGE
    assert "no policy input" in result.stderr


def test_explain_of_an_exchange_that_is_not_there(gateway):
    result = gateway("policy", "explain", "01234567-89ab-7def-8123-456789abcdef")
    assert result.exit_code == Exit.NO


def test_matrix_lists_what_is_allowed_and_writes_a_page(cli, policy, datasets, tmp_path):
    words = ("policy", "matrix", policy, "--catalogue", datasets, *SMALL)
    rows = cli.json(*words)
    assert all(row["allow"] for row in rows)
    assert {row["dataset"] for row in rows} == {COMPANIES}
    assert len(cli.json(*words, "--denied")) > len(rows)
    page = tmp_path / "matrix.html"
    result = cli(*words, "--html", page, "--output", "table")
    assert "registry-harbour-bank" in result.stdout
    assert page.read_text().startswith("<!doctype html>")
    assert page.stat().st_mode & 0o777 == 0o600
    assert cli(*words, "--html", page).exit_code == Exit.USAGE, "nothing is overwritten"


def test_diff_ends_with_one_where_something_is_weakened(cli, policy, relaxed, datasets, tmp_path):
    words = ("--catalogue", datasets, "--operation", "query", *SMALL)
    weaker = cli("policy", "diff", policy, relaxed, *words, "--output", "json")
    assert weaker.exit_code == Exit.NO
    assert {row["kind"] for row in json.loads(weaker.stdout)} == {"weakened"}
    stronger = cli("policy", "diff", relaxed, policy, *words)
    assert stronger.exit_code == Exit.OK
    assert cli("policy", "diff", relaxed, policy, *words, "--fail-on", "strengthened").exit_code == Exit.NO
    page = tmp_path / "diff.html"
    assert cli("policy", "diff", policy, policy, *words, "--html", page).exit_code == Exit.OK
    assert "Nothing is decided differently" in page.read_text()


def test_replay_of_a_log_without_exchanges(gateway, policy):
    found = gateway.json("policy", "replay", "--candidate", policy, *SMALL)
    assert (found["exchanges"], found["faults"], found["changes"]) == (0, [], [])
    listed = gateway.json("audit", "list", "--kind", "audit.read", "--limit", "1")
    assert listed[0]["detail"]["through"] == "policy replay"


@pytest.mark.parametrize("since", ["yesterday", "30", "5w", ""])
def test_a_time_that_is_none_is_refused(gateway, since):
    assert gateway("policy", "replay", "--since", since).exit_code == Exit.USAGE
