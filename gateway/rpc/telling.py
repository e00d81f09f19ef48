"""What a gateway runs for contributors: the service they ask, and the work that tells them unasked."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Self

from gateway.audit.appender import Log
from gateway.audit.store import AuditReader
from gateway.clock import Clock
from gateway.config import GatewayConfig
from gateway.errors import GatewayError
from gateway.evidence.keys import SigningKey
from gateway.members import Directory
from gateway.rpc.usage import UsageServicer
from gateway.usage.contracts import ContractSource
from gateway.usage.issuing import Accounts
from gateway.usage.notice import NoticeRules
from gateway.usage.stores import open_usage_store
from gateway.usage.watching import Deliveries, NoticeWatcher


class Telling:
    """Puts together what contributors see. A context manager, to be left after all that uses it."""

    def __init__(
        self,
        config: GatewayConfig,
        reader: AuditReader,
        contracts: ContractSource,
        directory: Directory,
        signing_key: SigningKey,
        log: Log,
        clock: Clock,
    ) -> None:
        """Open the store; raise `UsageStoreUnavailableError` or `ConfigError`."""
        self._config = config
        self._reader = reader
        self._contracts = contracts
        self._directory = directory
        self._signing_key = signing_key
        self._log = log
        self._clock = clock
        self._store = open_usage_store(config.log.database)
        self.servicer = UsageServicer(
            Accounts(reader, contracts, self._store, signing_key, clock, log.append),
            self._store,
            reader,
            directory,
            clock,
            config.log.origin,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._store.close()

    def work(self, on_error: Callable[[GatewayError], None]) -> list[Coroutine[Any, Any, None]]:
        """Return what is to run as long as the gateway does: noticing, and delivering.

        `on_error` hears of what failed and is tried again. Raises `ConfigError` if the authorities of
        webhooks' certificates cannot be read.
        """
        # Only here: its HTTP client costs half a second and 12 MiB.
        from gateway.usage.webhook import webhook_sender  # noqa: PLC0415

        usage = self._config.usage
        watcher = NoticeWatcher(
            self._reader,
            self._contracts,
            lambda: [member.id for member in self._directory.members()],
            self._store,
            NoticeRules(floor_records=usage.unusual_floor),
            self._clock,
        )
        deliveries = Deliveries(
            self._store,
            webhook_sender(usage),
            self._signing_key,
            self._config.log.origin,
            self._clock,
            self._log.append,
        )
        return [watcher.run(on_error), deliveries.run(on_error)]
