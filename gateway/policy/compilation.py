"""The `data` document of the rules, made from the data files: by name, in instants, with nothing left to look up."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta
from typing import Any, Final

import msgspec

from gateway.policy.documents import Documents, LegalBasis, Memorandum

NO_END: Final = "9999-12-31T23:59:59Z"
"""`before` of what has no end: later than any instant that a decision is asked for."""


def compile_documents(documents: Documents) -> dict[str, Any]:
    """Return the `data` document of the rules.

    Tiers get their `rank` (0 is the most open), and `tier_names` lists them by rank. `valid_from` and
    `valid_until` become instants (RFC 3339, UTC), the second one exclusive, or null for no end; `before` is
    the same with an instant in place of null. An emergency rule ends with its sunset, and unreviewed with
    the day of its review if that comes first. Where purposes are listed, the narrower ones are listed too.
    An enforcing purpose asks for a document. Catalogue entries stand by their citation.
    """
    # Through JSON, so that the document holds what every engine sees: lists, never tuples.
    compiled: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(documents))
    compiled["tiers"] = {tier["name"]: {**tier, "rank": rank} for rank, tier in enumerate(compiled["tiers"])}
    compiled["tier_names"] = [tier.name for tier in documents.tiers]
    compiled["catalogue"] = {entry["citation"]: entry for entry in compiled["catalogue"]}
    for purpose in compiled["purposes"].values():
        purpose["document"] = purpose["document"] or purpose["enforcement"]
    ends = {name: _last_day(basis) for name, basis in documents.legal_bases.items()}
    ends_of_memoranda = {name: row.valid_until for name, row in documents.memoranda.items()}
    for chapter, rows, last_days in (
        ("legal_bases", documents.legal_bases, ends),
        ("memoranda", documents.memoranda, ends_of_memoranda),
    ):
        for name, row in rows.items():
            compiled[chapter][name] |= _period(row, last_days[name])
            compiled[chapter][name]["purposes"] = _with_narrower(row.purposes, documents)
    return compiled


def _last_day(basis: LegalBasis) -> date | None:
    emergency = basis.emergency
    if emergency is None or basis.valid_until is None or emergency.reviewed_on is not None:
        return basis.valid_until
    return min(basis.valid_until, emergency.review_by)


def _period(row: LegalBasis | Memorandum, last_day: date | None) -> dict[str, str | None]:
    end = None if last_day is None else _instant(last_day + timedelta(days=1))
    return {"valid_from": _instant(row.valid_from), "valid_until": end, "before": end or NO_END}


def _with_narrower(purposes: Iterable[str], documents: Documents) -> list[str]:
    """Return `purposes` in order, each followed by those that it includes."""
    found: dict[str, None] = {}
    for name in purposes:
        found[name] = None
        narrower = [other for other, purpose in documents.purposes.items() if purpose.broader == name]
        found |= dict.fromkeys(_with_narrower(narrower, documents))
    return list(found)


def _instant(day: date) -> str:
    return f"{day.isoformat()}T00:00:00Z"
