"""Tokens stand for an identifier on one day, and for nothing to whoever has not the key."""

import pytest

from gateway.details import BlindIndex
from gateway.errors import ConfigError

VALUE = "911101010000000000"


def test_a_token_is_the_same_for_the_same_identifier_kind_and_day(index):
    assert index.token("uscc", "2026-03-01", VALUE) == BlindIndex(bytes(range(32))).token(
        "uscc", "2026-03-01", VALUE
    )


def test_kind_day_value_and_key_each_change_it(index):
    tokens = {
        index.token("uscc", "2026-03-01", VALUE),
        index.token("national-id", "2026-03-01", VALUE),
        index.token("uscc", "2026-03-02", VALUE),
        index.token("uscc", "2026-03-01", VALUE[:-1]),
        BlindIndex(bytes(32)).token("uscc", "2026-03-01", VALUE),
        index.search_token("uscc", VALUE)[:16],
    }
    assert len(tokens) == 6


def test_the_tokens_of_a_span_are_those_of_its_days(index):
    found = list(index.tokens("uscc", "2026-02-27", "2026-03-02", VALUE))
    days = ("2026-02-27", "2026-02-28", "2026-03-01", "2026-03-02")
    assert found == [index.token("uscc", day, VALUE) for day in days]


def test_a_key_of_another_length_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="32"):
        BlindIndex(b"short")
    path = tmp_path / "key"
    path.write_bytes(bytes(32))
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        BlindIndex.load(path)
