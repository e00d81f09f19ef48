import sqlite3
import time
from contextlib import closing

import pytest
from stdnum.cn import ric, uscc

from gateway.demo.synthetic import arrears, companies, create_registry_database, create_tax_database
from gateway.errors import ConfigError
from gateway.identifiers import AREA_CODE, NATIONAL_ID, ORGANISATION_CODE, USCC
from gateway.identifiers.parts import is_area


@pytest.fixture(scope="module")
def registry():
    return list(companies(3000, seed=7))


def test_one_seed_makes_the_same_companies_and_another_makes_others(registry):
    assert list(companies(200, seed=7)) == registry[:200]
    others = {company.uscc for company in companies(200, seed=8)}
    assert not others & {company.uscc for company in registry}


def test_every_identifier_is_valid_here_and_by_stdnum(registry):
    assert USCC.unrecognised([company.uscc for company in registry]) == []
    assert NATIONAL_ID.unrecognised([company.representative_id for company in registry]) == []
    assert AREA_CODE.unrecognised([company.area_code for company in registry]) == []
    assert ORGANISATION_CODE.unrecognised([company.uscc[8:17] for company in registry]) == []
    assert all(uscc.is_valid(company.uscc) for company in registry)
    assert all(ric.is_valid(company.representative_id) for company in registry)
    assert all(is_area(company.area_code) for company in registry)


def test_every_company_has_its_own_code(registry):
    assert len({company.uscc for company in registry}) == len(registry)


def test_nobody_is_real(registry):
    assert {company.uscc[8:10] for company in registry} == {"XT"}
    assert {company.representative_id[2:6] for company in registry} == {"0000"}
    assert {company.phone[:4] for company in registry} == {"000-"}


def test_a_company_lies_where_its_code_says(registry):
    assert all(company.uscc[2:8] == company.area_code for company in registry)


def test_some_companies_owe_tax_and_most_do_not(registry):
    owed = list(arrears(registry, seed=7))
    known = {company.uscc: company for company in registry}
    assert 0.04 < len(owed) / len(registry) < 0.10
    assert owed == list(arrears(registry, seed=7))
    assert all(row.since >= known[row.uscc].registered_on for row in owed)
    assert all(row.amount_owed > 0 for row in owed)
    assert {row.taxpayer_grade for row in owed} == set("ABCD")


def columns(path, table):
    with closing(sqlite3.connect(path)) as database:
        return [row[1] for row in database.execute(f"PRAGMA table_info({table})")]


def test_the_registry_calls_its_columns_by_its_own_names(tmp_path, registry):
    path = tmp_path / "registry.sqlite"
    create_registry_database(path, registry)
    assert columns(path, "t_company") == [
        "row_id",
        "credit_code",
        "ent_name",
        "ent_type",
        "reg_state",
        "est_date",
        "reg_capital",
        "biz_scope",
        "area_cd",
        "reg_addr",
        "contact_tel",
        "lrep_name",
        "lrep_id_no",
        "internal_note",
        "inspector_no",
    ]
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT count(*) FROM t_company").fetchone() == (len(registry),)
        first = database.execute(
            "SELECT credit_code, ent_name, est_date, reg_capital, lrep_id_no FROM t_company WHERE row_id = 1"
        ).fetchone()
    company = registry[0]
    assert first == (
        company.uscc,
        company.name,
        company.registered_on.isoformat(),
        company.capital,
        company.representative_id,
    )


def test_the_tax_office_calls_its_columns_by_its_own_names(tmp_path, registry):
    path = tmp_path / "tax.sqlite"
    owed = list(arrears(registry, seed=7))
    create_tax_database(path, owed)
    assert columns(path, "t_tax_owed") == [
        "row_id",
        "taxpayer_no",
        "owed_amt",
        "owed_since",
        "credit_grade",
        "case_officer",
        "remark",
    ]
    with closing(sqlite3.connect(path)) as database:
        rows = database.execute(
            "SELECT taxpayer_no, owed_amt, owed_since, credit_grade FROM t_tax_owed ORDER BY row_id"
        ).fetchall()
    assert rows == [(row.uscc, row.amount_owed, row.since.isoformat(), row.taxpayer_grade) for row in owed]


def test_an_existing_database_is_left_alone(tmp_path):
    path = tmp_path / "registry.sqlite"
    path.write_bytes(b"precious")
    with pytest.raises(ConfigError):
        create_registry_database(path, [])
    with pytest.raises(ConfigError):
        create_tax_database(path, [])
    assert path.read_bytes() == b"precious"


@pytest.mark.timed
def test_ten_thousand_companies_take_less_than_three_seconds_of_work():
    start = time.process_time()
    assert sum(1 for _ in companies(10_000, seed=1)) == 10_000
    assert time.process_time() - start < 3
