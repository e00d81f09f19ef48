"""How far a batch has come, and what its checks have found: a value that a crash cannot tear.

It is kept with the records of each page, in the same transaction, and read back when an upload goes on.
Its size does not grow with the batch.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import date
from typing import Final

import msgspec

from gateway.audit.contribution import BatchDigest
from gateway.audit.tree import Frontier
from gateway.contributions.checks import CheckedPage, RowProblem
from gateway.evidence.quality import MAX_EXAMPLES, WHOLE_RECORD, Example, QualityReport, RowReason
from gateway.model import Freshness

_DUPLICATE: Final[list[RowProblem]] = [(WHOLE_RECORD, RowReason.DUPLICATE)]


class Intake(msgspec.Struct, frozen=True, kw_only=True):
    """What is known after the last page that is durable."""

    records: int = 0
    size_bytes: int = 0
    frontier: bytes = Frontier().to_bytes()
    report: QualityReport = QualityReport()

    @property
    def digest(self) -> BatchDigest:
        """The digest of the batch so far."""
        return BatchDigest(self.records, self.size_bytes, Frontier.from_bytes(self.frontier))

    def add_page(
        self,
        page: CheckedPage,
        duplicates: Collection[int],
        digest: BatchDigest,
        in_time_from: date | None = None,
    ) -> Intake:
        """Return what is known after one more page.

        `duplicates` are positions of valid records whose key came before; `digest` is the batch's after
        the page. Records of a day before `in_time_from` are late; None: nothing is promised.
        """
        report = self.report
        found = dict(page.problems)
        found.update(dict.fromkeys(duplicates, _DUPLICATE))
        accepted = len(page.valid) - len(duplicates)
        days = _days(page, duplicates)
        newest = max(days).isoformat() if days else None
        late = None
        if in_time_from is not None:
            late = (report.late or 0) + sum(day < in_time_from for day in days)
        flagged = [
            name for position, names in page.flagged.items() if position not in duplicates for name in names
        ]
        return Intake(
            records=digest.records,
            size_bytes=digest.size_bytes,
            frontier=digest.frontier.to_bytes(),
            report=msgspec.structs.replace(
                report,
                rows=report.rows + page.rows,
                accepted=report.accepted + accepted,
                rejected=report.rejected + page.rows - accepted,
                duplicates=report.duplicates + len(duplicates),
                problems=_counted(report.problems, found),
                examples=_exemplified(report, found),
                flagged=_added(report.flagged, flagged),
                newest=max(filter(None, (report.newest, newest)), default=None),
                late=late,
            ),
        )

    def to_bytes(self) -> bytes:
        """Return the form that is kept."""
        return msgspec.json.encode(self)

    @classmethod
    def from_bytes(cls, kept: bytes) -> Intake:
        """Read what `to_bytes` wrote; nothing is what a batch begins with."""
        return msgspec.json.decode(kept, type=cls) if kept else cls()


def closed_report(report: QualityReport, promise: Freshness | None, today: date) -> QualityReport:
    """Return `report` with how late the newest record is `today`, held against the promise."""
    if promise is None or report.newest is None:
        return report
    age_days = (today - date.fromisoformat(report.newest)).days
    return msgspec.structs.replace(report, days_late=max(0, age_days - promise.days))


def _days(page: CheckedPage, duplicates: Collection[int]) -> list[date]:
    """Return the days of the accepted records by which freshness is told."""
    return [
        day
        for position, day in zip(page.valid, page.days, strict=False)
        if day is not None and position not in duplicates
    ]


def _counted(
    problems: Mapping[str, Mapping[str, int]], found: Mapping[int, list[RowProblem]]
) -> dict[str, dict[str, int]]:
    counts = {field: dict(reasons) for field, reasons in problems.items()}
    for row in found.values():
        for field, reason in row:
            reasons = counts.setdefault(field, {})
            reasons[reason.value] = reasons.get(reason.value, 0) + 1
    return counts


def _exemplified(report: QualityReport, found: Mapping[int, list[RowProblem]]) -> tuple[Example, ...]:
    examples = list(report.examples)
    for position in sorted(found):
        if len(examples) >= MAX_EXAMPLES:
            break
        field, reason = found[position][0]
        examples.append(Example(report.rows + position + 1, field, reason.value))
    return tuple(examples)


def _added(counts: Mapping[str, int], names: list[str]) -> dict[str, int]:
    added = dict(counts)
    for name in names:
        added[name] = added.get(name, 0) + 1
    return added
