"""Logs of use as hypothesis makes them: exchanges of several providers: cut, withdrawn, crashed."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from gateway.audit.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from gateway.audit.note import Ed25519Signer
from gateway.audit.sqlite import SqliteStore
from gateway.audit.sqlite_reader import SqliteReader
from gateway.audit.store import LogIdentity, prepare_entry
from gateway.clock import rfc3339
from gateway.evidence.keys import SigningKey
from gateway.evidence.trust import Trust
from gateway.model import Entry, EntryKind
from gateway.model.contract import (
    Contract,
    ContractState,
    DatasetTerms,
    Held,
    Party,
    PartyRole,
    Per,
    Price,
    Quota,
    Recipients,
    Terms,
)
from gateway.usage.period import Period

ORIGIN = "audit.example.org/log/2026"
MONTH = "2026-10"
AMBER, BIRCH = "amber", "birch"
BANKS = ("harbour-bank", "northern-bank")
PURPOSES = ("credit-check", "tender-check")
SIGNER = Ed25519Signer.from_seed(ORIGIN, bytes(range(32)))
YEAR = Period(date(2026, 1, 1), date(2026, 12, 31))
OCTOBER = datetime(2026, 10, 1, tzinfo=UTC)


def contract_id(provider: str) -> str:
    return "sha256:" + provider.encode().hex().ljust(64, "0")


def contract_of(provider: str, **changes: Any) -> Contract:
    terms = {
        "v": 1,
        "contract": f"{provider}-payments",
        "version": 1,
        "title": "Payments",
        "parties": (
            Party(provider, PartyRole.CONTRIBUTOR),
            Party(BANKS[0], PartyRole.RECIPIENT),
        ),
        "datasets": (
            DatasetTerms(name=f"members/{provider}/datasets/payments", held=Held.VAULT, description={}),
        ),
        "purposes": PURPOSES,
        "recipients": Recipients(members=BANKS),
        "valid_from": "2026-09-15T00:00:00Z",
        "valid_until": "2027-09-15T00:00:00Z",
        "quotas": (
            Quota(records=100, per=Per.DAY, each="consumer"),
            Quota(records=1000, per=Per.MONTH),
            Quota(records=5000, per=Per.TERM),
        ),
        "price": Price(currency="EUR", minor_units_per_thousand=333),
    }
    state = changes.pop("state", ContractState.ACTIVE)
    changed = changes.pop("changed", "2026-09-14T00:00:00Z")
    return Contract(
        id=contract_id(provider),
        terms=Terms(**{**terms, **changes}),
        state=state,
        signed_by=(provider, BANKS[0]),
        changed=changed,
    )


class Contracts:
    """A register of contracts, in memory."""

    def __init__(self, *contracts: Contract) -> None:
        self.all = list(contracts)

    def of_member(self, member: str) -> list[Contract]:
        return [
            contract
            for contract in self.all
            if any(party.member == member for party in contract.terms.parties)
        ]


@dataclass(frozen=True)
class Exchange:
    """What became of one exchange."""

    provider: str
    consumer: str
    purpose: str
    start: int
    """Seconds from 20 September."""
    pages: tuple[int, ...]
    """Records of each page of a bulk answer; empty for a single answer."""
    records: int
    end: str
    """released, denied, failed, withdrawn, cut, crashed."""
    left: int
    """Pages of a bulk answer that had left when it was cut."""

    @property
    def has_left(self) -> int:
        """How many records have left, at most if it crashed."""
        match self.end:
            case "released":
                return sum(self.pages) if self.pages else self.records
            case "cut" | "withdrawn" if self.pages:
                return sum(self.pages[: self.left])
            case "crashed":
                return sum(self.pages)
        return 0


START = datetime(2026, 9, 20, tzinfo=UTC)

exchanges = st.lists(
    st.builds(
        Exchange,
        provider=st.sampled_from((AMBER, BIRCH)),
        consumer=st.sampled_from(BANKS),
        purpose=st.sampled_from(PURPOSES),
        start=st.integers(0, 50 * 86400),
        pages=st.one_of(st.just(()), st.lists(st.integers(1, 60), min_size=1, max_size=4).map(tuple)),
        records=st.integers(0, 80),
        end=st.sampled_from(("released", "released", "denied", "failed", "withdrawn", "cut", "crashed")),
        left=st.integers(0, 4),
    ),
    max_size=25,
)


def many_exchanges(count: int, *, seconds: int, seed: int = 4) -> list[Exchange]:
    """Return exchanges of two providers within so many seconds, one in ten a stream."""
    chance = random.Random(seed)
    return [
        Exchange(
            chance.choice((AMBER, AMBER, BIRCH)),
            chance.choice(BANKS),
            chance.choice(PURPOSES),
            chance.randrange(seconds),
            tuple(chance.randrange(1, 900) for _ in range(chance.randrange(1, 4)))
            if chance.random() < 0.1
            else (),
            chance.randrange(0, 700),
            chance.choice(
                ("released", "released", "released", "denied", "failed", "withdrawn", "cut", "crashed")
            ),
            chance.randrange(3),
        )
        for _ in range(count)
    ]


def entries_of(made: Sequence[Exchange]) -> list[Entry]:
    """Return the entries that a gateway would write of the exchanges, in the order of their times."""
    timed: list[tuple[datetime, int, Exchange, str]] = []
    for number, exchange in enumerate(made):
        begun = START + timedelta(seconds=exchange.start, microseconds=number)
        if exchange.end == "denied":
            timed.append((begun, number, exchange, "denied"))
            continue
        timed.append((begun, number, exchange, "requested"))
        timed += [
            (begun + timedelta(seconds=1 + page * 60), number, exchange, f"page {page}")
            for page in range(len(exchange.pages))
        ]
        closes = begun + timedelta(seconds=10 + 60 * len(exchange.pages))
        if exchange.end in {"released", "withdrawn"}:
            timed.append((closes, number, exchange, "released"))
        if exchange.end in {"failed", "cut", "withdrawn"}:
            timed.append((closes + timedelta(seconds=5), number, exchange, "failed"))
    timed.sort(key=lambda item: item[:2])
    found: list[Entry] = []
    releases: dict[int, int] = {}
    for moment, number, exchange, what in timed:
        if what == "released":
            releases[number] = len(found)
        found.append(_entry(moment, number, exchange, what, releases.get(number)))
    return found


def _entry(moment: datetime, number: int, exchange: Exchange, what: str, release: int | None) -> Entry:
    common: dict[str, Any] = {
        "v": 1,
        "time": rfc3339(moment),
        "exchange": f"0195512e-0000-7000-8000-{number:012x}",
        "consumer": exchange.consumer,
        "provider": exchange.provider,
    }
    if what.startswith("page"):
        page = int(what.split()[1])
        return Entry(kind=EntryKind.EXCHANGE_PAGE, page=page, records=exchange.pages[page], **common)
    common |= {
        "operation": "stream" if exchange.pages else "query",
        "dataset": f"members/{exchange.provider}/datasets/payments",
        "purpose": exchange.purpose,
        "contract": contract_id(exchange.provider),
        "envelope_key": f"actor-of-{exchange.consumer}",
    }
    fields = {"released": ("amount", f"{exchange.provider}-secret-field")}
    match what:
        case "denied":
            return Entry(kind=EntryKind.EXCHANGE_DENIED, reasons=("PURPOSE_NOT_PERMITTED",), **common)
        case "requested":
            return Entry(kind=EntryKind.EXCHANGE_REQUESTED, **common)
        case "released":
            records = sum(exchange.pages) if exchange.pages else exchange.records
            return Entry(
                kind=EntryKind.EXCHANGE_RELEASED,
                sequence=0,
                records=records,
                pages=max(1, len(exchange.pages)),
                **fields,
                **common,
            )
    left = exchange.has_left if exchange.end in {"cut", "withdrawn"} else 0
    return Entry(
        kind=EntryKind.EXCHANGE_FAILED,
        reasons=("PROVIDER_TIMEOUT",),
        records=left,
        withdraws=release if exchange.end == "withdrawn" else None,
        **fields,
        **common,
    )


def sign(size: int, root: bytes) -> str:
    return sign_checkpoint(Checkpoint(ORIGIN, size, root), SIGNER)


@contextmanager
def log_of(path: Path, entries: Sequence[Entry]):
    """Make a real log of the entries at `path`; yield a reader of it."""
    append_to(path, entries)
    with SqliteReader(path) as reader:
        yield reader


def append_to(path: Path, entries: Sequence[Entry]) -> None:
    with SqliteStore(path) as store:
        store.open(LogIdentity(ORIGIN, SIGNER.verifier), sign)
        if entries:
            store.append([prepare_entry(entry) for entry in entries], sign, OCTOBER)


def leaves(reader: SqliteReader) -> Mapping[int, bytes]:
    return {index: reader.entry(index).data for index in range(reader.size())}


def trust_of(key: SigningKey) -> Trust:
    return Trust(
        v=1,
        origin=ORIGIN,
        log_keys=(SIGNER.verifier.vkey(),),
        gateway_keys={key.key_id: key.verify_key.public},
        members={},
    )


def checkpoint_of(reader: SqliteReader) -> Checkpoint:
    return open_checkpoint(reader.checkpoint(), [SIGNER.verifier])


class ReaderProofs:
    """Proofs straight from the log."""

    def __init__(self, reader: SqliteReader) -> None:
        self._reader = reader

    def of(self, index: int, size: int) -> tuple[bytes, ...]:
        return self._reader.inclusion_proof(index, size)


async def ignore(_entry: Entry) -> None:
    """Append nothing."""
