"""A gateway that takes contributions, over real gRPC, with a simulated vault and contracts in memory.

As a process of its own: `python -m tests.simulators.contributing DIRECTORY`; it prints its port.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from gateway.api.v1 import contribution_service_pb2
from gateway.audit.stores import open_reader
from gateway.audit.writer import AuditLog
from gateway.client import AsyncClient, record_line
from gateway.clock import rfc3339
from gateway.config import GatewayConfig
from gateway.contributions.form import Forms
from gateway.contributions.journal import ContributionJournal
from gateway.contributions.service import ContributionService
from gateway.contributions.sqlite import SqliteRegister
from gateway.contributions.staging import Limits
from gateway.contributions.withdrawal import Withdrawals
from gateway.demo.synthetic import companies
from gateway.demo.world import build_world
from gateway.evidence.canonical import encode_canonical
from gateway.evidence.keys import SigningKey, read_secret
from gateway.evidence.trust import Trust
from gateway.log_node import existing_log, log_signer
from gateway.members import Directory, open_member_store
from gateway.model import (
    Contract,
    ContractState,
    DatasetTerms,
    Entry,
    Held,
    Party,
    PartyRole,
    Recipients,
    Terms,
)
from gateway.pki.reload import ReloadingCredentials, channel_credentials
from gateway.pki.tls13 import require_tls13
from gateway.rpc.contribution import ContributionServicer
from gateway.rpc.server import RpcServer
from tests.simulators.caller import Credentials, RawCaller
from tests.simulators.clock import MovableClock
from tests.simulators.record_vault import FileVault
from tests.simulators.world import LogView

COMPANY = "tradeplatform"
DATASET = f"members/{COMPANY}/datasets/customers"
CONTRACT = "customers-2026"
TIERS = ("public", "limited", "restricted", "government")

FIELDS: tuple[dict[str, Any], ...] = (
    {"name": "uscc", "logicalType": "string", "required": True, "identifierKind": "uscc"},
    {"name": "name", "logicalType": "string", "required": True},
    {"name": "registered_on", "logicalType": "date"},
    {"name": "employees", "logicalType": "integer"},
    {"name": "turnover", "logicalType": "number"},
    {"name": "active", "logicalType": "boolean"},
    {"name": "note", "logicalType": "string"},
)


def describe(fields: Iterable[dict[str, Any]], freshness: str = "registered_on:7") -> dict[str, Any]:
    """Return an ODCS description of the dataset."""
    return {
        "version": "1.0.0",
        "kind": "DataContract",
        "apiVersion": "v3.1.0",
        "id": "customers",
        "name": "Customers",
        "status": "active",
        "customProperties": [
            {"property": "provider", "value": COMPANY},
            {"property": "tier", "value": "limited"},
            *([{"property": "freshness", "value": freshness}] if freshness else []),
        ],
        "schema": [
            {
                "name": "customers",
                "properties": [
                    {
                        "name": field["name"],
                        "logicalType": field["logicalType"],
                        "required": field.get("required", False),
                        "classification": "limited",
                        "customProperties": [{"property": "identifierKind", "value": field["identifierKind"]}]
                        if "identifierKind" in field
                        else [],
                    }
                    for field in fields
                ],
            }
        ],
    }


def make_contract(
    state: ContractState = ContractState.ACTIVE,
    *,
    contributor: str = COMPANY,
    fields: Sequence[dict[str, Any]] = FIELDS,
    key: tuple[str, ...] = ("uscc",),
    valid_from: str = "2020-01-01T00:00:00Z",
    valid_until: str = "2099-01-01T00:00:00Z",
    held: Held = Held.VAULT,
    name: str = CONTRACT,
    freshness: str = "registered_on:7",
) -> Contract:
    terms = Terms(
        v=1,
        contract=name,
        version=1,
        title="Customers of the trade platform",
        parties=(
            Party(contributor, PartyRole.CONTRIBUTOR),
            Party("inspectorate", PartyRole.RECIPIENT),
        ),
        datasets=(DatasetTerms(name=DATASET, held=held, description=describe(fields, freshness), key=key),),
        purposes=("tender-check",),
        recipients=Recipients(members=("inspectorate",)),
        valid_from=valid_from,
        valid_until=valid_until,
    )
    import hashlib

    identity = f"sha256:{hashlib.sha256(encode_canonical(terms)).hexdigest()}"
    return Contract(
        id=identity,
        terms=terms,
        state=state,
        signed_by=(contributor, "inspectorate"),
        changed=rfc3339(datetime.fromisoformat("2026-01-01T00:00:00+00:00")),
    )


class ListedContracts:
    """`ContractSource`: the contracts in `listed`."""

    def __init__(self, *listed: Contract) -> None:
        self.listed = list(listed)

    def contracts(self) -> list[Contract]:
        return self.listed

    def in_force(self, now: datetime) -> list[Contract]:
        return [
            each
            for each in self.listed
            if each.state is ContractState.ACTIVE
            and each.terms.valid_from <= rfc3339(now)[:19] + "Z" < each.terms.valid_until
        ]

    def set_state(self, state: ContractState) -> None:
        self.listed = [msgspec.structs.replace(each, state=state) for each in self.listed]


def records(count: int, seed: int = 7) -> list[dict[str, Any]]:
    """Return valid records."""
    return [
        {
            "uscc": company.uscc,
            "name": company.name,
            "registered_on": company.registered_on.isoformat(),
            "employees": number % 500,
            "turnover": number + 0.5,
            "active": number % 2 == 0,
        }
        for number, company in enumerate(companies(count, seed))
    ]


def lines(rows: Iterable[dict[str, Any]]) -> list[bytes]:
    return [record_line(row) for row in rows]


class ContributionGateway:
    """The part of a gateway that takes contributions; `directory` has a deployment (`build_world`)."""

    def __init__(
        self,
        config: GatewayConfig,
        contracts: ListedContracts,
        *,
        clock: MovableClock,
        limits: Limits | None = None,
    ) -> None:
        self.config = config
        self.contracts = contracts
        self.clock = clock
        self.limits = limits
        self.port = 0
        self.vault: FileVault
        self.register: SqliteRegister
        self.service: ContributionService
        self.log: AuditLog
        self._stack = AsyncExitStack()

    async def start(self, port: int = 0) -> ContributionGateway:
        config, stack = self.config, self._stack
        data = config.log.database.parent
        members = open_member_store(config.members.database)
        stack.callback(members.close)
        directory = Directory(members)
        self.log = AuditLog(
            existing_log(config), log_signer(config), origin=config.log.origin, clock=self.clock
        )
        stack.callback(self.log.close)
        reader = open_reader(config.log.database)
        stack.callback(reader.close)
        self.vault = FileVault(data / "simulated-vault.db")
        stack.callback(self.vault.close)
        self.register = SqliteRegister(data / "contributions.db")
        stack.callback(self.register.close)
        forms = Forms(self.contracts, TIERS)
        journal = ContributionJournal(self.log, reader, self.clock)
        common: dict[str, Any] = {
            "origin": config.log.origin,
            "clock": self.clock,
            "directory": directory,
            "forms": forms,
            "vault": self.vault,
            "journal": journal,
        }
        self.service = ContributionService(
            **common,
            register=self.register,
            signing_key=SigningKey.load(config.keys.signing),
            secret=read_secret(config.keys.page_tokens),
            limits=self.limits,
        )
        await self.service.recover()
        fresh = asyncio.create_task(directory.keep_fresh(lambda _error: None))
        stack.callback(fresh.cancel)
        descriptor = contribution_service_pb2.DESCRIPTOR.services_by_name["ContributionService"]
        server = RpcServer(
            {descriptor: ContributionServicer(self.service, Withdrawals(**common))}, with_reflection=False
        )
        credentials = ReloadingCredentials(
            config.tls.certificate, config.tls.key, config.tls.client_ca, demo=config.demo
        )
        self.port = await server.start(f"127.0.0.1:{port}", credentials.server_credentials())
        stack.push_async_callback(self.service.wait_until_idle, 5.0)
        stack.push_async_callback(server.stop, 0.0)
        return self

    async def stop(self) -> None:
        await self._stack.aclose()
        self._stack = AsyncExitStack()


class ContributionWorld:
    """A deployment whose gateway takes contributions, and those who call it."""

    def __init__(
        self, directory: Path, *contracts: Contract, limits: Limits | None = None, fresh: bool = True
    ) -> None:
        self.clock = MovableClock()
        self.directory = directory
        if fresh:
            self.built = build_world(directory, gateway_port=0, registry_port=0, tax_port=0, company_count=5)
        self.config = self.built.deployment.load()
        self.members = self.built.members
        self.trust = Trust.load(self.members[COMPANY].directory / "trust.json")
        self.contracts = ListedContracts(*(contracts or (make_contract(),)))
        self.limits = limits
        self.gateway = ContributionGateway(self.config, self.contracts, clock=self.clock, limits=limits)
        self.log = LogView(self.config.log.database, self.trust)
        self._stack = AsyncExitStack()

    @property
    def vault(self) -> FileVault:
        return self.gateway.vault

    async def start(self) -> ContributionWorld:
        await self.gateway.start()
        return self

    async def stop(self) -> None:
        await self._stack.aclose()
        self._stack = AsyncExitStack()
        await self.gateway.stop()

    async def restart(self) -> None:
        """Stop the gateway, and start another on the same files and port."""
        port = self.gateway.port
        await self.gateway.stop()
        self.gateway = ContributionGateway(self.config, self.contracts, clock=self.clock, limits=self.limits)
        await self.gateway.start(port)

    def client(
        self, member: str = COMPANY, *, port: int | None = None, key: str | None = None
    ) -> AsyncClient:
        files = self.members[member]
        client = AsyncClient(
            f"127.0.0.1:{port or self.gateway.port}",
            channel_credentials(files.directory / "ca.pem", files.certificate, files.tls_key),
            self.trust,
            SigningKey.load(self.members[key or member].signing_key),
            clock=self.clock,
        )
        self._stack.push_async_callback(client.close)
        return client

    def caller(self, member: str = COMPANY) -> RawCaller:
        files = self.members[member]
        caller = RawCaller(
            self.gateway.port,
            Credentials.read(files.directory),
            origin=self.trust.origin,
            signing_key=SigningKey.load(files.signing_key),
            clock=self.clock,
        )
        self._stack.push_async_exit(caller)
        return caller

    def entries(self, kind: str) -> list[Entry]:
        return [entry for entry in self.log.entries() if entry.kind.value == kind]

    async def contribute(self, rows: Iterable[dict[str, Any]] | Sequence[bytes], **parts: Any) -> Any:
        """Contribute `rows` as the company does."""
        found = [row if isinstance(row, bytes) else record_line(row) for row in rows]
        client = parts.pop("client", None) or self.client()
        named = {"contract": CONTRACT, "dataset": "customers", "batch": f"b-{secrets.token_hex(4)}"}
        return await client.contribute(lambda: iter(found), **{**named, "patience_s": 20.0, **parts})


@asynccontextmanager
async def contribution_world(directory: Path) -> AsyncIterator[ContributionWorld]:
    """Yield a gateway with one contract in force; whatever was done to it, its log is sound."""
    world = await ContributionWorld(directory).start()
    try:
        yield world
        world.log.verify()
    finally:
        await world.stop()


async def serve(directory: Path, port: int) -> None:
    """Serve until killed."""
    from gateway.deployment.layout import Deployment

    config = Deployment(directory / "gateway").load()
    gateway = ContributionGateway(config, ListedContracts(make_contract()), clock=MovableClock())
    await gateway.start(port)
    sys.stdout.write(f"{gateway.port}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    require_tls13()
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2])))
