"""What the operator does with contracts: suspend one at once, and take that back."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing
from datetime import datetime

from gateway.audit.note import Ed25519Verifier
from gateway.audit.stores import Place, open_reader
from gateway.clock import Clock, system_clock
from gateway.config import GatewayConfig
from gateway.contracts import negotiation
from gateway.contracts.entries import entry_of
from gateway.contracts.life_cycle import OPERATOR
from gateway.contracts.store import Decide, unrecorded
from gateway.contracts.stores import open_contract_store
from gateway.contracts.version import Change, History, Version
from gateway.deployment.changes import record_entry
from gateway.errors import ConfigError
from gateway.evidence.keys import SigningKey
from gateway.model import Contract, EntryKind, parse_contract_name
from gateway.recorded.contracts import RecordedContracts
from gateway.recorded.entries import recorded_entries

Rule = Callable[[History, int, datetime], list[Change]]


def contract_versions(config: GatewayConfig) -> list[Version]:
    """Return every version of every contract that is kept and verifies."""
    with closing(open_contract_store(config.contracts_place)) as store:
        return store.versions()[1]


class KeptContracts:
    """The contracts that a deployment keeps, for commands that run beside the gateway or without it."""

    def __init__(self, config: GatewayConfig) -> None:
        self._config = config

    def contracts(self) -> list[Contract]:
        """Return every version of every contract; raise `GatewayError` if they cannot be read."""
        return [version.contract() for version in contract_versions(self._config)]


def missing_contracts(here: Place, there: Place) -> list[Version]:
    """Return the versions that are still to be copied; raise `ConfigError` if others stand there."""
    with closing(open_contract_store(here)) as source, closing(open_contract_store(there)) as target:
        ours = {version.id: version for version in source.versions()[1]}
        theirs = {version.id: version for version in target.versions()[1]}
    if any(ours.get(contract_id) != version for contract_id, version in theirs.items()):
        raise ConfigError("The next database holds other contracts already; name an empty one.")
    return [version for contract_id, version in ours.items() if contract_id not in theirs]


def carry_contracts(here: Place, there: Place) -> None:
    """Copy the contracts to the next log's database, as far as an earlier attempt has not.

    Nothing is recorded: the closed log tells of them, and the next one goes on from it.
    """
    missing = missing_contracts(here, there)
    with closing(open_contract_store(there)) as target:
        for version in missing:
            change = Change(EntryKind.CONTRACT_PROPOSED, version, "")
            target.change(version.terms.contract, _only(change), unrecorded)


def _only(change: Change) -> Decide:
    return lambda _: [change]


def suspend_contract(
    config: GatewayConfig, name: str, reason: str, *, clock: Clock = system_clock
) -> Version:
    """Suspend the version called `name` for the operator; running gateways follow within a second.

    Raises `GatewayError`; then nothing was changed.
    """
    return _change(
        config,
        name,
        lambda history, number, now: negotiation.suspend(history, number, OPERATOR, reason, now),
        clock,
    )


def resume_contract(config: GatewayConfig, name: str, *, clock: Clock = system_clock) -> Version:
    """Take back the operator's suspension; the contract is in force again if nobody else holds it."""
    return _change(
        config, name, lambda history, number, now: negotiation.resume(history, number, OPERATOR, now), clock
    )


def _change(config: GatewayConfig, name: str, rule: Rule, clock: Clock) -> Version:
    contract, number = parse_contract_name(name)
    now = clock()
    verifier = Ed25519Verifier(config.log.origin, SigningKey.load(config.log.key).verify_key.public)
    with ExitStack() as opened:
        store = opened.enter_context(closing(open_contract_store(config.contracts_place)))
        reader = opened.enter_context(open_reader(config.log.database))
        recorded = RecordedContracts(recorded_entries(reader, verifier, config.log.previous, opened))

        def decide(history: History) -> list[Change]:
            recorded.vouch(history)
            return rule(history, number, now)

        def record(change: Change) -> None:
            record_entry(config, entry_of(change, clock()), clock=clock)

        return store.change(contract, decide, record)[0].version
