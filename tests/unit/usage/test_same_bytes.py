"""The same log gives the same statement, byte for byte, in every release: its digest stands in the log."""

from __future__ import annotations

import asyncio
import hashlib
import random
from datetime import UTC, datetime

import pytest

from gateway.audit import sqlite_reader
from gateway.evidence.keys import SigningKey
from gateway.usage import books
from gateway.usage.issuing import Accounts
from gateway.usage.sqlite import SqliteUsageStore
from tests.simulators import usage as made

DECEMBER = datetime(2026, 12, 1, tzinfo=UTC)
ENDS = ("released", "released", "denied", "failed", "withdrawn", "cut", "crashed")
DIGEST = "9a3c8fbcd66cfdb23a3e5a9f159587f96e447150d7fd73d1ce49149931e7050f"
"""Changes with the format of statements only, and that with its version."""


def exchanges() -> list[made.Exchange]:
    """Exchanges of every kind, many of them where a month begins or ends."""
    chance = random.Random(2026)
    found = []
    for _ in range(600):
        start = chance.choice((chance.randrange(50 * 86400), 11 * 86400 + chance.randrange(-300, 300)))
        found.append(
            made.Exchange(
                provider=chance.choice((made.AMBER, made.BIRCH)),
                consumer=chance.choice(made.BANKS),
                purpose=chance.choice(made.PURPOSES),
                start=start,
                pages=tuple(chance.randint(1, 60) for _ in range(chance.randrange(5))),
                records=chance.randrange(80),
                end=chance.choice(ENDS),
                left=chance.randrange(5),
            )
        )
    return found


@pytest.mark.parametrize("at_once", [1, 7, 4096])
def test_a_log_gives_the_same_statement_byte_for_byte(tmp_path, monkeypatch, at_once):
    """However many of its entries are read together."""
    monkeypatch.setattr(sqlite_reader, "SCANNED_AT_ONCE", at_once)
    monkeypatch.setattr(books, "_READ_AT_ONCE", 16 * at_once)
    contracts = made.Contracts(made.contract_of(made.AMBER), made.contract_of(made.BIRCH))
    store = SqliteUsageStore(tmp_path / "usage.db")
    try:
        with made.log_of(tmp_path / "audit.db", made.entries_of(exchanges())) as reader:
            accounts = Accounts(
                reader, contracts, store, SigningKey.generate(), lambda: DECEMBER, made.ignore
            )
            envelope = asyncio.run(accounts.statement(made.AMBER, made.MONTH))
    finally:
        store.close()
    assert hashlib.sha256(envelope.payload).hexdigest() == DIGEST
