"""A trial on real registrations, where the environment names them: `SLUICEGATE_REAL_DATA`."""

import csv
import gzip
import os
from collections import Counter
from pathlib import Path

import pytest

from gateway.identifiers import USCC, Problem

pytestmark = pytest.mark.real_data


@pytest.fixture(scope="module")
def codes():
    path = os.environ.get("SLUICEGATE_REAL_DATA")
    if not path:
        pytest.skip("SLUICEGATE_REAL_DATA does not name the companies file (CSV, gzip)")
    with gzip.open(Path(path), "rt", encoding="utf-8", newline="") as file:
        return [row["uscc"] for row in csv.DictReader(file)]


def test_exactly_the_broken_codes_are_refused(codes):
    assert len(codes) == 20_000
    column = USCC.check_column(codes)
    assert len(column.invalid) == 39
    assert Counter(column.problems.values()) == {Problem.LENGTH: 39}
    assert sum(value is None for value in column.values) == 39


def test_codes_in_small_letters_are_normalised_not_refused(codes):
    column = USCC.check_column(codes)
    changed = [row for row, value in enumerate(column.values) if value is not None and value != codes[row]]
    assert len(changed) == 5
    assert all(column.values[row] == codes[row].upper() for row in changed)
