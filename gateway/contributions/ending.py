"""The end of a batch: decided, then carried out, each step as often as it takes.

Once a batch is *sealed* its end is decided and on disk. Whoever finds it, the call that sealed it, the next
one or the next start, completes it: the entry is committed to the log, the vault makes the records visible
or lets them go, and what the company is told is kept to be told again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from gateway.audit.contribution import ContributionReceipt, issue_contribution_receipt, statement_digest
from gateway.contributions.form import Forms
from gateway.contributions.journal import ContributionJournal, told_quality
from gateway.contributions.ports import RecordVault
from gateway.contributions.register import Batch, BatchRegister, BatchState
from gateway.contributions.threads import in_thread
from gateway.errors import GatewayError, Reason
from gateway.evidence import dsse
from gateway.evidence.keys import SigningKey
from gateway.evidence.quality import QualityReport
from gateway.ledger.contracts import Giving
from gateway.model import EntryKind


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a batch ended."""

    accepted: bool
    report: QualityReport
    receipt: ContributionReceipt


class Sealed(msgspec.Struct, frozen=True, kw_only=True):
    """What is decided of a batch before it is carried out."""

    accepted: bool
    report: QualityReport
    contribution: dsse.Envelope
    records: int
    root: str
    key_id: str


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """What a company is told of a batch that has ended, each time that it asks."""

    accepted: bool
    report: QualityReport
    receipt: ContributionReceipt
    records: int
    root: str


class Endings:
    """Ends batches: completes those that are sealed, lets go of the others."""

    def __init__(
        self,
        *,
        origin: str,
        forms: Forms,
        register: BatchRegister,
        vault: RecordVault[Any],
        journal: ContributionJournal,
        signing_key: SigningKey,
        giving: Giving | None,
    ) -> None:
        """Take the collaborators; `giving` is told how many records each contract brought."""
        self._origin = origin
        self._forms = forms
        self._register = register
        self._vault = vault
        self._journal = journal
        self._signing_key = signing_key
        self._giving = giving

    async def complete(self, batch: Batch) -> Outcome:
        """Carry out what was sealed; every step may have been done before."""
        sealed = msgspec.json.decode(batch.outcome, type=Sealed)
        kind = EntryKind.CONTRIBUTION_ACCEPTED if sealed.accepted else EntryKind.CONTRIBUTION_REFUSED
        committed = await self._journal.record_end(
            kind,
            batch.exchange,
            provider=batch.contributor,
            dataset=batch.dataset,
            contract=batch.contract,
            reasons=() if sealed.accepted else (Reason.CONTRIBUTION_REJECTED.value,),
            records=sealed.report.accepted if sealed.accepted else 0,
            commitments={"records": sealed.root, "statement": statement_digest(sealed.contribution)},
            envelope_key=sealed.key_id,
            detail={"batch": batch.name, "choice": batch.choice, **told_quality(sealed.report)},
        )
        receipt = issue_contribution_receipt(
            committed,
            origin=self._origin,
            contribution=sealed.contribution,
            report=sealed.report,
            signer=self._signing_key,
        )
        done = Done(
            accepted=sealed.accepted,
            report=sealed.report,
            receipt=receipt,
            records=sealed.records,
            root=sealed.root,
        )
        await in_thread(self._carry_out, batch, sealed, msgspec.json.encode(done))
        return Outcome(sealed.accepted, sealed.report, receipt)

    def _carry_out(self, batch: Batch, sealed: Sealed, done: bytes) -> None:
        staged = self._staged(batch)
        if sealed.accepted:
            if staged is None:
                raise RuntimeError("the vault has lost a batch that the log says was accepted")
            if staged.version is None:
                self._vault.commit(staged, dsse.envelope_to_json(sealed.contribution))
                contract = self._forms.of_identity(batch.contract)
                if self._giving is not None and contract is not None:
                    self._giving.gave(contract, sealed.report.accepted)
        elif staged is not None:
            self._vault.discard(staged)
        self._register.settle(batch.exchange, BatchState.DONE, done)

    async def let_go(self, batch: Batch) -> None:
        """Let go of an open batch that nobody goes on with, and say so in the log."""
        await self._journal.record(
            EntryKind.CONTRIBUTION_REFUSED,
            exchange=batch.exchange,
            provider=batch.contributor,
            dataset=batch.dataset,
            contract=batch.contract,
            reasons=(Reason.CONTRIBUTION_ABANDONED.value,),
            detail={"batch": batch.name},
        )
        await in_thread(self.discard, batch)

    def discard(self, batch: Batch) -> None:
        """Let the records of an open batch go, and forget it."""
        staged = self._staged(batch)
        if staged is not None:
            self._vault.discard(staged)
        self._register.forget(batch.exchange)

    def require_staged(self, batch: Batch, records: int) -> None:
        """Raise `GatewayError` unless the vault has all that was staged: what is lost cannot be accepted."""
        staged = self._staged(batch)
        if records and (staged is None or staged.records != records):
            raise GatewayError(
                "The vault has let go of what was staged; open the batch again and send it anew.",
                reason=Reason.BATCH_CLOSED,
            )

    def _staged(self, batch: Batch) -> Any:
        contract = self._forms.of_identity(batch.contract)
        return None if contract is None else self._vault.staged(contract, batch.dataset, batch.exchange)
