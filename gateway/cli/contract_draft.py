"""Terms as people write them: a commented file to begin with, and the way from a file to terms."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import yaml

from gateway.cli.failures import CommandError
from gateway.cli.options import require_file
from gateway.client import PartyContract
from gateway.contracts.document import read_terms
from gateway.model import Terms, dataset_name, parse_contract_name
from gateway.policy.strict_yaml import parse_yaml, read_text

_YEAR: Final = timedelta(days=365)


def draft_terms(
    description: Path, contributor: str, recipients: Sequence[str], contract: str, now: datetime
) -> str:
    """Return the text of a draft over the dataset that the file `description` (ODCS) tells of."""
    text = read_text(description)
    content = parse_yaml(text, description.name)
    if not isinstance(content, dict) or not isinstance(content.get("id"), str):
        raise CommandError(f"{description} is no ODCS description: it has no id.")
    begins = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    fields = "".join(f"    #   {name}: {{treatment: release}}\n" for name in _fields(content))
    return _DRAFT.format(
        contract=contract,
        title=yaml.safe_dump(str(content.get("name", contract)), width=10_000).splitlines()[0],
        contributor=contributor,
        parties="".join(f"  - {{member: {member}, role: recipient}}\n" for member in recipients),
        recipients=", ".join(recipients),
        dataset=dataset_name(contributor, content["id"]),
        description=textwrap.indent(_without_fractions(content), "      "),
        fields=fields,
        begins=f"{begins:%Y-%m-%dT%H:%M:%SZ}",
        ends=f"{begins + _YEAR:%Y-%m-%dT%H:%M:%SZ}",
    )


def load_terms(path: Path, versions: Sequence[PartyContract] = ()) -> Terms:
    """Return the terms in the YAML or JSON file at `path`.

    What the author may leave to us (`v`, `version`, `predecessor`) is taken from the newest of `versions`,
    those of all contracts. Raises `ContractError` and `ConfigError`.
    """
    require_file(path, "The file of terms", "`gateway contract draft` makes one")
    content = parse_yaml(read_text(path), path.name)
    if not isinstance(content, dict):
        raise CommandError(f"{path} holds no terms; `gateway contract draft` makes a file to begin with.")
    own = [
        (number, version.id)
        for version in versions
        for contract, number in [parse_contract_name(version.name)]
        if contract == content.get("contract")
    ]
    number, predecessor = max(own, default=(0, None))
    content.setdefault("v", 1)
    content.setdefault("version", number + 1)
    if predecessor is not None:
        content.setdefault("predecessor", predecessor)
    return read_terms(content)


def _fields(content: dict[str, Any]) -> list[str]:
    try:
        return [str(item["name"]) for item in content["schema"][0]["properties"]]
    except (KeyError, IndexError, TypeError) as error:
        raise CommandError("The description has no schema with properties; complete it first.") from error


def _without_fractions(content: dict[str, Any]) -> str:
    """Return the description as YAML with fractions as text: signed terms hold none."""
    text: str = yaml.safe_dump(_as_text(content), sort_keys=False, allow_unicode=True, width=90)
    return text


def _as_text(value: Any) -> Any:
    match value:
        case float():
            return str(value)
        case dict():
            return {name: _as_text(item) for name, item in value.items()}
        case list():
            return [_as_text(item) for item in value]
        case _ if hasattr(value, "isoformat"):
            return value.isoformat()
    return value


_DRAFT: Final = """\
# A contract, to be completed and proposed: gateway contract propose FILE
# Every party signs exactly this text; see docs/contracts.md. What is left out has the default named here.

# The name that all versions share: lower-case letters, digits and hyphens.
contract: {contract}
title: {title}

# Who must sign: exactly one contributor, and those who sign for the recipients.
parties:
  - {{member: {contributor}, role: contributor}}
{parties}
# Who may receive: members by name, and everybody of some classes.
recipients:
  members: [{recipients}]
  # classes: [agency]

# What for, by the names that policy knows (`gateway catalog show` tells them).
purposes: [credit-check]

# From when until when (UTC, to the second).
valid_from: "{begins}"
valid_until: "{ends}"

# The most records that may be given out, together or to each consumer, per day, month or term.
# Default: no limit of the contract's own.
quotas:
  - {{records: 10000, per: month, each: contract}}
  # - {{records: 1000, per: day, each: consumer}}

# Default: nothing is owed. Whole minor units (such as cents) for each thousand records.
# price: {{currency: EUR, minor_units_per_thousand: 2000}}

# Default: nothing in return. The contributor may receive records of others' datasets for those it gives.
# reciprocity:
#   datasets: [members/MEMBER/datasets/DATASET]
#   received_per_hundred_given: 10
#   allowance: 100

# Whether recipients may pass records on: forbidden (default) or with-consent.
onward_sharing: forbidden

# For how many days after the end the records stay in the vault before their key is destroyed (default 0).
retention_days: 0
# Within how many days after the end recipients must have deleted what they got (default 0).
deletion_days: 30

# Whom to write to: an office rather than a person.
# contact: "data-office@example.org"
# Digest of the contract on paper (sha256sum).
# paper: "sha256:..."

datasets:
  - name: {dataset}
    # vault: the records are uploaded to the gateway; provider: they stay at home, behind `gateway provider`.
    held: vault
    # The fields that name a record: a later one with the same values takes its place.
    # key: []
    # The mildest treatment of a field: release, generalise, mask, pseudonymise or drop. Policy may be
    # stricter, never milder. A field that is left out is treated as policy says.
    # fields:
{fields}    # The description (Open Data Contract Standard 3.1). Fractions stand as text.
    description:
{description}"""
