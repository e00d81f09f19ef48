"""`gateway timestamps`: what a foreign authority says of when the log's checkpoints were there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from gateway.audit.checkpoint import open_checkpoint
from gateway.audit.errors import NoteError
from gateway.audit.note import Ed25519Verifier
from gateway.audit.prover import TreeHashes
from gateway.audit.sqlite_reader import SqliteReader
from gateway.cli.exits import Exit
from gateway.cli.failures import CommandError
from gateway.cli.output import counted, output_of
from gateway.cli.settings import GATEWAY_CONFIG, GatewayConfigOption, load_gateway_config
from gateway.clock import rfc3339
from gateway.config import GatewayConfig, TimestampsConfig
from gateway.errors import GatewayError
from gateway.evidence.keys import SigningKey
from gateway.timestamps.store import Timestamp, TimestampStore
from gateway.timestamps.token import Authorities

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="List, verify and export the time-stamps of the log's checkpoints (RFC 3161).",
)

_COLUMNS: Final = ("size", "time")


@app.command("list")
def list_timestamps(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, max=1000, metavar="NUMBER", help="How many.")] = 20,
    config: GatewayConfigOption = GATEWAY_CONFIG,
) -> None:
    """List time-stamps, newest first: how many entries were there at which time."""
    store = TimestampStore(_settings(load_gateway_config(config)).database)
    rows = [{"size": stamp.size, "time": rfc3339(stamp.time)} for stamp in store.page(limit)]
    output_of(context).list(rows, _COLUMNS, nothing="No checkpoint has been stamped yet.")


@app.command("verify")
def verify(context: typer.Context, config: GatewayConfigOption = GATEWAY_CONFIG) -> None:
    """Verify every time-stamp: by a trusted authority, over a checkpoint that the log still goes on from.

    Exit code 3 if one does not verify.
    """
    settings = load_gateway_config(config)
    timestamps = _settings(settings)
    authorities = Authorities.load(timestamps.ca)
    verifier = Ed25519Verifier(settings.log.origin, SigningKey.load(settings.log.key).verify_key.public)
    findings = []
    count = 0
    with SqliteReader(settings.log.database) as reader:
        for stamp in TimestampStore(timestamps.database):
            count += 1
            what = _wrong(stamp, authorities, verifier, reader)
            if what:
                findings.append({"size": stamp.size, "time": rfc3339(stamp.time), "what": what})
    output = output_of(context)
    if findings:
        output.list(findings, (*_COLUMNS, "what"))
        raise typer.Exit(Exit.UNVERIFIED)
    output.facts(
        {"timestamps": count, "findings": []}, [f"{counted(count, 'time-stamp')}: all verify with the log."]
    )


@app.command("export")
def export(
    context: typer.Context,
    index: Annotated[int, typer.Argument(min=0, metavar="INDEX", help="The entry that is to be dated.")],
    out: Annotated[Path, typer.Argument(metavar="DIR", help="New folder for what proves it.")],
    config: GatewayConfigOption = GATEWAY_CONFIG,
) -> None:
    """Write the earliest time-stamp that covers an entry, for anybody to verify with OpenSSL.

    The folder gets checkpoint and token; with `gateway audit prove` for the entry they show that it was there
    at that time.
    """
    timestamps = _settings(load_gateway_config(config))
    stamp = TimestampStore(timestamps.database).covering(index + 1)
    if stamp is None:
        raise CommandError(f"No time-stamp covers entry {index} yet; see `gateway timestamps list`.")
    if out.exists():
        raise CommandError(f"{out} exists already; name a folder that is not there yet.")
    out.mkdir(mode=0o700)
    (out / "checkpoint").write_text(stamp.note, encoding="utf-8")
    (out / "checkpoint.tsr").write_bytes(stamp.token)
    command = f"openssl ts -verify -data {out}/checkpoint -in {out}/checkpoint.tsr -CAfile {timestamps.ca}"
    output_of(context).facts(
        {"entry": index, "tree_size": stamp.size, "time": rfc3339(stamp.time), "directory": str(out)},
        [
            f"Entry {index} is among the {stamp.size} that were there at {rfc3339(stamp.time)}. Verify with:",
            f"  {command}",
        ],
    )


def _settings(config: GatewayConfig) -> TimestampsConfig:
    if config.log.timestamps is None:
        raise CommandError(
            "The configuration names no time-stamping authority; add a section [log.timestamps]."
        )
    return config.log.timestamps


def _wrong(
    stamp: Timestamp, authorities: Authorities, verifier: Ed25519Verifier, reader: SqliteReader
) -> str:
    """Return what is wrong with a time-stamp; empty if nothing is."""
    try:
        time = authorities.verify(stamp.token, stamp.note)
        checkpoint = open_checkpoint(stamp.note, [verifier], origin=verifier.name)
        if checkpoint.size > reader.size():
            return "the log is shorter than the checkpoint that was stamped: it was rolled back"
        root = TreeHashes(reader, checkpoint.size).frontier().root()
    except NoteError:
        return "the checkpoint is not signed by the log's key"
    except GatewayError as error:
        return error.message
    if root != checkpoint.root:
        return "the log's entries are not those of the checkpoint that was stamped"
    is_listed = (checkpoint.size, time) == (stamp.size, stamp.time)
    return "" if is_listed else "it tells another size or time than is listed"
