"""Closing a deployment's log and going on in the next one."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from gateway.audit.anchor import Anchor
from gateway.audit.checkpoint import open_checkpoint
from gateway.audit.note import Ed25519Signer, Ed25519Verifier
from gateway.audit.occupancy import vacated
from gateway.audit.shards import closing_detail, opening_detail
from gateway.audit.sqlite import SqliteStore
from gateway.audit.sqlite_reader import SqliteReader
from gateway.audit.writer import AuditLog
from gateway.clock import Clock, rfc3339, system_clock
from gateway.config import ORIGIN_PATTERN, GatewayConfig
from gateway.errors import ConfigError
from gateway.evidence.keys import SigningKey
from gateway.model import ENTRY_VERSION, Entry, EntryKind

_SECTION: Final = re.compile(r"^\[log\][ \t]*(?:#.*)?\n(?P<body>(?:(?!\[).*\n?)*)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Rotation:
    """What a rotation has made."""

    closed: str
    """Origin of the log that was closed."""
    size: int
    """How many entries it has, for ever."""
    opened: str
    database: Path
    """Where the next log stands."""


def close_and_go_on(
    config: GatewayConfig, next_origin: str, next_database: Path, *, clock: Clock = system_clock
) -> Rotation:
    """Close the log of `config` with a final entry and begin the next one with its final checkpoint.

    One that was broken off half-way is completed when it is asked for again. The configuration is
    left as it is. Raises `ConfigError` (a gateway runs; the names cannot be used) and
    `LogUnavailableError`.
    """
    log = config.log
    if re.fullmatch(ORIGIN_PATTERN, next_origin) is None or next_origin == log.origin:
        raise ConfigError(
            "The next log needs a name of its own: a URL without its scheme, in lower case, such as "
            "audit.example.org/log/2027."
        )
    if next_database.resolve() == log.database.resolve():
        raise ConfigError("The next log needs a file of its own.")
    key = SigningKey.load(log.key)
    with vacated(log.database):
        note, size = _close(config, Ed25519Signer(log.origin, key), next_origin, clock)
        next_signer = Ed25519Signer(next_origin, key)
        _begin(next_database, next_signer, opening_detail(note), clock)
        if log.anchor is not None:
            with SqliteReader(next_database) as reader:
                Anchor(log.anchor, next_signer.verifier).write(reader.checkpoint())
    return Rotation(log.origin, size, next_origin, next_database)


def _close(config: GatewayConfig, signer: Ed25519Signer, next_origin: str, clock: Clock) -> tuple[str, int]:
    """Return the final checkpoint of the log, closed now or before, and its size."""
    log = config.log
    closing = _entry(EntryKind.LOG_CLOSED, closing_detail(next_origin), clock)
    last = _last_entry(log.database)
    if last is None or last.kind is not EntryKind.LOG_CLOSED:
        with AuditLog(SqliteStore(log.database), signer, origin=log.origin, clock=clock) as writer:
            writer.append_sync(closing)
    elif last.detail != closing.detail:
        raise ConfigError("This log was closed before, in favour of another one; see its last entry.")
    with SqliteReader(log.database) as reader:
        note = reader.checkpoint()
    return note, open_checkpoint(note, [signer.verifier], origin=log.origin).size


def _begin(database: Path, signer: Ed25519Signer, detail: Mapping[str, str], clock: Clock) -> None:
    """Make the next log with its first entry, unless an earlier attempt has."""
    if database.exists():
        first = _first_entry(database, signer.verifier)
        if first is not None and (first.kind is not EntryKind.LOG_OPENED or first.detail != detail):
            raise ConfigError(f"{database} holds another log already; name a file that does not exist.")
        if first is not None:
            return
    with AuditLog(SqliteStore(database), signer, origin=signer.name, clock=clock) as writer:
        writer.append_sync(_entry(EntryKind.LOG_OPENED, detail, clock))


def _first_entry(database: Path, verifier: Ed25519Verifier) -> Entry | None:
    with SqliteReader(database) as reader:
        open_checkpoint(reader.checkpoint(), [verifier], origin=verifier.name)
        return msgspec.json.decode(reader.entry(0).data, type=Entry) if reader.size() else None


def _last_entry(database: Path) -> Entry | None:
    with SqliteReader(database) as reader:
        size = reader.size()
        return msgspec.json.decode(reader.entry(size - 1).data, type=Entry) if size else None


def _entry(kind: EntryKind, detail: Mapping[str, str], clock: Clock) -> Entry:
    return Entry(v=ENTRY_VERSION, kind=kind, time=rfc3339(clock()), detail=dict(detail))


def settings_of_next(text: str, config: GatewayConfig, rotation: Rotation, folder: Path) -> str:
    """Return the text of the configuration with `[log]` changed to go on in the next log.

    Everything else, comments too, stays as it is. `folder` is that of the file: paths within it are
    written relative to it. Raises `ConfigError` if the file's form is not one that can be changed
    safely.
    """
    found = _SECTION.search(text)
    if found is None:
        raise _edit_by_hand(rotation)
    body = found["body"]
    previous = [*config.log.previous, config.log.database]
    for name, value in (
        ("origin", _toml(rotation.opened)),
        ("database", _toml(_relative(rotation.database, folder))),
        ("previous", f"[{', '.join(_toml(_relative(path, folder)) for path in previous)}]"),
    ):
        body = _with_setting(body, name, value)
    changed = text[: found.start("body")] + body + text[found.end("body") :]
    try:
        before, after = tomllib.loads(text), tomllib.loads(changed)
    except tomllib.TOMLDecodeError as error:
        raise _edit_by_hand(rotation) from error
    expected = {
        "origin": rotation.opened,
        "database": _relative(rotation.database, folder),
        "previous": [_relative(path, folder) for path in previous],
    }
    if after != {**before, "log": {**before["log"], **expected}}:
        raise _edit_by_hand(rotation)
    return changed


def _with_setting(body: str, name: str, value: str) -> str:
    line = re.compile(rf"^{name}[ \t]*=.*$", re.MULTILINE)
    if line.search(body):
        return line.sub(lambda _: f"{name} = {value}", body, count=1)
    return f"{name} = {value}\n{body}"


def _relative(path: Path, folder: Path) -> str:
    resolved, base = path.resolve(), folder.resolve()
    return os.path.relpath(resolved, base) if resolved.is_relative_to(base) else str(resolved)


def _toml(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _edit_by_hand(rotation: Rotation) -> ConfigError:
    return ConfigError(
        f"The log is closed, and {rotation.database} is begun, but the configuration is not of a form that "
        f"can be changed safely. In its section [log], set origin to {rotation.opened} and database to that "
        "file, and add the closed log's file to the list `previous`."
    )
