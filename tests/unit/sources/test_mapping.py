from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ConfigError
from gateway.model import FieldType
from gateway.sources.mapping import FileFormat, MappingError, file_format, load_mapping, parse_mapping

GOOD = """
member = "company-registry"

[datasets.companies]
source = "postgresql+psycopg://reader@db.example.org/registry"
password_file = "secrets/reader"
table = "companies"
key = ["uscc"]
lookup = ["uscc", "name"]
null_values = ["N/A", ""]
statement_timeout_s = 5

[datasets.companies.columns]
uscc = "USCC Code"
name = "name"
registered_on = "registered_on"

[datasets.companies.types]
registered_on = "date"

[datasets.branches]
file = "branches.csv.gz"
on_bad_row = "skip"
columns = { code = "code" }
"""


def test_a_mapping_names_the_source_and_column_of_every_field(tmp_path):
    (tmp_path / "mapping.toml").write_text(GOOD)
    mapping = load_mapping(tmp_path / "mapping.toml")
    assert mapping.member == "company-registry"
    assert mapping.folder == tmp_path.resolve()
    companies, branches = mapping.datasets["companies"], mapping.datasets["branches"]
    assert companies.columns["uscc"] == "USCC Code"
    assert companies.types == {"registered_on": FieldType.DATE}
    assert companies.statement_timeout_s == 5.0
    assert file_format(branches) is FileFormat.CSV


def _with(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("member =", "not TOML"),
        ("", "member"),
        ('member = "m"', "datasets"),
        ('member = "m"\n[datasets]', "datasets"),
        (GOOD + "\nextra = 1", "unknown field `extra`"),
        (_with('key = ["uscc"]', 'key = ["uscc"]\ncolumn = "x"'), "unknown field `column`"),
        (_with('member = "company-registry"', 'member = "Company"'), "matching regex"),
        (_with("[datasets.branches]", '[datasets."../x"]'), "matching regex"),
        (_with('uscc = "USCC Code"', '"us cc" = "USCC Code"'), "matching regex"),
        (_with('uscc = "USCC Code"', '"usccé" = "USCC Code"'), "matching regex"),
        (_with('uscc = "USCC Code"', 'uscc = ""'), "length >= 1"),
        (_with('"date"', '"moment"'), "moment"),
        (_with('"skip"', '"ignore"'), "ignore"),
        (_with("statement_timeout_s = 5", "statement_timeout_s = 0"), "> 0"),
        (_with("statement_timeout_s = 5", 'statement_timeout_s = "5"'), "Expected `float`"),
        (_with('table = "companies"', ""), "table is missing"),
        (_with('key = ["uscc"]', ""), "key is missing"),
        (_with('key = ["uscc"]', 'key = ["nothing"]'), "key names 'nothing'"),
        (_with('key = ["uscc"]', 'key = ["uscc", "uscc"]'), "key names a field twice"),
        (_with('lookup = ["uscc", "name"]', 'lookup = ["USCC Code"]'), "lookup names 'USCC Code'"),
        (_with('registered_on = "date"', 'other = "date"'), "types names 'other'"),
        (_with('registered_on = "date"', 'name = "number"'), "number cannot stand in lookup"),
        (_with('registered_on = "date"', 'uscc = "number"'), "number cannot stand in key"),
        (_with('table = "companies"', 'table = "companies"\nfile = "x.csv"'), "exactly one"),
        (_with('file = "branches.csv.gz"', ""), "exactly one"),
        (_with('file = "branches.csv.gz"', 'file = "branches.xlsx"'), "does not tell its format"),
        (_with('file = "branches.csv.gz"', 'file = "branches"'), "does not tell its format"),
        (_with('on_bad_row = "skip"', 'encoding = "klingon"'), "encoding"),
        (_with('on_bad_row = "skip"', 'encoding = "base64"'), "encoding"),
        (_with('on_bad_row = "skip"', 'delimiter = ";;"'), "length <= 1"),
        (_with('on_bad_row = "skip"', 'table = "t"'), "table has no meaning for a file"),
        (_with('table = "companies"', 'table = "t"\non_bad_row = "skip"'), "no meaning for a database"),
    ],
)
def test_a_wrong_mapping_is_refused_with_the_fault(text, problem):
    with pytest.raises(MappingError) as caught:
        parse_mapping(text, Path())
    assert problem in caught.value.message
    assert isinstance(caught.value, ConfigError)


def test_a_mapping_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(MappingError, match="cannot be read"):
        load_mapping(tmp_path / "absent.toml")
    (tmp_path / "latin.toml").write_bytes(b"member = '\xe9'")
    with pytest.raises(MappingError, match="not UTF-8"):
        load_mapping(tmp_path / "latin.toml")


@given(st.text())
def test_any_text_is_a_mapping_or_a_mapping_error(text):
    with pytest.raises(MappingError):
        parse_mapping(text, Path())
