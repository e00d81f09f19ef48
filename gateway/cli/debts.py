"""What `gateway notices` and `gateway acknowledgements` have in common: lists of what is owed."""

from __future__ import annotations

import getpass
from typing import Annotated, Any, Final

import typer

from gateway.clock import rfc3339, system_clock
from gateway.ledger import Debt

COLUMNS: Final = ("exchange", "consumer", "dataset", "until", "overdue")

ExchangeArgument = Annotated[
    str, typer.Argument(metavar="EXCHANGE", help="The exchange's id, as the list shows it.")
]
OverdueOption = Annotated[bool, typer.Option("--overdue", help="Only what should have been done by now.")]
ByOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Who says so; it stands in the log.  [default: the account's name]"),
]


def rows_of(debts: list[Debt]) -> list[dict[str, Any]]:
    """Return what is owed as rows of a list."""
    now = system_clock()
    return [
        {
            "exchange": debt.exchange,
            "consumer": debt.consumer,
            "provider": debt.provider,
            "dataset": debt.dataset,
            "until": rfc3339(debt.until),
            "overdue": debt.until < now,
            "subject": debt.subject,
        }
        for debt in debts
    ]


def who(name: str | None) -> str:
    """Return who does it."""
    return name or getpass.getuser()
