"""A deployment that runs on two nodes, on one PostgreSQL."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec

from gateway.audit.note import Ed25519Verifier
from gateway.audit.postgres_fsck import fsck_database
from gateway.audit.postgres_reader import PostgresReader
from gateway.config import GatewayConfig
from gateway.database import PostgresAddress
from gateway.deployment.move import move_to_postgres
from gateway.evidence.trust import Trust
from gateway.model import Entry
from tests.simulators.postgres import PostgresServer, name_database
from tests.simulators.world import Configure, LogView, SimulatedNode, SimulatedWorld


class SharedLog(LogView):
    """The log in PostgreSQL as an officer reads it."""

    def __init__(self, address: PostgresAddress, trust: Trust) -> None:
        self.address = address
        self._verifier = Ed25519Verifier.from_vkey(trust.log_keys[0])

    def entries(self, first: int = 0) -> list[Entry]:
        with PostgresReader(self.address) as reader:
            return [
                msgspec.json.decode(reader.entry(index).data, type=Entry)
                for index in range(first, reader.size())
            ]

    def size(self) -> int:
        with PostgresReader(self.address) as reader:
            return reader.size()

    def verify(self) -> None:
        size = self.size()
        report = fsck_database(self.address, self._verifier)
        assert report.findings == ()
        # What runs may write meanwhile: of a contract that ends, of a dataset that comes with one.
        assert size <= report.entries <= self.size()


class TwoNodes(SimulatedWorld):
    """A deployment that began in SQLite, was moved, and runs on two nodes. `on` chooses one."""

    def __init__(self, directory: Path, server: PostgresServer) -> None:
        super().__init__(directory)
        self.address = server.database()
        self._server = server
        self.nodes: list[SimulatedNode] = []
        self.log = SharedLog(self.address, self.trust)

    async def start_node(self, configure: Configure = lambda config: config) -> None:
        if not isinstance(self.deployment.load().log.database, PostgresAddress):
            await asyncio.to_thread(move_to_postgres, self.config, self.address)
            name_database(self.deployment.config, self.address)
            self.config = self.deployment.load()
        for number in range(2):
            await super().start_node(lambda config, number=number: named(configure(config), number))
            self.nodes.append(self.node)

    def on(self, number: int) -> TwoNodes:
        self.node = self.nodes[number]
        return self


def named(config: GatewayConfig, number: int) -> GatewayConfig:
    """Tell the nodes apart, which run on one host and listen where there is a port."""
    server = config.server.model_copy(update={"node": f"node-{number}"})
    return config.model_copy(update={"server": server})
