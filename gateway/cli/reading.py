"""`gateway audit search` and `tail`: finding entries, and following the log as it grows."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Annotated, Final

import typer

from gateway.audit.filter import Filter, both, since
from gateway.audit.filter_parser import FilterError, parse_filter
from gateway.audit.following import Follower
from gateway.audit.paging import open_page_token, page_token
from gateway.audit.store import MAX_PAGE_SIZE, StoredEntry
from gateway.cli.failures import CommandError
from gateway.cli.log_place import COLUMNS, DatabaseOption, LogPlace, place_of, row_of, shorten
from gateway.cli.options import parse_time
from gateway.cli.output import Format, Output, output_of, shown
from gateway.cli.settings import GATEWAY_CONFIG, GatewayConfigOption
from gateway.config import GatewayConfig
from gateway.deployment.contracts import contract_versions

_POLL_S: Final = 0.25
"""How often a tail looks for new entries: soon enough for eyes, and 0.1 % of a core."""

FilterArgument = Annotated[
    str,
    typer.Argument(
        metavar="[FILTER]",
        show_default=False,
        help="Which entries, such as 'kind = exchange.denied AND time >= 2026-11-01'.",
    ),
]


def search(
    context: typer.Context,
    wanted: FilterArgument = "",
    limit: Annotated[
        int, typer.Option(min=1, max=MAX_PAGE_SIZE, metavar="NUMBER", help="How many entries.")
    ] = 50,
    token: Annotated[
        str, typer.Option("--page-token", metavar="TOKEN", help="Go on where the page before ended.")
    ] = "",
    config: GatewayConfigOption = GATEWAY_CONFIG,
    database: DatabaseOption = None,
) -> None:
    """Find entries by time, kind, member, dataset, tier, purpose, reason, contract or exchange.

    They come newest first.
    """
    place = place_of(config, database)
    parsed = read_filter(wanted, place)
    before = open_page_token(token, parsed) if token else None
    with place.reading() as reader:
        found = reader.find(parsed, limit, before)
        place.record(reader, "search", parsed, len(found))
    output = output_of(context)
    output.list([row_of(entry) for entry in found], COLUMNS, nothing="No such entry.", shorten=shorten)
    if len(found) == limit and found[-1].index > 0:
        output.remark(f"Older entries: --page-token {page_token(parsed, found[-1].index)}")


def tail(
    context: typer.Context,
    wanted: FilterArgument = "",
    begin: Annotated[
        str | None,
        typer.Option("--since", metavar="TIME", help="Begin with the entries since this date or time."),
    ] = None,
    lines: Annotated[
        int, typer.Option(min=0, max=MAX_PAGE_SIZE, metavar="NUMBER", help="Begin with so many entries.")
    ] = 10,
    config: GatewayConfigOption = GATEWAY_CONFIG,
    database: DatabaseOption = None,
) -> None:
    """Show the newest entries, and those that come, until Ctrl-C.

    That the tail began is recorded, and how many entries it has shown when it ends.
    """
    place = place_of(config, database)
    parsed = read_filter(wanted, place)
    moment = parse_time("--since", begin)
    output = output_of(context)
    shown_entries = 0
    with place.reading() as reader, _until_told_to_stop() as stopped:
        place.record(reader, "tail", parsed)
        if moment is None:
            follower = Follower.from_the_last(reader, parsed, lines)
        else:
            follower = Follower(reader, both(since(moment), parsed))
        while True:
            for entry in follower.take():
                _print(output, entry)
                shown_entries += 1
            sys.stdout.flush()
            if stopped.wait(_POLL_S):
                break
        place.record(reader, "tail", parsed, shown_entries)


def read_filter(text: str, place: LogPlace) -> Filter:
    """Return the filter that `text` writes; raise `CommandError` that shows the place where it is wrong.

    Contracts may be named as the deployment whose log is read names them.
    """
    deployment = place.deployment
    try:
        return parse_filter(text, None if deployment is None else partial(_versions_of, deployment))
    except FilterError as error:
        at = int(error.details["position"]) - 1
        start = max(0, at - _SHOWN_BEFORE)
        line = " ".join(text[start : start + _SHOWN_CHARACTERS].splitlines())
        raise CommandError(f"{error.message}\n  {line}\n  {' ' * (at - start)}^") from error


def _versions_of(deployment: GatewayConfig, name: str) -> list[str]:
    """Return the identities of the versions of a contract, or that of the version called `name`."""
    place = deployment.contracts_place
    if isinstance(place, Path) and not place.exists():
        return []
    return [
        version.id
        for version in contract_versions(deployment)
        if name in {version.terms.contract, version.name}
    ]


_SHOWN_BEFORE: Final = 60
_SHOWN_CHARACTERS: Final = 100


@contextmanager
def _until_told_to_stop() -> Iterator[threading.Event]:
    """Yield the event that SIGINT and SIGTERM set while the block runs."""
    stopped = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopped.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _print(output: Output, entry: StoredEntry) -> None:
    row = row_of(entry)
    if output.wants_records is Format.TABLE:
        short = shorten(row)
        output.facts(row, ["  ".join(shown(short.get(name)) for name in COLUMNS)])
    else:
        output.jsonl(row)
