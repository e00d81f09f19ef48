"""What was announced of records, and who must still answer: kept until the answers are there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from gateway.clock import rfc3339
from gateway.corrections.database import Statements, Tables

_CORRECTION: Final = "id, announcer, dataset, kind, reason, effective, announced, records, entry"
_NOTICE: Final = "n.recipient, n.delivered, n.answered, n.outcome"


@dataclass(frozen=True, slots=True)
class Announced:
    """One correction, as its announcer and officers see it. It names no record."""

    id: str
    """UUIDv7."""
    announcer: str
    dataset: str
    kind: str
    reason: str
    effective: str
    announced: str
    """RFC 3339, as all times here."""
    records: int
    """How many were announced."""
    entry: int | None = None
    """Index of `correction.announced`; None until that stands in the log: then nobody is told of it yet."""


@dataclass(frozen=True, slots=True)
class SealedNotice:
    """What one recipient is to be told, encrypted."""

    recipient: str
    digest: str
    """Of what it is told: base64 of SHA-256."""
    content: bytes


@dataclass(frozen=True, slots=True)
class WaitingNotice:
    """A notice that is not answered yet."""

    position: int
    """Rises with each correction; where a stream goes on."""
    correction: Announced
    notice: SealedNotice
    delivered: str
    """When it was first sent; empty if it was not yet."""


@dataclass(frozen=True, slots=True)
class RecipientState:
    """How far a recipient is with a correction."""

    recipient: str
    delivered: str
    """When it was first told; empty if it was not yet."""
    answered: str
    outcome: str
    """What it answered; empty while it has not."""


@dataclass(frozen=True, slots=True)
class CorrectionStatus:
    """A correction with all its recipients."""

    correction: Announced
    recipients: tuple[RecipientState, ...]


class Notices:
    """Keeps corrections and notices. Each method is one durable transaction, and blocks.

    All raise `CorrectionsUnavailableError`.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    # -- announcing ------------------------------------------------------------------------------

    def prepare(self, correction: Announced, notices: Sequence[SealedNotice]) -> None:
        """Keep a correction and its notices; nobody sees them before `publish`."""
        names = [name.strip() for name in _CORRECTION.split(",")]
        with self._tables.transaction() as statements:
            statements.execute(
                f"INSERT INTO correction ({_CORRECTION}) VALUES ({', '.join(f':{name}' for name in names)})",  # noqa: S608
                {name: getattr(correction, name) for name in names},
            )
            if notices:
                statements.execute_many(
                    "INSERT INTO correction_notice (correction, recipient, digest, content)"
                    " VALUES (:correction, :recipient, :digest, :content)",
                    [
                        {
                            "correction": correction.id,
                            "recipient": notice.recipient,
                            "digest": notice.digest,
                            "content": notice.content,
                        }
                        for notice in notices
                    ],
                )

    def publish(self, correction: str, entry: int) -> None:
        """Let the recipients see it, now that its entry stands in the log. Doing it twice changes nothing."""
        with self._tables.transaction() as statements:
            # Locked until the commit: positions become visible in their order.
            [(position,)] = statements.execute(
                "UPDATE correction_head SET position = position + 1 RETURNING position"
            )
            statements.execute(
                "UPDATE correction SET entry = :entry WHERE id = :id AND entry IS NULL",
                {"entry": entry, "id": correction},
            )
            statements.execute(
                "UPDATE correction_notice SET position = :position"
                " WHERE correction = :id AND position IS NULL",
                {"position": position, "id": correction},
            )
            statements.announce_change()

    def discard(self, correction: str) -> None:
        """Forget a correction that was prepared and never came into the log."""
        with self._tables.transaction() as statements:
            values = {"id": correction}
            statements.execute(
                "DELETE FROM correction_notice WHERE correction = :id AND position IS NULL", values
            )
            statements.execute("DELETE FROM correction WHERE id = :id AND entry IS NULL", values)

    def prepared(self, before: datetime) -> list[Announced]:
        """Return what was prepared before a moment, and neither published nor discarded."""
        with self._tables.reading() as statements:
            rows = statements.execute(
                f"SELECT {_CORRECTION} FROM correction WHERE entry IS NULL AND announced < :before"  # noqa: S608
                " ORDER BY announced, id",
                {"before": rfc3339(before)},
            )
        return [Announced(*row) for row in rows]

    # -- telling ---------------------------------------------------------------------------------

    def revision(self) -> int:
        """Return the number that every publication raises."""
        with self._tables.reading() as statements:
            [(position,)] = statements.execute("SELECT position FROM correction_head")
        return int(position)

    def waiting(self, recipient: str, after: int, limit: int) -> list[WaitingNotice]:
        """Return the notices for `recipient` that it has not answered, from after a position on, in order."""
        with self._tables.reading() as statements:
            return _waiting(
                statements,
                "n.position > :after AND n.recipient = :recipient ORDER BY n.position LIMIT :limit",
                {"recipient": recipient, "after": after, "limit": limit},
            )

    def note_delivered(self, correction: str, recipient: str, now: datetime) -> None:
        """Take note that a notice was sent for the first time."""
        with self._tables.transaction() as statements:
            statements.execute(
                "UPDATE correction_notice SET delivered = :now"
                " WHERE correction = :correction AND recipient = :recipient AND delivered = ''",
                {"now": rfc3339(now), "correction": correction, "recipient": recipient},
            )

    # -- answering -------------------------------------------------------------------------------

    def find(self, correction: str, recipient: str) -> tuple[Announced, RecipientState, str] | None:
        """Return a correction, how far `recipient` is with it, and the notice's digest; None without one."""
        columns = ", ".join(f"c.{name.strip()}" for name in _CORRECTION.split(","))
        with self._tables.reading() as statements:
            rows = statements.execute(
                f"SELECT {columns}, {_NOTICE}, n.digest FROM correction_notice AS n"  # noqa: S608
                " JOIN correction AS c ON c.id = n.correction"
                " WHERE n.correction = :correction AND n.recipient = :recipient AND n.position IS NOT NULL",
                {"correction": correction, "recipient": recipient},
            )
        for row in rows:
            return Announced(*row[:9]), RecipientState(*row[9:13]), row[13]
        return None

    def settle(self, correction: str, recipient: str, outcome: str, now: datetime) -> None:
        """Keep the outcome and erase what the recipient was told; a second time changes nothing."""
        with self._tables.transaction() as statements:
            statements.execute(
                "UPDATE correction_notice SET outcome = :outcome, answered = :now, content = NULL"
                " WHERE correction = :correction AND recipient = :recipient AND outcome = ''",
                {"outcome": outcome, "now": rfc3339(now), "correction": correction, "recipient": recipient},
            )
        self._tables.overwrite_erased()

    # -- overseeing ------------------------------------------------------------------------------

    def statuses(
        self, announcer: str | None, before: tuple[str, str] | None, limit: int
    ) -> list[CorrectionStatus]:
        """Return up to `limit` corrections with their recipients, newest first; of all announcers for None.

        `before` is (announced, id) of the last one seen.
        """
        wanted = "entry IS NOT NULL AND (announced < :time OR (announced = :time AND id < :id))"
        values: dict[str, Any] = {"limit": limit}
        values["time"], values["id"] = before or ("9", "")
        if announcer is not None:
            wanted += " AND announcer = :announcer"
            values["announcer"] = announcer
        with self._tables.reading() as statements:
            rows = statements.execute(
                f"SELECT {_CORRECTION} FROM correction WHERE {wanted} ORDER BY announced DESC, id DESC"  # noqa: S608
                " LIMIT :limit",
                values,
            )
            return [
                CorrectionStatus(correction, _recipients(statements, correction.id))
                for correction in (Announced(*row) for row in rows)
            ]

    def open_count(self, announced_before: datetime) -> tuple[int, int]:
        """Return how many notices are not answered, and of them those announced before a moment."""
        with self._tables.reading() as statements:
            [(count, late)] = statements.execute(
                "SELECT count(*), coalesce(sum(CASE WHEN c.announced < :before THEN 1 ELSE 0 END), 0)"
                " FROM correction_notice AS n JOIN correction AS c ON c.id = n.correction"
                " WHERE n.outcome = '' AND n.position > 0",
                {"before": rfc3339(announced_before)},
            )
        return int(count), int(late)

    def forget(self, before: datetime) -> None:
        """Delete corrections announced before a moment that everybody has answered."""
        with self._tables.transaction() as statements:
            rows = statements.execute(
                "SELECT c.id FROM correction AS c WHERE c.announced < :before AND c.entry IS NOT NULL"
                " AND NOT EXISTS (SELECT 1 FROM correction_notice AS n"
                " WHERE n.correction = c.id AND n.outcome = '')",
                {"before": rfc3339(before)},
            )
            for (correction,) in rows:
                statements.execute("DELETE FROM correction_notice WHERE correction = :id", {"id": correction})
                statements.execute("DELETE FROM correction WHERE id = :id", {"id": correction})


def _waiting(statements: Statements, wanted: str, values: dict[str, Any]) -> list[WaitingNotice]:
    columns = ", ".join(f"c.{name.strip()}" for name in _CORRECTION.split(","))
    rows = statements.execute(
        f"SELECT n.position, {columns}, n.recipient, n.digest, n.content, n.delivered"  # noqa: S608
        " FROM correction_notice AS n JOIN correction AS c ON c.id = n.correction"
        f" WHERE n.outcome = '' AND {wanted}",
        values,
    )
    return [
        WaitingNotice(row[0], Announced(*row[1:10]), SealedNotice(row[10], row[11], row[12]), row[13])
        for row in rows
    ]


def _recipients(statements: Statements, correction: str) -> tuple[RecipientState, ...]:
    rows = statements.execute(
        f"SELECT {_NOTICE} FROM correction_notice AS n WHERE n.correction = :id ORDER BY n.recipient",  # noqa: S608
        {"id": correction},
    )
    return tuple(RecipientState(*row) for row in rows)
