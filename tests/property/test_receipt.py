"""Receipts: no change of one byte, in any part, leaves one that verifies as another."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.audit.receipt import Receipt
from gateway.errors import GatewayError
from gateway.evidence.records import page_digest, records_root, split_lines

lines = st.lists(st.binary(max_size=20).map(lambda raw: raw.replace(b"\n", b" ")), max_size=5)
seeds = st.binary(min_size=32, max_size=32)


@given(lines, lines, seeds)
def test_two_pages_have_one_digest_only_if_they_are_the_same(one, two, seed) -> None:
    assert (page_digest(one, seed) == page_digest(two, seed)) == (one == two)


@given(lines.filter(bool), seeds, seeds)
def test_a_digest_under_another_seed_is_another(page, one, two) -> None:
    assert (page_digest(page, one) == page_digest(page, two)) == (one == two)


@given(lines)
def test_lines_are_split_as_they_were_joined(page) -> None:
    assert split_lines(b"".join(line + b"\n" for line in page)) == page


@given(st.lists(seeds, max_size=5), st.lists(seeds, max_size=5))
def test_two_lists_of_pages_have_one_root_only_if_they_are_the_same(one, two) -> None:
    assert (records_root(one) == records_root(two)) == (one == two)


@given(lines.filter(bool), seeds)
def test_a_page_of_one_record_is_no_record_and_no_root(page, seed) -> None:
    """Each level has its prefix, so that no digest of one level passes as one of another."""
    digest = page_digest(page, seed)
    assert digest != records_root([digest])
    assert page_digest([digest], seed) != records_root([digest])


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_no_bytes_make_the_parser_raise_anything_else(text: bytes) -> None:
    with pytest.raises(GatewayError):
        Receipt.from_json(text)
