"""The vault of a deployment: opened from its settings, and looked after while a gateway runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Final

from gateway.audit.appender import Log
from gateway.clock import Clock, system_clock
from gateway.config import VaultConfig
from gateway.database.address import PostgresAddress
from gateway.errors import GatewayError
from gateway.evidence.keys import SigningKey, VerifyKey
from gateway.model import Entry
from gateway.pki.example_keys import refuse_example_keys
from gateway.vault.engine import Engine
from gateway.vault.kek import KeyFile
from gateway.vault.keys import DataKeys
from gateway.vault.provider import Holdings, VaultProvider
from gateway.vault.reading import VaultReader
from gateway.vault.sqlite import SqliteEngine
from gateway.vault.store import VaultStore
from gateway.vault.upkeep import ContractSource, Kept, Upkeep
from gateway.vault.writer import Undecided, VaultWriter, nothing_decided

FIRST_UPKEEP_S: Final = 60.0
"""How long after its start a gateway looks after the vault for the first time."""


class Vault:
    """An open vault, and everything that works on it."""

    def __init__(self, config: VaultConfig, store: VaultStore, keys: DataKeys, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self.store: Final = store
        self.keys: Final = keys
        self.reader: Final = VaultReader(store.engine, keys)
        self.writer: Final = VaultWriter(store, keys, clock)

    def close(self) -> None:
        """Close the database. May be called twice."""
        self.store.close()

    def provider(
        self,
        holdings: Holdings,
        signing_key: SigningKey,
        order_keys: Mapping[str, VerifyKey],
        cursor_secret: bytes,
        contract_name: Callable[[str], str | None] | None = None,
    ) -> VaultProvider:
        """Return what answers orders signed by one of `order_keys`; see `VaultProvider`."""
        return VaultProvider(
            self.reader,
            holdings,
            order_keys=order_keys,
            signing_key=signing_key,
            cursor_secret=cursor_secret,
            clock=self._clock,
            contract_name=contract_name,
        )

    def upkeep(
        self,
        record: Callable[[Entry], int],
        contracts: ContractSource | None,
        undecided: Undecided = nothing_decided,
    ) -> Upkeep:
        """Return what lets go what is due; `record` appends an entry to the log."""
        return Upkeep(self.store, self.keys, self._clock, record, contracts, undecided)

    async def keep_up(
        self,
        log: Log,
        contracts: ContractSource | None,
        undecided: Undecided,
        on_done: Callable[[Kept], None],
        on_error: Callable[[GatewayError], None],
    ) -> None:
        """Look after the vault until cancelled: soon after the start, and then as often as configured."""
        loop = asyncio.get_running_loop()

        async def append(entry: Entry) -> int:
            return (await log.append(entry)).index

        def record(entry: Entry) -> int:
            return asyncio.run_coroutine_threadsafe(append(entry), loop).result()

        upkeep = self.upkeep(record, contracts, undecided)
        await asyncio.sleep(min(FIRST_UPKEEP_S, self._config.upkeep_hours * 3600))
        while True:
            try:
                on_done(await asyncio.to_thread(upkeep.run, timedelta(hours=self._config.staged_hours)))
            except GatewayError as error:
                on_error(error)
            await asyncio.sleep(self._config.upkeep_hours * 3600)


def open_vault(config: VaultConfig, *, demo: bool = False, clock: Clock = system_clock) -> Vault:
    """Open the vault of a deployment, making its file if there is none.

    Raises `ConfigError` if a key is missing, open to others, or an example key outside the demo, and
    `VaultUnavailableError`.
    """
    keys = DataKeys(KeyFile(config.kek, demo=demo))
    return Vault(config, VaultStore(open_engine(config.database)), keys, clock)


def delivery_key(config: VaultConfig, *, demo: bool = False) -> SigningKey:
    """Return the key that signs what the vault delivers; raise `ConfigError`."""
    key = SigningKey.load(config.signing)
    refuse_example_keys([key.key_id], demo=demo)
    return key


def open_engine(place: Path | PostgresAddress) -> Engine:
    """Open the database of a vault; a file is made if there is none."""
    if isinstance(place, PostgresAddress):
        # Only deployments with PostgreSQL pay for the driver.
        from gateway.vault.postgres import PostgresEngine  # noqa: PLC0415

        return PostgresEngine(place)
    return SqliteEngine(place)
