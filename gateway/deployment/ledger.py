"""The ledger made anew from the log, for what it says of contracts."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing

from gateway.audit.stores import open_reader
from gateway.config import GatewayConfig
from gateway.deployment.contracts import KeptContracts
from gateway.errors import ConfigError
from gateway.exchange.quotas.rebuilding import CONTRACT_KINDS, rebuild
from gateway.ledger import open_ledger
from gateway.model import Contract


def rebuild_ledger(config: GatewayConfig, advance: Callable[[int, int], None]) -> int:
    """Replace what the ledger says of contracts by what the log, and the closed ones before it, say.

    Gateways may run meanwhile. Returns on how many accounts something stands then. `advance` is told how many
    entries are read, and of how many. Raises `GatewayError`, and `ConfigError` if the log names a contract
    that this deployment does not keep; then nothing was changed.
    """
    contracts = _AllContracts(KeptContracts(config).contracts())
    with ExitStack() as opened:
        places = (*config.log.previous, config.log.database)
        readers = [opened.enter_context(open_reader(place)) for place in places]
        ledger = opened.enter_context(closing(open_ledger(config.log.database)))
        rebuild(ledger, readers, contracts, advance)
        return sum(standing.account.kind in CONTRACT_KINDS for standing in ledger.standings())


class _AllContracts:
    """Looks contracts up. What is not known would be counted as nothing, and open its quotas again."""

    def __init__(self, contracts: list[Contract]) -> None:
        self._contracts = {contract.id: contract for contract in contracts}

    def contract(self, identity: str) -> Contract | None:
        if not identity:
            return None
        found = self._contracts.get(identity)
        if found is None:
            raise ConfigError(
                "The log tells of a contract that this deployment does not keep; bring the database of "
                "contracts back from its backup, then try again. The ledger is as it was."
            )
        return found
