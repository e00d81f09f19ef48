"""What differs between two versions of a contract, as its parties want to know it.

`wider` means that more may be done with the contributor's records than before, `narrower` less; where
neither can be told from the terms alone it is `other`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from gateway.model import DatasetTerms, FieldTerm, Terms, Treatment

_STRICTNESS: Final = list(Treatment)
_AS_POLICY_SAYS: Final = "as policy says"
_NONE: Final = "none"


class Effect(StrEnum):
    """Which way a difference goes for the contributor's records."""

    WIDER = "wider"
    NARROWER = "narrower"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference."""

    where: str
    """The member of the terms, such as `quotas` or `members/x/datasets/y fields.name`."""
    before: str
    after: str
    effect: Effect


def compare_terms(before: Terms, after: Terms) -> list[Difference]:
    """Return what differs, in the order of the document."""
    return [
        *_of_other("title", before.title, after.title),
        *_of_parties(before, after),
        *_of_datasets(before, after),
        *_of_sets("purposes", before.purposes, after.purposes),
        *_of_sets("recipients.members", before.recipients.members, after.recipients.members),
        *_of_sets("recipients.classes", before.recipients.classes, after.recipients.classes),
        *_of_ordered("valid_from", after.valid_from, before.valid_from, swapped=True),
        *_of_ordered("valid_until", before.valid_until, after.valid_until),
        *_of_quotas(before, after),
        *_of_other("price", _text(before.price), _text(after.price)),
        *_of_other("reciprocity", _text(before.reciprocity), _text(after.reciprocity)),
        *_of_onward_sharing(before, after),
        *_of_ordered("retention_days", before.retention_days, after.retention_days),
        *_of_ordered("deletion_days", before.deletion_days, after.deletion_days),
        *_of_other("contact", before.contact, after.contact),
        *_of_other("paper", before.paper or _NONE, after.paper or _NONE),
    ]


def _of_parties(before: Terms, after: Terms) -> Iterator[Difference]:
    old = {f"{party.member} ({party.role.value})" for party in before.parties}
    new = {f"{party.member} ({party.role.value})" for party in after.parties}
    for name in sorted(old - new):
        yield Difference("parties", name, _NONE, Effect.OTHER)
    for name in sorted(new - old):
        yield Difference("parties", _NONE, name, Effect.OTHER)


def _of_datasets(before: Terms, after: Terms) -> Iterator[Difference]:
    old = {dataset.name: dataset for dataset in before.datasets}
    new = {dataset.name: dataset for dataset in after.datasets}
    yield from _of_sets("datasets", old, new)
    for name in sorted(old.keys() & new.keys()):
        yield from _of_dataset(old[name], new[name])


def _of_dataset(before: DatasetTerms, after: DatasetTerms) -> Iterator[Difference]:
    place = before.name
    yield from _of_other(f"{place} held", before.held.value, after.held.value)
    yield from _of_sets(f"{place} description.schema", _schema(before), _schema(after))
    if before.description != after.description:
        yield Difference(
            f"{place} description",
            str(before.description.get("version", "")),
            str(after.description.get("version", "")),
            Effect.OTHER,
        )
    for name in sorted(before.fields.keys() | after.fields.keys()):
        yield from _of_field(f"{place} fields.{name}", before.fields.get(name), after.fields.get(name))
    yield from _of_other(f"{place} key", ", ".join(before.key), ", ".join(after.key))


def _of_field(where: str, before: FieldTerm | None, after: FieldTerm | None) -> Iterator[Difference]:
    """Compare the terms of a field; one that is left out is as policy says, which nothing is milder than."""
    if before == after:
        return
    old = -1 if before is None else _STRICTNESS.index(before.treatment)
    new = -1 if after is None else _STRICTNESS.index(after.treatment)
    effect = Effect.OTHER if old == new else Effect.WIDER if new < old else Effect.NARROWER
    yield Difference(where, _treatment(before), _treatment(after), effect)


def _of_quotas(before: Terms, after: Terms) -> Iterator[Difference]:
    old = {(quota.per, quota.each): quota.records for quota in before.quotas}
    new = {(quota.per, quota.each): quota.records for quota in after.quotas}
    for per, each in sorted(old.keys() | new.keys()):
        limit, other = old.get((per, each)), new.get((per, each))
        if limit == other:
            continue
        is_wider = other is None or (limit is not None and other > limit)
        yield Difference(
            f"quotas per {per.value}, each {each}",
            _NONE if limit is None else str(limit),
            _NONE if other is None else str(other),
            Effect.WIDER if is_wider else Effect.NARROWER,
        )


def _of_onward_sharing(before: Terms, after: Terms) -> Iterator[Difference]:
    if before.onward_sharing != after.onward_sharing:
        effect = Effect.NARROWER if after.onward_sharing == "forbidden" else Effect.WIDER
        yield Difference("onward_sharing", before.onward_sharing, after.onward_sharing, effect)


def _of_sets(where: str, before: Iterable[str], after: Iterable[str]) -> Iterator[Difference]:
    old, new = set(before), set(after)
    for name in sorted(old - new):
        yield Difference(where, name, _NONE, Effect.NARROWER)
    for name in sorted(new - old):
        yield Difference(where, _NONE, name, Effect.WIDER)


def _of_ordered(where: str, before: Any, after: Any, *, swapped: bool = False) -> Iterator[Difference]:
    """More is wider; with `swapped` the two are given the other way round, as less is wider."""
    if before == after:
        return
    effect = Effect.WIDER if after > before else Effect.NARROWER
    first, second = (after, before) if swapped else (before, after)
    yield Difference(where, str(first), str(second), effect)


def _of_other(where: str, before: str, after: str) -> Iterator[Difference]:
    if before != after:
        yield Difference(where, before or _NONE, after or _NONE, Effect.OTHER)


def _schema(dataset: DatasetTerms) -> list[str]:
    """Return the names of the fields in a description, whatever else stands in it."""
    return [
        str(described.get("name", ""))
        for item in _list(dataset.description.get("schema"))
        for described in _list(item.get("properties"))
    ]


def _list(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _treatment(term: FieldTerm | None) -> str:
    if term is None:
        return _AS_POLICY_SAYS
    params = ", ".join(f"{name}={value}" for name, value in sorted(term.params.items()))
    return f"{term.treatment.value} ({params})" if params else term.treatment.value


def _text(value: Any) -> str:
    if value is None:
        return _NONE
    return ", ".join(f"{name}={_plain(getattr(value, name))}" for name in value.__struct_fields__)


def _plain(value: Any) -> str:
    return "+".join(value) if isinstance(value, tuple) else str(value)
