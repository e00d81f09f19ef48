"""The contracts as a running gateway sees them: in memory, never more than a quarter second old."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from gateway.contracts.document import moment
from gateway.contracts.errors import ContractsUnavailableError, unknown_contract
from gateway.contracts.reciprocity import clauses_by_receiver
from gateway.contracts.store import ContractSource
from gateway.contracts.version import Version
from gateway.model import Contract, ContractState

REFRESH_INTERVAL_S: Final = 0.25
"""How often a change made elsewhere is looked for, if nothing tells of it sooner; a suspension must bite
within one second (P11)."""

STALE_AFTER_S: Final = 1.0
"""A register that could not be read for this long has no contract: a suspension might be in it."""


class Contracts(Protocol):
    """The contracts as others use them. All raise `ContractsUnavailableError` while they are stale."""

    def contract(self, contract_id: str) -> Contract:
        """Return the version with this identity; raise `ContractError` with `CONTRACT_UNKNOWN`."""
        ...

    def in_force(self, now: datetime) -> list[Contract]:
        """Return the contracts in force: active, within their dates, every party an active member."""
        ...

    def covering(self, dataset: str, now: datetime) -> list[Contract]:
        """Return the contracts in force that the dataset called `dataset` is under."""
        ...

    def in_return(self, contributor: str, dataset: str) -> tuple[Contract, ...]:
        """Return the contracts, in force or not, by which `contributor` gets `dataset` in return."""
        ...

    def of_member(self, member_id: str) -> list[Contract]:
        """Return every version, in whatever state, that this member is a party to."""
        ...

    def contracts(self) -> list[Contract]:
        """Return every version, in whatever state."""
        ...

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` on the event loop after each change of a contract."""
        ...


@dataclass(frozen=True, slots=True)
class _Running:
    """A contract that has come into force, with its dates as times."""

    contract: Contract
    begins: datetime
    ends: datetime
    members: frozenset[str]


class _Snapshot:
    """One consistent state of the contract store, indexed."""

    def __init__(self, revision: int, versions: Iterable[Version]) -> None:
        self.revision = revision
        self.versions = {version.name: version for version in versions}
        self.contracts = [version.contract() for version in self.versions.values()]
        self.by_id = {contract.id: contract for contract in self.contracts}
        self.of_member: dict[str, list[Contract]] = {}
        latest: dict[str, tuple[Version, Contract]] = {}
        for version, contract in zip(self.versions.values(), self.contracts, strict=True):
            for member in version.members:
                self.of_member.setdefault(member, []).append(contract)
            if contract.state in {ContractState.ACTIVE, ContractState.SUSPENDED}:
                # Of two versions that run, for the moment until one makes way, the later holds.
                latest[contract.terms.contract] = (version, contract)
        self.active = [
            _Running(
                contract,
                moment(contract.terms.valid_from),
                moment(contract.terms.valid_until),
                version.members,
            )
            for version, contract in latest.values()
            if contract.state is ContractState.ACTIVE
        ]
        self.covering: dict[str, list[_Running]] = {}
        for running in self.active:
            for dataset in running.contract.terms.datasets:
                self.covering.setdefault(dataset.name, []).append(running)
        self.in_return = clauses_by_receiver(self.contracts)


class ContractRegister:
    """Answers which contracts there are, on any thread; a background task renews it."""

    def __init__(self, source: ContractSource, is_active: Callable[[str], bool]) -> None:
        """Take what is read, and what tells whether a member is served now."""
        self._source = source
        self._is_active = is_active
        self._snapshot = _Snapshot(*source.versions())
        self._read_at: float | None = None
        self._listeners: list[Callable[[], None]] = []

    def contract(self, contract_id: str) -> Contract:
        """Return the version with this identity; raise `ContractError` with `CONTRACT_UNKNOWN`."""
        self._check_fresh()
        found = self._snapshot.by_id.get(contract_id)
        if found is None:
            raise unknown_contract()
        return found

    def in_force(self, now: datetime) -> list[Contract]:
        """Return the contracts in force: active, within their dates, every party an active member."""
        self._check_fresh()
        return self._of_these_in_force(self._snapshot.active, now)

    def covering(self, dataset: str, now: datetime) -> list[Contract]:
        """Return the contracts in force that the dataset called `dataset` is under."""
        self._check_fresh()
        return self._of_these_in_force(self._snapshot.covering.get(dataset, ()), now)

    def in_return(self, contributor: str, dataset: str) -> tuple[Contract, ...]:
        """Return the contracts, in force or not, by which `contributor` gets `dataset` in return."""
        self._check_fresh()
        return self._snapshot.in_return.get((contributor, dataset), ())

    def of_member(self, member_id: str) -> list[Contract]:
        """Return every version, in whatever state, that this member is a party to."""
        self._check_fresh()
        return list(self._snapshot.of_member.get(member_id, ()))

    def contracts(self) -> list[Contract]:
        """Return every version, in whatever state, by contract and version."""
        self._check_fresh()
        return list(self._snapshot.contracts)

    def version(self, name: str) -> Version | None:
        """Return the version with this resource name, its signatures too; None if there is none."""
        self._check_fresh()
        return self._snapshot.versions.get(name)

    def versions(self) -> list[Version]:
        """Return every version with its signatures, by contract and version."""
        self._check_fresh()
        return list(self._snapshot.versions.values())

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` on the event loop after each change of a contract."""
        self._listeners.append(listener)

    async def keep_fresh(self, on_error: Callable[[ContractsUnavailableError], None]) -> None:
        """Renew the snapshot until cancelled; `on_error` hears of each failed reading."""
        self._read_at = time.monotonic()
        while True:
            await self._source.await_change(REFRESH_INTERVAL_S)
            try:
                await self.refresh()
            except ContractsUnavailableError as error:
                on_error(error)

    async def refresh(self) -> None:
        """Read the store again if its revision has changed; raise `ContractsUnavailableError`."""
        asked_at = time.monotonic()
        if await asyncio.to_thread(self._source.revision) != self._snapshot.revision:
            snapshot = await asyncio.to_thread(lambda: _Snapshot(*self._source.versions()))
            # Two that refresh at once may end in either order; what is newer stays.
            if snapshot.revision > self._snapshot.revision:
                self._snapshot = snapshot
                for listener in self._listeners:
                    listener()
        if self._read_at is not None:
            self._read_at = max(self._read_at, asked_at)

    def _of_these_in_force(self, running: Iterable[_Running], now: datetime) -> list[Contract]:
        return [
            item.contract
            for item in running
            if item.begins <= now < item.ends and all(map(self._is_active, item.members))
        ]

    def _check_fresh(self) -> None:
        if self._read_at is None:
            return
        if time.monotonic() - self._read_at > STALE_AFTER_S:
            raise ContractsUnavailableError(
                "The gateway cannot read its contracts and serves nothing under one until it can; try again "
                "later."
            )
