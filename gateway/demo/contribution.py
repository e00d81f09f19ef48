"""The chapters of a company that gives records: its contract, its file, the use of it, and the end of it."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from gateway.audit.filter import format_filter
from gateway.client import Choice, ClientError, Page, PartyContract, record_line
from gateway.clock import system_clock
from gateway.demo.processes import GATEWAY_COMMAND
from gateway.demo.refusals import refused
from gateway.demo.sellers import (
    BAD_ROWS,
    CONTRACT,
    CONTRIBUTOR,
    PURPOSE,
    RECIPIENT,
    SELLERS,
    sellers_of,
    sellers_terms,
    write_sellers,
)
from gateway.demo.stage import TITLES, Stage, StoryError, expect, only_record
from gateway.errors import Reason
from gateway.evidence.correction import AnswerOutcome, CorrectionKind, CorrectionReason
from gateway.model import ContractState, member_name
from gateway.usage.period import today
from gateway.usage.ranges import read_ranges
from gateway.usage.statement import Statement, open_statement
from gateway.usage.verification import verify_statement, wanted_entries

SUSPENDED_WITHIN_S: Final = 1.0
"""After so long nothing more is released under a contract that was suspended."""

_LISTED_WITHIN_S: Final = 10.0
"""Takes a quarter of a second; a busy machine may need more."""
_POLL_S: Final = 0.05


async def tell_contribution(stage: Stage, directory: Path) -> None:
    """Tell the chapters in their order; `directory` is the company's folder."""
    sellers = sellers_of(stage.sellers)
    contract = await agree(stage)
    await contribute(stage, directory, sellers)
    await use(stage, sellers[0])
    await correct(stage, sellers[0])
    await account(stage)
    await suspend(stage, contract)


async def agree(stage: Stage) -> PartyContract:
    """Have both parties sign a contract; return it once its dataset is in the catalogue."""
    stage.narrator.chapter("A company's terms, signed by both")
    stage.narrator.say(
        f"{TITLES[CONTRIBUTOR]} offers the {TITLES[RECIPIENT]} what it knows of its sellers: to nobody else, "
        "for one purpose, complaints only as a range, telephone numbers not at all, a thousand records a "
        "month."
    )
    terms = sellers_terms(system_clock)
    proposed = await stage.clients[CONTRIBUTOR].contracts.propose(terms)
    expect(proposed.state is ContractState.PROPOSED, "A contract that one party has signed is in force.")
    read = await stage.clients[RECIPIENT].contracts.get(proposed.name)
    if read.terms is None:
        raise StoryError("The gateway shows a party no terms.")
    signed = await stage.clients[RECIPIENT].contracts.sign(read.terms)
    expect(signed.in_force, "A contract that all have signed is not in force.")
    stage.narrator.table(
        ["party", "has signed", "state"],
        [
            (TITLES[CONTRIBUTOR], proposed.id[:23], proposed.state.value),
            (TITLES[RECIPIENT], signed.id[:23], signed.state.value),
        ],
    )
    await _listed(stage)
    return signed


async def contribute(stage: Stage, directory: Path, sellers: list[dict[str, Any]]) -> None:
    """Give a file with three bad rows, by the command line, and show the quality report."""
    stage.narrator.chapter("Its records, checked one by one")
    write_sellers(directory / "sellers.csv", sellers)
    stage.narrator.say(
        f"The company gives a file of {len(sellers) + BAD_ROWS} sellers; three are not as they should be. "
        "The others go into the vault, sealed under a key of this contract."
    )
    command = ["contribute", "sellers.csv", "--contract", CONTRACT, "--dataset", "sellers", "--accept-valid"]
    stage.narrator.lines(f"   $ gateway {' '.join(command)}")
    report = await _run(directory, [*command, "--receipt", "sellers.receipt.json"])
    taken = (report["records_accepted"], report["rejected"])
    expect(taken == (len(sellers), BAD_ROWS), "The checks found other rows than those that are bad.")
    stage.narrator.table(
        ["row", "field", "reason"],
        [(str(one["row"]), one["field"] or "-", one["reason"]) for one in report["examples"]],
    )
    stage.narrator.verified(
        f"{taken[0]} records taken, {taken[1]} rejected: what the company signed, and the report, stand in "
        f"log entry {report['entry']}."
    )


async def use(stage: Stage, seller: Mapping[str, Any]) -> None:
    """Ask for a record that was given."""
    stage.narrator.chapter("The agency asks, and the vault answers")
    page = await _ask(stage, seller)
    record = only_record(page)
    expect(page.verified is not None and page.verified.from_vault, "The answer is not from the vault.")
    expect("phone" not in record and record["complaints"] == "0-9", "The contract does not bind.")
    stage.show_side_by_side("company", seller, page, "agency")
    stage.keep_page("sellers", page)


async def correct(stage: Stage, seller: Mapping[str, Any]) -> None:
    """Correct a record that somebody has received, and hear that it did something about it."""
    stage.narrator.chapter("A correction reaches whoever had the record")
    stage.narrator.say(
        "The seller joined later than the company has said. It gives the record anew, and announces the "
        "correction."
    )
    company, agency = stage.clients[CONTRIBUTOR], stage.clients[RECIPIENT]
    corrected = {**seller, "joined_on": "2025-03-01"}
    done = await company.contribute(
        lambda: [record_line(corrected)],
        contract=CONTRACT,
        dataset="sellers",
        batch="correction",
        choice=Choice.ALL_OR_NOTHING,
    )
    expect(done.accepted, "The corrected record was not taken.")
    await company.corrections.announce(
        SELLERS, CorrectionKind.CORRECTED, CorrectionReason.ERROR, [{"uscc": seller["uscc"]}]
    )
    [received] = [notice async for notice in agency.corrections.waiting()]
    page = await _ask(stage, seller)
    given = only_record(page)["joined_on"]
    expect(given == corrected["joined_on"], "The correction is not what the vault gives.")
    stage.keep_page("sellers-corrected", page)
    answered = await agency.corrections.answer(received, AnswerOutcome.DONE)
    [listed] = await company.corrections.list()
    told = [(item.member, item.outcome) for item in listed.recipients]
    expect(
        told == [(member_name(RECIPIENT), "done")], "The correction is not answered by its recipient alone."
    )
    stage.narrator.table(
        ["who had the record", "announced by entry", "answered by entry", "outcome"],
        [(TITLES[RECIPIENT], str(received.entry), str(answered.index), "done")],
    )
    stage.narrator.verified(f"the {TITLES[RECIPIENT]}'s signed answer stands in the log; nothing is open.")


async def account(stage: Stage) -> None:
    """Get the company's statement of use, and count every number of it again."""
    stage.narrator.chapter("What the company sees of the use of its records")
    company = stage.clients[CONTRIBUTOR]
    envelope = await company.statement_of_use(today(system_clock())[:7], so_far=True)
    statement, checkpoint = open_statement(envelope, company.trust)
    given = sum(item.name.startswith("sellers") for item in stage.evidence)
    expect(statement.totals.released == given, "The statement tells of other releases than there were.")
    stage.narrator.say("Its statement of this month, so far, signed by the gateway:")
    stage.narrator.table(
        ["consumer", "purpose", "outcome", "exchanges", "records", "log entries"],
        [
            (
                line.consumer,
                line.purpose,
                line.outcome.value,
                str(line.exchanges),
                str(line.records),
                line.entries,
            )
            for line in statement.lines
        ],
    )
    wanted = format_filter(wanted_entries(statement))
    entries = {index: data async for index, data in company.entries(wanted)}
    verified = verify_statement(statement, checkpoint, entries, await _proofs(stage, statement))
    for amount in statement.amounts:
        stage.narrator.say(
            f"By the contract's price, {amount.consumer} owes {amount.minor_units / 100:.2f} "
            f"{amount.currency}."
        )
    stage.narrator.verified(
        f"every number counted again from the company's own entries, {verified.entries} of them proven to be "
        "in the log."
    )


async def suspend(stage: Stage, contract: PartyContract) -> None:
    """Suspend the contract; a second later nothing is given."""
    stage.narrator.chapter("The company stops it")
    suspended_s = time.monotonic()
    done = await stage.clients[CONTRIBUTOR].contracts.suspend(contract.name, "the terms are under review")
    expect(done.state is ContractState.SUSPENDED, "The contract was not suspended.")
    stage.narrator.say(f"{TITLES[CONTRIBUTOR]} suspends the contract.")
    await asyncio.sleep(SUSPENDED_WITHIN_S - (time.monotonic() - suspended_s))
    await refused(
        stage,
        f"A second later the {TITLES[RECIPIENT]} asks again.",
        stage.clients[RECIPIENT].query(
            SELLERS, purpose=PURPOSE, subjects=[stage.subject], contract=contract.id
        ),
        Reason.CONTRACT_NOT_IN_FORCE,
    )


async def _ask(stage: Stage, seller: Mapping[str, Any]) -> Page:
    return await stage.clients[RECIPIENT].query(
        SELLERS, purpose=PURPOSE, filters={"uscc": seller["uscc"]}, contract=CONTRACT
    )


async def _listed(stage: Stage) -> None:
    """Wait until the contract's dataset is in the catalogue."""
    deadline_s = time.monotonic() + _LISTED_WITHIN_S
    while True:
        try:
            await stage.clients[RECIPIENT].dataset(SELLERS)
        except ClientError as error:
            if Reason.DATASET_UNKNOWN.value not in error.reasons or time.monotonic() > deadline_s:
                raise
            await asyncio.sleep(_POLL_S)
        else:
            return


class _Proofs:
    """Inclusion proofs, asked for before they are needed."""

    def __init__(self, known: Mapping[int, tuple[bytes, ...]]) -> None:
        self._known = known

    def of(self, index: int, _size: int) -> tuple[bytes, ...]:
        return self._known[index]


async def _proofs(stage: Stage, statement: Statement) -> _Proofs:
    size = statement.tree_size
    named = [index for line in statement.lines for index in read_ranges(line.entries, size)]
    company = stage.clients[CONTRIBUTOR]
    return _Proofs({index: tuple((await company.inclusion_proof(index, size)).hashes) for index in named})


async def _run(directory: Path, arguments: list[str]) -> dict[str, Any]:
    """Run a `gateway` command in the member's folder; return what it tells, or raise `StoryError`."""
    process = await asyncio.create_subprocess_exec(
        *GATEWAY_COMMAND,
        *arguments,
        "--output",
        "json",
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        told, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise StoryError(f"gateway {arguments[0]} ended with {process.returncode}: {errors.decode()}")
    found: dict[str, Any] = msgspec.json.decode(told)
    return found
