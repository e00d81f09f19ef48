"""Invented subjects: every identifier is well formed, and none is a real one (see gateway.demo.synthetic)."""

from __future__ import annotations

from functools import cache

from gateway.demo.synthetic import Company, companies
from gateway.identifiers import organisation_code

SEED = 1949
_COUNT = 240


@cache
def _companies() -> tuple[Company, ...]:
    return tuple(companies(_COUNT, SEED))


def company(number: int) -> Company:
    """Return the company of this number; all tests that name it mean the same one."""
    return _companies()[number]


def person(number: int) -> tuple[str, str]:
    """Return the national ID and the name of the person of this number."""
    found = company(_COUNT - 1 - number)
    return found.representative_id, found.representative_name


def organisation(number: int) -> str:
    """Return the organisation code of the government body of this number, in its canonical spelling."""
    body = f"XT{number:06d}"
    return organisation_code.ORGANISATION_CODE.normalise(body + organisation_code.check_character(body))


def account(number: int) -> str:
    """Return an invented account number."""
    return f"6200-{number:08d}"
