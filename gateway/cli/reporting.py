"""`gateway audit report` and `verify-export`: entries in a file for other programs, with their proof."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated, Final

import typer

from gateway.audit.checkpoint import open_checkpoint
from gateway.audit.filter import format_filter
from gateway.audit.report.formats import ReportFormat, form_of
from gateway.audit.report.manifest import (
    MAX_MANIFEST_BYTES,
    ExportStatement,
    manifest_path,
    sign_manifest,
)
from gateway.audit.report.manifest import verify_export as verify
from gateway.audit.report.writing import write_report
from gateway.cli.failures import CommandError
from gateway.cli.log_place import place_of
from gateway.cli.options import require_file, require_new_file
from gateway.cli.output import counted, output_of
from gateway.cli.reading import FilterArgument, read_filter
from gateway.cli.settings import GATEWAY_CONFIG, GatewayConfigOption
from gateway.clock import rfc3339, system_clock
from gateway.evidence.keys import SigningKey
from gateway.evidence.trust import Trust

_TRUST: Final = Path("trust.json")


def report(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it; there must be none yet.")],
    wanted: FilterArgument = "",
    form: Annotated[
        ReportFormat, typer.Option("--format", help="How to write entries.")
    ] = ReportFormat.JSONL,
    config: GatewayConfigOption = GATEWAY_CONFIG,
) -> None:
    """Write entries to a file, oldest first, with a signed manifest beside it.

    The manifest stands in FILE.manifest.json and proves to others what the file is:
    `gateway audit verify-export`.
    """
    manifest = manifest_path(file)
    require_new_file(file)
    require_new_file(manifest)
    place = place_of(config, None, keys_needed=True)
    assert place.deployment is not None, "the log is that of a configuration"
    parsed = read_filter(wanted, place)
    signer = SigningKey.load(place.deployment.keys.signing)
    origin = place.deployment.log.origin
    output = output_of(context)
    with place.reading() as reader, _written_whole(file) as target, output.progress("entries") as advance:
        note = reader.checkpoint()
        size = open_checkpoint(note, place.verifiers, origin=origin).size
        written = write_report(reader, parsed, size, form_of(form, origin), target, advance)
        statement = ExportStatement(
            v=1,
            gateway=origin,
            time=rfc3339(system_clock()),
            format=form,
            filter=format_filter(parsed),
            tree_size=size,
            entries=written.entries,
            first=written.first,
            last=written.last,
            bytes=written.bytes,
            sha256=written.sha256,
            checkpoint=note,
        )
        with _written_whole(manifest) as beside:
            beside.write(sign_manifest(statement, signer))
            place.record(reader, "report", parsed, written.entries)
    output.facts(
        {
            "entries": written.entries,
            "searched": size,
            "format": form.value,
            "file": str(file),
            "manifest": str(manifest),
            "sha256": written.sha256,
        },
        [
            f"Wrote {file}: {counted(written.entries, 'entry', 'entries')} of the {size} of {origin}.",
            f"Wrote {manifest}, which proves it: gateway audit verify-export {file} --trust trust.json",
        ],
    )


def verify_export(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A report of `gateway audit report`.")],
    manifest: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Its manifest.  [default: FILE.manifest.json]", show_default=False),
    ] = None,
    trust: Annotated[
        Path,
        typer.Option(metavar="FILE", help="The gateway's trust file, got by a way you trust."),
    ] = _TRUST,
) -> None:
    """Verify a report with its manifest, with no network and no gateway.

    Exit code 3 if it does not verify.
    """
    beside = manifest or manifest_path(file)
    require_file(file, "The report", "`gateway audit report` writes one")
    require_file(beside, "The manifest", "it comes with the report; name it with --manifest")
    require_file(trust, "The trust file", "the gateway's operator hands it out (`gateway keys trust`)")
    output = output_of(context)
    with beside.open("rb") as source:
        text = source.read(MAX_MANIFEST_BYTES + 1)
    with file.open("rb") as source, output.progress("bytes") as advance:
        verified = verify(source, text, Trust.load(trust), advance)
    statement = verified.statement
    filter_text = statement.filter or "everything"
    searched = (
        f"Searched were the first {statement.tree_size} entries, under a checkpoint signed by the log's "
        f"key; the gateway signed this on {statement.time}."
    )
    output.facts(
        {
            "log": statement.gateway,
            "time": statement.time,
            "format": statement.format.value,
            "filter": statement.filter,
            "entries": statement.entries,
            "first": statement.first,
            "last": statement.last,
            "tree_size": statement.tree_size,
            "sha256": statement.sha256,
        },
        [
            f"{file} verifies: {counted(statement.entries, 'entry', 'entries')} of {statement.gateway}.",
            f"Filter: {filter_text}",
            searched,
        ],
    )


@contextmanager
def _written_whole(path: Path) -> Iterator[IO[bytes]]:
    """Yield a new file of mode 0600 that gets its name when the block ends well, and is gone otherwise."""
    part = path.with_name(path.name + ".part")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CommandError(f"{part} cannot be created ({error.strerror}).") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
