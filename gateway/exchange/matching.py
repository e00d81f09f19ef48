"""Answering a match: yes when the subject has a record with all the stated values."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from gateway.identifiers import IdentifierError, identifier_kind
from gateway.model import Dataset, Field


def is_match(dataset: Dataset, records: Sequence[Mapping[str, Any]], wanted: Mapping[str, str]) -> bool:
    """Return whether one of `records` has every value in `wanted` (normalised by `resolve`)."""
    return any(
        all(_text(dataset.fields[name], record[name]) == _folded(value) for name, value in wanted.items())
        for record in records
    )


def _text(field: Field, value: Any) -> str | None:
    """Return a record's value in the form in which it is compared; None is equal to nothing."""
    match value:
        case None:
            return None
        case bool():
            return "true" if value else "false"
        case date():
            return value.isoformat()
        case str() if field.identifier is not None:
            try:
                return _folded(identifier_kind(field.identifier).normalise(value))
            except IdentifierError:
                return None
        case _:
            return _folded(str(value))


def _folded(text: str) -> str:
    """Fold what people write differently though they mean the same: width, case, spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
