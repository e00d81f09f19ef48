"""The trial on a real register, from end to end: file, provider, policy, pseudonyms, log, receipts."""

from __future__ import annotations

import csv
import gzip
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.client import error_class
from gateway.demo.world import COMPANIES
from gateway.identifiers import identifier_kind
from gateway.identifiers.errors import IdentifierError
from gateway.model import EntryKind, Subject
from tests.simulators.world import SimulatedWorld

REAL_DATA = os.environ.get("SLUICEGATE_REAL_DATA", "")
FILE = Path(REAL_DATA).resolve()
ROWS = 20_000
BROKEN = 39

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not REAL_DATA, reason="SLUICEGATE_REAL_DATA does not name the trial file"),
    pytest.mark.asyncio(loop_scope="module"),
]

LIMITED = {"legal_basis": "credit-reporting-act-14", "memorandum": "registry-harbour-bank"}
BULK = {"legal_basis": "statistics-act-9", "memorandum": "registry-harbour-bank"}

MAPPING = """\
member = "registry"

[datasets.companies]
file = {file}
null_values = ["N/A", ""]
lookup = ["uscc", "province"]

[datasets.companies.columns]
"""

DESCRIPTION = """\
apiVersion: v3.1.0
kind: DataContract
id: companies
name: Company registrations
version: 1.0.0
status: active
description:
  purpose: One record for each registered company.
customProperties:
  - {property: provider, value: registry}
  - {property: tier, value: public}
  - {property: datasetClass, value: record}
  - {property: catalogueCitation, value: "National catalogue of public credit information, item C-01"}
schema:
  - name: company
    logicalType: object
    properties:
      - name: uscc
        logicalType: string
        classification: public
        customProperties: [{property: identifierKind, value: uscc}, {property: lookup, value: true}]
      - {name: name, logicalType: string, classification: public}
      - {name: registered_on, logicalType: string, classification: public}
      - {name: kind, logicalType: string, classification: public}
      - name: province
        logicalType: string
        classification: public
        customProperties: [{property: lookup, value: true}]
      - {name: city, logicalType: string, classification: public}
      - {name: scope, logicalType: string, classification: public}
      - {name: capital, logicalType: string, classification: limited}
      - {name: address, logicalType: string, classification: limited}
"""
FIELDS = ("uscc", "name", "registered_on", "kind", "province", "city", "scope", "capital", "address")


def replace_once(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1, f"{path.name} is no longer as this test knows it"
    path.write_text(text.replace(old, new))


def make_company_codes_pseudonymous(policies: Path) -> None:
    """Let this deployment's policy treat company codes as it treats persons', above the public tier.

    Where companies count as persons, a look-up needs a legal basis that names their register.
    """
    replace_once(
        policies / "data" / "legal_bases.yaml",
        "datasets: [members/registry/datasets/persons]",
        "datasets: [members/registry/datasets/persons, members/registry/datasets/companies]",
    )
    replace_once(
        policies / "data" / "identifiers.yaml",
        "title: Unified social credit code\n    person: false",
        "title: Unified social credit code\n    person: true",
    )
    tiers = policies / "data" / "tiers.yaml"
    public, rest = tiers.read_text().split("  - name: limited", 1)
    assert "person_identifiers: pseudonymise" in public
    public = public.replace("person_identifiers: pseudonymise", "person_identifiers: release")
    tiers.write_text(f"{public}  - name: limited{rest}")


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    opened = gzip.open if REAL_DATA.endswith(".gz") else open
    with opened(REAL_DATA, "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def broken(rows: list[dict[str, str]]) -> set[str]:
    """The codes that are none, by the product's own rule; the register's description counts them."""
    found = set()
    for row in rows:
        try:
            identifier_kind("uscc").normalise(row["uscc"])
        except IdentifierError:
            found.add(row["uscc"])
    return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SimulatedWorld]:
    world = SimulatedWorld(tmp_path_factory.mktemp("real"), company_count=1, real_registry=True)
    registry = world.members["registry"].directory
    columns = "".join(f'{field} = "{field}"\n' for field in FIELDS)
    (registry / "mapping.toml").write_text(MAPPING.format(file=json.dumps(str(FILE))) + columns)
    catalogue = world.deployment.directory / "catalogue"
    (catalogue / "registry-companies.yaml").write_text(DESCRIPTION)
    make_company_codes_pseudonymous(world.deployment.directory / "policies")
    await world.start()
    try:
        yield world
        world.log.verify()
    finally:
        await world.stop()


async def test_the_register_has_the_broken_codes_that_its_description_counts(rows, broken) -> None:
    assert len(rows) == ROWS
    assert sum(row["uscc"] in broken for row in rows) == BROKEN


async def test_a_public_look_up_gives_the_record_as_it_is(world: SimulatedWorld, rows, broken) -> None:
    row = next(row for row in rows if row["uscc"] not in broken)
    page = await world.client().query(
        COMPANIES,
        purpose="public-lookup",
        legal_basis="open-register-act-2",
        subjects=[Subject("uscc", row["uscc"])],
    )
    [record] = page.records
    assert record["uscc"] == row["uscc"]
    assert record["name"] == row["name"]
    assert not {"capital", "address"} & record.keys()


async def test_a_limited_query_gives_a_pseudonym_for_the_code(world: SimulatedWorld, rows, broken) -> None:
    row = next(row for row in rows if row["uscc"] not in broken)
    page = await world.client().query(
        COMPANIES, purpose="credit-check", subjects=[Subject("uscc", row["uscc"])], **LIMITED
    )
    [record] = page.records
    assert record["uscc"].startswith("sg1:")
    assert row["uscc"].encode() not in page.text
    assert record["address"] == (row["address"] if row["address"] not in {"", "N/A"} else None)


async def test_a_broken_code_cannot_be_asked_for(world: SimulatedWorld, broken) -> None:
    for code in sorted(broken):
        with pytest.raises(error_class("IDENTIFIER_INVALID")):
            await world.client().query(COMPANIES, purpose="public-lookup", subjects=[Subject("uscc", code)])


async def test_all_records_come_in_bulk_and_no_code_with_them(world: SimulatedWorld, rows, broken) -> None:
    *pages, summary = [item async for item in world.client().stream(COMPANIES, purpose="statistics", **BULK)]
    assert (summary.records, summary.pages) == (ROWS, len(pages))
    text = b"".join(page.text for page in pages)
    records = [record for page in pages for record in page]
    # Every code is a pseudonym or, where it was none, absent; and one company has one pseudonym.
    assert sum(record["uscc"] is None for record in records) == BROKEN
    given = [record["uscc"] for record in records if record["uscc"] is not None]
    assert all(pseudonym.startswith("sg1:") for pseudonym in given)
    codes = {identifier_kind("uscc").normalise(row["uscc"]) for row in rows if row["uscc"] not in broken}
    assert len(set(given)) == len(codes)
    assert sorted(record["name"] for record in records) == sorted(row["name"] for row in rows)
    # No code stands in a field of codes or anywhere a code would: only free text may mention one.
    assert not codes & {value for record in records for value in record.values() if isinstance(value, str)}
    assert not any(f'"uscc":"{code}"'.encode() in text for code in broken)
    entry = summary.verified.entry
    assert (entry.kind, entry.records) == (EntryKind.EXCHANGE_RELEASED, ROWS)
    assert entry.invalid_identifiers == BROKEN
    assert entry.obligations == {"uscc": "pseudonymise"}
    for page in pages:
        summary.verified.verify_page(page.number, page.text, page.seed)


async def test_the_log_holds_no_code_and_no_name(world: SimulatedWorld, rows) -> None:
    files = world.log.database.parent.glob("audit.db*")
    raw = b"".join(path.read_bytes() for path in files) + world.output.getvalue().encode()
    assert b"exchange.released" in raw
    assert not any(row["uscc"].encode() in raw for row in rows if len(row["uscc"]) >= 13)
    assert not any(row["name"].encode() in raw for row in rows if len(row["name"]) >= 6)
