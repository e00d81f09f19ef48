"""`gateway custodian`: what key custodians do, each on their own machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.audit_privacy import read_bounded
from gateway.cli.options import require_file, require_new_file
from gateway.cli.output import output_of
from gateway.clock import system_clock
from gateway.details import Custodian
from gateway.details.opening import OpeningRequest, approve, verify_request
from gateway.evidence import dsse
from gateway.evidence.trust import Trust

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Make a custodian's keys, and approve the opening of an entry's details.",
)


@app.command("init")
def init(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Where the secret goes; FILE.card gets the public side.")
    ],
    name: Annotated[str, typer.Option(metavar="NAME", help="The custodian's name, as the log will show it.")],
) -> None:
    """Make a custodian's keys: a secret for the custodian, a card for the gateway's configuration."""
    card = file.with_name(file.name + ".card")
    for path in (file, card):
        require_new_file(path)
    custodian = Custodian.generate(name)
    custodian.save(file)
    card.write_bytes(custodian.card.to_json())
    output_of(context).facts(
        {"name": name, "id": custodian.card.id, "secret": str(file), "card": str(card)},
        [
            f"Made the keys of {name}, id {custodian.card.id}.",
            f"Keep {file} to yourself (mode 0600), with a copy in a safe; hand {card} to the operator.",
        ],
    )


@app.command("approve")
def approve_command(
    context: typer.Context,
    request: Annotated[
        Path, typer.Argument(metavar="REQUEST", help="The request, from whoever wants to open details.")
    ],
    key: Annotated[Path, typer.Option(metavar="FILE", help="Your secret file.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Where to write the approval.")],
    trust: Annotated[
        Path, typer.Option(metavar="FILE", help="The gateway's trust file, got by a way you trust.")
    ] = Path("trust.json"),
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Approve the opening of one entry's details, after showing which and why; valid for an hour.

    The request is verified against the log's own proof first. The approval opens this entry and no
    other, together with another custodian's.
    """
    require_file(request, "The request", "`gateway audit open` writes one")
    require_file(trust, "The trust file", "the gateway's operator hands it out (`gateway keys trust`)")
    require_new_file(out)
    custodian = Custodian.load(key)
    verified = verify_request(OpeningRequest.from_json(read_bounded(request)), Trust.load(trust))
    asked, entry = verified.request, verified.entry
    output = output_of(context)
    for line in (
        f"Open the details of entry {asked.index} of {asked.origin}?",
        f"  what     {entry.kind.value}, {entry.time}",
        f"  between  {entry.consumer or '-'} and {entry.provider or '-'}",
        f"  dataset  {entry.dataset or '-'}, for {entry.purpose or '-'}",
        f"  reason   {asked.reason}",
        f"  asked    by {asked.by}, {asked.time}",
    ):
        output.remark(line)
    if not yes and not typer.confirm("Approve?", err=True):
        raise typer.Exit(1)
    envelope = approve(verified, custodian, system_clock())
    out.write_bytes(dsse.envelope_to_json(envelope))
    output.facts(
        {"entry": asked.index, "approval": str(out), "custodian": custodian.card.name},
        [f"Wrote {out}; hand it to {asked.by}. It is valid for an hour."],
    )
