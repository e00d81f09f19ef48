"""`gateway audit reconcile`, `holdings` and `unacknowledged`: what two sides hold of the same exchanges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from gateway.audit.holdings import Holdings, encode_holdings, of_period
from gateway.audit.log_holdings import about, read_holdings, read_unacknowledged
from gateway.audit.reconciliation import Difference, differ, examine, reconcile
from gateway.cli.exits import Exit
from gateway.cli.failures import CommandError
from gateway.cli.held import Held, read_held
from gateway.cli.log_place import DatabaseOption, LogPlace, place_of
from gateway.cli.options import parse_duration, parse_member, parse_time, require_file, require_new_file
from gateway.cli.output import Output, counted, output_of
from gateway.cli.settings import GATEWAY_CONFIG, GatewayConfigOption, load_gateway_config
from gateway.clock import rfc3339, system_clock
from gateway.deployment import export_trust
from gateway.evidence.trust import Trust

_COLUMNS: Final = ("kind", "what", "consumer", "provider", "exchange", "index", "sequence")
_UNACKNOWLEDGED: Final = ("index", "time", "exchange", "consumer", "provider", "sequence", "pages")

AsOption = Annotated[str, typer.Option("--as", metavar="MEMBER", help="Whose exchanges: a member's id.")]
SinceOption = Annotated[
    str | None, typer.Option(metavar="TIME", help="Only exchanges not before this date or time.")
]
UntilOption = Annotated[
    str | None, typer.Option(metavar="TIME", help="Only exchanges before this date or time.")
]
KeysOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Trust file, in place of the configuration's own keys."),
]


def reconcile_command(
    context: typer.Context,
    held: Annotated[
        Path,
        typer.Argument(
            metavar="PATH",
            help="What the member holds: a folder of receipts, or a file of deliveries or holdings.",
        ),
    ],
    member: AsOption,
    other: Annotated[
        Path | None,
        typer.Option("--with", metavar="PATH", help="What another party holds, in place of the log."),
    ] = None,
    other_member: Annotated[
        str | None,
        typer.Option("--with-member", metavar="MEMBER", help="Who that other party is.  [default: as --as]"),
    ] = None,
    alone: Annotated[
        bool,
        typer.Option("--alone", help="Look only at the numbers of what the member holds, without a log."),
    ] = False,
    since: SinceOption = None,
    until: UntilOption = None,
    config: GatewayConfigOption = GATEWAY_CONFIG,
    database: DatabaseOption = None,
    trust: KeysOption = None,
) -> None:
    """Compare what a member holds with the log, or with what another party holds.

    Names what is missing, extra, differing, out of sequence or not acknowledged. Exit code 1 if they
    differ, 3 if a receipt does not verify.
    """
    if alone and other is not None:
        raise CommandError("--alone and --with exclude each other; take one of them.")
    member, period = parse_member(member), _Period(since, until)
    output = output_of(context)
    keys = _keys(config, trust)
    read: list[Held] = []
    with output.progress("receipts") as advance:
        read.append(read_held(held, member, keys, advance))
        if other is not None:
            read.append(read_held(other, parse_member(other_member or member), keys, advance))
    mine = period.of(read[0].holdings)
    if alone:
        differences = examine(mine, first_number=period.first_number)
    else:
        theirs = (
            period.of(read[1].holdings)
            if other is not None
            else _logged(output, place_of(config, database), "reconcile", member, period, keys.origin)
        )
        differences = reconcile(mine, theirs, first_number=period.first_number)
    _tell(output, mine, differences, read)


def holdings_command(
    context: typer.Context,
    member: AsOption,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to write it.  [default: standard output]")
    ] = None,
    held: Annotated[
        Path | None,
        typer.Option(
            "--of", metavar="PATH", help="What the member holds (receipts, deliveries), in place of the log."
        ),
    ] = None,
    since: SinceOption = None,
    until: UntilOption = None,
    config: GatewayConfigOption = GATEWAY_CONFIG,
    database: DatabaseOption = None,
    trust: KeysOption = None,
) -> None:
    """Write down what the log, or a member itself, holds of its exchanges, for another to compare.

    Ids, digests, numbers and times: no record, no identifier.
    """
    if out is not None:
        require_new_file(out)
    member, period = parse_member(member), _Period(since, until)
    output = output_of(context)
    keys = _keys(config, trust)
    if held is None:
        holdings = _logged(output, place_of(config, database), "holdings", member, period, keys.origin)
    else:
        with output.progress("receipts") as advance:
            holdings = period.of(read_held(held, member, keys, advance).holdings)
    text = b"".join(encode_holdings(holdings)).decode()
    if out is None:
        output.document(text)
        return
    out.write_text(text)
    output.facts(
        {"member": member, "exchanges": len(holdings.items), "file": str(out)},
        [f"Wrote {out}: {counted(len(holdings.items), 'exchange')} of {member}."],
    )


def unacknowledged_command(
    context: typer.Context,
    older_than: Annotated[
        str, typer.Option(metavar="TIME", help="Only releases longer ago than this, such as 15m, 1h or 7d.")
    ] = "1h",
    member: Annotated[str | None, typer.Option(metavar="ID", help="Only releases to this consumer.")] = None,
    since: SinceOption = None,
    config: GatewayConfigOption = GATEWAY_CONFIG,
    database: DatabaseOption = None,
) -> None:
    """List what was released and not acknowledged by its recipient, oldest first.

    Recipients need not acknowledge unless you have agreed that they do. Exit code 1 if there is any.
    """
    until = system_clock() - parse_duration("--older-than", older_than)
    output = output_of(context)
    recipient, start = None if member is None else parse_member(member), parse_time("--since", since)
    place = place_of(config, database)
    with place.reading() as reader:
        with output.progress("entries") as advance:
            found = read_unacknowledged(reader, member=recipient, since=start, until=until, progress=advance)
        place.record(reader, "unacknowledged", about(recipient, start), len(found))
    rows = [msgspec.to_builtins(item) for item in found]
    output.list(rows, _UNACKNOWLEDGED, nothing="Everything was acknowledged.")
    if found:
        raise typer.Exit(Exit.NO)


class _Period:
    """The time that is compared."""

    def __init__(self, since: str | None, until: str | None) -> None:
        self.since: datetime | None = parse_time("--since", since)
        self.until: datetime | None = parse_time("--until", until)

    @property
    def first_number(self) -> int | None:
        """The number that each pair must begin with; None where the beginning is left out."""
        return 1 if self.since is None else None

    def of(self, holdings: Holdings) -> Holdings:
        """Return the part of `holdings` that is of this time."""
        since, until = (None if time is None else rfc3339(time) for time in (self.since, self.until))
        items = of_period(holdings.items, since, until)
        return Holdings(holdings.side, holdings.member, items, holdings.origin)


def _keys(config: Path, trust: Path | None) -> Trust:
    if trust is None:
        return export_trust(load_gateway_config(config))
    require_file(trust, "The trust file", "the gateway's operator hands it out (`gateway keys trust`)")
    return Trust.load(trust)


def _logged(
    output: Output,
    place: LogPlace,
    command: str,
    member: str,
    period: _Period,
    origin: str,
) -> Holdings:
    with place.reading() as reader:
        with output.progress("entries") as advance:
            found = read_holdings(
                reader, member, origin, since=period.since, until=period.until, progress=advance
            )
        place.record(reader, command, about(member, period.since), len(found.items))
    return found


def _tell(output: Output, mine: Holdings, differences: Sequence[Difference], read: Sequence[Held]) -> None:
    rows: list[dict[str, Any]] = [msgspec.to_builtins(item) for item in differences]
    unverified = [item for held in read for item in held.unverified]
    rows += [
        {"kind": "unverified", "what": f"{path.name}: {message}", "consumer": mine.member, "provider": ""}
        for path, message in unverified
    ]
    output.list(rows, _COLUMNS, nothing="There is no difference.")
    counts = Counter(row["kind"] for row in rows)
    summary = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items())) or "no difference"
    output.remark(f"{counted(len(mine.items), 'exchange')} of {mine.member}: {summary}.")
    if closed := sum(held.of_closed_logs for held in read):
        output.remark(
            f"Not compared, since each log counts for itself: {counted(closed, 'receipt')} of closed logs."
        )
    if unverified:
        raise typer.Exit(Exit.UNVERIFIED)
    if differ(differences):
        raise typer.Exit(Exit.NO)


def add_to(app: typer.Typer) -> None:
    """Add the commands to `gateway audit`."""
    app.command("reconcile")(reconcile_command)
    app.command("holdings")(holdings_command)
    app.command("unacknowledged")(unacknowledged_command)
