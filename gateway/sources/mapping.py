"""The mapping file: which column of which table or file stands behind each field.

Only columns named here are ever read, and only fields named as `lookup` may stand in a condition.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import msgspec

from gateway.errors import ConfigError
from gateway.model import NAME_PATTERN, FieldType

FIELD_PATTERN: Final = r"^[A-Za-z_][A-Za-z0-9_.-]{0,63}\Z"
"""Names of fields: ASCII, because canonical JSON (RFC 8785) sorts only those the same everywhere."""

FieldName = Annotated[str, msgspec.Meta(pattern=FIELD_PATTERN)]
_Text = Annotated[str, msgspec.Meta(min_length=1)]
_DatasetId = Annotated[str, msgspec.Meta(pattern=rf"^{NAME_PATTERN}\Z")]


class MappingError(ConfigError):
    """The mapping, or a table or file that it names, is not as it should be."""


class FileFormat(StrEnum):
    """How records stand in a file."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"


class BadRowRule(StrEnum):
    """What becomes of a file that has a malformed row."""

    REFUSE = "refuse"
    SKIP = "skip"


class DatasetMapping(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One dataset: a table (`source`, `table`) or a file (`file`)."""

    columns: Annotated[dict[FieldName, _Text], msgspec.Meta(min_length=1)]
    """Field to column. Columns not named here are never read."""
    lookup: tuple[str, ...] = ()
    """Fields by which records may be found."""
    key: tuple[str, ...] = ()
    """Fields that together give each record its place: unique, never null. A file may go without: then
    the line number is the key."""
    types: dict[str, FieldType] = {}
    """Field to type, where the column's own type is not the field's."""
    null_values: tuple[str, ...] = ()
    """Texts that mean "no value"."""

    source: str = ""
    """SQLAlchemy URL. `${NAME}` stands for an environment variable, in any part or as the whole."""
    password_file: str = ""
    """File of mode 0600 with the password, relative to the mapping file."""
    schema: str = ""
    table: str = ""
    """Table or view."""
    trust_key: bool = False
    """Do not check at start that the key is unique and never null (for views that are slow to count)."""
    connections: Annotated[int, msgspec.Meta(ge=1, le=200)] = 16
    """Connections at most; a stream holds one while it runs."""
    statement_timeout_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 30.0

    file: str = ""
    """Path of a file, relative to the mapping file."""
    format: FileFormat | None = None
    """Guessed from the file's name if absent."""
    delimiter: Annotated[str, msgspec.Meta(min_length=1, max_length=1)] = ","
    """CSV only."""
    encoding: str = "utf-8"
    """CSV only."""
    on_bad_row: BadRowRule = BadRowRule.REFUSE
    """Files only."""


class _MappingFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    member: _DatasetId
    datasets: Annotated[dict[_DatasetId, DatasetMapping], msgspec.Meta(min_length=1)]


@dataclass(frozen=True)
class ProviderMapping:
    """A whole mapping file, checked in itself; tables and files have not been looked at yet."""

    member: str
    """The id of the member that holds the data."""
    datasets: dict[str, DatasetMapping]
    """By dataset id: the last segment of `members/{member}/datasets/{dataset}`."""
    folder: Path
    """Relative paths start here."""


def load_mapping(path: Path) -> ProviderMapping:
    """Read the mapping file at `path`; raise `MappingError` if it cannot be read or is wrong."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise MappingError(f"The mapping file {path} cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise MappingError(f"The mapping file {path} is not UTF-8 text.") from error
    return parse_mapping(text, path.resolve().parent)


def parse_mapping(text: str, folder: Path) -> ProviderMapping:
    """Parse TOML `text`; relative paths start at `folder`. Raises `MappingError`."""
    try:
        content = msgspec.convert(tomllib.loads(text), _MappingFile)
    except tomllib.TOMLDecodeError as error:
        raise MappingError(f"The mapping is not TOML: {error}.") from error
    except msgspec.ValidationError as error:
        raise MappingError(f"The mapping has a wrong, missing or unknown key: {error}.") from error
    for name, dataset in content.datasets.items():
        problems = " ".join(_problems(dataset))
        if problems:
            raise MappingError(f"Dataset {name} in the mapping: {problems}", dataset=name)
    return ProviderMapping(content.member, content.datasets, folder)


_FORMAT_BY_SUFFIX: Final = {
    ".csv": FileFormat.CSV,
    ".jsonl": FileFormat.JSONL,
    ".ndjson": FileFormat.JSONL,
    ".parquet": FileFormat.PARQUET,
}


def file_format(dataset: DatasetMapping) -> FileFormat:
    """Return the format of the dataset's file; raise `MappingError` if its name does not tell."""
    if dataset.format is not None:
        return dataset.format
    suffixes = [suffix.lower() for suffix in Path(dataset.file).suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    found = _FORMAT_BY_SUFFIX.get(suffixes[-1]) if suffixes else None
    if found is None:
        raise MappingError("the file's name does not tell its format; set format to csv, jsonl or parquet.")
    return found


_ONLY_SQL: Final = ("password_file", "schema", "table", "trust_key", "connections", "statement_timeout_s")
_ONLY_FILE: Final = ("format", "delimiter", "encoding", "on_bad_row")


def _problems(dataset: DatasetMapping) -> Iterator[str]:
    """Yield what is wrong with the dataset in itself, each as a sentence with the way out."""
    if bool(dataset.source) == bool(dataset.file):
        yield "give either source (a database) or file (a file), exactly one of them."
        return
    foreign = [key for key in (_ONLY_FILE if dataset.source else _ONLY_SQL) if _is_set(dataset, key)]
    if foreign:
        kind = "database" if dataset.source else "file"
        yield f"{', '.join(foreign)} has no meaning for a {kind}; remove it."
    for key in ("lookup", "key", "types"):
        unknown = [field for field in getattr(dataset, key) if field not in dataset.columns]
        if unknown:
            yield f"{key} names {', '.join(map(repr, unknown))}, which is not a field under columns."
    for key in ("lookup", "key"):
        named: tuple[str, ...] = getattr(dataset, key)
        if len(set(named)) != len(named):
            yield f"{key} names a field twice."
        if any(dataset.types.get(field) is FieldType.NUMBER for field in named):
            yield f"a field of type number cannot stand in {key}: such values do not compare exactly."
    yield from _database_problems(dataset) if dataset.source else _file_problems(dataset)


def _database_problems(dataset: DatasetMapping) -> Iterator[str]:
    if not dataset.table:
        yield "table is missing; name the table or view that holds the records."
    if not dataset.key:
        yield "key is missing; name the field or fields that are unique and never null."


def _file_problems(dataset: DatasetMapping) -> Iterator[str]:
    try:
        file_format(dataset)
    except MappingError as error:
        yield error.message
    try:
        "".encode(dataset.encoding)
    except (LookupError, ValueError):
        yield "encoding is not one that Python knows; utf-8 is the default."


def _is_set(dataset: DatasetMapping, key: str) -> bool:
    defaults = {field.name: field.default for field in msgspec.structs.fields(DatasetMapping)}
    return bool(getattr(dataset, key) != defaults[key])
