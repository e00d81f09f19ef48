"""Page tokens: what they are bound to, and what may happen between two pages."""

import pytest

from gateway.audit.filter import EVERYTHING, Field, Has, Not
from gateway.audit.following import Follower
from gateway.audit.paging import open_page_token, page_token
from gateway.audit.sqlite_reader import SqliteReader
from gateway.audit.store import prepare_entry
from gateway.errors import GatewayError, Reason

from .conftest import NOON

BANK = Has(Field.CONSUMER, "bank-1")


@pytest.mark.parametrize("before", [0, 1, 4096, 2**63 - 1])
def test_a_token_gives_back_its_index(before):
    assert open_page_token(page_token(BANK, before), BANK) == before


@pytest.mark.parametrize("wanted", [EVERYTHING, Not(BANK), Has(Field.PROVIDER, "bank-1")])
def test_a_token_of_another_filter_is_refused(wanted):
    with pytest.raises(GatewayError) as raised:
        open_page_token(page_token(BANK, 7), wanted)
    assert raised.value.reason is Reason.PAGE_TOKEN_INVALID


def opened(token):
    """Return the index in `token`, or None if it is refused."""
    try:
        return open_page_token(token, BANK)
    except GatewayError as error:
        return None if error.reason is Reason.PAGE_TOKEN_INVALID else error


def test_a_changed_token_is_refused_or_means_another_page():
    token = page_token(BANK, 7)
    for at in range(len(token)):
        for letter in "Aa0-_=+ é":
            changed = token[:at] + letter + token[at + 1 :]
            # A position is no secret and gives no right: another one is another page, no more.
            assert opened(changed) is None or isinstance(opened(changed), int)
            assert (opened(changed) == 7) == (changed == token)
    for text in ("", "=", "x" * 10_000, token * 2, token[:-1]):
        assert opened(text) is None


def pages(reader, wanted, size, between=lambda: None):
    found, token = [], None
    while True:
        page = reader.find(wanted, size, None if token is None else open_page_token(token, wanted))
        if not page:
            return found
        found += [entry.index for entry in page]
        token = page_token(wanted, page[-1].index)
        between()


def test_entries_that_come_between_two_pages_move_none(path, store, identity, sign, make_entry):
    store.open(identity, sign)
    store.append([prepare_entry(make_entry(number)) for number in range(5000)], sign, NOON)
    with SqliteReader(path) as reader:
        expected = pages(reader, BANK, 300)
        assert len(expected) == 1667
        come = iter(range(5000, 9000))

        def append():
            store.append([prepare_entry(make_entry(next(come))) for _ in range(150)], sign, NOON)

        assert pages(reader, BANK, 300, append) == expected
        # The control: the same pages by how many were seen before, as a naive pager does it, do move.
        before = [entry.index for entry in reader.find(BANK, 600)]
        append()
        after = [entry.index for entry in reader.find(BANK, 600)]
        assert before[300:] != after[300:]


def test_a_follower_gives_each_entry_once_and_in_order(path, store, identity, sign, make_entry):
    store.open(identity, sign)
    store.append([prepare_entry(make_entry(number)) for number in range(40)], sign, NOON)
    with SqliteReader(path) as reader:
        follower = Follower.from_the_last(reader, BANK, 3)
        assert [entry.index for entry in follower.take()] == [31, 34, 37]
        assert list(follower.take()) == []
        store.append([prepare_entry(make_entry(number)) for number in range(40, 4140)], sign, NOON)
        assert [entry.index for entry in follower.take()] == list(range(40, 4140, 3))
        assert list(follower.take()) == []
        assert [entry.index for entry in Follower.from_the_last(reader, BANK, 0).take()] == []
