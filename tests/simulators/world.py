"""A whole deployment in one process: a gateway, two providers, six members, over real gRPC and TLS."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from contextlib import AsyncExitStack, closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
from prometheus_client import generate_latest

from gateway.audit.fsck import fsck
from gateway.audit.note import Ed25519Verifier
from gateway.audit.sqlite_reader import SqliteReader
from gateway.client import AsyncClient
from gateway.config import GatewayConfig, ProviderConfig
from gateway.demo.world import COMPANIES, World, build_world
from gateway.deployment import MemberFiles, add_member, change_endpoint, change_state
from gateway.deployment.layout import member_uri
from gateway.evidence.keys import SigningKey
from gateway.evidence.trust import Trust
from gateway.exchange.contracts import Contracts
from gateway.members import Directory
from gateway.model import Entry, EntryKind, Member, MemberState, Role
from gateway.node import Node
from gateway.pki.authority import CertificateAuthority
from gateway.pki.reload import ReloadingCredentials, channel_credentials
from gateway.policy.bundle import Bundle
from gateway.policy.engine import PolicyEngine
from gateway.provider_node import ProviderNode
from gateway.telemetry.logs import Level, configure_logging
from tests.simulators.caller import Credentials, RawCaller
from tests.simulators.clock import MovableClock
from tests.simulators.in_force import SimulatedContracts
from tests.simulators.outcome import Refusal
from tests.simulators.policy import ScriptedPolicy
from tests.simulators.provider import SimulatedProvider

CLOSING_KINDS = (EntryKind.EXCHANGE_DENIED, EntryKind.EXCHANGE_FAILED, EntryKind.EXCHANGE_RELEASED)

Configure = Callable[[GatewayConfig], GatewayConfig]


class SimulatedNode(Node):
    """The gateway as it is, with a policy engine that a test can make fail."""

    scripted: ScriptedPolicy
    contracts: SimulatedContracts

    def _policy(self, bundle: Bundle) -> PolicyEngine:
        self.scripted = ScriptedPolicy(super()._policy(bundle))
        return self.scripted

    def _contracts(self, directory: Directory) -> Contracts:
        self.contracts = SimulatedContracts(directory.is_active, super()._contracts(directory))
        return self.contracts


class LogView:
    """The audit log as an officer with access to the file reads it."""

    def __init__(self, database: Path, trust: Trust) -> None:
        self.database = database
        self._verifier = Ed25519Verifier.from_vkey(trust.log_keys[0])

    def entries(self, first: int = 0) -> list[Entry]:
        with closing(SqliteReader(self.database)) as reader:
            return [
                msgspec.json.decode(reader.entry(index).data, type=Entry)
                for index in range(first, reader.size())
            ]

    def size(self) -> int:
        with closing(SqliteReader(self.database)) as reader:
            return reader.size()

    def of_exchange(self, exchange: str) -> list[Entry]:
        return [entry for entry in self.entries() if entry.exchange == exchange]

    def verify(self) -> None:
        """Fail unless `fsck` finds nothing."""
        size = self.size()
        report = fsck(self.database, self._verifier)
        assert report.findings == ()
        # What runs may write meanwhile: of a contract that ends, of a dataset that comes with one.
        assert size <= report.entries <= self.size()


class SimulatedWorld:
    """Starts, stops and inspects a deployment.

    The tax office is the product's own provider; the registry is simulated unless it is to be real.
    """

    def __init__(
        self,
        directory: Path,
        *,
        company_count: int = 60,
        reflection: bool = False,
        real_registry: bool = False,
    ) -> None:
        self.directory = directory
        self.clock = MovableClock()
        self.built: World = build_world(
            directory,
            gateway_port=0,
            registry_port=0,
            tax_port=0,
            company_count=company_count,
            reflection=reflection,
        )
        self.companies = self.built.companies
        self.deployment = self.built.deployment
        self.config = self.deployment.load()
        self.trust = Trust.load(self.built.members["registry"].directory / "trust.json")
        self.members: dict[str, MemberFiles] = dict(self.built.members)
        self.log = LogView(self.config.log.database, self.trust)
        self.output = io.StringIO()
        self.node: SimulatedNode
        self.registry: SimulatedProvider
        self._running: list[SimulatedNode] = []
        self._real_registry = real_registry
        self._providers: list[ProviderNode] = []
        self._stack = AsyncExitStack()

    # -- running ---------------------------------------------------------------------------------

    async def start(self, configure: Configure = lambda config: config) -> SimulatedWorld:
        """Start everything; if that fails, nothing is left running."""
        try:
            await self._start(configure)
        except BaseException:
            await self.stop()
            raise
        return self

    async def _start(self, configure: Configure) -> None:
        configure_logging(self.output, Level.DEBUG)
        if self._real_registry:
            self._connect("registry", await self._start_provider("registry"))
        else:
            self.registry = SimulatedProvider(
                [_record(company) for company in self.companies],
                SigningKey.load(self.members["registry"].signing_key),
                self.trust.gateway_verify_keys,
                self._credentials("registry"),
                self.clock,
            )
            await self.registry.start()
            self._connect("registry", self.registry.port)
        self._connect("tax", await self._start_provider("tax"))
        await self.start_node(configure)

    async def _start_provider(self, member: str) -> int:
        config = ProviderConfig.load(self.members[member].directory / "provider.toml")
        provider = ProviderNode(config, clock=self.clock)
        await provider.start()
        self._providers.append(provider)
        return provider.port

    async def start_node(self, configure: Configure = lambda config: config) -> None:
        self.node = SimulatedNode(configure(self.deployment.load()), clock=self.clock)
        await self.node.start()
        self._running.append(self.node)

    async def stop(self) -> None:
        await self._stack.aclose()
        self._stack = AsyncExitStack()
        await self.stop_node()
        if not self._real_registry:
            await self.registry.stop()
        while self._providers:
            await self._providers.pop().stop()

    async def restart_node(self) -> None:
        """Stop the gateway and start it again on the same files."""
        await self.stop_node()
        await self.start_node()

    async def stop_node(self) -> None:
        """Stop the gateway, if it runs."""
        while self._running:
            await self._running.pop().stop()

    def _credentials(self, member: str) -> ReloadingCredentials:
        files = self.members[member]
        return ReloadingCredentials(files.certificate, files.tls_key, files.directory / "ca.pem")

    def _connect(self, member: str, port: int) -> None:
        """Tell the gateway where a provider listens, which is known only once it does."""
        change_endpoint(self.config, member, f"127.0.0.1:{port}", clock=self.clock)

    # -- callers ---------------------------------------------------------------------------------

    def client(self, member: str = "harbour-bank", **options: Any) -> AsyncClient:
        """Return the product's client; it is closed with the world."""
        files = self.members[member]
        client = AsyncClient(
            f"127.0.0.1:{self.node.port}",
            channel_credentials(files.directory / "ca.pem", files.certificate, files.tls_key),
            self.trust,
            SigningKey.load(files.signing_key),
            **{"clock": self.clock, **options},
        )
        self._stack.push_async_callback(client.close)
        return client

    def caller(self, member: str = "harbour-bank", *, credentials: Credentials | None = None) -> RawCaller:
        """Return a raw caller with the keys of `member`, under its certificate or `credentials`."""
        files = self.members[member]
        caller = RawCaller(
            self.node.port,
            credentials or Credentials.read(files.directory),
            origin=self.trust.origin,
            signing_key=SigningKey.load(files.signing_key),
            clock=self.clock,
        )
        self._stack.push_async_exit(caller)
        return caller

    # -- changing it -----------------------------------------------------------------------------

    @property
    def authority(self) -> CertificateAuthority:
        return CertificateAuthority.load(*self.deployment.authority)

    def stranger(self, **names: Any) -> Credentials:
        """Return credentials of our authority for nobody who is registered."""
        authority = self.authority
        issued = authority.issue("stranger", valid_days=1, **(names or {"uri": member_uri("stranger")}))
        return Credentials(issued.cert_pem, issued.key_pem, authority.certificate_pem)

    def add_member(
        self, member_id: str, *, valid_days: int = 30, roles: frozenset[Role] | None = None
    ) -> None:
        """Register one more bank; a running gateway knows it within a second."""
        self.members[member_id] = add_member(
            self.config,
            Member(
                id=member_id,
                title=member_id,
                member_class="bank",
                roles=roles or frozenset({Role.CONSUMER}),
                uri=member_uri(member_id),
                signing_keys={},
            ),
            self.authority,
            self.directory / "members" / member_id,
            gateway_address="127.0.0.1:0",
            valid_days=valid_days,
            clock=self.clock,
        )

    async def set_state(self, member: str, state: MemberState) -> None:
        await asyncio.to_thread(change_state, self.config, member, state, clock=self.clock)

    # -- what must hold --------------------------------------------------------------------------

    async def works(self, member: str = "harbour-bank") -> None:
        """Fail unless an ordinary query is answered, with a receipt that verifies."""
        page = await self.client(member).query(
            COMPANIES, purpose="public-lookup", filters={"uscc": self.companies[0].uscc}
        )
        assert [record["uscc"] for record in page] == [self.companies[0].uscc]

    def assert_recorded(self, refusal: Refusal, code: str, reason: str) -> Entry:
        """Fail unless `refusal` is as it must be and its entry, and no release, stands in the log."""
        assert (refusal.code, refusal.reason, refusal.domain) == (code, reason, "sluicegate")
        assert refusal.entry is not None, "the refusal names no entry"
        entries = self.log.of_exchange(refusal.exchange)
        [closing] = [entry for entry in entries if entry.kind in CLOSING_KINDS]
        assert closing.kind in {EntryKind.EXCHANGE_DENIED, EntryKind.EXCHANGE_FAILED}
        assert reason in closing.reasons
        assert self.log.entries(refusal.entry)[0] == closing
        return closing

    def metrics_text(self) -> str:
        """Return what Prometheus would read."""
        return generate_latest(self.node.metrics.registry).decode()


def _record(company: Any) -> dict[str, Any]:
    return {**asdict(company), "registered_on": company.registered_on.isoformat()}
