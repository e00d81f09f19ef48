"""Dataset descriptions: what is wrong in one is found at the start, by file and place."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.catalogue import Catalogue, CatalogueError, read_dataset
from gateway.deployment.shipped import shipped_policies
from gateway.errors import GatewayError, Reason
from gateway.model import FieldType

TIERS = ("public", "limited", "government", "restricted")

GOOD = """\
apiVersion: v3.1.0
kind: DataContract
id: companies
name: Companies
version: 1.0.0
status: active
customProperties:
  - {property: provider, value: registry}
  - {property: tier, value: public}
schema:
  - name: company
    properties:
      - name: uscc
        logicalType: string
        required: true
        classification: public
        customProperties: [{property: identifierKind, value: uscc}, {property: lookup, value: true}]
      - name: capital
        logicalType: integer
        classification: limited
        customProperties: [{property: generalise, value: "band:1000"}]
      - {name: registered_on, logicalType: date, classification: public}
"""

WRONG = {
    "no YAML": (GOOD, "{"),
    "another kind": ("kind: DataContract", "kind: DataProduct"),
    "another version of the standard": ("apiVersion: v3.1.0", "apiVersion: v2.2.2"),
    "no provider": ("property: provider", "property: catalogueCitation"),
    "a provider that is no name": ("value: registry}", "value: The Registry}"),
    "an id that is no name": ("id: companies", "id: Companies of 2026"),
    "an unknown tier": ("{property: tier, value: public}", "{property: tier, value: secret}"),
    "an unknown tier of a field": ("classification: limited", "classification: secret"),
    "no tier of a field": ("        classification: limited\n", ""),
    "a misspelt custom property": ("property: lookup", "property: look_up"),
    "a misspelt custom property of the contract": ("property: tier, value", "property: teir, value"),
    "a custom property twice": ("{property: lookup, value: true}", "{property: identifierKind, value: uscc}"),
    "an unknown type": ("logicalType: integer", "logicalType: object"),
    "an unknown identifier kind": ("value: uscc}", "value: passport}"),
    "an identifier that is no text": ("logicalType: string", "logicalType: integer"),
    "an unknown generalisation": ("band:1000", "decade"),
    "a band without width": ("band:1000", "band:0"),
    "a generalisation of another type": ("band:1000", "year"),
    "a province of no area code": ("band:1000", "province"),
    "a restriction of a dataset that is no list": (
        "      - {name: registered_on, logicalType: date, classification: public}",
        "      - {name: x, classification: public, customProperties: [{property: restriction, value: true}]}",
    ),
    "a restriction that is no text": (
        '{property: generalise, value: "band:1000"}',
        "{property: restriction, value: true}",
    ),
    "a restriction that is an identifier": (
        "{property: lookup, value: true}",
        "{property: restriction, value: true}",
    ),
    "a restriction that is no truth value": (
        "{property: lookup, value: true}",
        "{property: restriction, value: maybe}",
    ),
    "a lookup that is no truth value": ("value: true}", "value: perhaps}"),
    "a field name that is none": ("name: capital", "name: Registered Capital"),
    "a field twice": ("name: capital", "name: uscc"),
    "an unknown class": (
        "  - {property: tier, value: public}",
        "  - {property: tier, value: public}\n  - {property: datasetClass, value: rumour}",
    ),
    "two objects": (
        "schema:\n",
        "schema:\n  - {name: other, properties: [{name: x, classification: public}]}\n",
    ),
}


def described(tmp_path: Path, text: str, name: str = "companies.yaml") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def test_a_good_description_is_read(tmp_path: Path) -> None:
    dataset = read_dataset(described(tmp_path, GOOD), TIERS)
    assert dataset.name == "members/registry/datasets/companies"
    assert list(dataset.fields) == ["uscc", "capital", "registered_on"]
    assert dataset.fields["uscc"].identifier == "uscc"
    assert (dataset.fields["uscc"].lookup, dataset.fields["capital"].lookup) == (True, False)
    assert (dataset.fields["capital"].type, dataset.fields["capital"].generalise) == (
        FieldType.INTEGER,
        "band:1000",
    )


@pytest.mark.parametrize("name", WRONG)
def test_a_description_is_refused_for(tmp_path: Path, name: str) -> None:
    old, new = WRONG[name]
    assert old in GOOD
    path = described(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(CatalogueError, match=r"companies\.yaml"):
        read_dataset(path, TIERS)


def test_a_dataset_names_the_fields_that_name_its_records(tmp_path: Path) -> None:
    asked = GOOD.replace("schema:", '  - {property: corrections, value: "uscc, registered_on"}\nschema:')
    assert read_dataset(described(tmp_path, asked), TIERS).corrections == ("uscc", "registered_on")
    assert read_dataset(described(tmp_path, GOOD), TIERS).corrections == ()
    for wrong in ("", "uscc,uscc", "nothing", "uscc,", "uscc,a,b,c,d"):
        text = asked.replace("uscc, registered_on", wrong)
        with pytest.raises(CatalogueError, match="corrections"):
            read_dataset(described(tmp_path, text), TIERS)


def test_two_descriptions_of_one_dataset_are_refused(tmp_path: Path) -> None:
    described(tmp_path, GOOD)
    described(tmp_path, GOOD, "again.yaml")
    with pytest.raises(CatalogueError, match="twice"):
        Catalogue.read(tmp_path, TIERS)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError):
        Catalogue.read(tmp_path, TIERS)


def test_a_dataset_is_found_by_its_exact_name(tmp_path: Path) -> None:
    described(tmp_path, GOOD)
    catalogue = Catalogue.read(tmp_path, TIERS)
    [dataset] = catalogue
    assert catalogue.dataset(dataset.name) is dataset
    for name in ("companies", dataset.name.upper(), dataset.name + " ", ""):
        with pytest.raises(GatewayError) as raised:
            catalogue.dataset(name)
        assert raised.value.reason is Reason.DATASET_UNKNOWN


def test_the_shipped_descriptions_are_good() -> None:
    catalogue = Catalogue.read(shipped_policies() / "datasets", TIERS)
    assert len(catalogue) >= 2
