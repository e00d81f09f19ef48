"""The trial on a real register: a file served as it is."""

import os
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from gateway.sources.mapping import parse_mapping
from gateway.sources.opening import check_mapping, open_sources
from gateway.sources.source import FetchRequest

REAL_DATA = os.environ.get("SLUICEGATE_REAL_DATA", "")

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not REAL_DATA, reason="SLUICEGATE_REAL_DATA does not name the trial file"),
]

FIELDS = ("name", "uscc", "registered_on", "kind", "capital", "scope", "province", "city", "address")
ROWS = 20_000


@pytest.fixture(scope="module")
def mapping():
    columns = "\n".join(f'{field} = "{field}"' for field in FIELDS)
    text = f"""
    member = "company-registry"
    [datasets.companies]
    file = {msgspec.json.encode(Path(REAL_DATA).resolve().as_posix()).decode()}
    null_values = ["N/A", ""]
    lookup = ["uscc", "province"]
    [datasets.companies.columns]
    {columns}
    """
    return parse_mapping(text, Path())


def test_every_row_is_served_once_by_pages_and_by_a_stream(mapping):
    (report,) = check_mapping(mapping)
    assert (report.problem, report.records, report.skipped_rows) == ("", ROWS, 0)
    with closing(open_sources(mapping)["companies"].source) as source:
        paged, cursor = [], None
        while True:
            page = source.fetch(FetchRequest(fields=FIELDS, page_size=777, cursor=cursor))
            paged += page.records.splitlines()
            cursor = page.next_cursor
            if cursor is None:
                break
        streamed = [
            line for page in source.stream(FetchRequest(fields=FIELDS)) for line in page.records.splitlines()
        ]
    assert len(paged) == ROWS
    assert paged == streamed
    records = [msgspec.json.decode(line) for line in paged]
    assert all(tuple(record) == FIELDS for record in records)
    assert not any(value in {"N/A", ""} for record in records for value in record.values())


def test_each_company_is_found_by_its_code(mapping):
    with closing(open_sources(mapping)["companies"].source) as source:
        first = source.fetch(FetchRequest(fields=("uscc", "name"), page_size=500))
        for line in first.records.splitlines():
            record = msgspec.json.decode(line)
            if record["uscc"] is None:
                continue
            found = source.fetch(
                FetchRequest(fields=("uscc", "name"), subject_field="uscc", subject_values=(record["uscc"],))
            )
            assert line in found.records.splitlines()
