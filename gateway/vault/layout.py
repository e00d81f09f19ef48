"""What a contract's description of a dataset (ODCS 3.1, as JSON) means for keeping its records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from gateway.errors import GatewayError, Reason
from gateway.model.contract import Contract, DatasetTerms, Held
from gateway.vault.tables import Layout

Scalar = str | int | float | bool | None


class RecordError(GatewayError):
    """A record cannot be kept: it is not JSON on one line, or lacks a value of its key."""

    reason = Reason.REQUEST_MALFORMED


def vault_terms(contract: Contract, dataset: str) -> DatasetTerms:
    """Return the terms of a dataset that this contract puts into the vault.

    Raises `GatewayError` with `DATASET_UNKNOWN` if it puts no such dataset there.
    """
    terms = contract.terms.dataset(dataset)
    if terms is None or terms.held is not Held.VAULT:
        raise GatewayError(
            "The contract does not put a dataset of this name into the vault; look at it with `gateway "
            "contract show`.",
            reason=Reason.DATASET_UNKNOWN,
        )
    return terms


def layout_of(terms: DatasetTerms) -> Layout:
    """Return by what records of the dataset are found: its key, and the fields that may be looked up."""
    objects = terms.description.get("schema") or [{}]
    lookup = [
        str(item["name"])
        for item in objects[0].get("properties", ())
        if custom_properties(item.get("customProperties")).get("lookup") is True
    ]
    return Layout(lookup=tuple(sorted(set(lookup))), key=terms.key)


def retention_of(terms: DatasetTerms) -> str:
    """Return the dataset's retention as `FIELD:YEARS`; empty if it has none."""
    return str(custom_properties(terms.description.get("customProperties")).get("retention", ""))


def custom_properties(items: Iterable[Mapping[str, Any]] | None) -> dict[str, Any]:
    """Return custom properties by name."""
    return {str(item.get("property")): item.get("value") for item in items or ()}


def text_of(value: Scalar) -> str:
    """Return the text of a value by which it is looked up: a string itself, of others their JSON."""
    if isinstance(value, str):
        return value
    # By far the most frequent of the others; as JSON writes it.
    return str(value) if type(value) is int else msgspec.json.encode(value).decode()
