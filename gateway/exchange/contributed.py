"""Contributed datasets: in the catalogue while their contracts are in force, and gone when these end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import msgspec

from gateway.catalogue import Catalogue, CatalogueError, describe_dataset
from gateway.clock import Clock
from gateway.errors import GatewayError
from gateway.exchange.contracts import Contracts
from gateway.model import ContractState, Dataset, DatasetTerms, Terms

REFRESH_INTERVAL_S: Final = 0.25
"""How often the catalogue follows the contracts: a contract begins and ends at its dates too."""

_NEVER_IN_FORCE: Final = frozenset({ContractState.PROPOSED, ContractState.COUNTERED})


@dataclass(frozen=True, slots=True)
class Refused:
    """A dataset of a contract in force that is not served."""

    dataset: str
    message: str


class ContributedDatasets:
    """Keeps the catalogue in step with the contracts. On one event loop."""

    def __init__(
        self,
        catalogue: Catalogue,
        contracts: Contracts,
        tiers: Sequence[str],
        clock: Clock,
        *,
        added: Callable[[Sequence[Dataset]], None],
        served: Callable[[], Awaitable[None]],
        refused: Callable[[Refused], None],
        passes_on_corrections: bool,
    ) -> None:
        """Take the catalogue, the contracts, and the sharing tiers that policy knows.

        `added` is told of datasets before they are served for the first time, `served` that the catalogue
        is another now, `refused` of those that are not served, once each. With `passes_on_corrections` the
        gateway remembers who received which of their records.
        """
        self._catalogue = catalogue
        self._contracts = contracts
        self._tiers = tiers
        self._clock = clock
        self._added = added
        self._served = served
        self._refused = refused
        self._passes_on_corrections = passes_on_corrections
        self._shown: tuple[frozenset[str], frozenset[str]] | None = None
        self._described: dict[str, tuple[Dataset | Refused, ...]] = {}
        self._told: frozenset[Refused] = frozenset()

    async def keep_fresh(self) -> None:
        """Follow the contracts for ever. While they cannot be read, the datasets stay as they are.

        Nothing is given of them then: each exchange asks about its contract for itself.
        """
        while True:
            # Whoever reads the contracts tells when that fails.
            with suppress(GatewayError):
                await self.refresh()
            await asyncio.sleep(REFRESH_INTERVAL_S)

    async def refresh(self) -> None:
        """Put the datasets of the contracts in force now in the catalogue, all at once.

        Raises `GatewayError` if the contracts cannot be read.
        """
        in_force = {contract.id: contract for contract in self._contracts.in_force(self._clock())}
        bound = frozenset(
            dataset.name
            for contract in self._contracts.contracts()
            if contract.state not in _NEVER_IN_FORCE
            for dataset in contract.terms.datasets
        )
        shown = (frozenset(in_force), bound)
        if shown == self._shown:
            return
        new = [contract for identity, contract in in_force.items() if identity not in self._described]
        if new:
            # A description takes milliseconds to read, and there may be hundreds at the start.
            described = await asyncio.to_thread(lambda: [self._described_by(one.terms) for one in new])
            self._described |= {one.id: found for one, found in zip(new, described, strict=True)}
            self._added([item for found in described for item in found if isinstance(item, Dataset)])
        self._described = {identity: self._described[identity] for identity in in_force}
        found = [item for items in self._described.values() for item in items]
        clashing = self._catalogue.contribute(
            _once([item for item in found if isinstance(item, Dataset)]), bound
        )
        self._tell([*(item for item in found if isinstance(item, Refused)), *map(_clash, clashing)])
        await self._served()
        self._shown = shown

    def _described_by(self, terms: Terms) -> tuple[Dataset | Refused, ...]:
        return tuple(self._describe(terms, dataset) for dataset in terms.datasets)

    def _describe(self, terms: Terms, dataset: DatasetTerms) -> Dataset | Refused:
        try:
            described = contributed_dataset(terms, dataset, self._tiers)
        except CatalogueError as error:
            return Refused(dataset.name, error.message)
        if self._passes_on_corrections:
            return described
        return msgspec.structs.replace(described, corrections=())

    def _tell(self, refused: Sequence[Refused]) -> None:
        now = frozenset(refused)
        for one in sorted(now - self._told, key=lambda one: one.dataset):
            self._refused(one)
        self._told = now


def contributed_dataset(terms: Terms, dataset: DatasetTerms, tiers: Sequence[str]) -> Dataset:
    """Return the dataset that a contract describes, marked as needing one; raise `CatalogueError`.

    Its name and provider must be those of the terms.
    """
    described = describe_dataset(dataset.description, dataset.name, tiers, provider=terms.contributor)
    if described.name != dataset.name:
        raise CatalogueError(f"{dataset.name}: the description is of another dataset.")
    return msgspec.structs.replace(
        described,
        needs_contract=True,
        held=dataset.held,
        corrections=described.corrections or dataset.key,
    )


def _once(datasets: Sequence[Dataset]) -> list[Dataset]:
    """Return each dataset once, if all contracts that cover it describe it alike."""
    kept: dict[tuple[str, bytes], Dataset] = {}
    for dataset in datasets:
        kept.setdefault((dataset.name, msgspec.json.encode(dataset)), dataset)
    return list(kept.values())


def _clash(name: str) -> Refused:
    return Refused(
        name,
        f"{name}: the operator's own files describe it too, or two contracts in force describe it otherwise; "
        "the contract's description is not used.",
    )
