"""The pages of one batch on their way into the vault: digested, checked, and staged a few at a time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Self

from gateway.audit.contribution import MAX_PAGE_BYTES, MAX_PAGE_RECORDS, BatchDigest
from gateway.clock import Clock
from gateway.contributions.checks import CheckedPage, RecordChecker
from gateway.contributions.form import Form
from gateway.contributions.intake import Intake
from gateway.contributions.ports import RecordVault
from gateway.contributions.register import Batch, BatchRegister
from gateway.errors import GatewayError, Reason

STAGED_BYTES: Final = 2 * 1024 * 1024
"""Of the pages that are staged together: each time costs two flushes of the disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The bounds of what is taken."""

    batch_records: int = 50_000_000
    batch_bytes: int = 16 * 1024**3
    uploads: int = 16
    """Under way at the same time in one process, at some 4 MiB each."""
    kept: timedelta = timedelta(days=7)
    """After so long without a word an unfinished batch is let go."""


@dataclass(frozen=True, slots=True)
class _Page:
    """A page that has been checked and not yet staged."""

    lines: list[bytes]
    digests: list[bytes]
    checked: CheckedPage
    first: int
    """Number of its first record in the batch, from 0."""
    digest: BatchDigest
    """The batch's, after the page."""


class Staging:
    """One batch in one call. Every method blocks; to be used by one thread at a time."""

    def __init__(
        self,
        vault: RecordVault[Any],
        register: BatchRegister,
        batch: Batch,
        checker: RecordChecker,
        limits: Limits,
        clock: Clock,
        staged: Any,
    ) -> None:
        """Take the collaborators and the batch as the vault has it; see `resume`."""
        self._vault = vault
        self._register = register
        self._batch = batch
        self._checker = checker
        self._limits = limits
        self._clock = clock
        self._staged = staged
        self._waiting: list[_Page] = []
        self.durable = Intake.from_bytes(staged.resume)
        """What is known of the records that are in the vault."""
        self.intake = self.durable
        """What is known of all pages taken, once `flush` has returned."""
        self._digest = self.durable.digest
        if self.durable.report.accepted != staged.records:
            raise RuntimeError("the vault holds other records than the upload has staged")

    @classmethod
    def resume(
        cls,
        vault: RecordVault[Any],
        register: BatchRegister,
        form: Form,
        batch: Batch,
        checker: RecordChecker,
        limits: Limits,
        clock: Clock,
    ) -> Self:
        """Begin the batch in the vault, or go on where its last staged records end."""
        staged = vault.begin(form.contract, batch.dataset, batch.exchange)
        staging = cls(vault, register, batch, checker, limits, clock, staged)
        register.release(batch.exchange, staging.durable.records)
        return staging

    def take(self, first: int, text: bytes) -> None:
        """Check a page of whole lines; stage what waits if it is enough. Raises `GatewayError`."""
        lines = self._lines(first, text)
        before = self._digest
        digest, digests = before.add_page(lines, self._batch.seed)
        if digest.records > self._limits.batch_records or digest.size_bytes > self._limits.batch_bytes:
            raise GatewayError(
                f"A batch has at most {self._limits.batch_records} records and {self._limits.batch_bytes} "
                "bytes; divide it into several.",
                reason=Reason.CONTRIBUTION_TOO_LARGE,
                records=self._limits.batch_records,
                bytes=self._limits.batch_bytes,
            )
        self._waiting.append(_Page(lines, digests, self._checker.check(lines), before.records, digest))
        self._digest = digest
        if digest.size_bytes - self.intake.size_bytes >= STAGED_BYTES:
            self.flush()

    def flush(self) -> None:
        """Stage what waits."""
        if not self._waiting:
            return
        claims = [
            (page.first + position, token)
            for page in self._waiting
            for position, token in zip(page.checked.valid, page.checked.tokens, strict=True)
        ]
        repeated = self._register.claim(self._batch.exchange, claims, self._clock())
        promise = self._checker.promise
        in_time_from = None if promise is None else self._clock().date() - timedelta(days=promise.days)
        intake = self.intake
        records: list[bytes] = []
        digests: list[bytes] = []
        for page in self._waiting:
            duplicates = {row - page.first for row in repeated if 0 <= row - page.first < len(page.lines)}
            intake = intake.add_page(page.checked, duplicates, page.digest, in_time_from)
            for position in page.checked.valid:
                if position not in duplicates:
                    records.append(page.lines[position])
                    digests.append(page.digests[position])
        if records:
            self._staged = self._vault.stage(self._staged, records, digests, intake.to_bytes())
            self.durable = intake
        self.intake = intake
        self._waiting.clear()

    def _lines(self, first: int, text: bytes) -> list[bytes]:
        if first != self._digest.records:
            raise GatewayError(
                "A page is missing, repeated or out of order; ask how far the batch has come, and go on "
                "from there.",
                reason=Reason.REQUEST_MALFORMED,
                records=self._digest.records,
            )
        if len(text) > MAX_PAGE_BYTES:
            raise GatewayError(
                f"A page has at most {MAX_PAGE_BYTES} bytes.",
                reason=Reason.MESSAGE_TOO_LARGE,
                limit=MAX_PAGE_BYTES,
            )
        lines = text.split(b"\n")
        if lines.pop() or not lines or len(lines) > MAX_PAGE_RECORDS:
            raise GatewayError(
                f"A page holds whole lines, 1 to {MAX_PAGE_RECORDS}, each ended by LF.",
                reason=Reason.REQUEST_MALFORMED,
            )
        return lines
