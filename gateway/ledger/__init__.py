"""The ledger: what has been spent of budgets, and what is still owed after a release.

Shared by all workers and nodes of a deployment, and kept over restarts: a file beside the log in
SQLite, or tables beside the log's in PostgreSQL. It is no evidence; the log is. See docs/adr/0035.
"""

from gateway.ledger.store import (
    Account,
    BudgetExhaustedError,
    Debt,
    DebtKind,
    Ledger,
    LedgerUnavailableError,
    reopens_at,
)
from gateway.ledger.stores import open_ledger

__all__ = [
    "Account",
    "BudgetExhaustedError",
    "Debt",
    "DebtKind",
    "Ledger",
    "LedgerUnavailableError",
    "open_ledger",
    "reopens_at",
]
