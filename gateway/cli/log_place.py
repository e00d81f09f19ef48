"""Which log a command reads, how that is recorded, and how its entries are shown."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from gateway.audit.errors import LogClosedError, LogMismatchError, LogUnavailableError, NoteError
from gateway.audit.filter import EVERYTHING, Filter
from gateway.audit.note import Ed25519Verifier
from gateway.audit.reading import ENTRIES, reading_detail
from gateway.audit.sqlite_reader import SqliteReader
from gateway.audit.store import StoredEntry
from gateway.cli.failures import CommandError
from gateway.cli.options import require_file
from gateway.cli.settings import load_gateway_config
from gateway.config import GatewayConfig
from gateway.deployment.changes import record_change
from gateway.evidence.canonical import DECODE_ERRORS
from gateway.evidence.keys import SigningKey
from gateway.evidence.trust import Trust
from gateway.model import Entry, EntryKind

COLUMNS: Final = ("index", "time", "kind", "consumer", "dataset", "purpose", "records", "about")
_ORDER: Final = {name: at for at, name in enumerate(Entry.__struct_fields__)}

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
    deployment: GatewayConfig | None = None
    """The deployment whose own log this is; None for a file named on the command line, such as a copy."""
    trusted: bool = False
    """Whether a trust file was given: then there are no keys beside those in it."""

    @contextmanager
    def reading(self) -> Iterator[SqliteReader]:
        """Open the log for reading."""
        require_file(
            self.database, "The audit log", "name it with --database, or its deployment with --config"
        )
        with SqliteReader(self.database) as reader:
            yield reader

    def record(
        self, reader: SqliteReader, command: str, wanted: Filter = EVERYTHING, count: int | None = None
    ) -> None:
        """Record in a deployment's own log that it is read, before anything is shown.

        A copy is read unrecorded: whoever has the file can read it with any tool.
        """
        if self.deployment is not None:
            _record(self.deployment, ENTRIES, reading_detail(reader, officer(), command, wanted, count=count))

    def record_one(self, entry: StoredEntry) -> None:
        """Record that one entry is shown."""
        if self.deployment is not None:
            detail = {"by": officer(), "through": "show", "entries": "1"}
            _record(self.deployment, f"{ENTRIES}/{entry.index}", detail)


def place_of(
    config: Path, database: Path | None, trust: Path | None = None, *, keys_needed: bool = False
) -> LogPlace:
    """Return where the log is; the configuration is read only for what the options do not name."""
    verifiers: tuple[Ed25519Verifier, ...] = ()
    deployment: GatewayConfig | None = None
    if trust is not None:
        verifiers = trusted_log_keys(trust)
    if database is None or (keys_needed and not verifiers):
        settings = load_gateway_config(config)
        if database is None:
            database, deployment = settings.log.database, settings
        if keys_needed and not verifiers:
            key = SigningKey.load(settings.log.key).verify_key
            verifiers = (Ed25519Verifier(settings.log.origin, key.public),)
    return LogPlace(database, verifiers, deployment, trusted=trust is not None)


def trusted_log_keys(trust: Path) -> tuple[Ed25519Verifier, ...]:
    """Return the keys of the log, and of the logs before it, in a trust file; raise if there are none."""
    require_file(trust, "The trust file", "the gateway's operator hands it out (`gateway keys trust`)")
    verifiers = tuple(Ed25519Verifier.from_vkey(text) for text in Trust.load(trust).log_keys)
    if not verifiers:
        raise CommandError(f"The trust file {trust} names no key of the log.")
    return verifiers


def _record(deployment: GatewayConfig, subject: str, detail: Mapping[str, str]) -> None:
    try:
        record_change(deployment, EntryKind.AUDIT_READ, subject, detail)
    except LogClosedError:
        # A closed log takes no more entries, and is read like a copy.
        return
    except LogMismatchError:
        raise
    except LogUnavailableError as error:
        raise LogUnavailableError(
            "That the log is read cannot be recorded now, so that nothing is shown: another process holds "
            "the log, or its disk is full. Try again, or read the file unrecorded with --database."
        ) from error


def officer() -> str:
    """Return who runs this command, as the log names a user of the gateway's own host."""
    user = os.getuid()
    try:
        name = pwd.getpwuid(user).pw_name
    except KeyError:
        name = str(user)
    return f"officers/{name}"


def row_of(entry: StoredEntry) -> dict[str, Any]:
    """Return an entry as its members in their order, with its index."""
    try:
        content = msgspec.json.decode(entry.data, type=dict[str, Any])
    except DECODE_ERRORS as error:
        raise NoteError(
            "An entry of the log is not JSON; run `gateway audit fsck`.", index=entry.index
        ) from error
    ordered = sorted(content, key=lambda name: _ORDER.get(name, len(_ORDER)))
    return {"index": entry.index, **{name: content[name] for name in ordered}}


def shorten(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row as it fits into a table: seconds, short names, and one column for what stands out."""
    provider, _, dataset = row.get("dataset", "").removeprefix("members/").partition("/datasets/")
    return {
        **row,
        "time": row.get("time", "")[:19] + "Z",
        "dataset": f"{provider}/{dataset}" if dataset else "",
        "about": row.get("reasons") or row.get("subject"),
    }
