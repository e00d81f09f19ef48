"""The side of a gateway that companies meet: contracts, contributions, the vault, usage, corrections."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import structlog
from google.protobuf.descriptor import ServiceDescriptor

from gateway.api.v1 import (
    contract_service_pb2,
    contribution_service_pb2,
    correction_service_pb2,
    usage_service_pb2,
)
from gateway.audit.appender import Log
from gateway.audit.store import AuditReader
from gateway.catalogue import Catalogue
from gateway.clock import Clock
from gateway.config import GatewayConfig
from gateway.contracts.register import ContractRegister
from gateway.contracts.service import Contracting
from gateway.contracts.stores import open_contract_store
from gateway.contributions.deployed import Intake, IntakeParts, open_register
from gateway.contributions.register import BatchRegister, hold_undecided
from gateway.corrections.deployed import CorrectionParts, Corrections, open_corrections
from gateway.corrections.noting import RecipientNoter
from gateway.corrections.tokens import CorrectionKeys
from gateway.database import PostgresAddress
from gateway.errors import GatewayError
from gateway.evidence.keys import SigningKey
from gateway.exchange.contracts import Contracts
from gateway.exchange.contributed import ContributedDatasets, Refused
from gateway.exchange.providers import Providers
from gateway.exchange.resolution import description
from gateway.ledger import Ledger
from gateway.ledger.contracts import Gifts
from gateway.members import Directory
from gateway.model import Dataset
from gateway.pseudonym import Pseudonymiser
from gateway.recorded.contracts import (
    ContractContradiction,
    RecordedContracts,
    VettedContracts,
    told_contract,
)
from gateway.recorded.descriptions import DescriptionRecorder
from gateway.recorded.entries import RecordedEntries
from gateway.rpc.contract import ContractServicer
from gateway.rpc.contribution import ContributionServicer
from gateway.rpc.correction import CorrectionServicer
from gateway.rpc.provider_client import GrpcProviders
from gateway.rpc.telling import Telling
from gateway.telemetry.metrics import Metrics
from gateway.vault import Holdings, open_vault
from gateway.vault.deployed import Vault, delivery_key
from gateway.vault.upkeep import Kept

_log: Final = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeParts:
    """What a gateway has before it serves contributors."""

    config: GatewayConfig
    clock: Clock
    metrics: Metrics
    stack: AsyncExitStack
    """Ends what is opened."""
    watch: Callable[[asyncio.Task[None]], None]
    """Has a task cancelled at the stop, and its failure told."""
    looks_after: bool
    """Whether this is the one worker that does for all what need not be done by each."""
    log: Log
    reader: AuditReader
    recorded: RecordedEntries
    directory: Directory
    catalogue: Catalogue
    ledger: Ledger
    signing_key: SigningKey
    secret: bytes
    tiers: Sequence[str]


class ContributorSide:
    """Puts it together: first the contracts, by `serve` what rests on them, then the services."""

    providers: Providers
    """Where records come from: connected members, and the vault if there is one."""

    def __init__(self, parts: NodeParts, connected: GrpcProviders) -> None:
        """Open the contracts; `connected` asks members."""
        self._with = parts
        self._connected = connected
        parts.stack.push_async_callback(connected.close)
        self.contracting: Final = self._open_contracts()
        self.corrections: Corrections | None = None
        self._vault: Vault | None = None
        self._batches: BatchRegister | None = None
        """There where there is a vault."""
        self._descriptions: DescriptionRecorder | None = None
        self._contracts: Contracts = self.contracting.register
        self._telling: Final = parts.stack.enter_context(
            Telling(
                parts.config,
                parts.reader,
                self.contracting.register,
                parts.directory,
                parts.signing_key,
                parts.log,
                parts.clock,
            )
        )

    async def serve(
        self, contracts: Contracts, correction_keys: CorrectionKeys | None, pseudonymiser: Pseudonymiser
    ) -> None:
        """Follow `contracts`: those in force have their datasets in the catalogue, now and from now on."""
        self._contracts = contracts
        self.corrections = self._open_corrections(correction_keys, pseudonymiser)
        contributed = ContributedDatasets(
            self._with.catalogue,
            contracts,
            self._with.tiers,
            self._with.clock,
            added=self._know,
            served=self._describe,
            refused=_tell_refused,
            passes_on_corrections=self.corrections is not None,
        )
        await contributed.refresh()
        self._begin(contributed.keep_fresh())
        self.providers = self._open_providers()

    @property
    def recipients(self) -> RecipientNoter | None:
        """Who remembers what reached whom, if that is kept."""
        return None if self.corrections is None else self.corrections.noter

    def services(self) -> dict[ServiceDescriptor, object]:
        """Return what contributors, and recipients of corrections, may call."""
        parts = self._with
        found: dict[ServiceDescriptor, object] = {
            service_of(usage_service_pb2): self._telling.servicer,
            service_of(correction_service_pb2): CorrectionServicer(self.corrections),
            service_of(contract_service_pb2): ContractServicer(
                self.contracting, parts.directory, parts.clock
            ),
        }
        intake = self._open_intake()
        if intake is not None:
            found[service_of(contribution_service_pb2)] = ContributionServicer(
                intake.service, intake.withdrawals
            )
        return found

    async def describe(self) -> None:
        """Have the log hold what policy knows of each dataset: from now on, as the start is recorded."""
        parts = self._with
        self._descriptions = DescriptionRecorder(parts.log, parts.config.log.origin, parts.clock)
        await self._describe()

    def go_on(self) -> None:
        """Begin the work that one worker does for all as long as the gateway serves."""
        if self._with.looks_after:
            for work in self._telling.work(_usage_failed):
                self._begin(work)

    def _open_contracts(self) -> Contracting:
        parts = self._with
        store = open_contract_store(parts.config.contracts_place)
        parts.stack.callback(store.close)
        entries = RecordedContracts(parts.recorded)
        vetted = VettedContracts(store, entries, _tell_contradictions)
        register = ContractRegister(vetted, parts.directory.is_active)
        contracting = Contracting(
            store,
            register,
            parts.directory,
            parts.log,
            parts.clock,
            tiers=parts.tiers,
            vouch=entries.vouch,
            repair=partial(vetted.repair, store, parts.directory.signing_keys),
        )
        self._begin(register.keep_fresh(_contracts_failed))
        self._begin(contracting.keep_settled())
        return contracting

    def _open_corrections(
        self, keys: CorrectionKeys | None, pseudonymiser: Pseudonymiser
    ) -> Corrections | None:
        """Return what passes corrections on, at work until the stop; None if there are no keys for it."""
        if keys is None:
            return None
        parts = self._with
        given = CorrectionParts(
            parts.log, parts.reader, parts.directory, parts.catalogue, pseudonymiser, parts.signing_key
        )
        corrections = open_corrections(parts.config, keys, given, parts.clock, parts.stack)
        overseeing = corrections.overseeing
        parts.metrics.watch_corrections(lambda: overseeing.open, lambda: overseeing.overdue)
        self._begin(corrections.run())
        return corrections

    def _open_providers(self) -> Providers:
        parts, contracts = self._with, self._contracts
        config = parts.config.vault
        if config is None:
            return Providers(parts.directory, self._connected)
        signing_key = delivery_key(config, demo=parts.config.demo)
        if isinstance(parts.config.log.database, PostgresAddress) and isinstance(config.database, Path):
            _log.warning("vault.of_this_node_alone")
        vault = self._vault = open_vault(config, demo=parts.config.demo, clock=parts.clock)
        parts.stack.callback(vault.close)
        batches = self._batches = open_register(parts.config.log.database)
        parts.stack.callback(batches.close)
        holdings = Holdings(vault.store)
        provider = vault.provider(
            holdings,
            signing_key,
            {parts.signing_key.key_id: parts.signing_key.verify_key},
            parts.secret,
            lambda identity: contracts.contract(identity).terms.contract,
        )
        self._begin(holdings.keep_fresh(_vault_failed))
        if parts.looks_after:
            undecided = partial(hold_undecided, batches)
            self._begin(vault.keep_up(parts.log, contracts, undecided, _tell_kept, _vault_failed))
        keys = {signing_key.key_id: signing_key.verify_key}
        return Providers(parts.directory, self._connected, provider, keys)

    def _open_intake(self) -> Intake | None:
        """Return what takes contributions; None where there is no vault to put them in."""
        parts = self._with
        if self._vault is None or self._batches is None:
            return None
        intake = Intake(
            IntakeParts(
                origin=parts.config.log.origin,
                directory=parts.directory,
                contracts=self._contracts,
                tiers=parts.tiers,
                vault=self._vault.writer,
                register=self._batches,
                log=parts.log,
                reader=parts.reader,
                giving=Gifts(parts.ledger),
                signing_key=parts.signing_key,
                secret=parts.secret,
            ),
            parts.clock,
        )
        parts.stack.push_async_callback(intake.settle)
        self._begin(intake.keep_up(_intake_failed))
        return intake

    def _know(self, datasets: Iterable[Dataset]) -> None:
        """Let contributed datasets, and those who hold them, stand in the metrics by name."""
        metrics = self._with.metrics
        metrics.know(
            datasets=[dataset.name for dataset in datasets],
            providers=sorted({dataset.provider for dataset in datasets}),
        )
        note_promises(metrics, datasets)

    async def _describe(self) -> None:
        if self._descriptions is not None:
            await self._descriptions.record(map(description, self._with.catalogue))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        self._with.watch(asyncio.create_task(work))


def note_promises(metrics: Metrics, datasets: Iterable[Dataset]) -> None:
    """Let the metrics tell what holders have promised about the age of their newest records."""
    for dataset in datasets:
        if dataset.freshness is not None:
            metrics.note_promise(dataset.name, dataset.freshness.days)


def service_of(module: ModuleType) -> ServiceDescriptor:
    """Return the one service that a generated module describes."""
    [service] = module.DESCRIPTOR.services_by_name.values()
    found: ServiceDescriptor = service
    return found


def _usage_failed(error: GatewayError) -> None:
    _log.error("usage.failed", reason=error.reason.value)


def _contracts_failed(error: GatewayError) -> None:
    _log.error("contracts.unreadable", reason=error.reason.value)


def _vault_failed(error: GatewayError) -> None:
    _log.error("vault.failed", reason=error.reason.value)


def _intake_failed(error: GatewayError) -> None:
    _log.error("contributions.failed", reason=error.reason.value)


def _tell_contradictions(found: Sequence[ContractContradiction]) -> None:
    for contradiction in found:
        _log.error(
            "contracts.contradicted",
            contract=contradiction.id,
            outcome=contradiction.what.value,
            message=told_contract(contradiction),
        )


def _tell_refused(refused: Refused) -> None:
    _log.error("contracts.dataset_refused", dataset=refused.dataset, message=refused.message)


def _tell_kept(kept: Kept) -> None:
    _log.info("vault.kept", records=sum(one.records for one in kept.purged), count=len(kept.destroyed))
