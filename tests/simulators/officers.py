"""Officers and custodians of a simulated deployment that keeps details."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.config import DetailsConfig, GatewayConfig
from gateway.demo.world import COMPANIES
from gateway.deployment.openings import Opened, open_details, request_opening
from gateway.details import Custodian
from gateway.details.opening import approve, verify_request
from gateway.model import Actor, Entry, EntryKind, Subject
from tests.simulators.world import SimulatedWorld

REASON = "complaint 2026/17"


@dataclass
class Officers:
    """A world that keeps details, and the people around it."""

    world: SimulatedWorld
    custodians: list[Custodian]
    config: GatewayConfig = field(init=False)

    async def start(self) -> None:
        cards = []
        for custodian in self.custodians:
            path = self.world.directory / f"{custodian.card.name}.card"
            path.write_bytes(custodian.card.to_json())
            cards.append(path)

        def with_details(config: GatewayConfig) -> GatewayConfig:
            directory, log = self.world.deployment.directory, config.log.database
            details = DetailsConfig(
                database=directory / "data" / "details.sqlite" if isinstance(log, Path) else log,
                index_key=directory / "keys" / "blind-index.key",
                custodians=tuple(cards[:2]),
                former_custodians=tuple(cards[2:]),
            )
            self.config = config.model_copy(update={"details": details})
            return self.config

        await self.world.start(with_details)

    async def ask(self, uscc: str, actor: str = "clerk-17", **options: Any) -> Entry:
        """Ask about a company; return the entry that says so."""
        page = await self.world.client().query(
            COMPANIES,
            purpose="public-lookup",
            subjects=[Subject("uscc", uscc)],
            actor=Actor(actor, "loan 2026/881"),
            **options,
        )
        return page.verified.entry

    async def settle(self) -> None:
        """Stop the gateway, so that everything it had to write is written."""
        await self.world.stop_node()

    def index_of(self, exchange: str, kind: EntryKind = EntryKind.EXCHANGE_REQUESTED) -> int:
        [index] = [
            at
            for at, entry in enumerate(self.world.log.entries())
            if entry.exchange == exchange and entry.kind is kind
        ]
        return index

    def newest(self) -> Entry:
        return self.world.log.entries()[-1]

    def open(self, index: int, approvers: list[Custodian] | None = None, reason: str = REASON) -> Opened:
        request, secret = request_opening(
            self.config, index, reason=reason, by="officer", clock=self.world.clock
        )
        verified = verify_request(request, self.world.trust)
        envelopes = [
            approve(verified, custodian, self.world.clock())
            for custodian in (approvers if approvers is not None else self.custodians[:2])
        ]
        return open_details(self.config, request, secret, envelopes, clock=self.world.clock)
