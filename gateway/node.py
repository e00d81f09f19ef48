"""A running gateway: everything `gateway serve` puts together, starts, watches and stops."""

from __future__ import annotations

import asyncio
import gc
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from importlib.metadata import version
from typing import Final

import structlog
from google.protobuf.descriptor import ServiceDescriptor

from gateway import __version__
from gateway.activation.active import NamesInForce
from gateway.activation.fitting import witnessed_tiers
from gateway.api.v1 import (
    audit_service_pb2,
    catalog_service_pb2,
    exchange_service_pb2,
)
from gateway.audit.appender import Log, LogHooks
from gateway.audit.guards import used_ratio
from gateway.audit.remote import RemoteLog
from gateway.audit.store import AuditReader
from gateway.audit.stores import open_reader, serving_from
from gateway.audit.writer import AuditLog
from gateway.catalogue import Catalogue
from gateway.clock import Clock, rfc3339, system_clock
from gateway.config import GatewayConfig, ListsConfig, MetricsConfig, TimestampsConfig
from gateway.contracts.service import Contracting
from gateway.contribution_node import ContributorSide, NodeParts, note_promises, service_of
from gateway.corrections.deployed import load_keys
from gateway.database import PostgresAddress
from gateway.details import DetailsKeeper, KeeperHooks
from gateway.details.deployed import open_keeper, read_fields_key
from gateway.errors import ConfigError, GatewayError
from gateway.evidence.keys import SigningKey, read_secret
from gateway.exchange.acknowledging import Acknowledging
from gateway.exchange.contracts import Contracts
from gateway.exchange.duties.overdue import Overdue
from gateway.exchange.duties.performing import DutyPerformer
from gateway.exchange.grants import Grants
from gateway.exchange.journal import Journal
from gateway.exchange.list_limits import ListLimits, ListRules
from gateway.exchange.outcomes import OutcomeTelling
from gateway.exchange.paging import PageTokens
from gateway.exchange.quotas.rebuilding import Leftovers
from gateway.exchange.quotas.watching import QuotaUse
from gateway.exchange.service import ExchangeService
from gateway.exchange.steps import Collaborators
from gateway.exchange.witnessing import Witnessing
from gateway.identifiers import KINDS, load_area_table
from gateway.ledger import Ledger, open_ledger
from gateway.log_node import (
    disk_limits,
    existing_log,
    log_guards,
    log_signer,
    tell_failure,
    verified_anchor,
)
from gateway.members import Directory, open_member_store
from gateway.model import ENTRY_VERSION, Entry, EntryKind, list_set_name
from gateway.pki.example_keys import keyring_fingerprint, refuse_example_keys
from gateway.pki.reload import ReloadingCredentials
from gateway.pki.tls13 import require_tls13, verify_only_tls13
from gateway.policy.bundle import Bundle
from gateway.policy.engine import PolicyEngine
from gateway.policy_node import PolicyOpener, known_names, make_engine, tier_names
from gateway.process import ServingProcess
from gateway.pseudonym import Keyring, Pseudonymiser
from gateway.recorded.deployment import DeploymentState, common_ground, observe_deployment
from gateway.recorded.entries import RecordedEntries, recorded_entries
from gateway.recorded.members import MemberContradiction, RecordedMembers, told
from gateway.recorded.starts import Instance, announce, node_name
from gateway.recorded.vetting import VettedMembers
from gateway.rpc.audit import AuditServicer
from gateway.rpc.catalog import CatalogServicer
from gateway.rpc.exchange import ExchangeServicer
from gateway.rpc.provider_client import GrpcProviders
from gateway.rpc.server import RpcServer
from gateway.telemetry.exposition import MetricsServer
from gateway.telemetry.logs import LogLosses
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.siblings import Siblings
from gateway.telemetry.workers import WorkerMetrics
from gateway.timestamps.store import TimestampStore, TimestampStoreError

_log: Final = structlog.get_logger()

HEALTH_INTERVAL_S: Final = 0.25
"""How often the health service follows the state of the log and of the member store."""

CERTIFICATE_INTERVAL_S: Final = 10.0
"""How often renewed certificate files are looked for when no new connection asks for them."""

LAST_ENTRIES_TIMEOUT_S: Final = 5.0
"""How long a stop waits for the entries of exchanges that it has cut."""

LOG_START_TIMEOUT_S: Final = 60.0
"""How long a start waits for the log process, which verifies the log before it answers."""

PAGE_TOKEN_KEY_BYTES: Final = 32


class Node(ServingProcess):
    """One gateway process. `start`, then `port` tells where it listens, then `stop`."""

    contracting: Contracting
    """From the start on: the contracts, and their register."""

    def __init__(
        self,
        config: GatewayConfig,
        *,
        losses: LogLosses | None = None,
        log_address: bytes | None = None,
        siblings: Siblings | None = None,
        instance: Instance | None = None,
        clock: Clock = system_clock,
    ) -> None:
        """Take the settings, the counters of what the operators' log leaves out, and the log process.

        Without `log_address` the node writes the audit log itself, from a thread. With `siblings`
        it is one of several workers that listen on the same ports and tell their metrics together,
        and `instance` says which.
        """
        super().__init__()
        self._log_address = log_address
        self._siblings = siblings
        self._instance = instance or Instance.alone(node_name(config))
        self.config = config
        self.metrics = Metrics()
        if losses is not None:
            self.metrics.watch_losses(losses)
        self._clock = clock
        self._details: DetailsKeeper | None = None

    async def _start(self) -> None:
        # The order is the order of trust: keys, policy, catalogue, members, log; the port opens last.
        config, enter = self.config, self._stack
        require_tls13()
        credentials = ReloadingCredentials(
            config.tls.certificate, config.tls.key, config.tls.client_ca, demo=config.demo, clock=self._clock
        )
        signing_key = SigningKey.load(config.keys.signing)
        keyring = Keyring.load(config.keys.keyring)
        refuse_example_keys(
            [signing_key.key_id, *(keyring_fingerprint(epoch.key) for epoch in keyring.epochs)],
            demo=config.demo,
        )
        page_token_key = _page_token_key(config)

        load_area_table()
        enter.enter_context(serving_from(config.log.database))
        opener = PolicyOpener(config, self._clock, self.metrics, enter, self._watch)
        if config.policy.activation is None:
            serving = await opener.from_directory(self._policy)
            log, reader, recorded = await self._open_records()
        else:
            log, reader, recorded = await self._open_records()
            serving = await opener.activated(recorded)
        policy, bundle = serving.engine, serving.engine.bundle
        catalogue = Catalogue.read(config.catalogue, tier_names(bundle))
        correction_keys = load_keys(config.corrections, catalogue)
        fingerprint = correction_keys.fingerprint if correction_keys is not None else None
        directory = self._open_directory(recorded, common_ground(config, bundle, keyring, fingerprint))
        self._details = self._open_details()
        journal = Journal(
            log,
            self._clock,
            NamesInForce(lambda: policy.bundle, known_names),
            details=self._details,
            fields_key=read_fields_key(config.disclosure) if config.disclosure else None,
        )
        self._know(catalogue, bundle.data["list_sets"], log, reader, credentials)
        # Before anything is appended: a log that was rolled back or forked must not grow.
        witnessed = witnessed_tiers(bundle)
        witnessing = await self._publish(log, reader, witnessed)

        ledger, duties = self._open_ledger(reader)
        contributors = ContributorSide(
            NodeParts(
                config=config,
                clock=self._clock,
                metrics=self.metrics,
                stack=enter,
                watch=self._watch,
                looks_after=self._siblings is None or self._siblings.own == 0,
                log=log,
                reader=reader,
                recorded=recorded,
                directory=directory,
                catalogue=catalogue,
                ledger=ledger,
                signing_key=signing_key,
                secret=page_token_key,
                tiers=tier_names(bundle),
            ),
            GrpcProviders(credentials),
        )
        self.contracting = contributors.contracting
        contracts = self._contracts(directory)
        await contributors.serve(contracts, correction_keys, Pseudonymiser(keyring))
        exchange = ExchangeService(
            Collaborators(
                origin=config.log.origin,
                clock=self._clock,
                directory=directory,
                catalogue=catalogue,
                policy=policy,
                journal=journal,
                providers=contributors.providers,
                pseudonymiser=Pseudonymiser(keyring),
                signing_key=signing_key,
                page_tokens=PageTokens(page_token_key),
                metrics=self.metrics,
                duties=duties,
                on_outcome=OutcomeTelling(self.metrics).tell,
                is_witnessed=lambda decision: (
                    decision.tier in witnessed_tiers(serving.bundles[decision.bundle_digest])
                ),
                witnessing=witnessing,
                list_limits=ListLimits(list_rules(config.lists), reader, page_token_key),
                recipients=contributors.recipients,
                contracts=contracts,
            ),
            moving_streams=config.server.moving_streams,
        )
        enter.callback(exchange.close)
        self._serve_metrics(config.metrics)
        services: dict[ServiceDescriptor, object] = {
            service_of(exchange_service_pb2): ExchangeServicer(
                exchange,
                Acknowledging(config.log.origin, self._clock, directory, reader, log, ledger),
                self.metrics,
            ),
            service_of(audit_service_pb2): AuditServicer(reader, directory, self._clock, log.append),
            service_of(catalog_service_pb2): CatalogServicer(
                catalogue,
                Grants(policy, contributors.providers, self._clock, contracts),
                directory,
                self._clock,
            ),
            **contributors.services(),
        }
        server = RpcServer(
            services,
            with_reflection=config.server.reflection,
            shares_port=self._siblings is not None,
        )
        state = observe_deployment(config, bundle.digest, signing_key.key_id)
        started = await self._record_start(log, recorded, policy, state)
        await contributors.describe()
        self._watch(asyncio.create_task(directory.keep_fresh(self._members_failed)))
        self._watch(asyncio.create_task(_follow_certificates(credentials)))
        enter.push_async_callback(self._await_last_entries, exchange)
        self.port = await server.start(config.server.listen, credentials.server_credentials())
        enter.push_async_callback(server.stop, config.server.shutdown_grace_s)
        await verify_only_tls13(config.server.listen.rpartition(":")[0].strip("[]"), self.port)
        await server.set_serving(True)
        self._watch(asyncio.create_task(self._follow_health(server, log)))
        contributors.go_on()
        _settle_memory()
        _log.info(
            "gateway.started",
            port=self.port,
            pid=os.getpid(),
            version=__version__,
            engine=policy.name,
            bundle=bundle.digest,
            entry=started,
        )

    def _serve_metrics(self, config: MetricsConfig) -> None:
        if not config.enabled:
            return
        registry, siblings = self.metrics.registry, self._siblings
        if siblings is not None:
            workers = WorkerMetrics(self.metrics, siblings)
            self._stack.callback(workers.close)
            registry = workers.registry
        server = MetricsServer(registry, config.host, config.port, shares_port=siblings is not None)
        self._stack.callback(server.close)

    def _policy(self, bundle: Bundle) -> PolicyEngine:
        return make_engine(bundle, self.config.policy, self._clock, self.metrics)

    def _contracts(self, directory: Directory) -> Contracts:
        """Return what knows the contracts of the members in `directory`."""
        del directory
        return self.contracting.register

    def _open_ledger(self, reader: AuditReader) -> tuple[Ledger, DutyPerformer]:
        """Return the ledger, and what carries out duties by it; from now on that knows what is overdue."""
        ledger = open_ledger(self.config.log.database)
        self._stack.callback(ledger.close)
        overdue = Overdue(ledger, reader, self._clock, self.config.duties.overdue_acknowledgements)
        performer = DutyPerformer(ledger, overdue, self._clock, self.metrics)
        self._stack.push_async_callback(performer.close)
        self.metrics.watch_duties(
            held=lambda: performer.held.count,
            overdue_acknowledgements=lambda: overdue.acknowledgements,
            overdue_notices=lambda: overdue.notices,
        )
        use = QuotaUse(ledger, self._clock)
        self.metrics.watch_quotas(lambda: use.ratios)
        closed = [self._stack.enter_context(open_reader(place)) for place in self.config.log.previous]
        leftovers = Leftovers(ledger, [*closed, reader], self._clock)
        for watching in (overdue.keep_fresh, use.keep_fresh, leftovers.sweep):
            self._watch(asyncio.create_task(watching(self._ledger_failed)))
        return ledger, performer

    async def _open_records(self) -> tuple[Log, AuditReader, RecordedEntries]:
        """Open the log for writing and for reading, and what it records of the deployment."""
        config, enter = self.config, self._stack
        log = await self._open_log()
        reader = open_reader(config.log.database)
        enter.callback(reader.close)
        closed_logs = ExitStack()
        enter.callback(closed_logs.close)
        return log, reader, recorded_entries(reader, log.verifier, config.log.previous, closed_logs)

    def _open_directory(self, recorded: RecordedEntries, common: Mapping[str, str]) -> Directory:
        members = open_member_store(self.config.members.database)
        self._stack.callback(members.close)
        directory = Directory(VettedMembers(members, RecordedMembers(recorded), self._members_contradicted))
        if isinstance(self.config.log.database, PostgresAddress):
            # Only here: the driver costs a deployment in SQLite nothing.
            from gateway.database.agreement import Agreement  # noqa: PLC0415

            agreement = Agreement(self.config.log.database, common)
            self._stack.callback(agreement.close)
            agreement.join()
            directory.serve_only_while(agreement.require)
            self._watch(asyncio.create_task(agreement.keep_current()))
        return directory

    async def _open_log(self) -> Log:
        config = self.config
        hooks = LogHooks(
            committed=self._batch_committed, failed=tell_failure, health_changed=self._set_log_healthy
        )
        if self._log_address is None:
            store, signer = existing_log(config), log_signer(config)
            reader = open_reader(config.log.database)
            self._stack.callback(reader.close)
            verified_anchor(config, reader, signer.verifier)
            own = AuditLog(
                store,
                signer,
                origin=config.log.origin,
                clock=self._clock,
                queue_limit=config.log.queue,
                hooks=hooks,
                guards=log_guards(config, reader),
            )
            self._stack.callback(own.close)
            # Readers go first: only the last connection, if it writes, copies the write-ahead log back.
            self._stack.callback(reader.close)
            return own
        log = RemoteLog(self._log_address, queue_limit=config.log.queue, hooks=hooks)
        self._stack.push_async_callback(log.close)
        await log.wait_until_open(LOG_START_TIMEOUT_S)
        return log

    def _open_details(self) -> DetailsKeeper | None:
        if self.config.details is None:
            _log.warning("details.not_kept")
            return None
        keeper = open_keeper(
            self.config.details,
            self.config.log.origin,
            KeeperHooks(
                health_changed=lambda healthy: (_log.info if healthy else _log.error)(
                    "details.health", outcome="healthy" if healthy else "failing"
                ),
                lost=lambda count: _log.error("details.lost", count=count),
            ),
        )
        self._stack.callback(keeper.close)
        return keeper

    def _know(
        self,
        catalogue: Catalogue,
        list_sets: Iterable[str],
        log: Log,
        reader: AuditReader,
        credentials: ReloadingCredentials,
    ) -> None:
        metrics = self.metrics
        metrics.know(
            datasets=[*(dataset.name for dataset in catalogue), *map(list_set_name, list_sets)],
            providers=sorted({dataset.provider for dataset in catalogue}),
            identifier_kinds=list(KINDS),
        )
        note_promises(metrics, catalogue)
        metrics.watch_queue(lambda: log.depth)
        metrics.watch_certificate("server", credentials.days_left)
        metrics.watch_log_entries(reader.size)
        metrics.watch_log_disk(self._disk_used_ratio)
        if self.config.log.timestamps is not None:
            metrics.watch_timestamps(partial(_timestamp_age_s, self.config.log.timestamps, self._clock))
        metrics.set_log_healthy(True)
        metrics.set_version(__version__)

    async def _publish(self, log: Log, reader: AuditReader, witnessed: frozenset[str]) -> Witnessing | None:
        """Have the log's head witnessed, if the configuration names witnesses, and go on doing so.

        Return what has releases witnessed before they leave; None without witnesses. Raises `ConfigError`
        if there are none and releases at the tiers `witnessed` need some, and `LogRolledBackError` or
        `LogForkedError` if a witness has seen another history.
        """
        config = self.config.log
        if config.witnesses is None:
            if witnessed:
                raise ConfigError(
                    f"Policy wants releases at the tiers {', '.join(sorted(witnessed))} witnessed; name the "
                    "witnesses in the section [log.witnesses]."
                )
            return None
        # Only here: its HTTP client costs half a second and 12 MiB.
        from gateway.witness.publishing import publishing  # noqa: PLC0415
        from gateway.witness.releases import ReleaseWitnessing  # noqa: PLC0415

        publisher = await self._stack.enter_async_context(
            publishing(config.witnesses, config.database, reader, log.verifier, self._clock, self.metrics)
        )
        await publisher.publish()
        # Every worker asks before it appends anything; one goes on asking for all.
        if self._siblings is None or self._siblings.own == 0:
            interval = timedelta(seconds=config.witnesses.interval_s)
            self._watch(asyncio.create_task(publisher.run(interval)), vital=True)
        return ReleaseWitnessing(publisher, reader, timedelta(seconds=config.witnesses.release_timeout_s))

    def _batch_committed(self, entries: int, seconds: float) -> None:
        self.metrics.time_append(seconds)
        self.metrics.record_batch(entries)

    def _set_log_healthy(self, healthy: bool) -> None:
        self.metrics.set_log_healthy(healthy)
        (_log.info if healthy else _log.error)("log.health", outcome="healthy" if healthy else "failing")

    def _members_failed(self, error: ConfigError) -> None:
        _log.error("members.unreadable", reason=error.reason.value)

    def _ledger_failed(self, error: GatewayError) -> None:
        _log.error("ledger.unreadable", reason=error.reason.value)

    def _members_contradicted(self, found: Sequence[MemberContradiction]) -> None:
        self.metrics.set_members_contradicted(len(found))
        for contradiction in found:
            _log.error(
                "members.contradicted",
                member=contradiction.member,
                outcome=contradiction.what.value,
                message=told(contradiction),
            )

    async def _follow_health(self, server: RpcServer, log: Log) -> None:
        """Serve only while the log can take new exchanges (P1): load balancers must see it at once."""
        serving = True
        while True:
            await asyncio.sleep(HEALTH_INTERVAL_S)
            is_disk_full = self._disk_used_ratio() >= self.config.log.disk_full_ratio
            able = log.healthy and not is_disk_full
            if able != serving:
                serving = able
                await server.set_serving(serving)

    def _disk_used_ratio(self) -> float:
        """Return how much of the log's disk is used; NaN if that is a database server's."""
        limits = disk_limits(self.config.log)
        if limits is None:
            return math.nan
        try:
            return used_ratio(limits.path.parent)
        except OSError:
            # A disk that cannot even be looked at takes no exchange.
            return 1.0

    def _watch(self, task: asyncio.Task[None], *, vital: bool = False) -> None:
        """Cancel `task` at the stop; if it fails before, that is worth a line, and the end if it is vital."""

        async def end() -> None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        def ended(done: asyncio.Task[None]) -> None:
            if not done.cancelled() and (error := done.exception()) is not None:
                _log.critical("task.ended", error_type=type(error).__name__)
                if vital:
                    self.fail(error)

        task.add_done_callback(ended)
        self._stack.push_async_callback(end)

    async def _record_start(
        self, log: Log, recorded: RecordedEntries, policy: PolicyEngine, state: DeploymentState
    ) -> int:
        """Record what has changed since the last start, and this one; return the index of its entry."""
        for announcement, index in await announce(log, recorded, state, self._instance, self._clock):
            _log.warning("start.announced", kind=announcement.kind.value, entry=index)
        started = await log.append(self._own_entry(EntryKind.GATEWAY_STARTED, policy, state.detail()))
        self._stack.push_async_callback(self._record_stop, log, policy)
        return started.index

    async def _record_stop(self, log: Log, policy: PolicyEngine) -> None:
        try:
            stopped = await log.append(self._own_entry(EntryKind.GATEWAY_STOPPED, policy))
        except GatewayError as error:
            _log.error("stop.unrecorded", reason=error.reason.value)
        else:
            _log.info("gateway.stopped", pid=os.getpid(), entry=stopped.index)

    async def _await_last_entries(self, exchange: ExchangeService) -> None:
        """Let the exchanges that the stop has cut leave their entries: the gateway's own is the last."""
        unfinished = await exchange.wait_until_idle(LAST_ENTRIES_TIMEOUT_S)
        if unfinished:
            _log.error("exchanges.unfinished", count=unfinished)

    def _own_entry(
        self, kind: EntryKind, policy: PolicyEngine, more: Mapping[str, str] | None = None
    ) -> Entry:
        return Entry(
            v=ENTRY_VERSION,
            kind=kind,
            time=rfc3339(self._clock()),
            bundle=policy.bundle.digest,
            detail={
                "version": __version__,
                "engine": policy.name,
                "grpc": version("grpcio"),
                "details": self._details.custodians.described() if self._details else "not kept",
                **self._instance.detail(),
                **(more or {}),
            },
        )


def _timestamp_age_s(config: TimestampsConfig, clock: Clock) -> float:
    """Return the seconds since the newest time-stamp; infinite if there is none that can be read."""
    try:
        latest = TimestampStore(config.database).latest()
    except TimestampStoreError:
        return math.inf
    return math.inf if latest is None else (clock() - latest.time).total_seconds()


async def _follow_certificates(credentials: ReloadingCredentials) -> None:
    """Notice renewed certificates also while every connection stands: providers are to see them."""
    while True:
        await asyncio.sleep(CERTIFICATE_INTERVAL_S)
        await asyncio.to_thread(credentials.refresh)


def _settle_memory() -> None:
    """Leave what start-up has made alone: looking at it in every collection costs each exchange a little."""
    gc.collect()
    gc.freeze()


def list_rules(config: ListsConfig) -> ListRules:
    """Return the numbers that bound questions to lists."""
    return ListRules(
        answer_after_s=config.answer_after_ms / 1000,
        smallest_list=config.smallest_list,
        questions_a_day=config.questions_a_day,
        again_after=timedelta(seconds=config.again_after_s),
    )


def _page_token_key(config: GatewayConfig) -> bytes:
    key = read_secret(config.keys.page_tokens)
    if len(key) != PAGE_TOKEN_KEY_BYTES:
        raise ConfigError(f"{config.keys.page_tokens} must hold exactly {PAGE_TOKEN_KEY_BYTES} random bytes.")
    return key
