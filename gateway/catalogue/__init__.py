"""The catalogue: which datasets there are and what their records look like."""

from gateway.catalogue.catalogue import Catalogue, CatalogueError
from gateway.catalogue.odcs import describe_dataset, read_dataset

__all__ = ["Catalogue", "CatalogueError", "describe_dataset", "read_dataset"]
