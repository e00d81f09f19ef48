"""`gateway contribute`: give the records of a file under a contract, or take records back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from gateway.api.v1 import contribution_service_pb2 as api
from gateway.cli.calls import calling
from gateway.cli.exits import Exit
from gateway.cli.failures import CommandError
from gateway.cli.options import require_file, require_new_file
from gateway.cli.output import counted, output_of
from gateway.cli.settings import CLIENT_CONFIG, ClientConfigOption
from gateway.client import Choice, Client, Contributed, QualityReport
from gateway.client.contributing import BrokenSourceError
from gateway.client.files import FileFormat, RecordFile, RecordFileError, batch_of, format_of
from gateway.errors import GatewayError
from gateway.identifiers import identifier_kind

app = typer.Typer(add_completion=False)

_SHOWN_EXAMPLES: Final = 10
_HOW = "How the file is read"


@app.command()
def contribute(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The records: CSV with a header, JSON Lines or Parquet.")
    ],
    contract: Annotated[str, typer.Option(metavar="NAME", help="The contract's name, or its identity.")],
    dataset: Annotated[str, typer.Option(metavar="NAME", help="The dataset under it.")],
    batch: Annotated[
        str | None,
        typer.Option(metavar="ID", help="Your id of the batch.  [default: made of the file's content]"),
    ] = None,
    all_or_nothing: Annotated[
        bool,
        typer.Option(
            "--all-or-nothing/--accept-valid",
            help="Take nothing unless every record is accepted, or take the valid ones.",
        ),
    ] = True,
    file_format: Annotated[
        FileFormat | None,
        typer.Option(
            "--format", help="The file's format.  [default: as its name says]", rich_help_panel=_HOW
        ),
    ] = None,
    null: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT",
            help="A text of a CSV file that stands for no value, besides the empty one; may be repeated.",
            rich_help_panel=_HOW,
        ),
    ] = None,
    receipt: Annotated[Path | None, typer.Option(metavar="FILE", help="Keep the receipt here.")] = None,
    withdraw: Annotated[
        bool,
        typer.Option("--withdraw", help="Take the records back that the file names by their key fields."),
    ] = False,
    config: ClientConfigOption = CLIENT_CONFIG,
) -> None:
    """Give the records of a file under a contract, checked one by one, and show the quality report.

    An upload that was broken off goes on where it stood when the command is run again with the same file.
    Exit code 1 if nothing was taken.
    """
    require_file(file, "The file of records", "name a CSV, JSON Lines or Parquet file")
    if receipt is not None:
        require_new_file(receipt)
    output = output_of(context)
    with calling(config, dataset) as client, _reading():
        form = client.contribution_form(contract, dataset)
        records = _records(file, file_format or format_of(file), form, frozenset({"", *(null or ())}))
        if withdraw:
            output.facts(_withdraw(client, form, records))
            return
        name = batch or batch_of(file, form.contract, form.dataset)
        with output.progress("records") as advance:
            done = client.contribute(
                records.lines,
                contract=form.contract,
                dataset=form.dataset,
                batch=name,
                choice=Choice.ALL_OR_NOTHING if all_or_nothing else Choice.ACCEPT_VALID,
                on_progress=lambda count: advance(count, None),
            )
    if receipt is not None:
        receipt.write_bytes(done.receipt.to_json())
    output.facts(_facts(name, done), _told(name, done))
    if not done.accepted:
        raise typer.Exit(Exit.NO)


@contextmanager
def _reading() -> Iterator[None]:
    """Tell a fault of the file as one of the command line: the gateway has refused nothing."""
    try:
        yield
    except (RecordFileError, BrokenSourceError) as error:
        raise CommandError(error.message) from error


def _records(
    file: Path, kind: FileFormat, form: api.GetContributionFormResponse, nulls: frozenset[str]
) -> RecordFile:
    return RecordFile(
        path=file,
        format=kind,
        types={field.name: field.type for field in form.fields},
        max_record_bytes=form.max_record_bytes,
        nulls=nulls,
        respell={
            field.name: _speller(field.identifier_kind) for field in form.fields if field.identifier_kind
        },
    )


def _speller(kind: str) -> Callable[[str], str]:
    """Return what gives the canonical spelling of an identifier, and leaves what is none as it is."""
    normalise = identifier_kind(kind).normalise

    def respell(text: str) -> str:
        try:
            return normalise(text)
        except GatewayError:
            return text

    return respell


def _withdraw(client: Client, form: api.GetContributionFormResponse, records: RecordFile) -> dict[str, Any]:
    keys = list(_keys(records, tuple(form.key)))
    if not keys:
        raise CommandError("The file names no records.")
    withdrawn, proven = client.withdraw(keys, contract=form.contract, dataset=form.dataset)
    return {
        "dataset": form.dataset,
        "named": len(keys),
        "withdrawn": withdrawn,
        "entries": [each.index for each in proven],
    }


def _keys(records: RecordFile, names: tuple[str, ...]) -> Iterator[tuple[str | int | bool, ...]]:
    for at, line in enumerate(records.lines(), start=1):
        record = msgspec.json.decode(line)
        if not isinstance(record, dict) or not set(names) <= record.keys():
            raise CommandError(
                f"Record {at} lacks a field of the key ({', '.join(names)}); nothing was withdrawn."
            )
        yield tuple(record[name] for name in names)


def _facts(batch: str, done: Contributed) -> dict[str, Any]:
    report = done.report
    return {
        "accepted": done.accepted,
        "batch": batch,
        "contract": done.verified.statement.contract,
        "dataset": done.verified.statement.dataset,
        "entry": done.verified.index,
        "rows": report.rows,
        "records_accepted": report.accepted,
        "rejected": report.rejected,
        "duplicates": report.duplicates,
        "problems": [
            {"field": field, "reason": reason, "count": count} for field, reason, count in _problems(report)
        ],
        "examples": [
            {"row": example.row, "field": example.field, "reason": example.reason}
            for example in report.examples
        ],
        "flagged": report.flagged,
        "newest": report.newest,
        "days_late": report.days_late,
        "late": report.late,
    }


def _told(batch: str, done: Contributed) -> list[str]:
    report = done.report
    lines = [
        f"Batch {batch}: {'taken' if done.accepted else 'NOT taken'}, log entry {done.verified.index}.",
        f"  {counted(report.rows, 'record')}: {report.accepted} valid, {report.rejected} rejected.",
    ]
    lines += [
        f"  {count:>8}  {reason}{f' in {field}' if field else ''}"
        for field, reason, count in _problems(report)
    ]
    if report.examples:
        shown = ", ".join(str(example.row) for example in report.examples[:_SHOWN_EXAMPLES])
        lines.append(f"  Rows: {shown}{', …' if report.rejected > _SHOWN_EXAMPLES else ''}")
    for field, count in report.flagged.items():
        lines.append(
            f"  {counted(count, 'value')} of {field} would be a formula in a spreadsheet; kept as text."
        )
    if report.newest is not None:
        late = f", {counted(report.days_late, 'day')} late" if report.days_late else ""
        lines.append(f"  Newest record: {report.newest}{late}.")
    if report.late:
        lines.append(f"  Older than promised when they came in: {counted(report.late, 'record')}.")
    return lines


def _problems(report: QualityReport) -> list[tuple[str, str, int]]:
    found = [
        (field, reason, count)
        for field, reasons in report.problems.items()
        for reason, count in reasons.items()
    ]
    return sorted(found, key=lambda item: (-item[2], item[0], item[1]))
