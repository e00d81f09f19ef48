"""The set of datasets a gateway knows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from gateway.catalogue.odcs import CatalogueError, read_dataset
from gateway.errors import GatewayError, Reason
from gateway.model import Dataset

__all__ = ["Catalogue", "CatalogueError"]


class Catalogue:
    """Datasets by name; immutable once read."""

    def __init__(self, datasets: Iterable[Dataset]) -> None:
        self._datasets: dict[str, Dataset] = {}
        for dataset in sorted(datasets, key=lambda item: item.name):
            if dataset.name in self._datasets:
                raise CatalogueError(f"The dataset {dataset.name} is described twice.")
            self._datasets[dataset.name] = dataset

    @classmethod
    def read(cls, directory: Path, tiers: Sequence[str]) -> Catalogue:
        """Read every `*.yaml` in `directory`; raise `CatalogueError` if one is wrong or there is none."""
        paths = sorted(directory.glob("*.yaml"))
        if not paths:
            raise CatalogueError(f"{directory} holds no dataset description (*.yaml, ODCS 3.1).")
        return cls(read_dataset(path, tiers) for path in paths)

    def dataset(self, name: str) -> Dataset:
        """Return the dataset called `name`; raise `GatewayError` with `DATASET_UNKNOWN`."""
        dataset = self._datasets.get(name)
        if dataset is None:
            raise GatewayError(
                "There is no dataset of this name; list the datasets with CatalogService.ListDatasets.",
                reason=Reason.DATASET_UNKNOWN,
            )
        return dataset

    def __iter__(self) -> Iterator[Dataset]:
        """Datasets in order of name."""
        return iter(self._datasets.values())

    def __len__(self) -> int:
        return len(self._datasets)
