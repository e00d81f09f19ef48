"""Step 3 of a list question: which lists are asked, about whom, and what makes a yes. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from gateway.catalogue import Catalogue
from gateway.errors import GatewayError, Reason
from gateway.exchange.resolution import MAX_VALUE_LENGTH, Resolved
from gateway.identifiers import KINDS, identifier_kind
from gateway.model import (
    Dataset,
    Field,
    FieldType,
    Query,
    Subject,
    list_set_name,
    parse_list_set_name,
)

_LIST: Final = "list"


@dataclass(frozen=True, slots=True)
class ListQuestion:
    """A question to lists in terms of the catalogue; its subject is normalised and valid."""

    asked: Resolved
    """What was asked, as it is told of to others: of a list set its name, and none of its lists."""
    lists: tuple[Resolved, ...]
    """What each list is asked; each under the memorandum that goes with it."""
    at_least: int
    """On how many of the lists the subject must be for a yes."""

    @property
    def joint(self) -> bool:
        """Whether several lists are asked for one answer."""
        return len(self.lists) > 1


def resolve_list_question(
    query: Query, catalogue: Catalogue, agreed: Mapping[str, Any], consumer: str
) -> ListQuestion:
    """Look up everything that `query` names; raise `GatewayError` for what is not there or not valid.

    `agreed` is the policy's data: its list sets and memoranda say which lists are asked together.
    """
    if query.filters or query.fields or query.match:
        raise GatewayError(
            "A list question has a subject, and neither fields, filters nor attributes to match.",
            reason=Reason.STATEMENT_MALFORMED,
        )
    kind, value = _subject(query)
    try:
        name = parse_list_set_name(query.dataset)
    except ValueError:
        return _single(query, catalogue, agreed, consumer, kind, value)
    return _joint(query, catalogue, agreed, name, kind, value)


def restriction_field(dataset: Dataset) -> str:
    """Return the field that tells the class of restriction, or the empty text."""
    return next((field.name for field in dataset.fields.values() if field.restriction), "")


def _subject(query: Query) -> tuple[str, str]:
    """Return the kind of the subject's identifier, and the identifier in its one spelling."""
    if len(query.subjects) != 1:
        raise GatewayError("A list question is about exactly one subject.", reason=Reason.SUBJECT_MISSING)
    [subject] = query.subjects
    if subject.field not in KINDS:
        raise GatewayError(
            f"The subject of a list question is named by a kind of identifier: {', '.join(KINDS)}.",
            reason=Reason.FILTER_UNSUPPORTED,
        )
    if len(subject.value) > MAX_VALUE_LENGTH:
        raise GatewayError(
            f"A value has at most {MAX_VALUE_LENGTH} characters.", reason=Reason.STATEMENT_MALFORMED
        )
    return subject.field, identifier_kind(subject.field).normalise(subject.value)


def _single(
    query: Query, catalogue: Catalogue, agreed: Mapping[str, Any], consumer: str, kind: str, value: str
) -> ListQuestion:
    dataset = catalogue.dataset(query.dataset)
    if _is_asked_jointly(dataset.name, agreed, consumer):
        raise GatewayError(
            "This member asks this list together with others, as a list set, and therefore not alone.",
            reason=Reason.OPERATION_NOT_PERMITTED,
        )
    if query.at_least not in {1, msgspec.UNSET}:
        raise _other_number()
    asked = _ask(query, dataset, kind, value)
    return ListQuestion(asked, (asked,), 1)


def _joint(
    query: Query, catalogue: Catalogue, agreed: Mapping[str, Any], name: str, kind: str, value: str
) -> ListQuestion:
    list_set = agreed["list_sets"].get(name)
    if list_set is None:
        raise GatewayError(
            "There is no list set of this name; the memorandum that founds it tells the name.",
            reason=Reason.DATASET_UNKNOWN,
        )
    if query.memorandum:
        raise GatewayError(
            "A list set says itself under which memoranda its lists are asked; leave the memorandum out.",
            reason=Reason.STATEMENT_MALFORMED,
        )
    if query.contract:
        raise GatewayError(
            "The lists of a list set are asked under the contracts that cover them; leave the contract out.",
            reason=Reason.STATEMENT_MALFORMED,
        )
    if query.at_least != list_set["at_least"]:
        raise _other_number()
    lists = []
    for dataset_name, memorandum in list_set["lists"].items():
        try:
            dataset = catalogue.dataset(dataset_name)
            lists.append(
                _ask(
                    msgspec.structs.replace(query, dataset=dataset_name, memorandum=memorandum),
                    dataset,
                    kind,
                    value,
                    all_fields=False,
                )
            )
        except GatewayError as error:
            if error.reason is Reason.DATASET_UNKNOWN:
                raise list_unavailable() from error
            raise
    # Nobody is told what the lists are called or whose they are: it is a dataset of its own.
    whole = Dataset(
        name=list_set_name(name),
        provider="",
        title=list_set["title"],
        version="",
        tier="",
        dataset_class=_LIST,
        fields={kind: Field(name=kind, type=FieldType.STRING, tier="", identifier=kind, lookup=True)},
    )
    asked = Resolved(query=query, dataset=whole, subject_field=kind, subjects=(value,), filters={}, match={})
    return ListQuestion(asked, tuple(lists), list_set["at_least"])


def _is_asked_jointly(dataset: str, agreed: Mapping[str, Any], consumer: str) -> bool:
    """Return whether the list belongs to a set that `consumer` may ask."""
    memoranda = agreed["memoranda"]
    return any(
        dataset in list_set["lists"]
        and all(consumer in memoranda[name]["consumers"] for name in list_set["lists"].values())
        for list_set in agreed["list_sets"].values()
    )


def _ask(query: Query, dataset: Dataset, kind: str, value: str, *, all_fields: bool = True) -> Resolved:
    """Return what one list is asked about the subject: by its field for identifiers of this kind."""
    if dataset.dataset_class != _LIST:
        raise GatewayError(
            "Only a dataset of class list takes list questions.", reason=Reason.OPERATION_NOT_PERMITTED
        )
    fields = [field.name for field in dataset.fields.values() if field.lookup and field.identifier == kind]
    if len(fields) != 1:
        raise GatewayError(
            "The list cannot be asked by this kind of identifier.",
            reason=Reason.FILTER_UNSUPPORTED,
            kind=kind,
        )
    [field] = fields
    subjects = (Subject(field, value),)
    query = msgspec.structs.replace(query, subjects=subjects, fields=() if all_fields else (field,))
    return Resolved(
        query=query, dataset=dataset, subject_field=field, subjects=(value,), filters={}, match={}
    )


def list_unavailable() -> GatewayError:
    """Return the refusal for when not every list can be asked. It does not tell which."""
    return GatewayError(
        "Not every list could be asked, so there is no answer, not even a part of one; try again later.",
        reason=Reason.LIST_UNAVAILABLE,
    )


def _other_number() -> GatewayError:
    return GatewayError(
        "`at_least` must be the number agreed on: the list set's own, or 1 for a single list.",
        reason=Reason.FILTER_UNSUPPORTED,
    )
