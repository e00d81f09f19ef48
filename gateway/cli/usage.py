"""`gateway usage`: what a contributor sees of the use of its records."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from google.protobuf.message import Message

from gateway.audit.checkpoint import Checkpoint
from gateway.audit.filter import format_filter
from gateway.cli.calls import calling
from gateway.cli.failures import CommandError
from gateway.cli.options import parse_duration, require_file, require_new_file
from gateway.cli.output import Format, counted, output_of, shown
from gateway.cli.settings import CLIENT_CONFIG, ClientConfigOption, load_config
from gateway.client import Client
from gateway.clock import system_clock
from gateway.config import ClientConfig
from gateway.evidence import dsse
from gateway.evidence.keys import SignatureError, SigningKey
from gateway.evidence.trust import Trust
from gateway.usage.csv_form import to_csv
from gateway.usage.grouping import Dimension
from gateway.usage.period import today
from gateway.usage.proofs import FileProofs, SiteProofs, read_evidence, write_evidence
from gateway.usage.ranges import read_ranges
from gateway.usage.setting import sign_webhook
from gateway.usage.statement import Statement, open_statement
from gateway.usage.verification import (
    InclusionProofs,
    verify_statement,
    wanted_entries,
)

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="See who used your records for what; get and verify monthly statements; be told of what matters.",
)

_SUMS: Final = ("exchanges", "released", "denied", "failed", "open", "records")
_EVENT: Final = ("entry", "time", "kind", "consumer", "dataset", "purpose", "records", "reasons")
_NOTICE: Final = ("id", "time", "kind", "consumer", "dataset", "detail")


class StatementForm(StrEnum):
    """In which form a statement is written."""

    JSON = "json"
    """Signed: what can be verified."""
    CSV = "csv"
    PDF = "pdf"


@app.command("show")
def show(
    context: typer.Context,
    since: Annotated[
        str | None, typer.Option(metavar="DAY", help="First day (UTC).  [default: the first of this month]")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="DAY", help="Last day.  [default: today]")] = None,
    by: Annotated[
        list[Dimension] | None,
        typer.Option(help="What to sum up by; may be repeated.  [default: consumer, dataset, purpose]"),
    ] = None,
    config: ClientConfigOption = CLIENT_CONFIG,
) -> None:
    """Show how your records were used in a period, up to this moment."""
    last = until or today(system_clock())
    dimensions = [each.value for each in by or (Dimension.CONSUMER, Dimension.DATASET, Dimension.PURPOSE)]
    with calling(config) as client:
        answer = client.usage(since or f"{last[:7]}-01", last, by=dimensions)
    rows = [
        {**dict(zip(dimensions, row.values, strict=True)), **{name: getattr(row, name) for name in _SUMS}}
        for row in answer.rows
    ]
    output = output_of(context)
    output.list(rows, (*dimensions, *_SUMS), nothing="Nothing was asked of your records.")
    output.remark(f"Counted from the {counted(answer.tree_size, 'entry', 'entries')} of the log.")


@app.command("watch")
def watch(
    context: typer.Context,
    since: Annotated[
        int, typer.Option(min=0, metavar="INDEX", help="From this entry of the log on; 0 for from now on.")
    ] = 0,
    for_: Annotated[
        str, typer.Option("--for", metavar="TIME", help="How long, such as 30s or 1h; an hour at most.")
    ] = "1h",
    config: ClientConfigOption = CLIENT_CONFIG,
) -> None:
    """Show what happens to your records, as it happens."""
    timeout = parse_duration("--for", for_)
    with calling(config) as client:
        _print_all(context, client.watch_usage(since, timeout_s=_at_most_an_hour(timeout)), _EVENT)


@app.command("statement")
def statement(
    context: typer.Context,
    month: Annotated[str, typer.Argument(metavar="MONTH", help="A month that has ended, such as 2026-10.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where to write it.")],
    form: Annotated[
        StatementForm, typer.Option(help="The signed statement, or what is derived from it for reading.")
    ] = StatementForm.JSON,
    entries: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also keep its entries with their proofs, to verify it offline."),
    ] = None,
    so_far: Annotated[
        bool, typer.Option("--so-far", help="Of a month that has not ended: what was counted up to now.")
    ] = False,
    config: ClientConfigOption = CLIENT_CONFIG,
) -> None:
    """Get the signed statement of a month; its signature and its checkpoint are verified first."""
    require_new_file(out)
    if entries is not None:
        require_new_file(entries)
    with calling(config) as client:
        envelope = client.statement_of_use(month, so_far=so_far)
        stated, _ = open_statement(envelope, _trust_of(config))
        if entries is not None:
            _keep_entries(client, stated, entries)
    out.write_bytes(_written(envelope, stated, form))
    span = f"{month} so far" if stated.so_far else month
    output_of(context).facts(
        {**_facts(stated), "file": str(out)},
        [f"Wrote {out}: {counted(stated.totals.records, 'record')} in {span}."],
    )


@app.command("verify")
def verify(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="STATEMENT", help="The signed statement (JSON).")],
    entries: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Your entries, as `gateway usage statement --entries` kept them.  [default: the log's]",
        ),
    ] = None,
    log_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Make the proofs from the log's public site (`gateway audit serve`)."
        ),
    ] = None,
    config: ClientConfigOption = CLIENT_CONFIG,
) -> None:
    """Verify a statement: count every number again from your own entries, and prove each to be in the log.

    Exit code 3 if it does not hold.
    """
    require_file(file, "The statement", "get one with `gateway usage statement MONTH`")
    stated, checkpoint = open_statement(_read(file), _trust_of(config))
    output = output_of(context)
    proofs: InclusionProofs
    with output.progress("entries proven") as advance:
        if entries is not None:
            require_file(entries, "The file of entries", "`gateway usage statement --entries` keeps one")
            with entries.open("rb") as lines:
                leaves, kept = read_evidence(lines)
            proofs = FileProofs(kept) if log_url is None else SiteProofs(log_url)
            verified = verify_statement(stated, checkpoint, leaves, proofs, advance)
        else:
            with calling(config) as client:
                leaves = dict(client.entries(format_filter(wanted_entries(stated)), page_size=1000))
                proofs = _ServiceProofs(client) if log_url is None else SiteProofs(log_url)
                verified = verify_statement(stated, checkpoint, leaves, proofs, advance)
    output.facts(
        {
            **_facts(stated),
            "verified": True,
            "entries_proven": verified.entries,
            "entries_read": verified.read,
        },
        _verdict(file, stated, checkpoint, verified.entries, verified.read),
    )


@app.command("notices")
def notices(
    context: typer.Context,
    after: Annotated[int, typer.Option(min=0, metavar="NUMBER", help="Only notices after this one.")] = 0,
    follow: Annotated[bool, typer.Option("--follow", help="Go on, and show new ones as they come.")] = False,
    for_: Annotated[
        str, typer.Option("--for", metavar="TIME", help="How long to follow, an hour at most.")
    ] = "1h",
    config: ClientConfigOption = CLIENT_CONFIG,
) -> None:
    """Show what you were told of: new recipients, quotas nearly used, unusual days, contracts that ended."""
    timeout = parse_duration("--for", for_)
    with calling(config) as client:
        found = (
            client.watch_notices(after, timeout_s=_at_most_an_hour(timeout))
            if follow
            else client.notices(after)
        )
        if follow:
            _print_all(context, found, _NOTICE)
            return
        rows = [_row(notice) for notice in itertools.islice(found, 10_000)]
    output_of(context).list(rows, _NOTICE, nothing="No notices.")


@app.command("webhook")
def webhook(
    context: typer.Context,
    url: Annotated[
        str,
        typer.Argument(metavar="URL", help="An https address on the public internet; - for none any more."),
    ],
    config: ClientConfigOption = CLIENT_CONFIG,
) -> None:
    """Have notices sent to an address of yours, each signed by the gateway."""
    settings = _client_config(config)
    if settings.signing_key is None:
        raise CommandError("A webhook is set with a signature: name your signing key in client.toml.")
    origin = Trust.load(settings.trust).origin
    key = SigningKey.load(settings.signing_key)
    wanted = "" if url == "-" else url
    envelope = sign_webhook(origin, settings.member, wanted, key, system_clock())
    with calling(config) as client:
        kept = client.set_webhook(envelope)
    told = f"Notices are sent to {kept}." if kept else "Notices are sent nowhere any more."
    output_of(context).facts({"url": kept}, [told])


class _ServiceProofs:
    """Proofs that the gateway's AuditService gives."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def of(self, index: int, size: int) -> tuple[bytes, ...]:
        """Return the inclusion proof of an entry."""
        return tuple(self._client.inclusion_proof(index, size).hashes)


def _keep_entries(client: Client, stated: Statement, file: Path) -> None:
    named = {index for line in stated.lines for index in read_ranges(line.entries, stated.tree_size)}
    proofs = _ServiceProofs(client)
    with file.open("xb") as kept:
        for index, data in client.entries(format_filter(wanted_entries(stated)), page_size=1000):
            proof = proofs.of(index, stated.tree_size) if index in named else None
            kept.write(write_evidence(index, data, proof))


def _written(envelope: dsse.Envelope, stated: Statement, form: StatementForm) -> bytes:
    digest = hashlib.sha256(envelope.payload).hexdigest()
    match form:
        case StatementForm.JSON:
            return dsse.envelope_to_json(envelope) + b"\n"
        case StatementForm.CSV:
            return to_csv(stated, digest)
        case StatementForm.PDF:
            # Only here: it takes half a second to import.
            from gateway.usage.pdf_form import to_pdf  # noqa: PLC0415

            return to_pdf(stated, digest)


def _read(file: Path) -> dsse.Envelope:
    try:
        return dsse.envelope_from_json(file.read_bytes())
    except SignatureError as error:
        raise CommandError(
            f"{file} is not a signed statement (DSSE JSON); CSV and PDF cannot be verified."
        ) from error


def _client_config(config: Path) -> ClientConfig:
    return load_config(ClientConfig, config, "name it with --config")


def _trust_of(config: Path) -> Trust:
    return Trust.load(_client_config(config).trust)


def _facts(stated: Statement) -> dict[str, Any]:
    return {
        "month": stated.month,
        "so_far": stated.so_far,
        "member": stated.member,
        "records": stated.totals.records,
        "exchanges": stated.totals.exchanges,
        "denied": stated.totals.denied,
        "amounts": [
            f"{amount.consumer}: {amount.minor_units} minor units of {amount.currency}"
            for amount in stated.amounts
        ],
        "tree_size": stated.tree_size,
    }


def _verdict(file: Path, stated: Statement, checkpoint: Checkpoint, proven: int, read: int) -> list[str]:
    return [
        f"{file} holds:",
        "  1. signed by the gateway, with a checkpoint that the log's key has signed",
        f"  2. its {counted(len(stated.lines), 'line')}, amounts and quotas are what your {read} entries say",
        f"  3. each of the {counted(proven, 'entry', 'entries')} it counts stands in {checkpoint.origin}",
        f"     at tree size {checkpoint.size}",
        "",
        *(f"{name.replace('_', ' '):<11}{shown(value)}" for name, value in _facts(stated).items()),
    ]


def _at_most_an_hour(timeout: timedelta) -> float:
    return min(timeout.total_seconds(), 3600.0)


def _row(message: Message) -> dict[str, Any]:
    return {
        field.name: (
            dict(value) if field.message_type is not None else list(value) if field.is_repeated else value
        )
        for field in message.DESCRIPTOR.fields
        if (value := getattr(message, field.name)) or field.name == "records"
    }


def _print_all(context: typer.Context, messages: Iterator[Message], columns: tuple[str, ...]) -> None:
    output = output_of(context)
    for message in messages:
        row = _row(message)
        if output.wants_records is Format.TABLE:
            output.facts(row, ["  ".join(shown(row.get(name)) for name in columns)])
        else:
            output.jsonl(row)
