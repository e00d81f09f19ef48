"""Closing a deployment's log and going on in the next one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import msgspec

from gateway.audit.anchor import Anchor
from gateway.audit.checkpoint import open_checkpoint
from gateway.audit.note import Ed25519Signer, Ed25519Verifier
from gateway.audit.shards import closing_detail, opening_detail
from gateway.audit.stores import Place, log_exists, open_reader, open_store, vacated_by_all
from gateway.audit.writer import AuditLog
from gateway.clock import Clock, rfc3339, system_clock
from gateway.config import ORIGIN_PATTERN, GatewayConfig
from gateway.database import PostgresAddress
from gateway.deployment.contracts import carry_contracts, missing_contracts
from gateway.errors import ConfigError
from gateway.evidence.keys import SigningKey
from gateway.members import open_member_store
from gateway.model import ENTRY_VERSION, Entry, EntryKind, Member


@dataclass(frozen=True, slots=True)
class Rotation:
    """What a rotation has made."""

    closed: str
    """Origin of the log that was closed."""
    size: int
    """How many entries it has, for ever."""
    opened: str
    database: Place
    """Where the next log stands."""


def close_and_go_on(
    config: GatewayConfig, next_origin: str, next_database: Place, *, clock: Clock = system_clock
) -> Rotation:
    """Close the log of `config` with a final entry and begin the next one with its final checkpoint.

    The next one is kept by the same engine: in a file that does not exist, or in a database that has the
    schema and is empty; members and contracts go there too. One that was broken off half-way is completed
    when it is asked for again. The configuration is left as it is. Raises `ConfigError` (a gateway runs; the
    names cannot be used) and `LogUnavailableError`.
    """
    log = config.log
    _check_names(config, next_origin, next_database)
    key = SigningKey.load(log.key)
    next_signer = Ed25519Signer(next_origin, key)
    with vacated_by_all(log.database):
        # Whatever is wrong with the next place is found before anything is closed for ever.
        begun = _first_entry(next_database, next_signer.verifier)
        if begun is not None and begun.detail.get("previous") != log.origin:
            raise _taken(next_database)
        if isinstance(next_database, PostgresAddress):
            _missing_members(config.members.database, next_database)
            missing_contracts(config.contracts_place, next_database)
        note, size = _close(log.database, Ed25519Signer(log.origin, key), next_origin, clock)
        detail = opening_detail(note)
        if begun is not None and (begun.kind is not EntryKind.LOG_OPENED or begun.detail != detail):
            raise _taken(next_database)
        if isinstance(next_database, PostgresAddress):
            _carry_members(config.members.database, next_database)
            carry_contracts(config.contracts_place, next_database)
        if begun is None:
            with AuditLog(open_store(next_database), next_signer, origin=next_origin, clock=clock) as writer:
                writer.append_sync(_entry(EntryKind.LOG_OPENED, detail, clock))
        if log.anchor is not None:
            with open_reader(next_database) as reader:
                Anchor(log.anchor, next_signer.verifier).write(reader.checkpoint())
    return Rotation(log.origin, size, next_origin, next_database)


def _check_names(config: GatewayConfig, next_origin: str, next_database: Place) -> None:
    log = config.log
    if re.fullmatch(ORIGIN_PATTERN, next_origin) is None or next_origin == log.origin:
        raise ConfigError(
            "The next log needs a name of its own: a URL without its scheme, in lower case, such as "
            "audit.example.org/log/2027."
        )
    if isinstance(next_database, PostgresAddress) != isinstance(log.database, PostgresAddress):
        raise ConfigError(
            "The next log is kept where this one is: in a file, or in PostgreSQL. Move it afterwards, with "
            "`gateway database move`."
        )
    if isinstance(next_database, Path) and isinstance(log.database, Path):
        if next_database.resolve() == log.database.resolve():
            raise ConfigError("The next log needs a file of its own.")
    elif next_database == log.database:
        raise ConfigError("The next log needs a database of its own.")


def _close(place: Place, signer: Ed25519Signer, next_origin: str, clock: Clock) -> tuple[str, int]:
    """Return the final checkpoint of the log, closed now or before, and its size."""
    closing_entry = _entry(EntryKind.LOG_CLOSED, closing_detail(next_origin), clock)
    last = _last_entry(place)
    if last is None or last.kind is not EntryKind.LOG_CLOSED:
        with AuditLog(open_store(place), signer, origin=signer.name, clock=clock) as writer:
            writer.append_sync(closing_entry)
    elif last.detail != closing_entry.detail:
        raise ConfigError("This log was closed before, in favour of another one; see its last entry.")
    with open_reader(place) as reader:
        note = reader.checkpoint()
    return note, open_checkpoint(note, [signer.verifier], origin=signer.name).size


def _taken(place: Place) -> ConfigError:
    return ConfigError(f"{place} holds another log already; name an empty place.")


def _carry_members(here: Place, there: Place) -> None:
    """Copy the members to the next database, as far as an earlier attempt has not.

    Nobody changes them here any more: the log takes no entry that would say so.
    """
    missing = _missing_members(here, there)
    with closing(open_member_store(there)) as target:
        for member in missing:
            target.add(member)


def _missing_members(here: Place, there: Place) -> list[Member]:
    """Return who is still to be copied; raise `ConfigError` if others, or other facts, stand there."""
    with closing(open_member_store(here)) as source, closing(open_member_store(there)) as target:
        ours = {member.id: member for member in source.members()[1]}
        theirs = {member.id: member for member in target.members()[1]}
    if any(ours.get(name) != member for name, member in theirs.items()):
        raise ConfigError("The next database holds other members already; name an empty one.")
    return [member for name, member in ours.items() if name not in theirs]


def _first_entry(place: Place, verifier: Ed25519Verifier) -> Entry | None:
    """Return the first entry of the log that an earlier attempt may have begun; None if there is none.

    Raises `NoteError` if another log stands there.
    """
    if not log_exists(place):
        return None
    with open_reader(place) as reader:
        open_checkpoint(reader.checkpoint(), [verifier], origin=verifier.name)
        return msgspec.json.decode(reader.entry(0).data, type=Entry) if reader.size() else None


def _last_entry(place: Place) -> Entry | None:
    with open_reader(place) as reader:
        size = reader.size()
        return msgspec.json.decode(reader.entry(size - 1).data, type=Entry) if size else None


def _entry(kind: EntryKind, detail: Mapping[str, str], clock: Clock) -> Entry:
    return Entry(v=ENTRY_VERSION, kind=kind, time=rfc3339(clock()), detail=dict(detail))
