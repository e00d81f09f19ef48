"""The parts of corrections as a running gateway puts them together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

import structlog

from gateway.audit.appender import Log
from gateway.audit.store import AuditReader
from gateway.audit.stores import open_reader
from gateway.catalogue import Catalogue
from gateway.clock import Clock
from gateway.config import CorrectionsConfig, GatewayConfig
from gateway.corrections.announcing import Announcing
from gateway.corrections.answering import Answering
from gateway.corrections.attempt import CorrectionLog
from gateway.corrections.database import open_tables
from gateway.corrections.notices import Notices
from gateway.corrections.noting import RecipientNoter
from gateway.corrections.overseeing import Overseeing
from gateway.corrections.register import Register
from gateway.corrections.tokens import CorrectionKeys
from gateway.corrections.watching import Bulletin, Watching
from gateway.errors import ConfigError, GatewayError
from gateway.evidence.keys import SigningKey
from gateway.members import Directory
from gateway.model import Dataset
from gateway.pseudonym import Pseudonymiser

_log = structlog.get_logger()


class Opened(Protocol):
    """Takes what is to be done when the gateway stops, the last first."""

    def callback(self, callback: Callable[[], None], /) -> object:
        """Do `callback` at the stop."""
        ...


@dataclass(frozen=True, slots=True)
class Corrections:
    """Everything about corrections in one process."""

    log: CorrectionLog
    noter: RecipientNoter
    announcing: Announcing
    watching: Watching
    answering: Answering
    overseeing: Overseeing
    bulletin: Bulletin

    async def run(self) -> None:
        """Follow what other processes announce, and keep order, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.bulletin.keep_fresh(_failed))
            tasks.create_task(self.overseeing.keep_order(_failed))


@dataclass(frozen=True, slots=True)
class CorrectionParts:
    """What a gateway has already when it opens them."""

    log: Log
    reader: AuditReader
    directory: Directory
    catalogue: Catalogue
    pseudonymiser: Pseudonymiser
    signing_key: SigningKey


def load_keys(config: CorrectionsConfig, datasets: Iterable[Dataset]) -> CorrectionKeys | None:
    """Return the keys in the secret file; None if there is none, and none of `datasets` asks for corrections.

    Raises `ConfigError`, which says how to make the file.
    """
    if not config.key.exists():
        if not any(dataset.corrections for dataset in datasets):
            return None
        raise ConfigError(
            "A dataset asks for its corrections to be passed on (`corrections`), and there is no key for it: "
            f"make {config.key} of 32 random bytes, mode 0600: "
            f"(umask 077; head -c 32 /dev/urandom > {config.key})"
        )
    return CorrectionKeys.load(config.key)


def open_corrections(
    config: GatewayConfig, keys: CorrectionKeys, parts: CorrectionParts, clock: Clock, opened: Opened
) -> Corrections:
    """Open the tables beside the log and return what works on them; `opened` closes them.

    Raises `CorrectionsUnavailableError`, `LogUnavailableError` and `ConfigError`.
    """
    readers = [parts.reader]
    for place in reversed(config.log.previous):
        closed = open_reader(place)
        opened.callback(closed.close)
        readers.append(closed)
    log = CorrectionLog(config.log.origin, clock, parts.directory, parts.log, readers)
    place, settings = config.log.database, config.corrections
    # Pages are noted through a session of their own: nobody waits while years of releases are searched.
    noted, tables = open_tables(place, "recipients"), open_tables(place)
    opened.callback(noted.close)
    opened.callback(tables.close)
    noter = RecipientNoter(Register(noted), keys, clock)
    opened.callback(noter.close)
    register, stored = Register(tables), Notices(tables)
    bulletin = Bulletin(tables, stored)
    announcing = Announcing(log, parts.catalogue, register, stored, keys, parts.pseudonymiser)
    return Corrections(
        log=log,
        noter=noter,
        announcing=announcing,
        watching=Watching(log, stored, keys, parts.signing_key, bulletin),
        answering=Answering(log, stored),
        overseeing=Overseeing(
            stored,
            register,
            announcing,
            clock,
            remember=timedelta(days=settings.remember_days),
            overdue_after=timedelta(days=settings.overdue_days),
        ),
        bulletin=bulletin,
    )


def _failed(error: GatewayError) -> None:
    _log.error("corrections.unusable", reason=error.reason.value)
