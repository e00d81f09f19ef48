"""What is owed after releases: notices to subjects, acknowledgements by consumers; and that it is settled.

What is settled stands in the log first. The ledger only says where to look.
"""

from __future__ import annotations

from contextlib import closing
from typing import Final

from gateway.audit.stores import open_reader
from gateway.clock import Clock, rfc3339, system_clock
from gateway.config import GatewayConfig
from gateway.deployment.changes import record_change
from gateway.deployment.reasons import check_reason
from gateway.errors import ConfigError
from gateway.exchange.duties.standing import is_owed
from gateway.ledger import Debt, DebtKind, open_ledger
from gateway.model import EntryKind

_SETTLED_AS: Final = {
    DebtKind.NOTICE: EntryKind.SUBJECT_NOTIFIED,
    DebtKind.ACKNOWLEDGEMENT: EntryKind.ACKNOWLEDGEMENT_WAIVED,
}


def owed(
    config: GatewayConfig, kind: DebtKind, *, overdue: bool = False, clock: Clock = system_clock
) -> list[Debt]:
    """Return what is owed, or of it what is overdue, the most urgent first.

    Left out is what the log does not confirm: of an exchange that a crash cut before anything left.
    Raises `LedgerUnavailableError` and `LogUnavailableError`.
    """
    with closing(open_ledger(config.log.database)) as ledger, open_reader(config.log.database) as reader:
        return [debt for debt in ledger.debts(kind, clock() if overdue else None) if is_owed(reader, debt)]


def settle(
    config: GatewayConfig,
    kind: DebtKind,
    exchange: str,
    *,
    reason: str,
    by: str,
    clock: Clock = system_clock,
) -> int:
    """Record that what is owed after `exchange` is paid or waived; return the entry's index.

    `reason` says how or why, and `by` who says so. Raises `ConfigError` if nothing of the kind is owed,
    `LedgerUnavailableError`, `LogUnavailableError`.
    """
    check_reason(reason, what="--how" if kind is DebtKind.NOTICE else "--reason")
    check_reason(by, what="--by")
    debt = next((debt for debt in owed(config, kind, clock=clock) if debt.exchange == exchange), None)
    if debt is None:
        raise ConfigError(
            f"No {kind.value} is owed for this exchange; `gateway {kind.value}s list` shows those that are."
        )
    index = record_change(
        config,
        _SETTLED_AS[kind],
        f"exchanges/{exchange}",
        {"by": by, "reason": reason, "consumer": debt.consumer, "until": rfc3339(debt.until)},
        exchange=exchange,
        commitments={"subject": debt.subject} if debt.subject else None,
        clock=clock,
    )
    with closing(open_ledger(config.log.database)) as ledger:
        ledger.settle(kind, exchange)
    return index
