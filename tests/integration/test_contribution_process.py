"""A contract, a contribution and a query by the commands that people use, with real processes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.cli.exits import Exit
from gateway.model import EntryKind
from tests.simulators.giving import agree, answered, done, draft, write_csv
from tests.simulators.in_force import description
from tests.simulators.invented import company
from tests.simulators.system import RunningSystem, System, run_system
from tests.simulators.waiting import wait_until

GIVER, TAKER, STRANGER = "tradeplatform", "harbour-bank", "commerce"
SHOPS = f"members/{GIVER}/datasets/shops"
NAME = "shops"
LOOKUP = ("--purpose", "public-lookup")


@pytest.fixture
def system(tmp_path: Path) -> Iterator[RunningSystem]:
    with run_system(System(consumers=(GIVER, TAKER, STRANGER)), tmp_path / "system") as found:
        yield found
        found.assert_log_holds()


def rows(count: int = 40) -> list[dict[str, Any]]:
    return [
        {
            "uscc": company(number).uscc,
            "name": company(number).name,
            "phone": "13912345678",
            "complaints": number,
            "joined_on": "2020-02-29",
            "remarks": "a remark",
        }
        for number in range(1, count + 1)
    ]


def bad_rows(good: list[dict[str, Any]]) -> list[dict[str, Any]]:
    code = good[0]["uscc"]
    return [
        {**good[0], "uscc": code[:-1] + ("0" if code[-1] != "0" else "1")},
        {**good[1], "joined_on": "2026-02-30"},
        good[2],
    ]


def refusal(system: RunningSystem, member: str, *words: object) -> str:
    """Run a command that must be refused by the gateway; return what it says."""
    code, out, errors = system.cli(member, *words)
    assert code == Exit.NO, errors or out
    assert not out
    return errors


def test_from_a_draft_to_records_that_another_member_gets_and_to_the_end(
    system: RunningSystem, tmp_path: Path
) -> None:
    text = yaml.safe_dump(description(SHOPS), sort_keys=False)
    file = draft(tmp_path, text, GIVER, TAKER, name=NAME, purposes=["public-lookup"], key=["uscc"])
    good = rows()
    records = write_csv(tmp_path / "shops.csv", [*good, *bad_rows(good)])
    give = ("contribute", records, "--contract", NAME, "--dataset", "shops", "--accept-valid")

    assert "contract" in refusal(system, GIVER, *give)
    digest = agree(system, file, GIVER, TAKER)
    receipt = tmp_path / "receipt.json"

    def give_once() -> dict[str, Any]:
        return done(system, GIVER, *give, "--receipt", receipt)

    told = give_once()
    assert (told["accepted"], told["records_accepted"], told["rejected"]) == (True, len(good), 3)
    assert {(each["field"], each["reason"]) for each in told["problems"]} == {
        ("uscc", "identifier-check-digit"),
        ("joined_on", "date"),
        ("", "duplicate"),
    }
    entry = system.entry(told["entry"])
    assert (entry.kind, entry.contract, entry.records) == (
        EntryKind.CONTRIBUTION_ACCEPTED,
        digest,
        len(good),
    )
    kept = receipt.read_bytes()
    receipt.unlink()
    assert give_once()["entry"] == told["entry"]
    assert receipt.read_bytes() == kept

    code = good[6]["uscc"]
    page = answered(system, TAKER, SHOPS, purpose="public-lookup", filters={"uscc": code})
    assert page.verified is not None
    assert page.verified.from_vault
    query = ("query", SHOPS, *LOOKUP, "--filter", f"uscc={code}")
    code_of_exit, out, errors = system.cli(TAKER, *query, "--output", "jsonl")
    assert code_of_exit == 0, errors
    assert json.loads(out.splitlines()[0])["uscc"] == code
    refusal(system, STRANGER, *query)

    system.restart_gateway()
    receipt.unlink()
    assert give_once()["entry"] == told["entry"]
    answered(system, TAKER, SHOPS, purpose="public-lookup", filters={"uscc": code})

    done(system, GIVER, "contract", "suspend", NAME, "--reason", "a doubt")
    wait_until(lambda: system.cli(TAKER, *query)[0] == Exit.NO)
    other = write_csv(tmp_path / "more.csv", rows(3))
    refusal(system, GIVER, "contribute", other, *give[2:])
    last = [each for each in system.entries() if each.kind is EntryKind.CONTRIBUTION_REFUSED][-1]
    assert (last.reasons, last.records, last.provider) == (("CONTRACT_NOT_IN_FORCE",), 0, GIVER)
    heard = json.dumps(system.gateway.told()) + repr(system.entries())
    assert not any(row[field] in heard for row in good for field in ("uscc", "name"))
