"""Moving a deployment from SQLite files to PostgreSQL: the same log goes on there, and nowhere else."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg

from gateway.activation.transfer import carried_shelf
from gateway.audit.errors import LogMismatchError, LogUnavailableError
from gateway.audit.fsck import FsckReport, fsck
from gateway.audit.note import Ed25519Verifier
from gateway.audit.occupancy import vacated
from gateway.audit.postgres_fsck import fsck_database
from gateway.audit.postgres_reader import PostgresReader
from gateway.audit.sqlite_reader import SqliteReader
from gateway.audit.stores import require_file_log
from gateway.audit.transfer import copy_to_database
from gateway.config import GatewayConfig
from gateway.contracts.sqlite import SqliteContractStore
from gateway.contracts.store import write_version
from gateway.contracts.version import Version
from gateway.contributions.deployed import copy_register, open_register, register_file
from gateway.corrections.database import corrections_file
from gateway.corrections.transfer import carried_corrections
from gateway.database.address import PostgresAddress
from gateway.database.carrying import CarriedFile
from gateway.database.errors import DatabaseUnavailableError
from gateway.database.privileges import require_guards, require_modest_role
from gateway.database.session import advice_for, connect
from gateway.details.transfer import copy_details, destroy, verify_copy
from gateway.errors import ConfigError
from gateway.evidence.keys import SigningKey
from gateway.ledger.stores import ledger_file
from gateway.ledger.transfer import carried_ledger
from gateway.members import SqliteMemberStore
from gateway.members.store import write_member
from gateway.usage.stores import usage_file
from gateway.usage.transfer import carried_usage
from gateway.vault.transfer import carried_vault

MOVED_SUFFIX: Final = ".moved"
"""What the names of the files end in afterwards, so that nothing appends to them any more."""

Progress = Callable[[int, int], None]
Stage = Callable[[str], None]
"""Hears of each part of the work as it begins."""


@dataclass(frozen=True, slots=True)
class Moved:
    """What was moved."""

    entries: int
    checkpoints: int
    members: int
    details: int | None
    """Of how many entries details were moved; None if no file of details was there."""
    contracts: int
    """Versions of contracts."""
    rows: Mapping[str, int]
    """Of each table of the ledger, of usage, of corrections, of the shelf of policies and of the vault the
    number of rows; without those of which no file was there."""
    files: tuple[Path, ...]
    """What the old files are called now."""


def move_to_postgres(
    config: GatewayConfig,
    address: PostgresAddress,
    progress: Progress = lambda _done, _total: None,
    stage: Stage = lambda _name: None,
) -> Moved:
    """Copy what a stopped gateway keeps in files into the database at `address`; retire the files.

    That is the log, members, contracts, details, the ledger, the vault with the register of contributed
    batches, what is kept for contributors, corrections, and bundles with their approvals. The log is examined
    before and after; origin, key, entries and checkpoints are the same, so that every receipt stays valid.
    All else is compared with its copy. The files of details, of the vault and of corrections are not kept as
    the others are, but destroyed: what is erased later must not be left in them. Nothing can append to the
    log's file meanwhile. A move that was interrupted is taken up again: what was committed is not copied
    twice. Raises `LogMismatchError` if either log is not sound or they differ, `CopyMismatchError`,
    `LogUnavailableError`, `LedgerUnavailableError`, what `gateway.details.transfer` raises,
    `ContractsUnavailableError`, and `ConfigError`.
    """
    log_file = require_file_log(config.log.database, "Moving")
    member_file = require_file_log(config.members.database, "Moving")
    details_file = _details_file(config)
    contracts_file = _contracts_file(config)
    carried = _carried_files(config, log_file)
    verifier = Ed25519Verifier(config.log.origin, SigningKey.load(config.log.key).verify_key.public)
    if not log_file.exists():
        raise ConfigError(f"The audit log {log_file} is missing; restore it first.")
    with vacated(log_file), _locked(log_file):
        stage("examining the file")
        before = _require_sound(fsck(log_file, verifier, progress), "The log in the file")
        members = SqliteMemberStore(member_file).members()
        contracts = _versions(contracts_file)
        with closing(SqliteReader(log_file)) as source:
            head = source.checkpoint()
        stage("copying")
        sources = _Files(log_file, details_file, carried)
        _copy(address, config.log.origin, sources, members, contracts, head, progress)
        stage("examining the database")
        after = _require_sound(fsck_database(address, verifier, progress), "The log in the database")
        with PostgresReader(address) as target:
            same = target.checkpoint() == head
        if not same or (after.entries, after.checkpoints) != (before.entries, before.checkpoints):
            raise LogMismatchError(
                "The database holds another log than the file. Nothing was retired; go on with the file, and "
                "have the database's owner drop the schema before the next attempt."
            )
        details = None
        rows: dict[str, int] = {}
        if details_file is not None or carried:
            stage("examining all else")
            with _comparing(address) as connection:
                if details_file is not None:
                    details = _verify_details(connection, details_file, config.log.origin)
                for file in carried:
                    rows |= file.verify(connection)
        if details_file is not None:
            destroy(details_file, config.log.origin)
        for file in carried:
            if file.erased:
                file.destroy()
        register = register_file(log_file)
        if register.exists():
            with closing(open_register(address)) as batches:
                copy_register(register, batches)
        kept = (contracts_file, register if register.exists() else None)
        retired = [log_file, member_file, *(path for path in kept if path is not None)]
        retired += [file.path for file in carried if not file.erased]
        files = tuple(_retire(path) for path in retired)
    return Moved(after.entries, after.checkpoints, len(members[1]), details, len(contracts), rows, files)


def _carried_files(config: GatewayConfig, log_file: Path) -> list[CarriedFile]:
    """Return what is carried as it is, of what there is."""
    files = [
        carried_ledger(ledger_file(log_file)),
        carried_usage(usage_file(log_file)),
        carried_corrections(corrections_file(log_file)),
    ]
    if config.policy.activation is not None:
        files.append(carried_shelf(config.policy.activation.database))
    if config.vault is not None:
        files.append(carried_vault(require_file_log(config.vault.database, "Moving")))
    return [file for file in files if file.path.exists()]


def _contracts_file(config: GatewayConfig) -> Path | None:
    """Return the file of contracts; None if there were none yet."""
    path = require_file_log(config.contracts_place, "Moving")
    return path if path.exists() else None


def _versions(path: Path | None) -> list[Version]:
    """Return every version of every contract; raise `ContractsUnavailableError` if one was edited."""
    return [] if path is None else SqliteContractStore(path).all_versions()


def _details_file(config: GatewayConfig) -> Path | None:
    """Return the file of details; None if none are kept, or none were yet."""
    if config.details is None:
        return None
    path = require_file_log(config.details.database, "Moving")
    return path if path.exists() else None


@contextmanager
def _comparing(address: PostgresAddress) -> Iterator[psycopg.Connection[Any]]:
    """Give a session that reads what was copied."""
    try:
        with connect(address, "examine the copy", statement_timeout_s=0) as connection:
            yield connection
    except DatabaseUnavailableError as error:
        raise LogUnavailableError(error.message) from error
    except psycopg.Error as error:
        raise LogUnavailableError(
            f"The copy in the database cannot be read, and no file was retired: {advice_for(error)}."
        ) from None


def _verify_details(connection: psycopg.Connection[Any], path: Path, origin: str) -> int:
    verify_copy(path, origin, connection)
    (count,) = connection.execute("SELECT count(*) FROM details").fetchone() or (0,)
    return int(count)


@dataclass(frozen=True, slots=True)
class _Files:
    log: Path
    details: Path | None
    carried: list[CarriedFile]


def _copy(
    address: PostgresAddress,
    origin: str,
    files: _Files,
    members: tuple[int, list[Any]],
    contracts: list[Version],
    head: str,
    progress: Progress,
) -> None:
    try:
        with connect(address, "move the log", statement_timeout_s=0) as connection:
            require_modest_role(connection)
            require_guards(connection)
            connection.execute("SET idle_in_transaction_session_timeout = 0")
            with connection.transaction():
                found = connection.execute("SELECT note FROM head").fetchone()
                if found == (head,):
                    return
                copy_to_database(files.log, connection, progress)
                if files.details is not None:
                    copy_details(files.details, origin, connection)
                for file in files.carried:
                    file.copy(connection)
                for version in contracts:
                    connection.execute(
                        "INSERT INTO contracts (id, contract, version, terms, signatures, standing)"
                        " VALUES (%s, %s, %s, %s, %s, %s)",
                        write_version(version),
                    )
                for member in members[1]:
                    connection.execute(
                        "INSERT INTO members (id, title, member_class, roles, uri, endpoint, state)"
                        " VALUES (%s, %s, %s, %s, %s, %s, %s)",
                        write_member(member),
                    )
                    for key_id, public in member.signing_keys.items():
                        connection.execute(
                            "INSERT INTO signing_keys (key_id, member, public) VALUES (%s, %s, %s)",
                            (key_id, member.id, public),
                        )
    except DatabaseUnavailableError as error:
        raise LogUnavailableError(error.message) from error
    except psycopg.errors.UniqueViolation as error:
        raise ConfigError("The database holds members or contracts already; name an empty one.") from error
    except psycopg.Error as error:
        raise LogUnavailableError(
            f"The log was not moved, and the database is as before: {advice_for(error)}."
        ) from None


def _require_sound(report: FsckReport, which: str) -> FsckReport:
    if report.findings:
        first = report.findings[0]
        raise LogMismatchError(
            f"{which} is not sound ({first.place}: {first.what}), so that it is not moved; run "
            "`gateway audit fsck`, and restore it first."
        )
    return report


@contextmanager
def _locked(log_file: Path) -> Iterator[None]:
    """Hold the lock under which entries are appended, for the whole move: no command may, either."""
    descriptor = os.open(f"{log_file}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError("Something is writing to this log; let it end, and move then.") from error
        yield
    finally:
        os.close(descriptor)


def _retire(path: Path) -> Path:
    """Rename the file and what belongs to it, and make it read-only; return the new name."""
    retired = path.with_name(path.name + MOVED_SUFFIX)
    for suffix in ("-wal", "-shm"):
        companion = path.with_name(path.name + suffix)
        if companion.exists():
            companion.rename(retired.with_name(retired.name + suffix))
    path.rename(retired)
    retired.chmod(0o400)
    return retired
