"""From a mapping to sources, and the check that tells the holder whether they will work."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace

from gateway.errors import GatewayError
from gateway.sources.cursor import CursorSeal
from gateway.sources.database import open_database
from gateway.sources.files import SkippedRow, load_file
from gateway.sources.layout import lookups_without_index, reflect_layout, verify_key
from gateway.sources.mapping import DatasetMapping, MappingError, ProviderMapping, file_format
from gateway.sources.source import RecordSource, SourceError
from gateway.sources.sql import SqlSource


@dataclass(frozen=True)
class SourceReport:
    """What `check_mapping` found for one dataset."""

    dataset: str
    kind: str
    """The SQL dialect or the file format."""
    problem: str = ""
    """Why the dataset cannot be served; empty if it can."""
    records: int = 0
    skipped_rows: int = 0
    first_skipped: tuple[SkippedRow, ...] = ()
    lookups_without_index: tuple[str, ...] = ()
    """Look-up fields that make the database read its whole table."""


@dataclass(frozen=True)
class OpenedSource:
    """A source that is ready, and what was noticed while it was opened."""

    source: RecordSource
    report: SourceReport
    """`records` is 0: only `check_mapping` counts."""


def open_sources(mapping: ProviderMapping, *, cursor_secret: bytes | None = None) -> dict[str, OpenedSource]:
    """Open every dataset of `mapping`; return the sources by dataset id.

    `cursor_secret` (32 bytes or more) lets cursors outlive the process and pass between several;
    without it they end with the process. Raises `MappingError`, which names the dataset; what was
    opened before is closed.
    """
    seal = CursorSeal(cursor_secret)
    opened: dict[str, OpenedSource] = {}
    try:
        for name in mapping.datasets:
            opened[name] = open_source(name, mapping, seal)
    except BaseException:
        for entry in opened.values():
            entry.source.close()
        raise
    return opened


def check_mapping(mapping: ProviderMapping) -> tuple[SourceReport, ...]:
    """Open each dataset, count its records, close it; report every dataset, also those that fail."""
    reports = []
    for name, dataset in mapping.datasets.items():
        try:
            opened = open_source(name, mapping, CursorSeal())
            with closing(opened.source):
                reports.append(replace(opened.report, records=opened.source.count_records()))
        except GatewayError as error:
            kind = file_format(dataset) if dataset.file else "database"
            reports.append(SourceReport(name, kind, problem=error.message))
    return tuple(reports)


def open_source(name: str, mapping: ProviderMapping, seal: CursorSeal) -> OpenedSource:
    """Open the dataset with id `name`; raise `MappingError` if it cannot be served as the mapping says."""
    dataset = mapping.datasets[name]
    try:
        if dataset.file:
            return _open_file(name, dataset, mapping, seal)
        return _open_table(name, dataset, mapping, seal)
    except GatewayError as error:
        raise MappingError(f"Dataset {name} cannot be served: {error.message}", dataset=name) from error


def _open_file(
    name: str, dataset: DatasetMapping, mapping: ProviderMapping, seal: CursorSeal
) -> OpenedSource:
    loaded = load_file(dataset, mapping.folder)
    source = SqlSource(name, loaded.database, loaded.layout, seal=seal, timeout_s=dataset.statement_timeout_s)
    report = SourceReport(
        name,
        file_format(dataset),
        skipped_rows=loaded.skipped_rows,
        first_skipped=loaded.first_skipped,
    )
    return OpenedSource(source, report)


def _open_table(
    name: str, dataset: DatasetMapping, mapping: ProviderMapping, seal: CursorSeal
) -> OpenedSource:
    database = open_database(dataset, mapping.folder)
    try:
        with database.reading(dataset.statement_timeout_s) as connection:
            layout = reflect_layout(connection, dataset)
            if not dataset.trust_key:
                verify_key(connection, layout)
            slow = lookups_without_index(connection, dataset)
    except SourceError as error:
        database.close()
        raise MappingError(f"{error.message} It is {database.place}.") from error
    except BaseException:
        database.close()
        raise
    source = SqlSource(name, database, layout, seal=seal, timeout_s=dataset.statement_timeout_s)
    return OpenedSource(source, SourceReport(name, database.dialect, lookups_without_index=slow))
