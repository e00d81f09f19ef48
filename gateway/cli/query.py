"""`gateway query`: ask for records, page by page or in bulk, or whether a record matches."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.audit.acknowledgement import AcknowledgedRelease
from gateway.audit.receipt import Receipt, VerifiedReceipt
from gateway.cli.calls import calling
from gateway.cli.exits import Exit
from gateway.cli.failures import CommandError
from gateway.cli.keeping import Keeper
from gateway.cli.options import parse_dataset, parse_mapping, parse_pairs, require_file
from gateway.cli.output import Format, Output, counted, output_of
from gateway.cli.settings import CLIENT_CONFIG, ClientConfigOption
from gateway.client import Actor, Client, Page, StreamSummary, Subject

app = typer.Typer(add_completion=False)

_HOW = "How the answer comes"
_WHY = "Why"
_KEEP = "What is kept"


@app.command()
def query(
    context: typer.Context,
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="MEMBER/DATASET, or the full name.")],
    purpose: Annotated[
        str, typer.Option(metavar="NAME", help="What the records are for.", rich_help_panel=_WHY)
    ],
    subject: Annotated[
        list[str] | None,
        typer.Option(metavar="FIELD=VALUE", help="Whose records; may be repeated: any of them."),
    ] = None,
    subjects_from: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="File with one FIELD=VALUE a line, or - for standard input.",
        ),
    ] = None,
    filter_: Annotated[
        list[str] | None,
        typer.Option(
            "--filter", metavar="FIELD=VALUE", help="Only records with this value; may be repeated: all hold."
        ),
    ] = None,
    field: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIELD", help="A field wanted; may be repeated. Without it, all that policy grants."
        ),
    ] = None,
    match: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIELD=VALUE",
            help="Ask only whether the subject's record has this value; may be repeated.",
        ),
    ] = None,
    legal_basis: Annotated[
        str, typer.Option(metavar="NAME", help="The law it rests on.", rich_help_panel=_WHY)
    ] = "",
    memorandum: Annotated[
        str, typer.Option(metavar="NAME", help="The agreement it rests on.", rich_help_panel=_WHY)
    ] = "",
    contract: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="The contract, by name or identity; needed where several give you the records.",
            rich_help_panel=_WHY,
        ),
    ] = "",
    document: Annotated[
        str,
        typer.Option(metavar="REFERENCE", help="The official document it rests on.", rich_help_panel=_WHY),
    ] = "",
    actor: Annotated[
        str, typer.Option(metavar="ID", help="Who asks, by your own name for them.", rich_help_panel=_WHY)
    ] = "",
    case: Annotated[
        str,
        typer.Option(metavar="NUMBER", help="Your case or file number (with --actor).", rich_help_panel=_WHY),
    ] = "",
    page_size: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="NUMBER",
            help="Records in a page; 0 leaves it to the gateway.",
            rich_help_panel=_HOW,
        ),
    ] = 0,
    all_pages: Annotated[
        bool,
        typer.Option(
            "--all", help="Every page, each an exchange with its own receipt.", rich_help_panel=_HOW
        ),
    ] = False,
    stream: Annotated[
        bool,
        typer.Option(
            "--stream", help="In bulk: one exchange, one receipt over all pages.", rich_help_panel=_HOW
        ),
    ] = False,
    acknowledge: Annotated[
        bool,
        typer.Option(
            "--acknowledge",
            help="Sign for each receipt that verifies, so that the log holds that it arrived.",
            rich_help_panel=_KEEP,
        ),
    ] = False,
    timeout_s: Annotated[
        float | None,
        typer.Option(
            "--timeout", min=0.1, max=3600, metavar="SECONDS", help="How long to wait.", rich_help_panel=_HOW
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Keep the records here (JSON Lines) and print a summary.",
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
    """Ask the gateway for records. The answer's receipt is verified before anything of it is kept.

    With --match nothing is sent but yes or no: exit code 0 for a match and 1 for none.
    """
    subjects = [Subject(name, value) for name, value in _subjects(subject, subjects_from)]
    parts: dict[str, Any] = {
        "purpose": purpose,
        "legal_basis": legal_basis,
        "memorandum": memorandum,
        "contract": contract,
        "document": document,
        "actor": _actor(actor, case),
        "timeout_s": timeout_s,
    }
    name = parse_dataset(dataset)
    if sum((all_pages, stream, bool(match))) > 1:
        raise CommandError("--all, --stream and --match exclude each other; take one of them.")
    output = output_of(context)
    if match:
        _match(
            output,
            config,
            name,
            subjects,
            parse_mapping("--match", match),
            parts,
            (out, receipt, filter_, field),
            acknowledge=acknowledge,
        )
        return
    parts |= {
        "subjects": subjects,
        "filters": parse_mapping("--filter", filter_ or []),
        "fields": field or [],
        "page_size": page_size,
    }
    with Keeper(out, receipt) as keeper, calling(config, name) as client:
        answers = _answers(client, name, parts, all_pages=all_pages, stream=stream)
        _receive(output, keeper, answers, client.acknowledge if acknowledge else None)


def _answers(
    client: Client, dataset: str, parts: dict[str, Any], *, all_pages: bool, stream: bool
) -> Iterator[Page | StreamSummary]:
    if stream:
        yield from client.stream(dataset, **parts)
    elif all_pages:
        yield from client.pages(dataset, **parts)
    else:
        yield client.query(dataset, **parts)


def _receive(
    output: Output,
    keeper: Keeper,
    answers: Iterator[Page | StreamSummary],
    acknowledge: Callable[[Receipt], AcknowledgedRelease] | None,
) -> None:
    printer = _Printer(output, quiet=keeper.records is not None)
    proofs: list[VerifiedReceipt] = []
    receipts: list[Receipt] = []
    more = False
    with output.progress("records") as advance:
        for answer in answers:
            if isinstance(answer, Page):
                keeper.take_page(answer.number, answer.text, answer.seed)
                printer.take(answer)
                advance(printer.count, None)
                more = bool(answer.next_page_token)
            if answer.receipt is not None and answer.verified is not None:
                keeper.take_receipt(answer.receipt, answer.verified)
                proofs.append(answer.verified)
                receipts.append(answer.receipt)
    written = keeper.finish()
    printer.finish()
    # Only what is kept is signed for.
    acknowledged = [acknowledge(receipt).index for receipt in receipts] if acknowledge is not None else []
    facts = _facts(printer.count, proofs, acknowledged, keeper, written)
    if keeper.records is not None:
        output.facts(facts)
    else:
        output.remark(_summary(facts))
    if more:
        output.remark("There are more records: ask with --all or --stream.")


class _Printer:
    """Prints records: JSON Lines as they come, tables and JSON arrays when all are there."""

    def __init__(self, output: Output, *, quiet: bool) -> None:
        self.count = 0
        self._output = output
        self._quiet = quiet
        self._form = output.wants_records
        self._fields: tuple[str, ...] = ()
        self._rows: list[dict[str, Any]] = []

    def take(self, page: Page) -> None:
        self.count += len(page)
        if self._quiet:
            return
        if self._form is Format.JSONL:
            self._output.lines(page.text)
            return
        self._fields = page.fields
        self._rows += page.records

    def finish(self) -> None:
        if not self._quiet and self._form is not Format.JSONL:
            self._output.list(self._rows, self._fields, nothing="No records.")


def _match(
    output: Output,
    config: Path,
    dataset: str,
    subjects: list[Subject],
    match: dict[str, str],
    parts: dict[str, Any],
    others: tuple[Path | None, Path | None, list[str] | None, list[str] | None],
    *,
    acknowledge: bool,
) -> None:
    out, receipt, filters, fields = others
    if len(subjects) != 1 or filters or fields or out is not None:
        raise CommandError(
            "--match takes exactly one subject and neither --filter, --field nor --out, such as "
            "--subject uscc=CODE --match name='Amber Trading Co.'."
        )
    with Keeper(None, receipt) as keeper, calling(config, dataset) as client:
        answer = client.match(dataset, subject=subjects[0], match=match, **parts)
        assert answer.verified is not None
        keeper.take_receipt(answer.receipt, answer.verified)
        written = keeper.finish()
        acknowledged = [client.acknowledge(answer.receipt).index] if acknowledge else []
    facts = {"matched": answer.matched, **_facts(0, [answer.verified], acknowledged, keeper, written)}
    del facts["records"]
    output.facts(facts)
    if not answer.matched:
        raise typer.Exit(Exit.NO)


def _subjects(given: list[str] | None, source: str | None) -> list[tuple[str, str]]:
    pairs = parse_pairs("--subject", given or [])
    if source is None:
        return pairs
    if source == "-":
        text = sys.stdin.read()
    else:
        text = require_file(Path(source), "The file of subjects", "it has one FIELD=VALUE a line").read_text(
            "utf-8"
        )
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return pairs + parse_pairs("--subjects-from", lines)


def _actor(actor: str, case: str) -> Actor | None:
    if case and not actor:
        raise CommandError("--case goes with --actor, which says who works on the case.")
    return Actor(id=actor, case=case) if actor else None


def _facts(
    records: int,
    proofs: list[VerifiedReceipt],
    acknowledged: list[int],
    keeper: Keeper,
    written: list[Path],
) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "records": records,
        "exchanges": [proof.entry.exchange for proof in proofs],
        "entries": [proof.index for proof in proofs],
        "log": proofs[-1].checkpoint.origin if proofs else "",
    }
    if acknowledged:
        facts["acknowledged"] = acknowledged
    if keeper.records is not None:
        facts["file"] = str(keeper.records)
    if written:
        facts["receipts"] = [str(path) for path in written]
    return facts


def _summary(facts: dict[str, Any]) -> str:
    entries = ", ".join(map(str, facts["entries"]))
    kept = (
        f"kept in {', '.join(facts['receipts'])}"
        if "receipts" in facts
        else "not kept (--receipt FILE keeps it)"
    )
    signed_for = ""
    if "acknowledged" in facts:
        signed_for = f"; acknowledged: entry {', '.join(map(str, facts['acknowledged']))}"
    return (
        f"{counted(facts['records'], 'record')}; receipt verified: entry {entries} of {facts['log']}"
        f"{signed_for}; {kept}."
    )
