"""Each check by itself: what is wrong is named with its row, field and reason, and never with a value."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.catalogue import describe_dataset
from gateway.client import record_line
from gateway.contributions.checks import MAX_RECORD_BYTES, RecordChecker
from gateway.evidence.quality import RowReason
from tests.simulators.contributing import FIELDS, TIERS, describe, records

ROW = records(1)[0]


@pytest.fixture
def checker() -> RecordChecker:
    return RecordChecker(describe_dataset(describe(FIELDS), "test", TIERS), ("uscc",), bytes(32))


def test_valid_records_are_valid(checker: RecordChecker) -> None:
    page = checker.check([record_line(row) for row in records(100)])
    assert (page.rows, page.valid, page.problems) == (100, list(range(100)), {})
    assert len(set(page.tokens)) == len(page.days) == 100


@pytest.mark.parametrize(
    ("changes", "field", "reason"),
    [
        ({"uscc": None}, "uscc", RowReason.MISSING),
        ({"name": None}, "name", RowReason.MISSING),
        ({"uscc": ""}, "uscc", RowReason.IDENTIFIER_LENGTH),
        ({"uscc": "123"}, "uscc", RowReason.IDENTIFIER_LENGTH),
        ({"uscc": ROW["uscc"].lower()}, "uscc", RowReason.IDENTIFIER_SPELLING),
        ({"uscc": "I" + ROW["uscc"][1:]}, "uscc", RowReason.IDENTIFIER_ALPHABET),
        ({"uscc": ROW["uscc"][:-1] + "@"}, "uscc", RowReason.IDENTIFIER_ALPHABET),
        ({"employees": "many"}, "employees", RowReason.TYPE),
        ({"employees": 1.5}, "employees", RowReason.TYPE),
        ({"employees": 2**53}, "employees", RowReason.RANGE),
        ({"turnover": "1"}, "turnover", RowReason.TYPE),
        ({"active": "true"}, "active", RowReason.TYPE),
        ({"registered_on": "2025-02-29"}, "registered_on", RowReason.DATE),
        ({"registered_on": 20250101}, "registered_on", RowReason.TYPE),
        ({"note": "a\x00b"}, "note", RowReason.CONTROL_CHARACTER),
        ({"surplus": 1}, "", RowReason.UNKNOWN_FIELD),
    ],
)
def test_what_is_wrong_is_named(
    checker: RecordChecker, changes: dict[str, Any], field: str, reason: RowReason
) -> None:
    page = checker.check([record_line(ROW), record_line({**ROW, **changes}), record_line(records(2)[1])])
    assert page.valid == [0, 2]
    assert (field, reason) in page.problems[1]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", RowReason.MALFORMED),
        (b"{", RowReason.MALFORMED),
        (b"[1]", RowReason.MALFORMED),
        (b"[" * 10_000, RowReason.MALFORMED),
        (b'{"name":"\xff"}', RowReason.ENCODING),
        (record_line(ROW).replace(b":", b": ", 1), RowReason.NOT_CANONICAL),
        (record_line(ROW)[:-1] + b',"name":"x"}', RowReason.NOT_CANONICAL),
        (record_line({**ROW, "note": "x" * MAX_RECORD_BYTES}), RowReason.OVERSIZE),
        (b'"row-columns"', RowReason.ROW_COLUMNS),
        (b'"anything else"', RowReason.MALFORMED),
    ],
)
def test_what_is_no_record_is_named(checker: RecordChecker, line: bytes, reason: RowReason) -> None:
    page = checker.check([line, record_line(ROW)])
    assert (page.valid, page.problems) == ([1], {0: [("", reason)]})


def test_equal_keys_have_equal_tokens_and_other_batches_others(checker: RecordChecker) -> None:
    other = RecordChecker(describe_dataset(describe(FIELDS), "test", TIERS), ("uscc",), bytes(31) + b"1")
    twins = [record_line(ROW), record_line({**ROW, "employees": 7})]
    first, second = checker.check(twins).tokens
    assert first == second
    assert other.check(twins).tokens[0] != first
