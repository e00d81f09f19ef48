"""The ledger's statements and rows as they travel to PostgreSQL: whole columns, in its own binary form.

One statement takes a batch of any size, and is planned once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from typing import Final

from psycopg import pq

from gateway.database.roundtrip import BIGINT, TEXT, Statement, from_bigint, read_rows, to_array, to_bigint
from gateway.ledger.accounts import Account, Hold
from gateway.ledger.store import read_account, write_account

_ACCOUNT: Final = "kind, owner, consumer, per, first"
_ACCOUNT_TYPES: Final = ("text[]",) * 5

TAKE: Final = Statement(
    "take",
    ("text[]", *_ACCOUNT_TYPES),
    # Our own columns only:
    f"WITH taken AS (DELETE FROM hold WHERE exchange = ANY($1) RETURNING exchange, {_ACCOUNT}, records),"  # noqa: S608
    f" wanted AS (SELECT * FROM unnest($2, $3, $4, $5, $6) AS asked ({_ACCOUNT})"
    f"  UNION SELECT {_ACCOUNT} FROM taken),"
    f" locked AS (SELECT {_ACCOUNT}, a.records FROM wanted JOIN account AS a USING ({_ACCOUNT})"
    "  ORDER BY 1, 2, 3, 4, 5 FOR UPDATE OF a)"
    f" SELECT '' AS exchange, {_ACCOUNT}, records FROM locked"
    f" UNION ALL SELECT exchange, {_ACCOUNT}, records FROM taken",
)
"""Takes what is held for exchanges, and accounts.

Deletes what is held, and locks those accounts and the accounts asked for, in one order, so that two nodes do
not wait for each other in a circle. Returns both: an account has no exchange.
"""

KEEP: Final = Statement(
    "keep",
    ("bigint[]", "bigint[]", *_ACCOUNT_TYPES),
    "UPDATE account AS a SET records = now.records, bound = coalesce(now.bound, a.bound)"  # noqa: S608
    f" FROM unnest($1, $2, $3, $4, $5, $6, $7) AS now (records, bound, {_ACCOUNT})"
    " WHERE (a.kind, a.owner, a.consumer, a.per, a.first)"
    " = (now.kind, now.owner, now.consumer, now.per, now.first)",
)
"""Takes what stands on accounts that are locked, their bounds (NULL: as it was), and the accounts."""

HOLD: Final = Statement(
    "hold",
    ("text[]", "bigint[]", *_ACCOUNT_TYPES),
    f"INSERT INTO hold (exchange, records, {_ACCOUNT}) SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7)"  # noqa: S608
    f" ON CONFLICT (exchange, {_ACCOUNT}) DO UPDATE SET records = hold.records + excluded.records",
)
"""Takes exchanges, how much more is held for each, and the accounts on which it is held."""

STATEMENTS: Final = (TAKE, KEEP, HOLD)


def taken_columns(exchanges: Iterable[str], accounts: Collection[Account]) -> list[bytes]:
    """Return the columns that `TAKE` takes."""
    return [to_array(TEXT, [exchange.encode() for exchange in exchanges]), *_account_columns(accounts)]


def read_taken(answer: pq.abc.PGresult) -> tuple[dict[Account, int], list[Hold]]:
    """Return what `TAKE` returned: the balances of the accounts that are there, and what was held."""
    balances, holds = {}, []
    for exchange, *account, records in read_rows(answer):
        if exchange:
            holds.append(Hold(exchange.decode(), _read_account(*account), from_bigint(records)))
        else:
            balances[_read_account(*account)] = from_bigint(records)
    return balances, holds


def kept_columns(balances: Mapping[Account, int], limits: Mapping[Account, int]) -> list[bytes]:
    """Return the columns that `KEEP` takes."""
    bounds = map(limits.get, balances)
    return [
        to_array(BIGINT, [to_bigint(records) for records in balances.values()]),
        to_array(BIGINT, [None if bound is None else to_bigint(bound) for bound in bounds]),
        *_account_columns(balances),
    ]


def held_columns(holds: Collection[Hold]) -> list[bytes]:
    """Return the columns that `HOLD` takes."""
    return [
        to_array(TEXT, [hold.exchange.encode() for hold in holds]),
        to_array(BIGINT, [to_bigint(hold.records) for hold in holds]),
        *_account_columns([hold.account for hold in holds]),
    ]


def _account_columns(accounts: Collection[Account]) -> list[bytes]:
    columns = list(zip(*map(_account_fields, accounts), strict=True)) or [()] * len(_ACCOUNT_TYPES)
    return [to_array(TEXT, column) for column in columns]


@lru_cache(4096)
def _account_fields(account: Account) -> tuple[bytes, ...]:
    return tuple(field.encode() for field in write_account(account))


@lru_cache(4096)
def _read_account(*fields: bytes) -> Account:
    return read_account([field.decode() for field in fields])
