"""`gateway audit anchor` and `gateway audit accept-clock`: what the guards of the log need a person for."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from gateway.audit.anchor import Anchor
from gateway.audit.checkpoint import open_checkpoint
from gateway.audit.errors import LogMismatchError
from gateway.audit.note import Ed25519Verifier
from gateway.audit.prover import TreeHashes
from gateway.audit.sqlite_reader import SqliteReader
from gateway.cli.failures import CommandError
from gateway.cli.output import output_of
from gateway.cli.settings import GATEWAY_CONFIG, GatewayConfigOption, load_gateway_config
from gateway.deployment import record_change
from gateway.evidence.keys import SigningKey
from gateway.model import EntryKind

_MAX_REASON_CHARACTERS: Final = 500


def anchor(context: typer.Context, config: GatewayConfigOption = GATEWAY_CONFIG) -> None:
    """Make the log's anchor, where `log.anchor` says: a file with the checkpoint of the log as it is now.

    From then on the gateway keeps it up to date, and refuses to start with an older copy of the log. An
    anchor that is there already must fit the log.
    """
    settings = load_gateway_config(config)
    if settings.log.anchor is None:
        raise CommandError(
            "The configuration names no anchor; set `log.anchor` to a file on another disk than the log."
        )
    verifier = Ed25519Verifier(settings.log.origin, SigningKey.load(settings.log.key).verify_key.public)
    made = Anchor(settings.log.anchor, verifier)
    with SqliteReader(settings.log.database) as reader:
        if made.path.exists():
            made.verify(reader)
        note = reader.checkpoint()
        checkpoint = open_checkpoint(note, [verifier], origin=verifier.name)
        if TreeHashes(reader, checkpoint.size).frontier().root() != checkpoint.root:
            raise LogMismatchError("The audit log contradicts its own checkpoint; run `gateway audit fsck`.")
    made.write(note)
    output_of(context).facts(
        {"anchor": str(made.path), "tree_size": checkpoint.size},
        [f"The anchor {made.path} holds the checkpoint over {checkpoint.size} entries."],
    )


def accept_clock(
    context: typer.Context,
    reason: Annotated[
        str, typer.Option(metavar="TEXT", help="Why the clock is right, and the log's latest entry is not.")
    ],
    config: GatewayConfigOption = GATEWAY_CONFIG,
) -> None:
    """Let the log go on from the clock as it is, though its latest entries have later times.

    Needed after a clock that was set far ahead was put right. An entry with the reason says that time goes
    back there; a gateway that waits for the clock goes on by itself.
    """
    if not 1 <= len(reason.strip()) <= _MAX_REASON_CHARACTERS:
        raise CommandError(f"--reason takes 1 to {_MAX_REASON_CHARACTERS} characters.")
    index = record_change(
        load_gateway_config(config),
        EntryKind.CLOCK_JUMPED,
        "clock",
        {"reason": reason.strip()},
        accepts_clock=True,
    )
    output_of(context).facts(
        {"entry": index}, [f"Entry {index} says why; the log goes on from the time of this machine."]
    )
