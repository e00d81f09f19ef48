"""Identifiers: their kinds, their one canonical spelling, and whether a value is one at all.

What is not valid is refused, never repaired and never pseudonymised: a slip of the keyboard must not
make a second person.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from gateway.errors import ConfigError
from gateway.identifiers.area_code import AREA_CODE, province_of
from gateway.identifiers.errors import IdentifierError, Problem
from gateway.identifiers.kind import CheckedColumn, IdentifierKind
from gateway.identifiers.national_id import NATIONAL_ID
from gateway.identifiers.organisation_code import ORGANISATION_CODE
from gateway.identifiers.parts import load_area_table
from gateway.identifiers.uscc import USCC

__all__ = [
    "AREA_CODE",
    "KINDS",
    "NATIONAL_ID",
    "ORGANISATION_CODE",
    "USCC",
    "CheckedColumn",
    "IdentifierError",
    "IdentifierKind",
    "Problem",
    "identifier_kind",
    "load_area_table",
    "province_of",
]

KINDS: Final[Mapping[str, IdentifierKind]] = MappingProxyType(
    {kind.name: kind for kind in (NATIONAL_ID, ORGANISATION_CODE, USCC, AREA_CODE)}
)
"""Every kind by name."""


def identifier_kind(name: str) -> IdentifierKind:
    """Return the kind called `name`; raise `ConfigError` if there is none."""
    try:
        return KINDS[name]
    except KeyError:
        raise ConfigError(
            f"A dataset names an identifier kind that is not known; use one of {', '.join(KINDS)}.",
            identifier_kind=name,
        ) from None
