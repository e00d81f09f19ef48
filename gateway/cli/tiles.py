"""`gateway audit export`, `verify` and `serve`: the log as files that any C2SP verifier reads."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from gateway.audit.checkpoint import Checkpoint, open_checkpoint
from gateway.audit.errors import NoteError
from gateway.audit.export import export_tiles
from gateway.audit.findings import Finding
from gateway.audit.note import MAX_NOTE_CHARACTERS, Ed25519Verifier
from gateway.audit.tile_directory import examine_directory
from gateway.cli.exits import Exit
from gateway.cli.failures import CommandError
from gateway.cli.log_place import DatabaseOption, TrustOption, place_of, trusted_log_keys
from gateway.cli.options import require_file
from gateway.cli.output import Output, counted, output_of
from gateway.cli.settings import GATEWAY_CONFIG, GatewayConfigOption, load_gateway_config

_FINDING_COLUMNS: Final = ("place", "what", "index")


def export(
    context: typer.Context,
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="A new folder, or one that an export has made.")
    ],
    config: GatewayConfigOption = GATEWAY_CONFIG,
    database: DatabaseOption = None,
    trust: TrustOption = None,
) -> None:
    """Write the log as files that any C2SP verifier reads (c2sp.org/tlog-tiles).

    A second export to the same folder only adds what is new, and refuses if the log is not the one
    exported before, grown on.
    """
    place = place_of(config, database, trust, keys_needed=True)
    output = output_of(context)
    with place.reading() as reader, output.progress("entries") as advance:
        exported = export_tiles(reader, directory, place.verifiers, advance)
    size = exported.checkpoint.size
    new = size - exported.previous_size
    entries = counted(size, "entry", "entries")
    output.facts(
        {
            "log": exported.checkpoint.origin,
            "entries": size,
            "new_entries": new,
            "new_files": exported.files,
            "directory": str(directory),
        },
        [
            f"{directory} holds {entries} of {exported.checkpoint.origin}, {new} of them new.",
        ],
    )


def verify(
    context: typer.Context,
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder that `gateway audit export` has made, or a copy.")
    ],
    trust: Annotated[
        Path, typer.Option(metavar="FILE", help="Trust file with the log's key, from the gateway's operator.")
    ],
    kept: Annotated[
        Path | None,
        typer.Option(
            "--kept", metavar="FILE", help="A checkpoint kept from earlier, which the log must extend."
        ),
    ] = None,
) -> None:
    """Examine an exported log, computing every hash again; no gateway and no network is needed.

    Exit code 3 if there is a finding.
    """
    verifiers = trusted_log_keys(trust)
    if not directory.is_dir():
        raise CommandError(f"{directory} is not a folder; name one that `gateway audit export` has made.")
    checkpoint = None if kept is None else _kept_checkpoint(kept, verifiers)
    output = output_of(context)
    with output.progress("entries") as advance:
        report = examine_directory(directory, verifiers, kept=checkpoint, progress=advance)
    _tell_findings(output, report.findings, counted(report.entries, "entry", "entries"))
    assert report.checkpoint is not None, "without a checkpoint there is a finding"
    found = report.checkpoint
    root = base64.b64encode(found.root).decode()
    output.facts(
        {"log": found.origin, "entries": found.size, "root": root, "findings": []},
        [f"{found.origin}: {counted(found.size, 'entry', 'entries')}, each as the log's key has signed it."],
    )


def serve(
    listen: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where it listens, in place of tiles.listen.")
    ] = None,
    entries: Annotated[
        bool | None,
        typer.Option(
            "--entries/--no-entries",
            help="Whether the entries are shown too, in place of tiles.entries.",
            show_default=False,
        ),
    ] = None,
    config: GatewayConfigOption = GATEWAY_CONFIG,
) -> None:
    """Serve checkpoints and tiles of the log over HTTP (c2sp.org/tlog-tiles), until SIGTERM or SIGINT.

    A process of its own beside `gateway serve`: it reads the log and needs no key. Entries are shown
    only if you say so: they name who asked whom for what.
    """
    # Only here: the web server costs other commands a fifth of a second.
    from gateway.cli.tilesite import serve_tiles  # noqa: PLC0415

    serve_tiles(load_gateway_config(config), listen, entries)


def _kept_checkpoint(path: Path, verifiers: Sequence[Ed25519Verifier]) -> Checkpoint:
    require_file(path, "The checkpoint", "keep the file `checkpoint` of an export, or of the log's site")
    with path.open("rb") as file:
        raw = file.read(4 * MAX_NOTE_CHARACTERS)
    try:
        return open_checkpoint(raw.decode(), verifiers)
    except UnicodeDecodeError as error:
        raise NoteError("The checkpoint kept before is not text in UTF-8.") from error


def _tell_findings(output: Output, findings: Sequence[Finding], examined: str) -> None:
    """List what was found and end with exit code 3; return if there is nothing to tell."""
    if not findings:
        return
    rows = [{"place": finding.place, "what": finding.what, "index": finding.index} for finding in findings]
    output.list(rows, _FINDING_COLUMNS)
    output.remark(
        f"{examined}: {counted(len(rows), 'finding')}. Keep everything as it is, and restore a sound copy."
    )
    raise typer.Exit(Exit.UNVERIFIED)
