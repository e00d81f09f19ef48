"""`gateway catalog`: which datasets there are, and what this member would receive of them."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from gateway.api.v1 import catalog_service_pb2 as api
from gateway.cli.calls import calling
from gateway.cli.options import parse_dataset
from gateway.cli.output import output_of, shown
from gateway.cli.settings import CLIENT_CONFIG, ClientConfigOption

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="See which datasets there are, and what this member would receive of them.",
)

_COLUMNS: Final = ("dataset", "title", "tier", "purposes")


@app.command("list")
def list_datasets(context: typer.Context, config: ClientConfigOption = CLIENT_CONFIG) -> None:
    """List the datasets, with the purposes for which this member may ask."""
    with calling(config) as client:
        rows = [describe_dataset(dataset) for dataset in client.datasets()]
    for row in rows:
        row["purposes"] = sorted({grant["purpose"] for grant in row["grants"]})
    output_of(context).list(rows, _COLUMNS, nothing="The gateway knows no dataset.")


@app.command("show")
def show(
    context: typer.Context,
    dataset: Annotated[str, typer.Argument(metavar="DATASET", help="MEMBER/DATASET, or the full name.")],
    config: ClientConfigOption = CLIENT_CONFIG,
) -> None:
    """Show a dataset's fields, and for each way of asking what becomes of them."""
    name = parse_dataset(dataset)
    with calling(config) as client:
        found = describe_dataset(client.dataset(name))
    output_of(context).facts(found, _lines(found))


def describe_dataset(dataset: api.Dataset) -> dict[str, Any]:
    """Return a dataset of the catalogue, with its grants, as plain values."""
    return {
        "dataset": dataset.name,
        "title": dataset.title,
        "description": dataset.description,
        "version": dataset.version,
        "tier": dataset.tier,
        "citation": dataset.citation,
        "fields": [
            {
                "name": field.name,
                "type": field.type,
                "tier": field.tier,
                "title": field.title,
                "identifier_kind": field.identifier_kind,
                "lookup": field.lookup,
            }
            for field in dataset.fields
        ],
        "grants": [
            {
                "purpose": grant.purpose,
                "legal_basis": grant.legal_basis,
                "memorandum": grant.memorandum,
                "contract": grant.contract,
                "tier": grant.tier,
                "treatments": {
                    item.field: {"treatment": item.treatment, "params": dict(item.params)}
                    for item in grant.treatments
                },
                "valid_until": grant.valid_until,
            }
            for grant in dataset.grants
        ],
    }


def _lines(found: dict[str, Any]) -> list[str]:
    lines = [f"{found['dataset']}  {found['title']} (tier {found['tier']}, version {found['version']})"]
    lines += [line for line in (found["description"], found["citation"]) if line]
    width = max((len(field["name"]) for field in found["fields"]), default=0)
    lines += ["", "Fields:"]
    for field in found["fields"]:
        marks = [field["type"], field["tier"], field["identifier_kind"], "look-up" if field["lookup"] else ""]
        lines.append(
            f"  {field['name']:<{width}}  {', '.join(filter(None, marks))}  {field['title']}".rstrip()
        )
    if not found["grants"]:
        lines += ["", "This member may not ask for anything of it now."]
    for grant in found["grants"]:
        lines += ["", f"For --purpose {grant['purpose']}{_conditions(grant)}, at tier {grant['tier']}:"]
        lines += [f"  {name:<{width}}  {_treatment(item)}" for name, item in grant["treatments"].items()]
    return lines


def _conditions(grant: dict[str, Any]) -> str:
    options = (
        ("--legal-basis", grant["legal_basis"]),
        ("--memorandum", grant["memorandum"]),
        ("--contract", grant["contract"]),
    )
    return "".join(f" {name} {value}" for name, value in options if value)


def _treatment(item: dict[str, Any]) -> str:
    return f"{item['treatment']} ({shown(item['params'])})" if item["params"] else str(item["treatment"])
