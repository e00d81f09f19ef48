"""Step 8: the port to who remembers which member received which record, so that corrections reach it."""

from __future__ import annotations

from typing import Protocol

from gateway.exchange.state import Exchange
from gateway.exchange.transform import NameRecords, ReleasedPage, TransformPlan
from gateway.model import Dataset


class RecipientRegister(Protocol):
    """Remembers recipients of records. One instance serves all exchanges of a process."""

    def namer(self, dataset: Dataset) -> NameRecords:
        """Return what makes the tokens of the records of `dataset`; any thread may call it."""
        ...

    async def note(self, exchange: Exchange, plan: TransformPlan, page: ReleasedPage, number: int) -> None:
        """Remember that the page `number` of `exchange` is about to leave; when this returns, it is durable.

        `plan` says in what form the recipient gets what names a record. An answer of one bit is noted
        whatever it says, so that its row tells nothing. Raises `GatewayError` with
        `CORRECTIONS_UNAVAILABLE`; then the page must not leave.
        """
        ...
