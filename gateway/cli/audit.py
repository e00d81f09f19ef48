"""`gateway audit`: reading, proving and examining the log, beside the gateway that writes it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from gateway.audit import filter as filters
from gateway.audit.checkpoint import open_checkpoint
from gateway.audit.errors import NoteError
from gateway.audit.filter import Field, Filter, Has
from gateway.audit.note import Ed25519Verifier
from gateway.audit.proof import TlogProof
from gateway.audit.shards import Shard, find_breaks
from gateway.audit.store import MAX_PAGE_SIZE
from gateway.audit.stores import Place, examine, open_reader
from gateway.audit.tree import leaf_hash
from gateway.cli import audit_privacy
from gateway.cli.audit_guards import accept_clock, anchor
from gateway.cli.exits import OF_ANSWER, Exit
from gateway.cli.failures import CommandError
from gateway.cli.log_place import COLUMNS, DatabaseOption, LogPlace, TrustOption, place_of, row_of, shorten
from gateway.cli.options import parse_dataset, parse_member, parse_time, require_file, require_new_file
from gateway.cli.output import Output, counted, output_of
from gateway.cli.published import published, witnessed_note
from gateway.cli.reading import search, tail
from gateway.cli.reconciling import add_to
from gateway.cli.reporting import report, verify_export
from gateway.cli.rotation import rotate
from gateway.cli.settings import GATEWAY_CONFIG, GatewayConfigOption, load_gateway_config
from gateway.cli.tiles import export, serve, verify
from gateway.model import EntryKind

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Search, show, prove and examine the entries of the audit log, also while the gateway runs.",
)

_FINDING_COLUMNS: Final = ("place", "what", "index")

IndexArgument = Annotated[int, typer.Argument(min=0, metavar="INDEX", help="The entry's index, from 0.")]


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
    values = {
        Field.KIND: None if kind is None else kind.value,
        Field.MEMBER: None if member is None else parse_member(member),
        Field.DATASET: None if dataset is None else parse_dataset(dataset),
        Field.EXCHANGE: exchange,
        Field.REASON: _reason(reason),
    }
    parts: list[Filter] = [Has(field, value) for field, value in values.items() if value is not None]
    begin, end = parse_time("--since", since), parse_time("--until", until)
    parts += [] if begin is None else [filters.since(begin)]
    parts += [] if end is None else [filters.until(end)]
    wanted = filters.both(*parts)
    place = place_of(config, database)
    with place.reading() as reader:
        found = reader.find(wanted, limit, before)
        place.record(reader, "list", wanted, len(found))
    output = output_of(context)
    output.list([row_of(entry) for entry in found], COLUMNS, nothing="No such entry.", shorten=shorten)
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
    place = place_of(config, database)
    with place.reading() as reader:
        entry = reader.entry(index)
        place.record_one(entry)
    output_of(context).facts({**row_of(entry), "leaf_hash": leaf_hash(entry.data).hex()})


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
    place = place_of(config, database, trust, keys_needed=True)
    with place.reading() as reader:
        entry = reader.entry(index)
        note = witnessed_note(place, index) if witnessed else reader.checkpoint()
        size = open_checkpoint(note, place.verifiers).size
        hashes = reader.inclusion_proof(index, size)
    proof = TlogProof(index, hashes, note, entry.data if with_entry else None)
    checkpoint = proof.verify(leaf_hash(entry.data), place.verifiers)
    output = output_of(context)
    if out is None:
        output.document(proof.to_text())
        return
    out.write_text(proof.to_text())
    output.facts(
        {"entry": index, "tree_size": checkpoint.size, "log": checkpoint.origin, "file": str(out)},
        [f"Wrote {out}: entry {index} is among the {checkpoint.size} entries of {checkpoint.origin}."],
    )


@app.command("fsck")
def fsck(
    context: typer.Context,
    config: GatewayConfigOption = GATEWAY_CONFIG,
    database: DatabaseOption = None,
    trust: TrustOption = None,
    chain: Annotated[
        bool, typer.Option("--chain", help="Examine the closed logs before it too, and how they are joined.")
    ] = False,
    previous: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="A closed log before it, oldest first; may be repeated.  [default: the configuration's]",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Examine the whole log, computing every hash again; list what is not as it must be.

    Exit code 3 if there is a finding.
    """
    place = place_of(config, database, trust, keys_needed=True)
    place.require()
    output = output_of(context)
    shards = [Shard(place.database, _log_key(place))]
    if chain:
        shards = [*(_closed_shard(closed, place) for closed in previous or _previous(place, config)), *shards]
    elif previous:
        raise CommandError("--previous names the logs of a chain; say --chain as well.")
    examined, findings = _examine(shards, output)
    if chain:
        findings += [
            {"log": found.origin, "place": "chain", "what": found.what, "index": found.index}
            for found in find_breaks(shards)
        ]
    if findings:
        output.list(findings, _FINDING_COLUMNS if len(shards) == 1 else ("log", *_FINDING_COLUMNS))
        found = counted(len(findings), "finding")
        output.remark(f"{examined}: {found}. Keep the file as it is, and restore a sound copy.")
        raise typer.Exit(Exit.UNVERIFIED)
    facts = {"entries": examined.entries, "checkpoints": examined.checkpoints, "findings": []}
    logs = {"logs": [shard.origin for shard in shards]} if chain else {}
    joined = f", and {counted(len(shards), 'log')} joined without a gap" if chain else ""
    output.facts({**facts, **logs}, [f"{examined}: everything is as it must be{joined}."])


@dataclass(frozen=True, slots=True)
class _Examined:
    entries: int
    checkpoints: int

    def __str__(self) -> str:
        return f"{counted(self.entries, 'entry', 'entries')} and {counted(self.checkpoints, 'checkpoint')}"


def _examine(shards: list[Shard], output: Output) -> tuple[_Examined, list[dict[str, Any]]]:
    entries = checkpoints = 0
    findings: list[dict[str, Any]] = []
    for shard in shards:
        with output.progress("entries") as advance:
            report = examine(shard.database, shard.verifier, advance)
        entries += report.entries
        checkpoints += report.checkpoints
        of_log = {"log": shard.origin} if len(shards) > 1 else {}
        findings += [
            {**of_log, "place": found.place, "what": found.what, "index": found.index}
            for found in report.findings
        ]
    return _Examined(entries, checkpoints), findings


def _previous(place: LogPlace, config: Path) -> tuple[Place, ...]:
    deployment = place.deployment or load_gateway_config(config)
    return deployment.log.previous


def _closed_shard(closed: Place, place: LogPlace) -> Shard:
    """Return the closed log at `closed` with the key it must be signed with.

    That is the trust file's for its name; without a trust file, the key of the log that goes on from
    it: a rotation keeps the key, and changes its name to that of the new log.
    """
    if isinstance(closed, Path):
        hint = "name it with --previous, or in the configuration's log.previous"
        require_file(closed, "The closed log", hint)
    with open_reader(closed) as reader:
        origin, _ = reader.identity()
    for verifier in place.verifiers:
        if verifier.name == origin:
            return Shard(closed, verifier)
    if place.trusted:
        raise CommandError(f"The trust file names no key of the log in {closed}; get the newest trust file.")
    return Shard(closed, Ed25519Verifier(origin, place.verifiers[0].public))


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


app.command("search")(search)
app.command("tail")(tail)
app.command("report")(report)
app.command("verify-export")(verify_export)
app.command("published")(published)
app.command("export")(export)
app.command("verify")(verify)
app.command("serve")(serve)
app.command("rotate")(rotate)
audit_privacy.register(app)
app.command("anchor")(anchor)
app.command("accept-clock")(accept_clock)
add_to(app)
