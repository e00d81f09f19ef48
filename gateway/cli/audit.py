"""`gateway audit`: reading, proving and examining the log, beside the gateway that writes it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from gateway.audit.checkpoint import open_checkpoint
from gateway.audit.errors import EntryNotFoundError, NoteError
from gateway.audit.fsck import fsck as examine
from gateway.audit.note import Ed25519Verifier
from gateway.audit.proof import TlogProof
from gateway.audit.publication import Grade
from gateway.audit.search import EntryFilter
from gateway.audit.sqlite_publications import SqlitePublications
from gateway.audit.sqlite_reader import SqliteReader
from gateway.audit.store import MAX_PAGE_SIZE, StoredEntry
from gateway.audit.tree import leaf_hash
from gateway.cli.exits import OF_ANSWER, Exit
from gateway.cli.failures import CommandError
from gateway.cli.options import parse_dataset, parse_member, parse_time, require_file, require_new_file
from gateway.cli.output import counted, output_of
from gateway.cli.reconciling import add_to
from gateway.cli.settings import GATEWAY_CONFIG, GatewayConfigOption, load_gateway_config
from gateway.clock import rfc3339
from gateway.evidence.canonical import DECODE_ERRORS
from gateway.evidence.keys import SigningKey
from gateway.evidence.trust import Trust
from gateway.model import Entry, EntryKind

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="List, show, prove and examine the entries of the audit log, also while the gateway runs.",
)

_COLUMNS: Final = ("index", "time", "kind", "consumer", "dataset", "purpose", "records", "about")
_ORDER: Final = {name: at for at, name in enumerate(Entry.__struct_fields__)}
_PUBLISHED_COLUMNS: Final = ("size", "time", "grade")
_FINDING_COLUMNS: Final = ("place", "what", "index")

IndexArgument = Annotated[int, typer.Argument(min=0, metavar="INDEX", help="The entry's index, from 0.")]
DatabaseOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="The log, or a copy of it, in place of the configuration's."),
]
TrustOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Trust file with the log's key, in place of the configuration's."),
]


@dataclass(frozen=True, slots=True)
class LogPlace:
    """Where the log is, and the keys that may have signed its checkpoints."""

    database: Path
    verifiers: tuple[Ed25519Verifier, ...] = ()

    @contextmanager
    def reading(self) -> Iterator[SqliteReader]:
        """Open the log for reading."""
        require_file(
            self.database, "The audit log", "name it with --database, or its deployment with --config"
        )
        with SqliteReader(self.database) as reader:
            yield reader


@app.command("list")
def list_entries(
    context: typer.Context,
    kind: Annotated[EntryKind | None, typer.Option(help="Only entries of this kind.")] = None,
    member: Annotated[
        str | None, typer.Option(metavar="ID", help="Only exchanges of this consumer or provider.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(metavar="DATASET", help="Only this dataset.")] = None,
    exchange: Annotated[str | None, typer.Option(metavar="UUID", help="Only this exchange.")] = None,
    reason: Annotated[
        str | None,
        typer.Option(metavar="CODE", help="Only refusals for this reason, such as PURPOSE_NOT_PERMITTED."),
    ] = None,
    since: Annotated[str | None, typer.Option(metavar="TIME", help="Not before this date or time.")] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Before this date or time.")] = None,
    limit: Annotated[
        int, typer.Option(min=1, max=MAX_PAGE_SIZE, metavar="NUMBER", help="How many entries.")
    ] = 50,
    before: Annotated[
        int | None, typer.Option(min=0, metavar="INDEX", help="Only entries below this index.")
    ] = None,
    config: GatewayConfigOption = GATEWAY_CONFIG,
    database: DatabaseOption = None,
) -> None:
    """List entries, newest first."""
    wanted = EntryFilter(
        kind=kind,
        member=None if member is None else parse_member(member),
        dataset=None if dataset is None else parse_dataset(dataset),
        exchange=exchange,
        reason=_reason(reason),
        since=parse_time("--since", since),
        until=parse_time("--until", until),
    )
    with _place(config, database).reading() as reader:
        found = reader.find(wanted, limit, before)
    output = output_of(context)
    output.list([_row(entry) for entry in found], _COLUMNS, nothing="No such entry.", shorten=_shorten)
    if len(found) == limit and found[-1].index > 0:
        output.remark(f"Older entries: --before {found[-1].index}")


@app.command("show")
def show(
    context: typer.Context,
    index: IndexArgument,
    config: GatewayConfigOption = GATEWAY_CONFIG,
    database: DatabaseOption = None,
) -> None:
    """Show one entry, as it stands in the log."""
    with _place(config, database).reading() as reader:
        entry = reader.entry(index)
    output_of(context).facts({**_row(entry), "leaf_hash": leaf_hash(entry.data).hex()})


@app.command("prove")
def prove(
    context: typer.Context,
    index: IndexArgument,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to write it.  [default: standard output]")
    ] = None,
    with_entry: Annotated[
        bool, typer.Option("--with-entry", help="Let the proof carry the entry itself, in its extra line.")
    ] = False,
    witnessed: Annotated[
        bool, typer.Option("--witnessed", help="Prove it under the newest checkpoint that is witnessed.")
    ] = False,
    config: GatewayConfigOption = GATEWAY_CONFIG,
    database: DatabaseOption = None,
    trust: TrustOption = None,
) -> None:
    """Prove that an entry is in the log, as a .tlog-proof (c2sp.org/tlog-proof) for any verifier."""
    if out is not None:
        require_new_file(out)
    place = _place(config, database, trust, keys_needed=True)
    with place.reading() as reader:
        entry = reader.entry(index)
        note = _witnessed_note(place, index) if witnessed else reader.checkpoint()
        size = open_checkpoint(note, place.verifiers, origin=place.verifiers[0].name).size
        hashes = reader.inclusion_proof(index, size)
    proof = TlogProof(index, hashes, note, entry.data if with_entry else None)
    checkpoint = proof.verify(leaf_hash(entry.data), place.verifiers, origin=place.verifiers[0].name)
    output = output_of(context)
    if out is None:
        output.document(proof.to_text())
        return
    out.write_text(proof.to_text())
    output.facts(
        {"entry": index, "tree_size": checkpoint.size, "log": checkpoint.origin, "file": str(out)},
        [f"Wrote {out}: entry {index} is among the {checkpoint.size} entries of {checkpoint.origin}."],
    )


@app.command("published")
def published(
    context: typer.Context,
    size: Annotated[
        int | None, typer.Option(min=0, metavar="SIZE", help="Write the note over exactly so many entries.")
    ] = None,
    limit: Annotated[
        int, typer.Option(min=1, max=MAX_PAGE_SIZE, metavar="NUMBER", help="How many checkpoints.")
    ] = 50,
    below: Annotated[
        int | None, typer.Option(min=0, metavar="SIZE", help="Only checkpoints over fewer entries.")
    ] = None,
    config: GatewayConfigOption = GATEWAY_CONFIG,
    database: DatabaseOption = None,
) -> None:
    """List the checkpoints that were published, newest first, or write one of them."""
    place = _place(config, database)
    output = output_of(context)
    with place.reading(), SqlitePublications(place.database) as publications:
        if size is None:
            found = publications.page(limit, below)
            rows = [
                {
                    "size": item.size,
                    "time": rfc3339(item.moment),
                    "grade": item.grade.value,
                    "note": item.note,
                }
                for item in found
            ]
            output.list(rows, _PUBLISHED_COLUMNS, nothing="No checkpoint has been published.")
            return
        one = publications.at(size)
    if one is None:
        raise EntryNotFoundError("No checkpoint over so many entries has been published.", size=size)
    output.document(one.note)


@app.command("fsck")
def fsck(
    context: typer.Context,
    config: GatewayConfigOption = GATEWAY_CONFIG,
    database: DatabaseOption = None,
    trust: TrustOption = None,
) -> None:
    """Examine the whole log, computing every hash again; list what is not as it must be.

    Exit code 3 if there is a finding.
    """
    place = _place(config, database, trust, keys_needed=True)
    require_file(place.database, "The audit log", "name it with --database, or its deployment with --config")
    output = output_of(context)
    with output.progress("entries") as advance:
        report = examine(place.database, _log_key(place), advance)
    findings = [
        {"place": finding.place, "what": finding.what, "index": finding.index} for finding in report.findings
    ]
    entries = counted(report.entries, "entry", "entries")
    examined = f"{entries} and {counted(report.checkpoints, 'checkpoint')}"
    if findings:
        output.list(findings, _FINDING_COLUMNS)
        found = counted(len(findings), "finding")
        output.remark(f"{examined}: {found}. Keep the file as it is, and restore a sound copy.")
        raise typer.Exit(Exit.UNVERIFIED)
    output.facts(
        {"entries": report.entries, "checkpoints": report.checkpoints, "findings": []},
        [f"{examined}: everything is as it must be."],
    )


add_to(app)


def _place(
    config: Path, database: Path | None, trust: Path | None = None, *, keys_needed: bool = False
) -> LogPlace:
    """Return where the log is; the configuration is read only for what the options do not name."""
    verifiers: tuple[Ed25519Verifier, ...] = ()
    if trust is not None:
        require_file(trust, "The trust file", "the gateway's operator hands it out (`gateway keys trust`)")
        verifiers = tuple(Ed25519Verifier.from_vkey(text) for text in Trust.load(trust).log_keys)
        if not verifiers:
            raise CommandError(f"The trust file {trust} names no key of the log.")
    if database is None or (keys_needed and not verifiers):
        settings = load_gateway_config(config)
        database = database or settings.log.database
        if keys_needed and not verifiers:
            key = SigningKey.load(settings.log.key).verify_key
            verifiers = (Ed25519Verifier(settings.log.origin, key.public),)
    return LogPlace(database, verifiers)


def _witnessed_note(place: LogPlace, index: int) -> str:
    with SqlitePublications(place.database) as publications:
        latest = publications.latest(Grade.WITNESSED)
    if latest is None or latest.size <= index:
        raise EntryNotFoundError(
            "No witnessed checkpoint covers this entry yet; `gateway audit published` lists those there are."
        )
    return latest.note


def _log_key(place: LogPlace) -> Ed25519Verifier:
    """Return the key that the log is kept under now; the first if none of several has signed its head."""
    if len(place.verifiers) > 1:
        with place.reading() as reader:
            note = reader.checkpoint()
        for verifier in place.verifiers:
            try:
                open_checkpoint(note, [verifier])
            except NoteError:
                continue
            return verifier
    return place.verifiers[0]


def _reason(code: str | None) -> str | None:
    if code is not None and code not in OF_ANSWER:
        raise CommandError(
            "--reason takes a reason code, such as PURPOSE_NOT_PERMITTED; they stand in the log's entries."
        )
    return code


def _row(entry: StoredEntry) -> dict[str, Any]:
    try:
        content = msgspec.json.decode(entry.data, type=dict[str, Any])
    except DECODE_ERRORS as error:
        raise NoteError(
            "An entry of the log is not JSON; run `gateway audit fsck`.", index=entry.index
        ) from error
    ordered = sorted(content, key=lambda name: _ORDER.get(name, len(_ORDER)))
    return {"index": entry.index, **{name: content[name] for name in ordered}}


def _shorten(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row as it fits into a table: seconds, short names, and one column for what stands out."""
    provider, _, dataset = row.get("dataset", "").removeprefix("members/").partition("/datasets/")
    return {
        **row,
        "time": row.get("time", "")[:19] + "Z",
        "dataset": f"{provider}/{dataset}" if dataset else "",
        "about": row.get("reasons") or row.get("subject"),
    }
