"""Lists for a simulated world: five that are asked together, two offices hold them, and one asked alone."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from typing import Any, Final

from gateway.config import GatewayConfig, ListsConfig
from gateway.demo.synthetic import Company
from gateway.model import Operation, Query, Subject
from tests.simulators.caller import RawCaller
from tests.simulators.world import Configure, SimulatedWorld

SET: Final = "list-sets/scrutiny-warning"
REGISTRY_LISTS: Final = ("abnormal-operations", "false-registrations", "missing-reports")
TAX_LISTS: Final = ("tax-evaders", "invoice-fraud")
LISTS: Final = (
    *(f"members/registry/datasets/{name}" for name in REGISTRY_LISTS),
    *(f"members/tax/datasets/{name}" for name in TAX_LISTS),
)
"""The lists of the set."""
DEFAULTERS: Final = "members/registry/datasets/judgment-defaulters"
WARNING: Final = {"purpose": "early-warning", "legal_basis": "early-warning-rules-6"}
RESTRICTION: Final = {
    "purpose": "restriction-check",
    "legal_basis": "judgment-enforcement-rules-3",
    "memorandum": "registry-defaulters-tradeplatform",
}
FULL: Final = 20
"""Companies, the last ones of the world, that every list has, so that none is too small."""

_DESCRIPTION: Final = """\
apiVersion: v3.1.0
kind: DataContract
id: {name}
name: {name}
version: 1.0.0
status: active
customProperties:
  - {{property: provider, value: {provider}}}
  - {{property: tier, value: limited}}
  - {{property: datasetClass, value: list}}
  - {{property: catalogueCitation, value: "National catalogue of public credit information, item B-01"}}
schema:
  - name: entry
    logicalType: object
    properties:
      - name: {field}
        logicalType: string
        required: true
        classification: limited
        customProperties:
          - {{property: identifierKind, value: uscc}}
          - {{property: lookup, value: true}}
      - {{name: case_number, logicalType: string, classification: government}}
      - {{name: restriction, logicalType: string, classification: limited,
         customProperties: [{{property: restriction, value: true}}]}}
"""

_MAPPING: Final = """
[datasets.{name}]
source = "sqlite:///{database}"
table = "{table}"
lookup = ["code"]
key = ["code", "case_number"]

[datasets.{name}.columns]
code = "code"
case_number = "case_number"
restriction = "restriction"
"""

Entries = dict[str, list[str]]
"""Code of a company to the classes of restriction of its entries on one list."""


def describe_lists(world: SimulatedWorld, entries: dict[str, Entries] | None = None) -> None:
    """Give a world that is not yet started its lists; `entries` by dataset name, beside the full ones."""
    entries = entries or {}
    for name in (*LISTS, DEFAULTERS):
        _, provider, _, short = name.split("/")
        # Every office has its own word for the same.
        text = _DESCRIPTION.format(name=short, provider=provider, field=_field(provider))
        (world.config.catalogue / f"{provider}-{short}.yaml").write_text(text)
    folder = world.members["tax"].directory
    with closing(sqlite3.connect(folder / "tax.db")) as database, database:
        for short in TAX_LISTS:
            rows = _rows("tax", world.companies, entries.get(f"members/tax/datasets/{short}", {}))
            table = short.replace("-", "_")
            database.execute(f"CREATE TABLE {table} (code TEXT, case_number TEXT, restriction TEXT)")
            database.executemany(
                f"INSERT INTO {table} VALUES (?, ?, ?)",
                [tuple(row.values()) for row in rows],
            )
            with (folder / "mapping.toml").open("a") as mapping:
                mapping.write(_MAPPING.format(name=short, table=table, database=folder / "tax.db"))


def fill_lists(world: SimulatedWorld, entries: dict[str, Entries] | None = None) -> None:
    """Give the simulated registry of a started world what stands on its lists."""
    entries = entries or {}
    for short in (*REGISTRY_LISTS, "judgment-defaulters"):
        name = f"members/registry/datasets/{short}"
        world.registry.lists[name] = _rows("registry", world.companies, entries.get(name, {}))


async def start_with_lists(
    world: SimulatedWorld, entries: dict[str, Entries] | None = None, **lists: Any
) -> SimulatedWorld:
    """Start a world with lists; the numbers of the configuration are those in `lists`."""
    describe_lists(world, entries)
    await world.start(with_numbers(**lists))
    fill_lists(world, entries)
    return world


def with_numbers(**lists: Any) -> Configure:
    """Return what sets the numbers of list questions; by default fast, and repeatable at once."""
    numbers = ListsConfig(answer_after_ms=100, again_after_s=0)

    def configure(config: GatewayConfig) -> GatewayConfig:
        # Copied, not validated: controls switch off what nobody could configure away.
        return config.model_copy(update={"lists": numbers.model_copy(update=lists)})

    return configure


def on(lists: Iterable[str], code: str, *restrictions: str) -> dict[str, Entries]:
    """Return entries that put one company on `lists`."""
    return {name: {code: list(restrictions) or ["none"]} for name in lists}


def merged(*several: dict[str, Entries]) -> dict[str, Entries]:
    """Return all of `several` together."""
    out: dict[str, Entries] = {}
    for entries in several:
        for name, codes in entries.items():
            out.setdefault(name, {}).update(codes)
    return out


def warning(caller: RawCaller, code: str, lists: str = SET, **parts: Any) -> Query:
    """Return the question whether a company is on three of the five lists."""
    return caller.statement(
        lists,
        operation=Operation.LIST,
        **{"subjects": [Subject("uscc", code)], "at_least": 3, **WARNING, **parts},
    )


def defaulter(caller: RawCaller, code: str, **parts: Any) -> Query:
    """Return the question whether a company is on the list of judgment defaulters."""
    return caller.statement(
        DEFAULTERS,
        operation=Operation.LIST,
        **{"subjects": [Subject("uscc", code)], **RESTRICTION, **parts},
    )


def _field(provider: str) -> str:
    return "code" if provider == "tax" else "credit_code"


def _rows(provider: str, companies: Sequence[Company], entries: Entries) -> list[dict[str, str]]:
    everybody = {company.uscc: ["flights"] for company in companies[-FULL:]} | entries
    return [
        {_field(provider): code, "case_number": f"case-{at}-{number}", "restriction": restriction}
        for at, (code, restrictions) in enumerate(everybody.items())
        for number, restriction in enumerate(restrictions)
    ]
