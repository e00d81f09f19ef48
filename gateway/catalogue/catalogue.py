"""The set of datasets a gateway knows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

import msgspec

from gateway.catalogue.odcs import CatalogueError, read_dataset
from gateway.errors import GatewayError, Reason
from gateway.model import Dataset

__all__ = ["Catalogue", "CatalogueError"]


@dataclass(frozen=True, slots=True)
class _Datasets:
    """What is known at one moment."""

    by_name: dict[str, Dataset]
    bound: AbstractSet[str] = frozenset()


class Catalogue:
    """Datasets by name: those of the operator's own files, and those contributed under contract.

    The first never change, the second are replaced as a whole by `contribute`; whoever holds a dataset
    keeps it as it was. To be used on one event loop.
    """

    def __init__(self, datasets: Iterable[Dataset]) -> None:
        own: dict[str, Dataset] = {}
        for dataset in sorted(datasets, key=lambda item: item.name):
            if dataset.name in own:
                raise CatalogueError(f"The dataset {dataset.name} is described twice.")
            own[dataset.name] = dataset
        self._own = own
        self._known = _Datasets(own)

    @classmethod
    def read(cls, directory: Path, tiers: Sequence[str]) -> Catalogue:
        """Read every `*.yaml` in `directory`; raise `CatalogueError` if one is wrong or there is none."""
        paths = sorted(directory.glob("*.yaml"))
        if not paths:
            raise CatalogueError(f"{directory} holds no dataset description (*.yaml, ODCS 3.1).")
        return cls(read_dataset(path, tiers) for path in paths)

    def contribute(self, datasets: Iterable[Dataset], bound: AbstractSet[str]) -> tuple[str, ...]:
        """Put `datasets` in the place of those contributed so far; return the names refused, sorted.

        A name is refused that stands in the operator's own files, or twice in `datasets`: of those, nobody
        can say which is meant. `bound` are the names that were ever given under a contract: a dataset of
        the operator's own with such a name needs a contract from now on, whatever its file says.
        """
        contributed: dict[str, Dataset] = {}
        refused: set[str] = set()
        for dataset in datasets:
            if dataset.name in self._own or dataset.name in contributed:
                refused.add(dataset.name)
            else:
                contributed[dataset.name] = dataset
        for name in refused:
            contributed.pop(name, None)
        own = {
            name: self._bound(dataset) if name in bound else dataset for name, dataset in self._own.items()
        }
        self._known = _Datasets(dict(sorted((own | contributed).items())), bound)
        return tuple(sorted(refused))

    def dataset(self, name: str) -> Dataset:
        """Return the dataset called `name`; raise `GatewayError`.

        The reason is `CONTRACT_NOT_IN_FORCE` for one that is contributed, but not now; else
        `DATASET_UNKNOWN`.
        """
        dataset = self._known.by_name.get(name)
        if dataset is not None:
            return dataset
        if name in self._known.bound:
            raise GatewayError(
                "No contract for this dataset is in force now; ask its contributor, or the operator of the "
                "gateway.",
                reason=Reason.CONTRACT_NOT_IN_FORCE,
            )
        raise GatewayError(
            "There is no dataset of this name; list the datasets with CatalogService.ListDatasets.",
            reason=Reason.DATASET_UNKNOWN,
        )

    def __iter__(self) -> Iterator[Dataset]:
        """Datasets in order of name."""
        return iter(self._known.by_name.values())

    def __len__(self) -> int:
        return len(self._known.by_name)

    def _bound(self, dataset: Dataset) -> Dataset:
        """Return `dataset` marked as needing a contract, the same object each time: facts are kept by it."""
        current = self._known.by_name.get(dataset.name, dataset)
        return current if current.needs_contract else msgspec.structs.replace(dataset, needs_contract=True)
