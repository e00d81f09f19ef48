"""The ledger: what has been spent, given and received, and what is still owed after a release.

Shared by all workers and nodes of a deployment, and kept over restarts: a file beside the log in
SQLite, or tables beside the log's in PostgreSQL. It is no evidence; the log is. See docs/adr/0035 and 0053.
"""

from gateway.ledger.accounts import (
    EVER,
    Account,
    AccountKind,
    Allowance,
    Charge,
    Hold,
    Order,
    Reservation,
    Settlement,
    Shortfall,
    Standing,
    budget,
    first_day,
)
from gateway.ledger.exhausted import (
    BudgetExhaustedError,
    ExhaustedError,
    QuotaExhaustedError,
    ReciprocityExhaustedError,
    exhausted,
)
from gateway.ledger.queue import LedgerQueue
from gateway.ledger.store import Debt, DebtKind, Ledger, LedgerUnavailableError
from gateway.ledger.stores import open_ledger

__all__ = [
    "EVER",
    "Account",
    "AccountKind",
    "Allowance",
    "BudgetExhaustedError",
    "Charge",
    "Debt",
    "DebtKind",
    "ExhaustedError",
    "Hold",
    "Ledger",
    "LedgerQueue",
    "LedgerUnavailableError",
    "Order",
    "QuotaExhaustedError",
    "ReciprocityExhaustedError",
    "Reservation",
    "Settlement",
    "Shortfall",
    "Standing",
    "budget",
    "exhausted",
    "first_day",
    "open_ledger",
]
