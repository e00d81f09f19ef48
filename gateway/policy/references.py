"""What the data files of a bundle say of one another: no name points nowhere, nothing outlives what it rests on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date
from itertools import pairwise

from gateway.model import Role, member_name, parse_dataset_name
from gateway.policy.documents import Documents, LegalBasis, Memorandum, Purpose
from gateway.policy.errors import BundleError


def verify_references(documents: Documents) -> None:
    """Raise `BundleError`, listing all faults, unless:

    every name is defined · no period ends before it begins · a tier asks for all that the more open ones ask
    for · a narrower purpose reaches no further than the broader one · an emergency rule has a sunset, a
    memorandum that rests on one ends with it · a catalogue entry stands once.
    """
    faults = [
        *_faults_in_tiers(documents),
        *_faults_in_members(documents),
        *_faults_in_purposes(documents),
        *_faults_in_bases(documents),
        *_faults_in_agreements(documents),
        *_faults_in_catalogue(documents),
    ]
    if faults:
        raise BundleError("The data files contradict each other: " + "; ".join(faults) + ".")


def _unknown(where: str, names: Iterable[str], known: Iterable[str], what: str) -> list[str]:
    return [
        f"{where} names the {what} '{name}', which is not defined" for name in sorted({*names} - {*known})
    ]


def _faults_in_tiers(documents: Documents) -> Iterator[str]:
    tiers = [tier.name for tier in documents.tiers]
    for name in sorted({name for name in tiers if tiers.count(name) > 1}):
        yield f"tier '{name}' is defined twice"
    for tier in documents.tiers:
        yield from _unknown(
            f"tier '{tier.name}'", tier.member_classes, documents.member_classes, "member class"
        )
    for lower, higher in pairwise(documents.tiers):
        asked = [
            name
            for name in ("signature", "legal_basis", "memorandum")
            if getattr(lower, name) and not getattr(higher, name)
        ]
        if asked or {*higher.member_classes} - {*lower.member_classes}:
            yield f"tier '{higher.name}' asks for less than the more open tier '{lower.name}'"


def _faults_in_members(documents: Documents) -> Iterator[str]:
    for name, party in documents.members.items():
        yield from _unknown(
            f"member '{name}'", [party.member_class], documents.member_classes, "member class"
        )


def _faults_in_purposes(documents: Documents) -> Iterator[str]:
    tiers = [tier.name for tier in documents.tiers]
    for name, purpose in documents.purposes.items():
        where = f"purpose '{name}'"
        yield from _unknown(where, purpose.tiers, tiers, "tier")
        yield from _unknown(where, purpose.member_classes, documents.member_classes, "member class")
        if purpose.broader is None:
            continue
        yield from _unknown(where, [purpose.broader], documents.purposes, "purpose")
        if name in _broader_than(name, documents):
            yield f"{where} is broader than itself"
        elif purpose.broader in documents.purposes:
            yield from _faults_in_narrowing(where, purpose, documents.purposes[purpose.broader])


def _broader_than(name: str, documents: Documents) -> list[str]:
    """Return the purposes above `name`, nearest first; a circle is gone round once."""
    found: list[str] = []
    above = documents.purposes[name].broader
    while above is not None and above not in found:
        found.append(above)
        purpose = documents.purposes.get(above)
        above = None if purpose is None else purpose.broader
    return found


def _faults_in_narrowing(where: str, purpose: Purpose, broader: Purpose) -> Iterator[str]:
    for name in ("tiers", "dataset_classes", "member_classes", "operations"):
        beyond = sorted({*getattr(purpose, name)} - {*getattr(broader, name)})
        if beyond:
            yield f"{where} allows {name} that '{purpose.broader}', which includes it, does not: {beyond}"
    if purpose.enforcement != broader.enforcement:
        yield f"{where} and '{purpose.broader}', which includes it, must both enforce or both not"


def _faults_in_bases(documents: Documents) -> Iterator[str]:
    for name, basis in documents.legal_bases.items():
        where = f"legal basis '{name}'"
        yield from _unknown(where, basis.purposes, documents.purposes, "purpose")
        yield from _faults_in_period(where, basis)
        for dataset in basis.datasets or ():
            yield from _unknown(where, [_holder(dataset)], documents.members, "member")
        if basis.emergency is None:
            continue
        if basis.valid_until is None:
            yield f"{where} is an emergency rule without a sunset; give its valid_until"
        if basis.emergency.review_by < basis.valid_from:
            yield f"{where} is to be reviewed before it begins"


def _holder(dataset: str) -> str:
    """Return the member that holds `dataset`, or the text itself if it is no name of a dataset."""
    try:
        return parse_dataset_name(dataset)[0]
    except ValueError:
        return dataset


def _faults_in_catalogue(documents: Documents) -> Iterator[str]:
    citations = [entry.citation for entry in documents.catalogue]
    for citation in sorted({citation for citation in citations if citations.count(citation) > 1}):
        yield f"the catalogue entry '{citation}' stands twice"


def _faults_in_agreements(documents: Documents) -> list[str]:
    faults: list[str] = []
    tiers = {tier.name: tier for tier in documents.tiers}
    for name, memorandum in documents.memoranda.items():
        where = f"memorandum '{name}'"
        faults += _unknown(where, [memorandum.provider, *memorandum.consumers], documents.members, "member")
        faults += _unknown(where, memorandum.purposes, documents.purposes, "purpose")
        faults += _unknown(where, [memorandum.tier], tiers, "tier")
        faults += _unknown(where, memorandum.legal_bases, documents.legal_bases, "legal basis")
        faults += [
            f"{where} lists the dataset '{dataset}', which its provider does not hold"
            for dataset in memorandum.datasets
            if not dataset.startswith(f"{member_name(memorandum.provider)}/datasets/")
        ]
        faults += _faults_in_roles(where, memorandum, documents)
        served = {
            purpose
            for basis in memorandum.legal_bases
            if basis in documents.legal_bases
            for purpose in documents.legal_bases[basis].purposes
        }
        faults += [
            f"{where} names the purpose '{purpose}', which none of its legal bases allows"
            for purpose in sorted({*memorandum.purposes} & documents.purposes.keys())
            if not served & {purpose, *_broader_than(purpose, documents)}
        ]
        faults += [
            f"{where} outlives the sunset of the emergency rule '{basis}' that it rests on"
            for basis in memorandum.legal_bases
            if _outlives(memorandum, documents.legal_bases.get(basis))
        ]
        faults += _faults_in_period(where, memorandum)
    return faults


def _outlives(memorandum: Memorandum, basis: LegalBasis | None) -> bool:
    if basis is None or basis.emergency is None or basis.valid_until is None:
        return False
    return memorandum.valid_until is None or memorandum.valid_until > basis.valid_until


def _faults_in_period(where: str, row: LegalBasis | Memorandum) -> list[str]:
    if row.valid_until is None:
        return []
    if row.valid_until == date.max:
        return [f"{where} ends on the last day there is; leave out valid_until where no end is known"]
    return [f"{where} ends before it begins"] if row.valid_until < row.valid_from else []


def _faults_in_roles(where: str, memorandum: Memorandum, documents: Documents) -> list[str]:
    wanted = [(memorandum.provider, Role.PROVIDER), *((one, Role.CONSUMER) for one in memorandum.consumers)]
    return [
        f"{where} needs the member '{member}' to be a {role.value}"
        for member, role in wanted
        if member in documents.members and role not in documents.members[member].roles
    ]
