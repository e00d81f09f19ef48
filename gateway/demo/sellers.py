"""What the company of the story gives: its sellers, and the contract under which it does so."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from gateway.clock import Clock
from gateway.contracts.document import read_terms
from gateway.demo.stage import mistyped
from gateway.demo.synthetic import Company
from gateway.model import Terms, dataset_name

CONTRIBUTOR: Final = "tradeplatform"
RECIPIENT: Final = "inspectorate"
CONTRACT: Final = "sellers"
SELLERS: Final = dataset_name(CONTRIBUTOR, "sellers")
PURPOSE: Final = "public-lookup"
BAD_ROWS: Final = 3

_FIELDS: Final[tuple[dict[str, Any], ...]] = (
    {"name": "uscc", "logicalType": "string", "required": True, "identifierKind": "uscc", "lookup": True},
    {"name": "name", "logicalType": "string", "required": True},
    {"name": "joined_on", "logicalType": "date", "generalise": "month"},
    {"name": "complaints", "logicalType": "integer", "generalise": "band:10"},
    {"name": "phone", "logicalType": "string"},
)
_STANDARD: Final = frozenset({"name", "logicalType", "required"})


def sellers_terms(clock: Clock) -> Terms:
    """Return the terms: to the inspectorate alone, complaints as a range, telephone numbers not at all."""
    now = clock()
    return read_terms(
        {
            "v": 1,
            "contract": CONTRACT,
            "version": 1,
            "title": "Sellers on the trade platform",
            "parties": [
                {"member": CONTRIBUTOR, "role": "contributor"},
                {"member": RECIPIENT, "role": "recipient"},
            ],
            "datasets": [
                {
                    "name": SELLERS,
                    "held": "vault",
                    "description": _description(),
                    "fields": {
                        "complaints": {"treatment": "generalise", "params": {"method": "band:10"}},
                        "phone": {"treatment": "drop"},
                    },
                    "key": ["uscc"],
                }
            ],
            "purposes": [PURPOSE],
            "recipients": {"members": [RECIPIENT]},
            "valid_from": f"{now:%Y}-01-01T00:00:00Z",
            "valid_until": f"{now.year + 1}-12-31T00:00:00Z",
            "quotas": [{"records": 1000, "per": "month", "each": "consumer"}],
            "price": {"currency": "CNY", "minor_units_per_thousand": 250_000},
        }
    )


def sellers_of(companies: Sequence[Company]) -> list[dict[str, Any]]:
    """Return what the platform knows of these companies."""
    return [
        {
            "uscc": company.uscc,
            "name": company.name,
            "joined_on": f"20{10 + number % 15}-{1 + number % 12:02}-01",
            "complaints": 7 * number % 40,
            "phone": company.phone,
        }
        for number, company in enumerate(companies, start=1)
    ]


def write_sellers(path: Path, sellers: Sequence[Mapping[str, Any]]) -> None:
    """Write the sellers as a CSV file, with three rows besides that are not as they should be."""
    first, second, third, *_ = sellers
    bad = [
        {**first, "uscc": mistyped(first["uscc"])},
        {**second, "uscc": "no code"},
        third,
    ]
    with path.open("x", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(first))
        writer.writeheader()
        writer.writerows([*sellers, *bad])


def _description() -> dict[str, Any]:
    properties = {
        "provider": CONTRIBUTOR,
        "tier": "public",
        "catalogueCitation": "Catalogue of private contributions, item 1",
    }
    return {
        "apiVersion": "v3.1.0",
        "kind": "DataContract",
        "id": "sellers",
        "name": "Sellers on the trade platform",
        "version": "1.0.0",
        "status": "active",
        "customProperties": [{"property": name, "value": value} for name, value in properties.items()],
        "schema": [{"name": "seller", "properties": [_property(field) for field in _FIELDS]}],
    }


def _property(field: Mapping[str, Any]) -> dict[str, Any]:
    custom = [{"property": name, "value": field[name]} for name in field if name not in _STANDARD]
    described = {name: field[name] for name in field if name in _STANDARD}
    return {**described, "classification": "public", **({"customProperties": custom} if custom else {})}
