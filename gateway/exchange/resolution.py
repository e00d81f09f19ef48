"""Step 3: what the query means here. Names become datasets and fields, identifiers are checked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final

import msgspec

from gateway.catalogue import Catalogue
from gateway.errors import GatewayError, Reason
from gateway.exchange.contracts import contract_facts
from gateway.identifiers import identifier_kind
from gateway.model import DUTY_NAMES, Contract, Dataset, Field, FieldType, Member, Operation, Query, Treatment
from gateway.policy.policy_input import (
    DatasetFacts,
    FieldFacts,
    PartyFacts,
    PolicyInput,
    policy_minute,
)
from gateway.policy.recorded_input import Description, describe

CAPABILITIES: Final = tuple(
    sorted([*(treatment.value for treatment in Treatment), *(f"duty:{name}" for name in DUTY_NAMES)])
)
"""The treatments that `gateway.exchange.transform` can carry out, and the duties of `.duties`."""

MAX_VALUE_LENGTH: Final = 512
"""Characters of a subject, filter or match value; longer than any real one."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """A query in terms of the catalogue. Identifier values are normalised and valid."""

    query: Query
    dataset: Dataset
    subject_field: str
    """Empty when the query names no subjects."""
    subjects: tuple[str, ...]
    filters: dict[str, str]
    match: dict[str, str]

    @property
    def reads(self) -> tuple[str, ...]:
        """Fields whose values the query itself tells something about, sorted."""
        names = {*self.filters, *self.match}
        if self.subject_field:
            names.add(self.subject_field)
        return tuple(sorted(names))


def resolve(query: Query, catalogue: Catalogue) -> Resolved:
    """Look up everything the query names; raise `GatewayError` for what is not there or not valid."""
    dataset = catalogue.dataset(query.dataset)
    for name in query.fields:
        _field(dataset, name)
    subject_fields = {subject.field for subject in query.subjects}
    if len(subject_fields) > 1:
        raise GatewayError(
            "All subjects of a query must be named by the same field.",
            reason=Reason.FILTER_UNSUPPORTED,
        )
    if query.operation is Operation.MATCH:
        if len(query.subjects) != 1 or not query.match:
            raise GatewayError(
                "A match needs exactly one subject and at least one attribute in `match`.",
                reason=Reason.SUBJECT_MISSING,
            )
    elif query.match:
        raise GatewayError(
            "Attributes in `match` belong to MatchAttributes.", reason=Reason.STATEMENT_MALFORMED
        )
    subject_field = next(iter(subject_fields), "")
    subjects: tuple[str, ...] = ()
    if subject_field:
        field = _lookup_field(dataset, subject_field)
        subjects = tuple(dict.fromkeys(_value(field, subject.value) for subject in query.subjects))
    return Resolved(
        query=query,
        dataset=dataset,
        subject_field=subject_field,
        subjects=subjects,
        filters={name: _value(_lookup_field(dataset, name), query.filters[name]) for name in query.filters},
        match={name: _value(_field(dataset, name), query.match[name]) for name in query.match},
    )


def policy_input(
    resolved: Resolved,
    consumer: Member,
    provider_class: str,
    *,
    signed: bool,
    now: datetime,
    contract: Contract | None = None,
) -> PolicyInput:
    """Build what policy sees: verified facts only, none of them about a subject.

    `contract` is one in force that covers the dataset.
    """
    query, dataset = resolved.query, resolved.dataset
    # A match releases one bit about each attribute, so policy must grant each of them by name.
    fields: Iterable[str] = query.match if query.operation is Operation.MATCH else query.fields
    return PolicyInput(
        operation=query.operation.value,
        time=policy_minute(now),
        signed=signed,
        consumer=PartyFacts(id=consumer.id, member_class=consumer.member_class),
        provider=PartyFacts(id=dataset.provider, member_class=provider_class),
        dataset=dataset_facts(dataset) if contract is None else bound_facts(dataset),
        purpose=query.purpose,
        legal_basis=query.legal_basis,
        memorandum=query.memorandum,
        fields=tuple(sorted(set(fields))),
        reads=resolved.reads,
        capabilities=CAPABILITIES,
        document=query.document,
        subjects=len(resolved.subjects),
        contract=None if contract is None else contract_facts(contract, dataset),
    )


@lru_cache(maxsize=4096)
def dataset_facts(dataset: Dataset) -> DatasetFacts:
    """Return what policy may know of a dataset."""
    return DatasetFacts(
        name=dataset.name,
        tier=dataset.tier,
        dataset_class=dataset.dataset_class,
        fields={
            field.name: FieldFacts(
                tier=field.tier,
                identifier=field.identifier,
                generalise=field.generalise,
                mask=field.mask,
                link=field.link,
            )
            for field in dataset.fields.values()
        },
        owner=dataset.owner or dataset.provider,
        catalogue=dataset.citation,
        retention=dataset.retention,
        cohort=dataset.cohort,
        contract="required" if dataset.needs_contract else "",
    )


@lru_cache(maxsize=4096)
def description(dataset: Dataset) -> Description:
    """Return what policy may know of a dataset, as the log keeps it."""
    return describe(dataset_facts(dataset))


@lru_cache(maxsize=4096)
def bound_facts(dataset: Dataset) -> DatasetFacts:
    """Return the same of a dataset that is under a contract: from then on it needs one."""
    return msgspec.structs.replace(dataset_facts(dataset), contract="required")


def _field(dataset: Dataset, name: str) -> Field:
    field = dataset.fields.get(name)
    if field is None:
        raise GatewayError(
            "The dataset has no field of this name; CatalogService.GetDataset lists its fields.",
            reason=Reason.FIELD_UNKNOWN,
        )
    return field


def _lookup_field(dataset: Dataset, name: str) -> Field:
    field = _field(dataset, name)
    if not field.lookup:
        raise GatewayError(
            "The dataset cannot be searched by this field; CatalogService.GetDataset says which can.",
            reason=Reason.FILTER_UNSUPPORTED,
            field=field.name,
        )
    return field


def _value(field: Field, value: str) -> str:
    if len(value) > MAX_VALUE_LENGTH:
        raise GatewayError(
            f"A value has at most {MAX_VALUE_LENGTH} characters.",
            reason=Reason.STATEMENT_MALFORMED,
            field=field.name,
        )
    if field.identifier is not None:
        return identifier_kind(field.identifier).normalise(value)
    if field.type is FieldType.STRING:
        return value
    return value.strip()
