"""Synthetic companies, people and tax arrears, and the databases two agencies would hold them in.

Everything follows from a seed. Codes have valid check characters, yet none can be a real one: the
organisation codes begin with a block of letters that is not issued, and the people's numbers carry
area codes of whole provinces, while real numbers name a county. Names and streets are invented;
telephone numbers begin with an area prefix that does not exist.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from random import Random
from typing import Final

from gateway.demo import words
from gateway.errors import ConfigError
from gateway.identifiers import national_id, organisation_code, uscc

_UNISSUED_BLOCK: Final = "XT"
_AUTHORITY_AND_KIND: Final = "91"

_FIRST_REGISTRATION: Final = date(1995, 1, 1)
_LAST_REGISTRATION: Final = date(2025, 12, 31)
_FIRST_BIRTH: Final = date(1955, 1, 1)
_LAST_BIRTH: Final = date(2000, 12, 31)
_FIRST_ARREARS: Final = date(2019, 1, 1)
_LAST_ARREARS: Final = date(2026, 6, 30)

_ARREARS_SHARE: Final = 0.07


@dataclass(frozen=True, slots=True, kw_only=True)
class Company:
    """One company as the registry knows it."""

    uscc: str
    name: str
    kind: str
    status: str
    registered_on: date
    capital: int
    """In whole currency units."""
    scope: str
    area_code: str
    address: str
    phone: str
    representative_name: str
    representative_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrears:
    """What one company owes."""

    uscc: str
    amount_owed: int
    """In whole currency units."""
    since: date
    taxpayer_grade: str
    """A (best) to D."""


def companies(count: int, seed: int) -> Iterator[Company]:
    """Yield `count` companies with distinct codes; the same for the same seed."""
    random = Random(seed)  # noqa: S311 - reproducible data for a demonstration, no secrets
    seen: set[str] = set()
    while len(seen) < count:
        company = _company(random)
        if company.uscc not in seen:
            seen.add(company.uscc)
            yield company


def arrears(debtors: Iterable[Company], seed: int) -> Iterator[Arrears]:
    """Yield what some of the companies, about seven in a hundred, owe; the same for the same seed."""
    random = Random(seed)  # noqa: S311 - as above
    for company in debtors:
        if random.random() < _ARREARS_SHARE:
            yield Arrears(
                uscc=company.uscc,
                amount_owed=random.randint(1, 999) * 10 ** random.randint(1, 4),
                since=max(company.registered_on, _day(random, _FIRST_ARREARS, _LAST_ARREARS)),
                taxpayer_grade=random.choices("ABCD", (1, 3, 4, 2))[0],
            )


def create_registry_database(path: Path, rows: Iterable[Company]) -> None:
    """Create the registry's SQLite database at `path`; raise `ConfigError` if there is one already.

    Columns are called as the registry calls them, and there are some that no mapping should name.
    """
    with closing(_new_database(path)) as database, database:
        database.executescript(_REGISTRY_SCHEMA)
        database.executemany(
            "INSERT INTO t_company (credit_code, ent_name, ent_type, reg_state, est_date, reg_capital,"
            " biz_scope, area_cd, reg_addr, contact_tel, lrep_name, lrep_id_no, internal_note, inspector_no)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (
                    company.uscc,
                    company.name,
                    company.kind,
                    company.status,
                    company.registered_on.isoformat(),
                    company.capital,
                    company.scope,
                    company.area_code,
                    company.address,
                    company.phone,
                    company.representative_name,
                    company.representative_id,
                    "not for release: file reviewed",
                    f"INSP-{index % 97:03d}",
                )
                for index, company in enumerate(rows)
            ),
        )


def create_tax_database(path: Path, rows: Iterable[Arrears]) -> None:
    """Create the tax office's SQLite database at `path`; raise `ConfigError` if there is one already."""
    with closing(_new_database(path)) as database, database:
        database.executescript(_TAX_SCHEMA)
        database.executemany(
            "INSERT INTO t_tax_owed (taxpayer_no, owed_amt, owed_since, credit_grade, case_officer, remark)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (
                (
                    row.uscc,
                    row.amount_owed,
                    row.since.isoformat(),
                    row.taxpayer_grade,
                    f"OFF-{index % 41:03d}",
                    "not for release: payment plan under discussion",
                )
                for index, row in enumerate(rows)
            ),
        )


_REGISTRY_SCHEMA: Final = """
CREATE TABLE t_company (
    row_id        INTEGER PRIMARY KEY,
    credit_code   TEXT NOT NULL UNIQUE,
    ent_name      TEXT NOT NULL,
    ent_type      TEXT NOT NULL,
    reg_state     TEXT NOT NULL,
    est_date      TEXT NOT NULL,
    reg_capital   INTEGER NOT NULL,
    biz_scope     TEXT NOT NULL,
    area_cd       TEXT NOT NULL,
    reg_addr      TEXT NOT NULL,
    contact_tel   TEXT NOT NULL,
    lrep_name     TEXT NOT NULL,
    lrep_id_no    TEXT NOT NULL,
    internal_note TEXT NOT NULL,
    inspector_no  TEXT NOT NULL
);
CREATE INDEX t_company_ent_name ON t_company (ent_name);
CREATE INDEX t_company_ent_type ON t_company (ent_type);
CREATE INDEX t_company_area_cd ON t_company (area_cd);
CREATE INDEX t_company_lrep_id_no ON t_company (lrep_id_no);
"""

_TAX_SCHEMA: Final = """
CREATE TABLE t_tax_owed (
    row_id       INTEGER PRIMARY KEY,
    taxpayer_no  TEXT NOT NULL UNIQUE,
    owed_amt     INTEGER NOT NULL,
    owed_since   TEXT NOT NULL,
    credit_grade TEXT NOT NULL,
    case_officer TEXT NOT NULL,
    remark       TEXT NOT NULL
);
"""


def _new_database(path: Path) -> sqlite3.Connection:
    if path.exists():
        raise ConfigError(f"{path} exists already; the demonstration's databases are made afresh.")
    return sqlite3.connect(path)


def _company(random: Random) -> Company:
    pick = random.choice
    area_code = pick(words.AREA_CODES)
    trade, scope = pick(words.TRADES)
    form, kind = pick(words.FORMS)
    town = pick(words.TOWNS)
    return Company(
        uscc=_credit_code(random, area_code),
        name=f"{pick(words.EPITHETS)} {pick(words.THINGS)} {trade} ({town}) {form}",
        kind=kind,
        status=random.choices(words.STATUSES, (90, 4, 4, 2))[0],
        registered_on=_day(random, _FIRST_REGISTRATION, _LAST_REGISTRATION),
        capital=random.randint(1, 99) * 10 ** random.randint(4, 7),
        scope=scope,
        area_code=area_code,
        address=f"{random.randint(1, 299)} {pick(words.TREES)} {pick(words.WAYS)}, {town}",
        phone=f"000-{random.randint(1_000_000, 9_999_999)}",
        representative_name=f"{_invented_name(random)} {_invented_name(random)}",
        representative_id=_person_number(random, area_code),
    )


def _credit_code(random: Random, area_code: str) -> str:
    organisation = _UNISSUED_BLOCK + "".join(random.choices(uscc.ALPHABET, k=6))
    organisation += organisation_code.check_character(organisation)
    body = _AUTHORITY_AND_KIND + area_code + organisation
    return body + uscc.check_character(body)


def _person_number(random: Random, area_code: str) -> str:
    birth = _day(random, _FIRST_BIRTH, _LAST_BIRTH)
    body = f"{area_code[:2]}0000{birth:%Y%m%d}{random.randint(1, 995):03d}"
    return body + national_id.check_character(body)


def _invented_name(random: Random) -> str:
    return (random.choice(words.SYLLABLES) + random.choice(words.ENDINGS)).capitalize()


def _day(random: Random, first: date, last: date) -> date:
    return first + timedelta(days=random.randint(0, (last - first).days))
