"""What the journal keeps beside the log: whatever may have an entry has its details, nothing else has."""

import asyncio
from datetime import timedelta

import pytest

from gateway.audit.errors import LogUnavailableError, OnceTakenError
from gateway.details import DetailsUnavailableError
from gateway.details.keeper import SealedDetails
from gateway.details.sealing import Context, content_digest, seal_content
from gateway.errors import GatewayError, Reason
from gateway.evidence import dsse
from gateway.evidence.canonical import encode_canonical
from gateway.exchange.call import Call
from gateway.exchange.journal import Journal
from gateway.exchange.resolution import resolve
from gateway.exchange.state import Exchange
from gateway.exchange.statement import QUERY_TYPE, OpenedStatement
from gateway.model import EntryKind, Member, Operation, Subject


class Log:
    """A log that answers when it is told to, or refuses."""

    def __init__(self, error=None):
        self.entries = []
        self.error = error
        self.gate = asyncio.Event()

    def append(self, entry, once=None):
        self.entries.append(entry)
        return asyncio.ensure_future(self._answer())

    async def _answer(self):
        await self.gate.wait()
        if self.error is not None:
            raise self.error


class Keeper:
    """Takes details as the real one does, and remembers them."""

    def __init__(self, *, full=False):
        self.full = full
        self.kept = []

    def seal(self, exchange, kind, day, details, terms):
        if self.full:
            raise DetailsUnavailableError("full")
        context = Context("origin", exchange, kind)
        return SealedDetails(context, day, seal_content(details.encode(), context), tuple(terms))

    def keep(self, sealed):
        self.kept.append(sealed)


@pytest.fixture
def exchange(make_query, catalogue, now):
    query = make_query(subjects=(Subject("title", "Amber"),), filters={"title": "Amber"})
    payload = encode_canonical(query)
    found = Exchange("0195512e-0000-7000-8000-000000000001", Operation.QUERY, Call(None, 5.0), now, None)
    found.consumer = Member(
        id="bank",
        title="Bank",
        member_class="bank",
        roles=frozenset(),
        uri="spiffe://x/bank",
        signing_keys={},
    )
    found.statement = OpenedStatement(
        query, payload, "", now + timedelta(minutes=5), dsse.Envelope(payload, QUERY_TYPE, ())
    )
    found.resolved = resolve(query, catalogue)
    return found


def journal(log, keeper, now):
    return Journal(log, lambda: now, frozenset(), details=keeper)


async def test_the_entry_commits_to_what_is_kept(exchange, now):
    log, keeper = Log(), Keeper()
    log.gate.set()
    await journal(log, keeper, now).requested(exchange)
    [entry], [sealed] = log.entries, keeper.kept
    assert entry.commitments["details"] == content_digest(sealed.sealed.content)
    assert set(entry.commitments) == {"query", "subject", "details"}


async def test_a_caller_who_cancels_does_not_escape(exchange, now):
    log, keeper = Log(), Keeper()
    asking = journal(log, keeper, now).requested(exchange)
    await asyncio.sleep(0)
    assert log.entries
    assert keeper.kept == []
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert [item.commitment for item in keeper.kept] == [log.entries[0].commitments["details"]]


@pytest.mark.parametrize("error", [OnceTakenError("replayed"), LogUnavailableError("full")])
async def test_nothing_is_kept_of_what_has_no_entry(exchange, now, error):
    log, keeper = Log(error), Keeper()
    log.gate.set()
    with pytest.raises(GatewayError):
        await journal(log, keeper, now).requested(exchange)
    assert keeper.kept == []


async def test_a_replay_is_denied_with_details_of_its_own(exchange, now):
    log, keeper = Log(OnceTakenError("replayed")), Keeper()
    log.gate.set()
    book = journal(log, keeper, now)
    with pytest.raises(OnceTakenError):
        await book.requested(exchange)
    log.error = None
    await book.refused(exchange, GatewayError("replayed", reason=Reason.REPLAYED))
    first, denied = log.entries
    assert denied.kind is EntryKind.EXCHANGE_DENIED
    assert denied.commitments["details"] != first.commitments["details"]
    [sealed] = keeper.kept
    assert sealed.commitment == denied.commitments["details"]
    assert sealed.context.kind == "exchange.denied"


async def test_a_full_keeper_stops_the_exchange_and_not_its_denial(exchange, now):
    log, keeper = Log(), Keeper(full=True)
    log.gate.set()
    book = journal(log, keeper, now)
    with pytest.raises(DetailsUnavailableError) as raised:
        await book.requested(exchange)
    assert log.entries == []
    await book.refused(exchange, raised.value)
    [entry] = log.entries
    assert entry.kind is EntryKind.EXCHANGE_DENIED
    assert "details" not in entry.commitments


async def test_without_a_keeper_a_denial_commits_to_nothing(exchange, now):
    log = Log()
    log.gate.set()
    await journal(log, None, now).refused(exchange, GatewayError("no", reason=Reason.PURPOSE_UNKNOWN))
    assert log.entries[0].commitments == {}
