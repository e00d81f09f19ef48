"""Row 10: the stars of Qingzhen.

149,758 households, 99.95 % of the town, were rated with stars. A dataset of scores goes to the member that
it is made for and to nobody else, also where a memorandum names others; for enforcement it is refused to
everybody: since 2019 only an official document may ground a penalty.

Shown on a fifteenth of the households. Missing: nothing of this row.
"""

from __future__ import annotations

import pytest

from gateway.client import StreamSummary, Subject
from gateway.model import EntryKind
from tests.simulators.sources import Holding
from tests.simulators.system import RunningSystem, System

STARS = "members/guiyang-data/datasets/household-stars"
HOUSEHOLDS = 10_000
OWN = {
    "purpose": "own-score",
    "legal_basis": "town-rating-order-2",
    "memorandum": "guiyang-qingzhen",
}

SYSTEM = System(
    consumers=("qingzhen", "rongcheng", "police", "inspectorate", "harbour-bank", "tradeplatform"),
    holdings=(
        Holding(
            STARS,
            [
                {"household": f"QZ-{number:06d}", "stars": number % 11, "village": "520181"}
                for number in range(HOUSEHOLDS)
            ],
        ),
    ),
)


def test_the_town_reads_its_own_rating(system: RunningSystem) -> None:
    found = system.released("qingzhen", STARS, subjects=[Subject("household", "QZ-000042")], **OWN)
    assert found.records == [{"household": "QZ-000042", "stars": 9, "village": "520181"}]
    assert found.entry.tier == "government"


def test_the_town_reads_all_of_it_in_bulk_page_by_page(system: RunningSystem) -> None:
    *pages, summary = system.client("qingzhen").stream(STARS, **OWN)
    assert isinstance(summary, StreamSummary)
    assert summary.verified is not None
    assert sum(len(page.records) for page in pages) == summary.records == HOUSEHOLDS
    entry = system.entry(summary.verified.index)
    assert (entry.kind, entry.records, entry.pages) == (EntryKind.EXCHANGE_RELEASED, HOUSEHOLDS, len(pages))


def test_another_town_gets_nothing_though_the_memorandum_names_it(system: RunningSystem) -> None:
    system.refused(
        "SCORE_NOT_PERMITTED", "rongcheng", STARS, subjects=[Subject("household", "QZ-000042")], **OWN
    )


@pytest.mark.parametrize(
    ("member", "purpose"),
    [
        ("police", "criminal-investigation"),
        ("police", "law-enforcement"),
        ("inspectorate", "law-enforcement"),
        ("qingzhen", "joint-discipline"),
        ("qingzhen", "law-enforcement"),
    ],
)
def test_no_score_grounds_a_measure_not_even_the_owners(
    system: RunningSystem, member: str, purpose: str
) -> None:
    entry = system.refused(
        "SCORE_NOT_PERMITTED",
        member,
        STARS,
        subjects=[Subject("household", "QZ-000042")],
        document="Order 2026-7",
        **{**OWN, "purpose": purpose},
    )
    assert "PURPOSE_NOT_PERMITTED" in entry.reasons


def test_no_score_reaches_a_bank_or_a_company(system: RunningSystem) -> None:
    ask = {**OWN, "subjects": [Subject("household", "QZ-000042")]}
    system.refused("SCORE_NOT_PERMITTED", "harbour-bank", STARS, **{**ask, "purpose": "credit-check"})
    system.refused("SCORE_NOT_PERMITTED", "tradeplatform", STARS, **ask)


def test_a_guess_at_the_number_of_stars_is_no_way_round(system: RunningSystem) -> None:
    ask = {**OWN, "subject": Subject("household", "QZ-000042"), "match": {"stars": "9"}}
    system.refused("OPERATION_NOT_PERMITTED", "qingzhen", STARS, **ask)
    system.refused("SCORE_NOT_PERMITTED", "rongcheng", STARS, **ask)


def test_the_log_holds(system: RunningSystem) -> None:
    system.assert_log_holds()
