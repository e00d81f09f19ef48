"""What terms must keep to beyond their form: they fit together, and this gateway can enforce them."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

from gateway.catalogue import CatalogueError, describe_dataset
from gateway.contracts.document import moment
from gateway.contracts.errors import ContractError
from gateway.identifiers import identifier_kind
from gateway.model import (
    Dataset,
    DatasetTerms,
    Field,
    FieldTerm,
    PartyRole,
    Reciprocity,
    Terms,
    Treatment,
    dataset_name,
    parse_dataset_name,
)


def verify_terms(terms: Terms, tiers: Sequence[str]) -> dict[str, Dataset]:
    """Raise `ContractError` unless `terms` make sense; return their datasets by name, as described.

    `tiers` are the sharing tiers that policy knows. Reads the descriptions: takes milliseconds for each.
    """
    _verify_parties(terms)
    if moment(terms.valid_from) >= moment(terms.valid_until):
        raise ContractError("valid_until must lie after valid_from.")
    if (terms.version == 1) is not (terms.predecessor is None):
        raise ContractError("The first version has no predecessor; every later one names the one before.")
    if not terms.recipients.members and not terms.recipients.classes:
        raise ContractError("recipients must name a member or a class.")
    _distinct("recipients.members", terms.recipients.members)
    _distinct("recipients.classes", terms.recipients.classes)
    _distinct("purposes", terms.purposes)
    _distinct("quotas", ((quota.per, quota.each) for quota in terms.quotas))
    _distinct("datasets", (dataset.name for dataset in terms.datasets))
    if terms.reciprocity is not None:
        _verify_reciprocity(terms.reciprocity, terms.contributor)
    return {item.name: _read_dataset(item, terms.contributor, tiers) for item in terms.datasets}


def _verify_parties(terms: Terms) -> None:
    _distinct("parties", (party.member for party in terms.parties))
    contributors = sum(party.role is PartyRole.CONTRIBUTOR for party in terms.parties)
    if contributors != 1:
        raise ContractError("parties must have exactly one contributor.", contributors=contributors)


def _verify_reciprocity(reciprocity: Reciprocity, contributor: str) -> None:
    if not reciprocity.datasets:
        raise ContractError("reciprocity must name the datasets that the contributor may get in return.")
    _distinct("reciprocity.datasets", reciprocity.datasets)
    for name in reciprocity.datasets:
        if _holder(name, "reciprocity.datasets") == contributor:
            raise ContractError("reciprocity names a dataset of the contributor's own.")


def _read_dataset(item: DatasetTerms, contributor: str, tiers: Sequence[str]) -> Dataset:
    if _holder(item.name, "datasets") != contributor:
        raise ContractError("Every dataset under a contract is one of its contributor's.", dataset=item.name)
    try:
        dataset = describe_dataset(item.description, item.name, tiers, provider=contributor)
    except CatalogueError as error:
        raise ContractError(error.message) from error
    if dataset.name != item.name:
        raise ContractError("The description's id is not that of the dataset.", dataset=item.name)
    _distinct("key", item.key)
    for name in (*item.fields, *item.key):
        if name not in dataset.fields:
            raise ContractError(
                "The terms name a field that the description does not have.", dataset=item.name
            )
    for name, term in item.fields.items():
        _verify_treatment(dataset.fields[name], term, item.name)
    return dataset


def _verify_treatment(field: Field, term: FieldTerm, dataset: str) -> None:
    """Raise unless the field can be treated so, with parameters no milder than its description's."""
    able = True
    params = dict(term.params)
    match term.treatment:
        case Treatment.PSEUDONYMISE:
            able = field.identifier is not None and identifier_kind(field.identifier).pseudonymisable
        case Treatment.GENERALISE:
            able = field.generalise is not None and params.pop("method", field.generalise) == field.generalise
        case Treatment.MASK:
            able = field.mask is not None and _is_stricter_mask(field, params)
            params = {}
    if not able or params:
        raise ContractError(
            f"The field {field.name} cannot be treated as the terms say: its description must have what the "
            "treatment needs (identifierKind, generalise, mask), and parameters may only make it stricter.",
            dataset=dataset,
            field=field.name,
            treatment=term.treatment.value,
        )


def _is_stricter_mask(field: Field, params: dict[str, str | int]) -> bool:
    assert field.mask is not None
    limits = {"keep_first": field.mask.keep_first, "keep_last": field.mask.keep_last}
    return all(
        name in limits and isinstance(value, int) and 0 <= value <= limits[name]
        for name, value in params.items()
    )


def _holder(name: str, where: str) -> str:
    try:
        member, dataset = parse_dataset_name(name)
    except ValueError as error:
        raise ContractError(f"{where}: a dataset is named members/MEMBER/datasets/DATASET.") from error
    assert dataset_name(member, dataset) == name
    return member


def _distinct(where: str, values: Iterable[Hashable]) -> None:
    found = list(values)
    if len(set(found)) != len(found):
        raise ContractError(f"{where}: something stands twice.")
