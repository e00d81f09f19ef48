import re
from pathlib import Path

import pytest

from gateway.sources.mapping import parse_mapping

PAGE = Path(__file__).parents[3] / "docs" / "providers.md"
EXAMPLES = re.findall(r"^```toml\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_the_page_has_an_example_of_a_table_and_one_of_a_file():
    assert ["source = " in example for example in EXAMPLES] == [True, False]


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_the_examples_for_providers_are_good_mappings(example):
    assert parse_mapping(example, Path()).member == "company-registry"
