"""`gateway audit published`: the checkpoints that were published, and what vouches for them."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from gateway.audit.errors import EntryNotFoundError
from gateway.audit.publication import Grade
from gateway.audit.sqlite_publications import SqlitePublications
from gateway.audit.store import MAX_PAGE_SIZE
from gateway.cli.log_place import DatabaseOption, LogPlace, place_of
from gateway.cli.output import output_of
from gateway.cli.settings import GATEWAY_CONFIG, GatewayConfigOption
from gateway.clock import rfc3339

_COLUMNS: Final = ("size", "time", "grade")


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
    place = place_of(config, database)
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
            output.list(rows, _COLUMNS, nothing="No checkpoint has been published.")
            return
        one = publications.at(size)
    if one is None:
        raise EntryNotFoundError("No checkpoint over so many entries has been published.", size=size)
    output.document(one.note)


def witnessed_note(place: LogPlace, index: int) -> str:
    """Return the newest witnessed checkpoint that covers entry `index`, as a note; raise if there is none."""
    with SqlitePublications(place.database) as publications:
        latest = publications.latest(Grade.WITNESSED)
    if latest is None or latest.size <= index:
        raise EntryNotFoundError(
            "No witnessed checkpoint covers this entry yet; `gateway audit published` lists those there are."
        )
    return latest.note
