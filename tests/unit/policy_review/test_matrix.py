"""The matrix holds what policy grants, by the best way of asking; differences are found exhaustively."""

from __future__ import annotations

import msgspec
import pytest

from gateway.policy import load_bundle
from gateway.policy.comparison import ChangeKind
from gateway.policy_review.differences import find_differences
from gateway.policy_review.html import differences_page, matrix_page
from gateway.policy_review.judges import start_engine
from gateway.policy_review.matrix import matrix
from gateway.policy_review.questions import Questions, Way
from tests.unit.policy_review.conftest import ARREARS, COMPANIES, MEMBERS, make_world

CREDIT = "credit-check"


def test_there_is_a_cell_for_each_member_dataset_and_purpose(bundle, world):
    cells = matrix(bundle, world)
    assert len(cells) == len(MEMBERS) * 2 * len(bundle.data["purposes"])
    assert len({(cell.member, cell.dataset, cell.purpose) for cell in cells}) == len(cells)


def test_each_cell_is_what_policy_says_when_asked_so(bundle, world):
    engine, questions = start_engine(bundle), Questions(world)
    for cell in matrix(bundle, world):
        way = Way(cell.member, cell.dataset, cell.purpose, cell.operation, cell.legal_basis, cell.memorandum)
        decision = engine.judge(questions.encode(way))
        told = {name: treatment for treatment, names in cell.treatments.items() for name in names}
        assert (cell.allow, cell.tier, cell.reasons) == (decision.allow, decision.tier, decision.reasons)
        assert told == {name: each.treatment.value for name, each in decision.obligations.items()}


def test_the_best_way_is_told(bundle, world):
    cells = {(cell.member, cell.dataset, cell.purpose): cell for cell in matrix(bundle, world)}
    bank = cells["harbour-bank", COMPANIES, CREDIT]
    assert (bank.tier, bank.memorandum) == ("limited", "registry-harbour-bank")
    assert bank.legal_basis == "credit-reporting-act-14"
    assert not cells["tradeplatform", COMPANIES, CREDIT].allow
    assert "PURPOSE_NOT_PERMITTED" in cells["tradeplatform", COMPANIES, CREDIT].reasons


@pytest.mark.timeout(120)
def test_several_processes_find_the_same(bundle, catalogue, monkeypatch):
    world = make_world([bundle], catalogue)
    monkeypatch.setattr("gateway.policy_review.matrix.SMALL", 0)
    seen = []
    alone = matrix(bundle, world, processes=1)
    together = matrix(bundle, world, processes=2, advance=lambda done, total: seen.append((done, total)))
    assert together == alone
    assert seen[-1] == (len(alone), len(alone))


def test_a_policy_differs_from_itself_in_nothing(bundle, world):
    found = find_differences(bundle, bundle, world)
    assert found.changes == ()
    assert found.asked > 0
    assert not any(found.counts().values())


def test_a_relaxation_is_found_and_grouped(bundle, catalogue, policy, edit):
    edit("data/member_classes.yaml", "coarse: true", "coarse: false")
    other = load_bundle(policy)
    world = make_world([bundle, other], catalogue, ("query", "match"))
    found = find_differences(bundle, other, world)
    assert {change.kind for change in found.changes} == {ChangeKind.WEAKENED}
    assert {change.member for change in found.changes} == {"harbour-bank", "northern-bank"}
    groups = {(group.member, group.dataset, group.purpose): group for group in found.groups()}
    bank = groups["harbour-bank", COMPANIES, CREDIT]
    assert bank.operations == ("match", "query")
    assert any(detail.startswith("capital: generalise") for detail in bank.details)
    back = find_differences(other, bundle, world)
    assert {change.kind for change in back.changes} == {ChangeKind.STRENGTHENED}


def test_a_memorandum_that_is_gone_denies_and_one_that_is_new_allows(bundle, catalogue, policy, edit):
    edit("data/memoranda.yaml", "consumers: [harbour-bank]", "consumers: [northern-bank]")
    other = load_bundle(policy)
    found = find_differences(bundle, other, make_world([bundle, other], catalogue))
    told = {(change.kind, change.member, change.memorandum) for change in found.changes}
    assert (ChangeKind.DENIED, "harbour-bank", "registry-harbour-bank") in told
    assert (ChangeKind.ALLOWED, "northern-bank", "registry-harbour-bank") in told
    assert all(change.rules for change in found.changes)


def test_the_pages_hold_everything_and_load_nothing(bundle, world):
    cells = matrix(bundle, world)
    evil = msgspec.structs.replace(cells[0], member="<script>alert(1)</script>", allow=True)
    page = matrix_page("Who & what", {"digest": bundle.digest}, [*cells, evil])
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "http" not in page.replace("http-equiv", "")
    assert all(name in page for name in (COMPANIES, ARREARS, "registry-harbour-bank", bundle.digest))
    assert page.count("<details") == page.count("</details>") == 2
    assert "Nothing is decided differently" in differences_page("Nothing", {}, [])
