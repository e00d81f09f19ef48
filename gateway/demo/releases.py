"""The chapters in which records leave: each is checked against what it is there to show."""

from __future__ import annotations

import time
from typing import Any, Final

import msgspec

from gateway.client import Page, StreamSummary
from gateway.client.statement import seal_query
from gateway.demo.stage import TITLES, Stage, StoryError, entry_of, expect, only_record, treatment_of
from gateway.demo.world import ARREARS, COMPANIES
from gateway.model import Operation

CREDIT_CHECK: Final[dict[str, Any]] = {
    "legal_basis": "credit-reporting-act-14",
    "memorandum": "registry-harbour-bank",
}
"""On what the bank of the story asks the registry."""


async def tell_releases(stage: Stage) -> None:
    """Tell the chapters in their order."""
    await public_lookup(stage)
    bank = await credit_check(stage, "harbour-bank")
    show_treatments(stage, bank)
    stage.narrator.chapter("The same query by a second bank")
    stage.narrator.say(f"The company applied at {TITLES['northern-bank']} too. Same question, same record.")
    show_pseudonyms(stage, bank, await credit_check(stage, "northern-bank"))
    await match(stage)
    await bulk(stage)
    await tax_arrears(stage)


async def public_lookup(stage: Stage) -> None:
    """Ask without a signature for what is open to all."""
    stage.narrator.chapter("A public look-up")
    stage.narrator.say(
        f"{TITLES['tradeplatform']} asks the {TITLES['registry']} for one company. What is public needs no "
        "signature and no legal basis. It is logged like everything else."
    )
    client = stage.clients["tradeplatform"]
    query, _ = client.statement(Operation.QUERY, COMPANIES, "public-lookup", subjects=[stage.subject])
    page = await client.send_query(seal_query(query, None))
    record = only_record(page)
    expect(record["name"] == stage.company.name, "The public look-up found another company.")
    expect("address" not in record, "The public look-up released more than what is public.")
    stage.narrator.table(["field", "what comes back"], [(name, str(value)) for name, value in record.items()])
    stage.keep_page("public-look-up", page)


async def credit_check(stage: Stage, bank: str) -> Page:
    """Ask, under a memorandum, for what is shared with banks; return the answer."""
    if bank == "harbour-bank":
        stage.narrator.chapter("A limited query under a memorandum")
        stage.narrator.say(
            f"The company has applied for a loan. {TITLES[bank]} signs a query: for a credit check, on "
            f"Article 14 of the Credit Reporting Act, under its memorandum with the {TITLES['registry']}."
        )
    client = stage.clients[bank]
    _, envelope = client.statement(
        Operation.QUERY,
        COMPANIES,
        "credit-check",
        subjects=[stage.subject],
        legal_basis=CREDIT_CHECK["legal_basis"],
        memorandum=f"registry-{bank}",
    )
    page = await client.send_query(envelope)
    stage.used = stage.used or envelope
    stage.keep_page(f"credit-check-{bank}", page, query=envelope.payload)
    return page


def show_treatments(stage: Stage, page: Page) -> None:
    """Show what became of each field of the bank's answer."""
    stage.show_side_by_side("registry", msgspec.to_builtins(stage.company), page)
    entry = entry_of(page)
    treatments = {
        "address": "released",
        "capital": "generalised",
        "representative_id": "pseudonym",
        "representative_name": "withheld",
        "phone": "withheld",
    }
    expect(
        all(treatment_of(name, entry) == treatment for name, treatment in treatments.items()),
        "The fields were not treated as the demonstration's policy obliges.",
    )


def show_pseudonyms(stage: Stage, first: Page, second: Page) -> None:
    """Show one person under the pseudonyms of two recipients."""
    pseudonyms = [only_record(page)["representative_id"] for page in (first, second)]
    expect(pseudonyms[0] != pseudonyms[1], "Two banks received one pseudonym.")
    stage.narrator.table(
        ["who", "representative_id"],
        [
            ("the registry holds", stage.company.representative_id),
            (f"{TITLES['harbour-bank']} receives", pseudonyms[0]),
            (f"{TITLES['northern-bank']} receives", pseudonyms[1]),
        ],
    )
    stage.narrator.say(
        "Each bank will know the person again at the next query. Together they cannot tell that it is one "
        "person."
    )


async def match(stage: Stage) -> None:
    """Ask yes or no, once of each."""
    stage.narrator.chapter("Yes or no, without a record")
    stage.narrator.say(
        f"Two people say that they represent the company. {TITLES['harbour-bank']} has their numbers and "
        f"asks the {TITLES['registry']} whether they fit. No field is handed over."
    )
    rows = []
    applicants = (("first", stage.company.representative_id, True), ("second", stage.stranger_id, False))
    for who, number, expected in applicants:
        answer = await stage.clients["harbour-bank"].match(
            COMPANIES,
            purpose="credit-check",
            subject=stage.subject,
            match={"representative_id": number},
            **CREDIT_CHECK,
        )
        expect(answer.matched is expected, "A match was answered wrongly.")
        rows.append((f"the {who} applicant", "yes" if answer.matched else "no"))
        stage.keep(f"match-{who}", answer.receipt, answer.verified)
    stage.narrator.table(["represents the company?", "answer"], rows)


async def bulk(stage: Stage) -> None:
    """Take all companies in pages."""
    stage.narrator.chapter(f"All {stage.company_count:,} companies, in pages")
    stage.narrator.say(
        f"{TITLES['harbour-bank']} takes the whole register for its statistics. The digest of each page is "
        "in the log before that page leaves."
    )
    pages: list[Page] = []
    summary: StreamSummary | None = None
    began_s = time.perf_counter()
    with stage.narrator.working("receiving pages"):
        async for item in stage.clients["harbour-bank"].stream(
            COMPANIES,
            purpose="statistics",
            legal_basis="statistics-act-9",
            memorandum="registry-harbour-bank",
        ):
            if isinstance(item, StreamSummary):
                summary = item
            else:
                pages.append(item)
    elapsed_s = time.perf_counter() - began_s
    if summary is None or summary.records != stage.company_count:
        raise StoryError("The bulk answer does not hold every company.")
    people = {record["representative_id"] for page in pages for record in page}
    expect(all(str(person).startswith("sg1:") for person in people), "A number left without a pseudonym.")
    stage.narrator.say(
        f"{summary.records:,} records in {summary.pages} page{'s' if summary.pages > 1 else ''}, "
        f"{sum(len(page.text) for page in pages):,} bytes, in {elapsed_s:.2f} s: "
        f"{summary.records / elapsed_s:,.0f} records a second, received and verified. "
        f"{len(people):,} people, under pseudonyms for statistics that do not fit those for credit checks."
    )
    stage.keep("bulk", summary.receipt, summary.verified, tuple((page.text, page.seed) for page in pages))


async def tax_arrears(stage: Stage) -> None:
    """Ask the second provider."""
    stage.narrator.chapter("Another holder: tax arrears")
    stage.narrator.say(
        f"{TITLES['harbour-bank']} asks the {TITLES['tax']} what the company owes, under another memorandum."
    )
    client = stage.clients["harbour-bank"]
    _, envelope = client.statement(
        Operation.QUERY,
        ARREARS,
        "credit-check",
        subjects=[stage.subject],
        legal_basis=CREDIT_CHECK["legal_basis"],
        memorandum="tax-harbour-bank",
    )
    page = await client.send_query(envelope)
    stage.show_side_by_side("tax office", msgspec.to_builtins(stage.arrears), page)
    stage.keep_page("tax-arrears", page, query=envelope.payload)
