"""What the benchmark runs on: a deployment with one provider of 200,000 records and one bank."""

from __future__ import annotations

import copy
import random
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import msgspec
import yaml

from gateway.demo.synthetic import companies
from gateway.demo.world import ORIGIN
from gateway.deployment import Deployment, MemberFiles, add_member, export_trust, initialise
from gateway.deployment.layout import member_uri
from gateway.model import Member, Role
from gateway.pki.authority import CertificateAuthority

DATASET = "members/registry/datasets/bench"
PURPOSE, LEGAL_BASIS, MEMORANDUM = "statistics", "statistics-act-9", "bench"
LOOKUP_PURPOSE, LOOKUP_LEGAL_BASIS = "credit-check", "credit-reporting-act-14"
FIELDS = ("uscc", "name", "status", "registered_on", "representative_id", "owner_id", "capital")
"""What is released: four as they are, two as pseudonyms, one generalised."""
DROPPED = ("phone", "note", "inspector")

DESCRIPTION = {
    "apiVersion": "v3.1.0",
    "kind": "DataContract",
    "id": "bench",
    "name": "Benchmark",
    "version": "1.0.0",
    "status": "active",
    "customProperties": [
        {"property": "provider", "value": "registry"},
        {"property": "tier", "value": "public"},
    ],
    "schema": [
        {
            "name": "record",
            "logicalType": "object",
            "properties": [
                {
                    "name": "uscc",
                    "logicalType": "string",
                    "classification": "public",
                    "required": True,
                    "customProperties": [
                        {"property": "identifierKind", "value": "uscc"},
                        {"property": "lookup", "value": True},
                    ],
                },
                {"name": "name", "logicalType": "string", "classification": "public"},
                {"name": "status", "logicalType": "string", "classification": "public"},
                {"name": "registered_on", "logicalType": "date", "classification": "public"},
                *(
                    {
                        "name": name,
                        "logicalType": "string",
                        "classification": "limited",
                        "customProperties": [{"property": "identifierKind", "value": "national-id"}],
                    }
                    for name in ("representative_id", "owner_id")
                ),
                {
                    "name": "capital",
                    "logicalType": "integer",
                    "classification": "limited",
                    "customProperties": [{"property": "generalise", "value": "band:1000000"}],
                },
                *(
                    {"name": name, "logicalType": "string", "classification": "restricted"}
                    for name in DROPPED
                ),
            ],
        }
    ],
}


@dataclass(frozen=True)
class BenchWorld:
    directory: Path
    deployment: Deployment
    provider: MemberFiles
    consumer: MemberFiles


def build(directory: Path, gateway_port: int, provider_port: int, metrics_port: int) -> BenchWorld:
    """Make the deployment in `directory`."""
    address = f"127.0.0.1:{gateway_port}"
    deployment = initialise(directory / "gateway", origin=ORIGIN, listen=address, metrics_port=metrics_port)
    (deployment.directory / "catalogue" / "bench.yaml").write_text(yaml.safe_dump(DESCRIPTION))
    _allow(deployment.directory / "policies" / "data" / "memoranda.yaml")
    config = deployment.load()
    authority = CertificateAuthority.load(*deployment.authority)
    files = {}
    for name, member_class, role, endpoint in (
        ("registry", "agency", Role.PROVIDER, f"127.0.0.1:{provider_port}"),
        ("harbour-bank", "bank", Role.CONSUMER, None),
    ):
        member = Member(
            id=name,
            title=name,
            member_class=member_class,
            roles=frozenset({role}),
            uri=member_uri(name),
            signing_keys={},
            endpoint=endpoint,
        )
        files[name] = add_member(config, member, authority, directory / name, gateway_address=address)
    trust = export_trust(config).to_json()
    for member_files in files.values():
        (member_files.directory / "trust.json").write_bytes(trust)
    return BenchWorld(directory, deployment, files["registry"], files["harbour-bank"])


def records(count: int) -> tuple[list[str], list[bytes]]:
    """Return (keys, lines): each line a JSON object with `FIELDS`, as a provider would send it."""
    source = random.Random(7)
    people = [company.representative_id for company in companies(5000, 11)]
    first = date(1990, 1, 1)
    keys, lines = [], []
    for company in companies(count, 7):
        row = {
            "uscc": company.uscc,
            "name": company.name,
            "status": company.status,
            "registered_on": first + timedelta(days=source.randrange(12_000)),
            "representative_id": company.representative_id,
            "owner_id": source.choice(people),
            "capital": company.capital,
        }
        keys.append(company.uscc)
        lines.append(msgspec.json.encode(row))
    return keys, lines


def _allow(path: Path) -> None:
    data = yaml.safe_load(path.read_text())
    data["memoranda"][MEMORANDUM] = {
        **copy.deepcopy(data["memoranda"]["registry-harbour-bank"]),
        "title": "Benchmark",
        "datasets": [DATASET],
    }
    path.write_text(yaml.safe_dump(data, sort_keys=False))
