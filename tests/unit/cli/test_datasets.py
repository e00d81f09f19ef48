"""`gateway datasets late`, as the operator asks."""

from __future__ import annotations

from pathlib import Path

from gateway.config import GatewayConfig
from tests.simulators.activation import People, packed_policy, put_into_force
from tests.unit.cli.conftest import Commands

DESCRIPTION = """
apiVersion: v3.1.0
kind: DataContract
id: dues
name: Tax dues
version: 1.0.0
status: active
domain: taxation
description:
  purpose: One record for each company that owes tax past its due date.
customProperties:
  - {property: provider, value: tax}
  - {property: tier, value: TIER}
  - {property: datasetClass, value: record}
  - {property: catalogueCitation, value: "National catalogue of public credit information, item T-04"}
  - {property: freshness, value: "since:7"}
schema:
  - name: due
    logicalType: object
    properties:
      - name: uscc
        businessName: Unified social credit code
        logicalType: string
        required: true
        classification: TIER
        customProperties:
          - {property: identifierKind, value: uscc}
          - {property: lookup, value: true}
      - {name: since, businessName: Owed since, logicalType: date, classification: TIER}
"""


def add_a_tier(policy: Path) -> None:
    path = policy / "data" / "tiers.yaml"
    text = path.read_text()
    start = text.index("  - name: public")
    first = text[start : text.index("  - name: ", start + 1)]
    path.write_text(text.replace(first, first + first.replace("name: public", "name: internal"), 1))


def test_tiers_are_those_of_the_policy_in_force(
    gateway: Commands, config: Path, settings: GatewayConfig, tmp_path: Path
) -> None:
    """Control: by the policy folder, which nobody has put into force, the dataset would be in no tier."""
    (settings.catalogue / "dues.yaml").write_text(DESCRIPTION.replace("TIER", "internal"))
    refused = gateway("datasets", "late")
    assert refused.exit_code != 0
    assert "tier" in refused.stderr
    people = People.make()
    config.write_text(config.read_text() + people.section())
    in_force = packed_policy(settings.policy.directory, tmp_path, 7, add_a_tier)
    put_into_force(GatewayConfig.load(config), people, in_force)
    listed = {row["dataset"]: row for row in gateway.json("datasets", "late")}
    row = listed["members/tax/datasets/dues"]
    assert (row["promised_days"], row["days_late"]) == (7, None)
