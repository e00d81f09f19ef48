"""Row 2: the National Enterprise Credit Information Publicity System / Credit China.

Open look-up of company records and blacklists; ministries consult them in approvals and tenders. The public
tier is answered without a contract and without a signature, within a budget for each day, and logged all
the same.

Missing: a budget of requests that are refused or find nothing; what is limited is the records received.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import date
from pathlib import Path

from gateway.client import Client, Subject
from gateway.demo.world import COMPANIES
from tests.simulators.invented import company
from tests.simulators.sources import Form, Holding
from tests.simulators.system import RunningSystem, System, replace_in

BLACKLIST = "members/market-regulator/datasets/abnormal-operations"
LISTED = range(5, 15)
BUDGET = 12


def lower_budget(policies: Path) -> None:
    """Lower the budget of the list, so that a few look-ups use it up."""
    replace_in(policies / "data" / "catalogue.yaml", "limit_volume: 10000", f"limit_volume: {BUDGET}")


SYSTEM = System(
    consumers=("harbour-bank", "tradeplatform", "procurement", "commerce"),
    change_policies=lower_budget,
    holdings=(
        Holding(COMPANIES, [asdict(company(number)) for number in range(20)], form=Form.DATABASE),
        Holding(
            BLACKLIST,
            [
                {
                    "uscc": company(number).uscc,
                    "name": company(number).name,
                    "reason": "no annual report",
                    "listed_on": date(2025, 3, number),
                    "deciding_office": "office 12",
                }
                for number in LISTED
            ],
        ),
    ),
)
TENDER = {
    "purpose": "tender-check",
    "legal_basis": "tender-rules-12",
    "memorandum": "regulator-procurement",
}


def test_anybody_looks_up_a_company_without_a_contract(system: RunningSystem) -> None:
    wanted = company(3)
    for member in ("tradeplatform", "harbour-bank", "commerce"):
        found = system.released(
            member, COMPANIES, purpose="public-lookup", subjects=[Subject("uscc", wanted.uscc)]
        )
        [record] = found.records
        assert record["name"] == wanted.name
        assert set(record) == {"uscc", "name", "kind", "status", "registered_on", "area_code", "scope"}
        assert (found.entry.tier, found.entry.memorandum, found.entry.legal_basis) == ("public", "", "")
        assert {"phone", "capital", "representative_id", "representative_name"} <= set(found.entry.withheld)


def test_a_look_up_needs_no_signature_and_is_logged_all_the_same(system: RunningSystem) -> None:
    config = system.members["tradeplatform"].client_config
    unsigned = config.with_name("unsigned.toml")
    unsigned.write_text(
        "".join(line for line in config.read_text().splitlines(True) if not line.startswith("signing_key"))
    )
    with Client.from_config(unsigned) as client:
        page = client.query(COMPANIES, purpose="public-lookup", subjects=[Subject("uscc", company(3).uscc)])
    assert page.records[0]["uscc"] == company(3).uscc
    assert page.verified is not None
    entry = system.entry(page.verified.index)
    assert (entry.consumer, entry.envelope_key) == ("tradeplatform", "")


def test_what_is_not_public_is_not_looked_up(system: RunningSystem) -> None:
    subjects = [Subject("uscc", company(3).uscc)]
    for field in ("phone", "capital", "representative_name"):
        system.refused(
            "FIELD_ABOVE_TIER",
            "tradeplatform",
            COMPANIES,
            purpose="public-lookup",
            subjects=subjects,
            fields=["uscc", field],
        )
    # To choose by a field is to read it.
    system.refused(
        "FILTER_HIDDEN_FIELD",
        "tradeplatform",
        COMPANIES,
        purpose="public-lookup",
        filters={"representative_id": company(3).representative_id},
    )


def test_a_bidder_is_checked_on_the_command_line(system: RunningSystem) -> None:
    listed, honest = company(7), company(2)
    for bidder, records in ((listed, 1), (honest, 0)):
        code, printed, errors = system.cli(
            "procurement",
            "query",
            "market-regulator/abnormal-operations",
            "--purpose",
            TENDER["purpose"],
            "--legal-basis",
            TENDER["legal_basis"],
            "--memorandum",
            TENDER["memorandum"],
            "--subject",
            f"uscc={bidder.uscc}",
        )
        assert code == 0, errors
        answers = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
        assert [answer["uscc"] for answer in answers] == [bidder.uscc] * records


def test_the_tender_office_sees_who_decided_and_others_do_not(system: RunningSystem) -> None:
    subjects = [Subject("uscc", company(7).uscc)]
    found = system.released("procurement", BLACKLIST, subjects=subjects, **TENDER)
    assert found.records[0]["deciding_office"] == "office 12"
    public = system.released("harbour-bank", BLACKLIST, subjects=subjects, purpose="public-lookup")
    assert "deciding_office" not in public.records[0]
    system.refused("PURPOSE_NOT_PERMITTED", "harbour-bank", BLACKLIST, subjects=subjects, **TENDER)
    system.refused("MEMORANDUM_NOT_APPLICABLE", "commerce", BLACKLIST, subjects=subjects, **TENDER)


def test_to_exclude_a_bidder_takes_an_official_document(system: RunningSystem) -> None:
    exclusion = {**TENDER, "purpose": "procurement-exclusion", "subjects": [Subject("uscc", company(7).uscc)]}
    system.refused("DOCUMENT_MISSING", "procurement", BLACKLIST, **exclusion)
    found = system.released("procurement", BLACKLIST, document="Decision MR-2025-118", **exclusion)
    assert found.records[0]["reason"] == "no annual report"


def test_the_open_look_up_has_a_budget_for_each_day_and_member(system: RunningSystem) -> None:
    everybody = {"purpose": "public-lookup"}
    system.released("tradeplatform", BLACKLIST, **everybody)
    system.refused("BUDGET_EXHAUSTED", "tradeplatform", BLACKLIST, **everybody)
    # The others have their own, and registers without a budget go on.
    system.released("commerce", BLACKLIST, **everybody)
    system.released("tradeplatform", COMPANIES, **everybody)


def test_the_log_holds_and_no_code_stands_in_it(system: RunningSystem) -> None:
    system.assert_log_holds()
