"""Examining a log in PostgreSQL: its guards, and every entry, on a copy."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import psycopg

from gateway.audit.errors import LogMismatchError, LogUnavailableError
from gateway.audit.findings import Finding, Progress
from gateway.audit.fsck import FsckReport, fsck
from gateway.audit.note import Ed25519Verifier
from gateway.audit.transfer import copy_to_file
from gateway.database.address import PostgresAddress
from gateway.database.errors import DatabaseRefusedError, DatabaseUnavailableError
from gateway.database.privileges import missing_guards
from gateway.database.session import advice_for, connect


def fsck_database(
    address: PostgresAddress, verifier: Ed25519Verifier, progress: Progress | None = None
) -> FsckReport:
    """Examine the log at `address`, whose checkpoints `verifier` must have signed.

    One committed state is copied to a temporary file (as large as the log), so that the examination
    is that of every other log and holds nothing in the database meanwhile. Raises
    `LogUnavailableError` if the database cannot be read; everything else is a finding.
    """
    findings = _examine_database(address)
    with tempfile.TemporaryDirectory(prefix="sluicegate-fsck-") as folder:
        copy = Path(folder) / "audit.db"
        try:
            copy_to_file(address, copy, lambda _done, _total: None)
        except LogMismatchError as error:
            return FsckReport(0, 0, (*findings, Finding("database", error.message)))
        except (DatabaseRefusedError, DatabaseUnavailableError) as error:
            raise LogUnavailableError(error.message) from error
        report = fsck(copy, verifier, progress)
    return replace(report, findings=(*findings, *report.findings))


def _examine_database(address: PostgresAddress) -> tuple[Finding, ...]:
    try:
        with connect(address, "fsck") as connection:
            return tuple(
                Finding("database", f"the guard {guard} is missing or switched off")
                for guard in missing_guards(connection)
            )
    except DatabaseRefusedError as error:
        return (Finding("database", error.message),)
    except DatabaseUnavailableError as error:
        raise LogUnavailableError(error.message) from error
    except psycopg.Error as error:
        raise LogUnavailableError(f"The audit log cannot be read: {advice_for(error)}.") from None
