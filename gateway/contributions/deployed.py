"""The intake of contributions of a deployment: put together, and looked after while a gateway runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gateway.audit.appender import Log
from gateway.audit.store import AuditReader
from gateway.clock import Clock, parse_rfc3339
from gateway.contributions.form import Forms
from gateway.contributions.journal import ContributionJournal
from gateway.contributions.ports import ContractSource, RecordVault
from gateway.contributions.register import BatchRegister
from gateway.contributions.service import ContributionService
from gateway.contributions.sqlite import SqliteRegister
from gateway.contributions.withdrawal import Withdrawals
from gateway.database import PostgresAddress
from gateway.errors import GatewayError
from gateway.evidence.keys import SigningKey
from gateway.ledger.contracts import Giving
from gateway.members import Directory

RECOVERY_INTERVAL_S: Final = 3600.0
"""How often uploads are looked for that nobody goes on with, and ends that another process did not see to."""

LAST_RECORDS_TIMEOUT_S: Final = 5.0
"""How long a stop waits for what uploads that it has cut are still writing."""


@dataclass(frozen=True, slots=True)
class IntakeParts:
    """What the rest of the gateway gives to the intake."""

    origin: str
    directory: Directory
    contracts: ContractSource
    tiers: Sequence[str]
    vault: RecordVault[Any]
    register: BatchRegister
    log: Log
    reader: AuditReader
    giving: Giving
    signing_key: SigningKey
    secret: bytes
    """32 bytes that hide the keys of records in the register."""


class Intake:
    """Takes contributions and withdrawals."""

    def __init__(self, parts: IntakeParts, clock: Clock) -> None:
        common: dict[str, Any] = {
            "origin": parts.origin,
            "clock": clock,
            "directory": parts.directory,
            "forms": Forms(parts.contracts, parts.tiers),
            "vault": parts.vault,
            "journal": ContributionJournal(parts.log, parts.reader, clock),
        }
        self.service: Final = ContributionService(
            **common,
            register=parts.register,
            giving=parts.giving,
            signing_key=parts.signing_key,
            secret=parts.secret,
        )
        self.withdrawals: Final = Withdrawals(**common)

    async def keep_up(self, on_error: Callable[[GatewayError], None]) -> None:
        """Complete what crashes have left, now and then, until cancelled."""
        while True:
            try:
                await self.service.recover()
            except GatewayError as error:
                on_error(error)
            await asyncio.sleep(RECOVERY_INTERVAL_S)

    async def settle(self) -> None:
        """Wait for what the uploads that were cut are still writing; before their stores are closed."""
        await self.service.wait_until_idle(LAST_RECORDS_TIMEOUT_S)


def open_register(log: Path | PostgresAddress) -> BatchRegister:
    """Open the register of batches of the deployment with this log: in its database, or beside it.

    Raises `RegisterUnavailableError`, and `ConfigError` if other users may read or write the file.
    """
    if isinstance(log, PostgresAddress):
        # Only deployments with PostgreSQL pay for the driver.
        from gateway.contributions.postgres import PostgresRegister  # noqa: PLC0415

        return PostgresRegister(log)
    return SqliteRegister(register_file(log))


def register_file(log: Path) -> Path:
    """Return where the register of batches is of the deployment whose log is the file `log`: beside it."""
    return log.with_name(f"{log.stem}-contributions.db")


def copy_register(file: Path, target: BatchRegister) -> int:
    """Copy the batches of a stopped gateway from the file of its register; return how many there are.

    May be cut short, and repeated. Raises `RegisterUnavailableError`, and `BatchBusyError` while
    a gateway works with `target`.
    """
    with closing(SqliteRegister(file)) as source:
        batches = source.batches()
        for batch in batches:
            with target.exclusively(batch.contributor, batch.name):
                if target.find(batch.contributor, batch.name) is None:
                    target.add(batch)
                claims = source.claims(batch.exchange)
                if claims:
                    target.claim(batch.exchange, claims, parse_rfc3339(batch.touched))
    return len(batches)
