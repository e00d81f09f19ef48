"""`gateway list-check`: ask whether somebody is on a list, or on enough lists of a set."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.calls import calling
from gateway.cli.exits import Exit
from gateway.cli.failures import CommandError
from gateway.cli.keeping import Keeper
from gateway.cli.options import parse_dataset, parse_pairs, require_file
from gateway.cli.output import output_of
from gateway.cli.settings import CLIENT_CONFIG, ClientConfigOption
from gateway.client import Actor, Subject
from gateway.model import list_set_name, parse_list_set_name

app = typer.Typer(add_completion=False)

_WHY = "Why"
_KEEP = "What is kept"


@app.command("list-check")
def list_check(
    context: typer.Context,
    lists: Annotated[
        str, typer.Argument(metavar="LISTS", help="list-sets/NAME, or a single list as MEMBER/DATASET.")
    ],
    purpose: Annotated[
        str, typer.Option(metavar="NAME", help="What the answer is for.", rich_help_panel=_WHY)
    ],
    subject: Annotated[
        str | None,
        typer.Option(metavar="KIND=VALUE", help="Whom it is about: a kind of identifier, such as uscc."),
    ] = None,
    subject_from: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="File with KIND=VALUE, or - for standard input."),
    ] = None,
    at_least: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="NUMBER", help="On how many of the lists: the number agreed on for the list set."
        ),
    ] = None,
    legal_basis: Annotated[
        str, typer.Option(metavar="NAME", help="The law it rests on.", rich_help_panel=_WHY)
    ] = "",
    memorandum: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="The agreement it rests on; for a single list only.",
            rich_help_panel=_WHY,
        ),
    ] = "",
    contract: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="The contract, by name or identity; for a single list only.",
            rich_help_panel=_WHY,
        ),
    ] = "",
    actor: Annotated[
        str, typer.Option(metavar="ID", help="Who asks, by your own name for them.", rich_help_panel=_WHY)
    ] = "",
    case: Annotated[
        str,
        typer.Option(metavar="NUMBER", help="Your case or file number (with --actor).", rich_help_panel=_WHY),
    ] = "",
    acknowledge: Annotated[
        bool,
        typer.Option(
            "--acknowledge",
            help="Sign for the receipt if it verifies, so that the log holds that it arrived.",
            rich_help_panel=_KEEP,
        ),
    ] = False,
    timeout_s: Annotated[
        float | None,
        typer.Option("--timeout", min=0.1, max=3600, metavar="SECONDS", help="How long to wait."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Keep the answer here, as the gateway wrote it.",
            rich_help_panel=_KEEP,
        ),
    ] = None,
    receipt: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Keep the receipt here, and FILE.seeds beside it.  [default with --out: OUT.receipt.json]",
            rich_help_panel=_KEEP,
        ),
    ] = None,
    config: ClientConfigOption = CLIENT_CONFIG,
) -> None:
    """Ask whether a subject is on a list, or on enough lists of a set. Nothing else is told.

    Exit code 0 if it is, 1 if it is not. Of a single list, the classes of restriction may come with a yes.
    """
    if case and not actor:
        raise CommandError("--case goes with --actor, which says who works on the case.")
    about, name = _subject(subject, subject_from), _parse_lists(lists)
    known = name if name.startswith("members/") else "DATASET"
    with Keeper(out, receipt) as keeper, calling(config, known) as client:
        answer = client.ask_lists(
            name,
            purpose=purpose,
            subject=about,
            at_least=at_least,
            legal_basis=legal_basis,
            memorandum=memorandum,
            contract=contract,
            actor=Actor(id=actor, case=case) if actor else None,
            timeout_s=timeout_s,
        )
        assert answer.verified is not None
        keeper.take_page(0, answer.line, answer.seed)
        keeper.take_receipt(answer.receipt, answer.verified)
        written = keeper.finish()
        # Only what is kept is signed for.
        acknowledged = client.acknowledge(answer.receipt).index if acknowledge else None
    facts: dict[str, object] = {
        "listed": answer.listed,
        "restrictions": list(answer.restrictions),
        "exchange": answer.verified.entry.exchange,
        "entry": answer.verified.index,
        "log": answer.verified.checkpoint.origin,
    }
    if acknowledged is not None:
        facts["acknowledged"] = acknowledged
    if out is not None:
        facts["file"] = str(out)
    if written:
        facts["receipts"] = [str(path) for path in written]
    output_of(context).facts(facts)
    if not answer.listed:
        raise typer.Exit(Exit.NO)


def _parse_lists(text: str) -> str:
    """Return the resource name of a list set or of a list, also for the short form `member/dataset`."""
    try:
        return list_set_name(parse_list_set_name(text))
    except ValueError:
        return parse_dataset(text)


def _subject(given: str | None, source: str | None) -> Subject:
    if (given is None) == (source is None):
        raise CommandError(
            "Say whom the question is about: --subject KIND=VALUE, or --subject-from FILE, where no list of "
            "processes shows it."
        )
    if given is not None:
        pairs = parse_pairs("--subject", [given])
    else:
        assert source is not None
        text = (
            sys.stdin.read()
            if source == "-"
            else require_file(Path(source), "The file of the subject", "it has KIND=VALUE").read_text("utf-8")
        )
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        if len(lines) != 1:
            raise CommandError("--subject-from takes exactly one KIND=VALUE: a question has one subject.")
        pairs = parse_pairs("--subject-from", lines)
    [(kind, value)] = pairs
    return Subject(kind, value)
