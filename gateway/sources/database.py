"""A read-only door to one database: connections, read transactions, time limits, and its failures.

Nothing else of the product opens a connection to a holder's database. Every statement runs in a
read-only transaction that is rolled back; what an SQL driver raises never gets out, because its
text may hold values.
"""

from __future__ import annotations

import os
import re
import sqlite3
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine, Row
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoFreeConnectionError

from gateway.errors import Reason
from gateway.evidence.keys import read_secret
from gateway.sources.mapping import DatasetMapping, MappingError
from gateway.sources.source import SourceError

_WAIT_FOR_CONNECTION_S: Final = 5.0
_SQLITE_STEPS_BETWEEN_LOOKS: Final = 20_000
"""Virtual machine steps (about a millisecond) after which SQLite asks whether its time is up."""

_TIMEOUT_CODES: Final = frozenset({"57014", "SQLITE_INTERRUPT"})
"""PostgreSQL's query_canceled; SQLite's answer to a progress handler that says stop."""

_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


class Database:
    """Reads from one database. Safe for several threads; each statement takes its own connection."""

    def __init__(self, engine: Engine, place: str) -> None:
        """Take the engine, and for the holder's eyes only where the database is (no secrets)."""
        self._engine = engine
        self.dialect = engine.dialect.name
        self.place = place

    def rows(
        self, statement: sa.Select[Any], parameters: Mapping[str, Any], timeout_s: float
    ) -> list[Row[Any]]:
        """Return all rows of `statement`; raises `SourceError`."""
        with self.reading(timeout_s) as connection:
            return list(connection.execute(statement, parameters).all())

    def batches(
        self, statement: sa.Select[Any], parameters: Mapping[str, Any], size: int, timeout_s: float
    ) -> Generator[list[Row[Any]], None, None]:
        """Yield the rows of `statement` in lists of `size`, from one snapshot and a server-side cursor.

        `timeout_s` is for each list. Close the iterator to give back its connection. Raises `SourceError`.
        """
        with (
            self.reading(timeout_s) as connection,
            connection.execution_options(yield_per=size).execute(statement, parameters) as result,
        ):
            for rows in result.partitions():
                yield list(rows)
                if self.dialect == "sqlite":  # PostgreSQL starts anew for each fetch by itself
                    self._limit(connection, timeout_s)

    @contextmanager
    def reading(self, timeout_s: float) -> Iterator[Connection]:
        """Give a connection in a read-only transaction; raise `SourceError` for what the driver raises."""
        try:
            with self._engine.connect() as connection:
                try:
                    self._limit(connection, timeout_s)
                    yield connection
                finally:
                    self._unlimit(connection)
        except SQLAlchemyError as error:
            # `from None`: the driver's text may quote values and must not stand in a traceback.
            raise _describe(error) from None

    def close(self) -> None:
        """Close all connections that are not in use."""
        self._engine.dispose()

    def _limit(self, connection: Connection, timeout_s: float) -> None:
        if self.dialect == "sqlite":
            end = time.monotonic() + timeout_s
            _sqlite_of(connection).set_progress_handler(
                lambda: time.monotonic() > end, _SQLITE_STEPS_BETWEEN_LOOKS
            )
        elif self.dialect == "postgresql":
            milliseconds = str(max(1, int(timeout_s * 1000)))
            connection.execute(_SET_TIMEOUT, {"limit": milliseconds})

    def _unlimit(self, connection: Connection) -> None:
        # PostgreSQL forgets the limit with the transaction.
        if self.dialect == "sqlite" and not connection.invalidated:
            _sqlite_of(connection).set_progress_handler(None, 0)


_SET_TIMEOUT: Final = sa.select(
    sa.func.set_config("statement_timeout", sa.bindparam("limit", type_=sa.String), sa.true())
)


def open_database(dataset: DatasetMapping, folder: Path) -> Database:
    """Open the database of `dataset`; raise `MappingError` if its URL, its driver or its file is wrong.

    For servers no connection is made yet.
    """
    url = resolve_url(dataset, folder)
    if url.get_backend_name() == "sqlite":
        path = _sqlite_path(url, folder)
        return Database(_sqlite_engine(path, dataset.connections), f"the SQLite file {path}")
    options: dict[str, Any] = {}
    if url.get_backend_name() == "postgresql":
        options["execution_options"] = {"postgresql_readonly": True}
    engine = sa.create_engine(
        url,
        hide_parameters=True,
        pool_pre_ping=True,
        pool_size=dataset.connections,
        max_overflow=0,
        pool_timeout=_WAIT_FOR_CONNECTION_S,
        **options,
    )
    host = url.host or url.query.get("host") or "the default host"
    return Database(
        engine, f"{url.database or 'the default database'} at {host} for user {url.username or 'by default'}"
    )


def open_private_database(create: Callable[[sqlite3.Connection], None]) -> Database:
    """Return a database in this process's memory, filled by `create` and read-only from then on.

    SQLite's `memdb` file system (3.36+): connections of one process share it, no file ever exists,
    and readers do not wait for each other as they do with a shared cache.
    """
    name = f"file:/sluicegate-{os.urandom(16).hex()}?vfs=memdb"
    # The content lives as long as one connection does: the pool keeps this one for its creator.
    keeper = sqlite3.connect(name, uri=True, check_same_thread=False)
    try:
        create(keeper)
    except BaseException:
        keeper.close()
        raise

    def connect() -> sqlite3.Connection:
        return _connect_sqlite(f"{name}&mode=ro")

    engine = sa.create_engine(
        "sqlite://",
        creator=connect,
        poolclass=sa.QueuePool,
        hide_parameters=True,
        pool_size=16,
        max_overflow=48,
    )
    sa.event.listen(engine, "engine_disposed", lambda _: keeper.close())
    return Database(engine, "in memory")


def resolve_url(dataset: DatasetMapping, folder: Path) -> URL:
    """Return the URL in the mapping with environment variables and the password file filled in.

    Raises `MappingError`; the message never shows the URL.
    """
    whole = _VARIABLE.fullmatch(dataset.source)
    source = _environment(whole[1]) if whole else dataset.source
    try:
        url = sa.make_url(source)
        asynchronous = url.get_dialect().is_async
    except NoSuchModuleError:
        raise MappingError("The source's dialect or driver is not known; is its package installed?") from None
    except (ArgumentError, ValueError):
        raise MappingError(
            "The source is not a database URL that SQLAlchemy knows; it looks like "
            "postgresql+psycopg://user@host:5432/name or sqlite:///file.db."
        ) from None
    except ImportError:
        raise MappingError("The driver of the source is not installed; install its package.") from None
    if asynchronous:
        raise MappingError("The source's driver is for asyncio; use a blocking one, such as psycopg.")
    if not whole:
        _refuse_literal_secrets(url)
        url = _fill_in(url)
    if dataset.password_file:
        try:
            password = read_secret(folder / dataset.password_file).decode()
        except UnicodeDecodeError:
            raise MappingError("The password file is not UTF-8 text.") from None
        url = url.set(password=password.rstrip("\r\n"))
    return url


def _refuse_literal_secrets(url: URL) -> None:
    texts = [str(url.password or "")]
    texts += [str(value) for key, value in url.query.items() if "pass" in key.lower() or "key" in key.lower()]
    if any(text and _VARIABLE.fullmatch(text) is None for text in texts):
        raise MappingError("The source holds a secret; use password_file, or ${NAME} for a variable.")


def _fill_in(url: URL) -> URL:
    def fill(text: str) -> str:
        return _VARIABLE.sub(lambda match: _environment(match[1]), text)

    return URL.create(
        url.drivername,
        username=fill(url.username) if url.username else None,
        password=fill(str(url.password)) if url.password else None,
        host=fill(url.host) if url.host else None,
        port=url.port,
        database=fill(url.database) if url.database else None,
        query={
            key: fill(value) if isinstance(value, str) else tuple(map(fill, value))
            for key, value in url.query.items()
        },
    )


def _environment(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise MappingError(f"The environment variable {name}, which the source names, is not set.")
    return value


def _sqlite_path(url: URL, folder: Path) -> Path:
    if url.get_driver_name() != "pysqlite" or url.query:
        raise MappingError("A SQLite source has the form sqlite:///path/of/file.db, without options.")
    if not url.database or url.database == ":memory:":
        raise MappingError("A SQLite source must name a file; a database in memory is always empty.")
    path = (folder / url.database).resolve()
    if not path.is_file():
        raise MappingError(f"The SQLite file {path} does not exist.")
    return path


def _sqlite_engine(path: Path, connections: int) -> Engine:
    def connect() -> sqlite3.Connection:
        return _connect_sqlite(f"file:{quote(str(path))}?mode=ro")

    return sa.create_engine(
        "sqlite://",
        creator=connect,
        poolclass=sa.QueuePool,
        hide_parameters=True,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=_WAIT_FOR_CONNECTION_S,
    )


def _connect_sqlite(name: str) -> sqlite3.Connection:
    # A stream may be advanced by another thread each time, though never by two at once.
    connection = sqlite3.connect(name, uri=True, check_same_thread=False, timeout=_WAIT_FOR_CONNECTION_S)
    connection.execute("PRAGMA query_only = ON")
    return connection


def _sqlite_of(connection: Connection) -> sqlite3.Connection:
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver


def _describe(error: SQLAlchemyError) -> SourceError:
    if isinstance(error, NoFreeConnectionError):
        return SourceError("All connections to the database are in use; try again, or allow more.")
    cause = getattr(error, "orig", None) or error
    code = (
        getattr(cause, "sqlstate", None) or getattr(cause, "sqlite_errorname", None) or type(cause).__name__
    )
    if code in _TIMEOUT_CODES:
        return SourceError(
            "The database did not answer within the time limit; try again with fewer records.",
            reason=Reason.PROVIDER_TIMEOUT,
        )
    return SourceError(
        f"The database cannot be reached or refused the statement ({code}); the provider must look into it.",
        code=code,
    )
