"""Which engine keeps a log: a SQLite file on one host, or PostgreSQL for several nodes.

The one place that knows both; everybody else sees `AuditStore` and `AuditReader`. PostgreSQL's half
is imported only for a log that is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from gateway.audit.findings import Progress
from gateway.audit.fsck import FsckReport, fsck
from gateway.audit.note import Ed25519Verifier
from gateway.audit.occupancy import serving, vacated
from gateway.audit.publication import KeptPublications
from gateway.audit.sqlite import SqliteStore
from gateway.audit.sqlite_publications import SqlitePublications
from gateway.audit.sqlite_reader import SqliteReader
from gateway.audit.store import AuditReader, AuditStore
from gateway.database.address import PostgresAddress
from gateway.errors import ConfigError

Place = Path | PostgresAddress
"""Where a log is."""


def open_store(place: Place) -> AuditStore:
    """Return the writing side of the log at `place`; its `open` is still to be called."""
    if isinstance(place, PostgresAddress):
        from gateway.audit.postgres import PostgresStore  # noqa: PLC0415 - see above

        return PostgresStore(place)
    return SqliteStore(place)


def open_reader(place: Place) -> AuditReader:
    """Open the log at `place` for reading; raise `LogUnavailableError` or `LogMismatchError`."""
    if isinstance(place, PostgresAddress):
        from gateway.audit.postgres_reader import PostgresReader  # noqa: PLC0415

        return PostgresReader(place)
    return SqliteReader(place)


def open_publications(place: Place) -> KeptPublications:
    """Return what was published of the log at `place`."""
    if isinstance(place, PostgresAddress):
        from gateway.audit.postgres_publications import PostgresPublications  # noqa: PLC0415

        return PostgresPublications(place)
    return SqlitePublications(place)


def serving_from(place: Place) -> AbstractContextManager[None]:
    """Hold the log at `place` as one of the processes that serve from it; see `gateway.audit.occupancy`.

    In PostgreSQL the server knows who does.
    """
    return nullcontext() if isinstance(place, PostgresAddress) else serving(place)


@contextmanager
def vacated_by_all(place: Place) -> Iterator[None]:
    """Hold the log at `place` as nobody serves from it; raise `ConfigError` if a gateway does.

    In PostgreSQL nobody can be kept from opening it; what keeps nodes from going on with a log that is
    being closed is the entry that closes it.
    """
    if isinstance(place, PostgresAddress):
        from gateway.audit.postgres import require_vacant  # noqa: PLC0415

        require_vacant(place)
        yield
    else:
        with vacated(place):
            yield


def log_exists(place: Place) -> bool:
    """Return whether there is a log at `place`; raise `LogUnavailableError` if that cannot be told now."""
    if isinstance(place, PostgresAddress):
        from gateway.audit.postgres_reader import PostgresReader  # noqa: PLC0415

        with PostgresReader(place) as reader:
            return reader.exists()
    return place.exists()


def examine(place: Place, verifier: Ed25519Verifier, progress: Progress | None = None) -> FsckReport:
    """Examine the log at `place` with `fsck`; raise `LogUnavailableError` if it cannot be read."""
    if isinstance(place, PostgresAddress):
        from gateway.audit.postgres_fsck import fsck_database  # noqa: PLC0415

        return fsck_database(place, verifier, progress)
    return fsck(place, verifier, progress)


def require_log(place: Place) -> None:
    """Raise `ConfigError` unless there is a log at `place`: a gateway never starts a second unasked.

    Raises `LogUnavailableError` if that cannot be told now.
    """
    if log_exists(place):
        return
    if isinstance(place, PostgresAddress):
        raise ConfigError(
            "The database holds no audit log. Move one there with `gateway database move`, or restore it: a "
            "gateway never starts a second log unasked."
        )
    raise ConfigError(
        f"The audit log {place} is missing. If this is a new deployment, run `gateway init`; if not, "
        "restore it: a gateway never starts a second log unasked."
    )


def require_file_log(place: Place, what: str) -> Path:
    """Return the file of a log in SQLite; raise `ConfigError` for `what` needs one."""
    if isinstance(place, PostgresAddress):
        raise ConfigError(f"{what} works on a log in a SQLite file; this one is in PostgreSQL.")
    return place
