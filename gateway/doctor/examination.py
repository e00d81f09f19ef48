"""The whole examination: check after check, none of which hides another."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

from gateway.audit.fsck import Progress
from gateway.audit.note import Ed25519Verifier
from gateway.audit.store import AuditReader
from gateway.audit.stores import open_reader
from gateway.config import GatewayConfig
from gateway.deployment import Deployment
from gateway.doctor import files, log, records
from gateway.doctor.finding import Check, Finding, State
from gateway.errors import GatewayError
from gateway.evidence.keys import SigningKey
from gateway.recorded.entries import RecordedEntries, recorded_entries


def examine_deployment(
    config: GatewayConfig,
    config_file: Path,
    now: datetime,
    *,
    deep: bool = False,
    progress: Progress = lambda _done, _total: None,
) -> Iterator[Finding]:
    """Yield what is found of the deployment whose configuration was read from `config_file`.

    Changes nothing; may be run beside a running gateway. With `deep` every entry of the log is examined.
    """
    trust_file = Deployment(config_file.parent).trust
    yield from _run("files", lambda: files.examine_modes(config, config_file, trust_file))
    yield from _run("certificates", lambda: files.examine_certificates(config, now))
    yield from _run("keys", lambda: files.examine_keys(config, now))
    yield from _run("log tables", lambda: log.examine_tables(config.log.database))
    with ExitStack() as opened:
        try:
            verifier = Ed25519Verifier(config.log.origin, SigningKey.load(config.log.key).verify_key.public)
            reader = opened.enter_context(open_reader(config.log.database))
            entries = recorded_entries(reader, verifier, config.log.previous, opened)
        except GatewayError as error:
            yield Finding("log", State.FAIL, error.message)
        else:
            yield from _examine_against_log(
                config, reader, verifier, entries, now, deep=deep, progress=progress
            )
    yield from _run("log disk", lambda: log.examine_disk(config.log))
    yield from _run("trust file", lambda: records.examine_trust(config, trust_file))


def _examine_against_log(
    config: GatewayConfig,
    reader: AuditReader,
    verifier: Ed25519Verifier,
    entries: RecordedEntries,
    now: datetime,
    *,
    deep: bool,
    progress: Progress,
) -> Iterator[Finding]:
    if deep:
        yield from _run("log", lambda: log.examine_all(config.log.database, verifier, progress))
    else:
        yield from _run("log", lambda: log.examine_edge(reader, verifier))
    yield from _run("log anchor", lambda: log.examine_anchor(config.log, reader, verifier))
    yield from _run("clock", lambda: log.examine_clock(config.log, reader, now))
    yield from _run("members", lambda: records.examine_members(config, entries))
    yield from _run("policy", lambda: records.examine_policy(config, now))
    yield from _run("contracts", lambda: records.examine_contracts(config, entries))
    yield from _run("changes", lambda: records.examine_changes(config, entries))
    yield from _run("starts", lambda: records.examine_starts(config, entries, now))


def _run(name: str, check: Check) -> Iterator[Finding]:
    """Yield what `check` finds; that it cannot look is a finding, too."""
    try:
        yield from check()
    except GatewayError as error:
        yield Finding(name, State.FAIL, error.message)
    except sqlite3.Error as error:
        yield Finding(name, State.FAIL, log.open_problem(error))
    except OSError as error:
        yield Finding(name, State.FAIL, f"{error.filename}: {error.strerror}")
