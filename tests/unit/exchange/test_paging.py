"""Page tokens open for whom and for what they were made, and for nothing else."""

import base64
from datetime import timedelta

import pytest

from gateway.errors import GatewayError, Reason
from gateway.exchange.paging import MAX_TOKEN_LENGTH, TOKEN_LIFETIME, PageTokens, Position
from gateway.model import Actor, Operation

HERE = Position(b"cursor\x00of the provider", "e1")


@pytest.fixture
def tokens():
    return PageTokens(b"k" * 32)


def assert_invalid(open_token):
    with pytest.raises(GatewayError) as raised:
        open_token()
    assert raised.value.reason is Reason.PAGE_TOKEN_INVALID


def test_a_token_leads_back_to_its_place(tokens, make_query, now):
    assert tokens.open(tokens.seal(HERE, "bank", make_query(), now), "bank", make_query(), now) == HERE


def test_a_new_signature_is_the_same_query(tokens, make_query, now):
    token = tokens.seal(HERE, "bank", make_query(), now)
    again = make_query(nonce="B" * 22, time="2026-11-21T12:01:00Z", actor=Actor(id="clerk"))
    assert tokens.open(token, "bank", again, now) == HERE


@pytest.mark.parametrize(
    "change",
    [
        {"purpose": "statistics"},
        {"filters": {"title": "x"}},
        {"fields": ("title",)},
        {"dataset": "members/tax/datasets/arrears"},
        {"operation": Operation.STREAM},
        {"memorandum": "m"},
    ],
)
def test_another_query_does_not_open_it(tokens, make_query, now, change):
    token = tokens.seal(HERE, "bank", make_query(), now)
    assert_invalid(lambda: tokens.open(token, "bank", make_query(**change), now))


def test_another_member_does_not_open_it(tokens, make_query, now):
    token = tokens.seal(HERE, "bank", make_query(), now)
    assert_invalid(lambda: tokens.open(token, "rival", make_query(), now))


def test_another_gateway_does_not_open_it(tokens, make_query, now):
    token = tokens.seal(HERE, "bank", make_query(), now)
    assert_invalid(lambda: PageTokens(b"o" * 32).open(token, "bank", make_query(), now))


def test_a_token_ends(tokens, make_query, now):
    token = tokens.seal(HERE, "bank", make_query(), now)
    late = now + TOKEN_LIFETIME
    assert tokens.open(token, "bank", make_query(), late) == HERE
    assert_invalid(lambda: tokens.open(token, "bank", make_query(), late + timedelta(seconds=1)))


def test_every_changed_byte_is_noticed(tokens, make_query, now):
    raw = base64.urlsafe_b64decode(tokens.seal(HERE, "bank", make_query(), now))
    for at in range(len(raw)):
        changed = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]
        token = base64.urlsafe_b64encode(changed).decode()
        assert_invalid(lambda token=token: tokens.open(token, "bank", make_query(), now))


@pytest.mark.parametrize("token", ["x", "====", "ab cd", "é", "A" * 16, "A" * (MAX_TOKEN_LENGTH + 4)])
def test_what_is_no_token_is_refused(tokens, make_query, now, token):
    assert_invalid(lambda: tokens.open(token, "bank", make_query(), now))


def test_the_cursor_is_not_readable(tokens, make_query, now):
    assert b"provider" not in base64.urlsafe_b64decode(tokens.seal(HERE, "bank", make_query(), now))
