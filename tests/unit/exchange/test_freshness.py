"""A dataset is late when its newest record is older than promised; only a whole answer can tell."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date

import msgspec
import pytest

from gateway.exchange.freshness import days_late
from gateway.exchange.screening import newest_day
from gateway.model import Dataset, Freshness, Operation

TODAY = date(2026, 11, 22)


@dataclass(frozen=True)
class Asked:
    dataset: Dataset
    subjects: tuple[str, ...] = ()
    filters: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ended:
    """The part of an exchange that matters here."""

    resolved: Asked
    newest: date | None
    operation: Operation = Operation.STREAM


def dataset(promise: Freshness | None) -> Dataset:
    return Dataset(
        name="members/shanghai/datasets/penalties",
        provider="shanghai",
        title="Penalties",
        version="1.0.0",
        tier="public",
        fields={},
        freshness=promise,
    )


PROMISED = Asked(dataset(Freshness(field="decided_on", days=7)))


@pytest.mark.parametrize(
    ("newest", "late"),
    [
        (date(2026, 11, 22), 0),
        (date(2026, 11, 15), 0),
        (date(2026, 11, 14), 1),
        (date(2026, 10, 22), 24),
        (date(2026, 12, 1), 0),
        (None, None),
    ],
)
def test_a_dataset_is_late_from_the_day_after_the_promise(newest: date | None, late: int | None) -> None:
    assert days_late(Ended(PROMISED, newest), TODAY) == late


@pytest.mark.parametrize(
    "ended",
    [
        Ended(Asked(dataset(None)), date(2020, 1, 1)),
        Ended(replace(PROMISED, subjects=("one",)), date(2020, 1, 1)),
        Ended(replace(PROMISED, filters=("kind",)), date(2020, 1, 1)),
        Ended(PROMISED, date(2020, 1, 1), Operation.QUERY),
        Ended(PROMISED, date(2020, 1, 1), Operation.MATCH),
    ],
    ids=["no promise", "some subjects", "a filter", "a page", "a match"],
)
def test_nothing_is_said_of_what_is_not_a_whole_dataset_with_a_promise(ended: Ended) -> None:
    assert days_late(ended, TODAY) is None


def test_the_newest_day_is_that_of_the_rows_that_have_one() -> None:
    row = msgspec.defstruct("row", [("f0", date | None)])
    rows = [row(date(2026, 1, 5)), row(None), row(date(2026, 3, 1)), row(date(2025, 12, 31))]
    assert newest_day(rows, "f0") == date(2026, 3, 1)
    assert newest_day([row(None)], "f0") is None
    assert newest_day([], "f0") is None
