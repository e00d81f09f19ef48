"""The chapter in which nothing leaves."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import msgspec

from gateway.client import ClientError, Subject
from gateway.demo.releases import CREDIT_CHECK
from gateway.demo.stage import Stage, StoryError, mistyped
from gateway.demo.world import COMPANIES
from gateway.errors import Reason
from gateway.model import Operation


async def tell_refusals(stage: Stage) -> None:
    """Ask for what must be refused, in five ways."""
    stage.narrator.chapter("What is refused")
    stage.narrator.say("Nothing leaves on any of these, and each leaves its entry in the log.")
    bank = stage.clients["harbour-bank"]
    await refused(
        stage,
        "The bank says that it investigates a crime.",
        bank.query(COMPANIES, purpose="law-enforcement", subjects=[stage.subject], **CREDIT_CHECK),
        Reason.PURPOSE_NOT_PERMITTED,
    )
    await refused(
        stage,
        "The bank asks for the representative's name, which is above its tier.",
        bank.query(
            COMPANIES,
            purpose="credit-check",
            subjects=[stage.subject],
            fields=["name", "representative_name"],
            **CREDIT_CHECK,
        ),
        Reason.FIELD_ABOVE_TIER,
    )
    _, signed = bank.statement(
        Operation.QUERY, COMPANIES, "credit-check", subjects=[stage.subject], **CREDIT_CHECK
    )
    altered = signed.payload.replace(b'"purpose":"credit-check"', b'"purpose":"statistics"')
    await refused(
        stage,
        "Somebody changes the purpose after the bank has signed.",
        bank.send_query(msgspec.structs.replace(signed, payload=altered)),
        Reason.SIGNATURE_INVALID,
    )
    if stage.used is None:
        raise StoryError("There is no used statement that could be replayed.")
    await refused(
        stage,
        "Somebody sends the bank's statement of chapter 2 again.",
        bank.send_query(stage.used),
        Reason.REPLAYED,
    )
    await refused(
        stage,
        "A company's code is mistyped; its check character does not fit.",
        bank.query(
            COMPANIES,
            purpose="public-lookup",
            subjects=[Subject("uscc", mistyped(stage.company.uscc))],
        ),
        Reason.IDENTIFIER_INVALID,
    )


async def refused(stage: Stage, what: str, call: Awaitable[Any], reason: Reason) -> None:
    """Make a call that must fail for `reason`, and tell of it; raise `StoryError` if it does not."""
    try:
        await call
    except ClientError as error:
        if reason.value not in error.reasons:
            raise
        stage.denied += 1
        stage.narrator.say(what)
        stage.narrator.denied(f"{', '.join(error.reasons)} (log entry {error.entry})")
    else:
        raise StoryError(f"This should have been refused, and was answered: {what}")
