"""The way of one batch, from the first word to the receipt.

    open      who calls; contract in force, caller its contributor, dataset for the vault; then the entry
              `contribution.begun`
    take      a page: digests, checks; every few pages keys are claimed and what is valid is staged
    finish    what the company signed fits what came; all-or-nothing or accept-valid; the end is *sealed*:
              decided, and on disk; then `contribution.accepted` (or `.refused`) is committed to the log,
              the vault makes the records visible, and the receipt is kept to be told again

Until the seal, a crash leaves a batch that goes on where its last staged records ended. After it, whoever
finds the batch, a call or the next start, completes it: each step can be repeated.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

from gateway.audit.contribution import (
    BATCH_PATTERN,
    SEED_BYTES,
    BatchDigest,
    ContributionReceipt,
    ContributionStatement,
    issue_contribution_receipt,
    open_contribution,
    statement_digest,
    verify_made_now,
)
from gateway.clock import Clock, rfc3339
from gateway.contributions.form import Form, Forms, checker_of
from gateway.contributions.intake import closed_report
from gateway.contributions.journal import ContributionJournal, told_quality
from gateway.contributions.ports import RecordVault
from gateway.contributions.register import Batch, BatchBusyError, BatchRegister, BatchState
from gateway.contributions.staging import Limits, Staging
from gateway.contributions.threads import in_thread
from gateway.errors import GatewayError, Reason
from gateway.evidence import dsse
from gateway.evidence.keys import SigningKey
from gateway.evidence.quality import Choice, QualityReport
from gateway.exchange.admission import admit
from gateway.exchange.call import Call
from gateway.exchange.state import new_exchange_id
from gateway.ledger.contracts import Giving
from gateway.members import Directory
from gateway.model import EntryKind, Member
from gateway.telemetry.faults import record_fault

__all__ = ["BATCH_PATTERN", "ContributionService", "Limits", "Opening", "Outcome", "Position", "Upload"]

TRANSIENT: Final = frozenset(
    {
        Reason.LOG_UNAVAILABLE,
        Reason.VAULT_UNAVAILABLE,
        Reason.BATCH_CLOSED,
        Reason.OVERLOADED,
        Reason.CONTRIBUTION_BUSY,
        Reason.READER_STALLED,
        Reason.CANCELLED,
    }
)
"""Refusals after which the batch stays as it is, invisible, and can go on."""


@dataclass(frozen=True, slots=True)
class Opening:
    """What a company says first."""

    contract: str
    """Name or identity."""
    dataset: str
    batch: str
    choice: Choice


@dataclass(frozen=True, slots=True)
class Position:
    """How far a batch is durable: from there an upload goes on."""

    digest: BatchDigest
    seed: bytes
    contract: str
    dataset: str
    complete: bool = False
    """Whether the batch has ended already: nothing more is taken, only its statement."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a batch ended."""

    accepted: bool
    report: QualityReport
    receipt: ContributionReceipt


class _Sealed(msgspec.Struct, frozen=True, kw_only=True):
    """What is decided of a batch before it is carried out."""

    accepted: bool
    report: QualityReport
    contribution: dsse.Envelope
    records: int
    root: str
    key_id: str


class _Done(msgspec.Struct, frozen=True, kw_only=True):
    """What a company is told of a batch that has ended, each time that it asks."""

    accepted: bool
    report: QualityReport
    receipt: ContributionReceipt
    records: int
    root: str


class ContributionService:
    """Takes contributions. One instance serves all calls of a process, on its event loop."""

    def __init__(
        self,
        *,
        origin: str,
        clock: Clock,
        directory: Directory,
        forms: Forms,
        register: BatchRegister,
        vault: RecordVault[Any],
        journal: ContributionJournal,
        signing_key: SigningKey,
        secret: bytes,
        limits: Limits | None = None,
        giving: Giving | None = None,
    ) -> None:
        """Take the collaborators; `secret` (32 bytes) hides the keys of records in the register.

        `giving` is told how many records each contract brought.
        """
        self.origin = origin
        self.clock = clock
        self.directory = directory
        self.forms = forms
        self.register = register
        self.vault = vault
        self.journal = journal
        self.signing_key = signing_key
        self.secret = secret
        self.limits = limits or Limits()
        self._giving = giving
        self._uploads: dict[tuple[str, str], Upload] = {}

    async def form(self, call: Call, contract: str, dataset: str) -> Form:
        """Return what a contributor needs to prepare records; a refusal leaves its entry.

        Raises `GatewayError`. Whoever is refused here may never come to open a batch.
        """
        member: Member | None = None
        try:
            member = self._admit(call)
            return self.forms.find(member, contract, dataset, self.clock())
        except GatewayError as error:
            provider = {} if member is None else {"provider": member.id}
            await self.journal.record_refusal(error, call=call, known=member is not None, members=provider)
            raise

    async def open(self, call: Call, opening: Opening | GatewayError) -> Upload:
        """Begin a batch or go on with it; a refusal leaves its entry. Raises `GatewayError`."""
        upload = Upload(self, call)
        try:
            upload.member = self._admit(call)
            await self._enter(upload, upload.member, opening)
        except asyncio.CancelledError:
            # Whoever called has gone, and nobody else would let go of the batch.
            await upload.leave()
            raise
        except Exception as error:
            raise await upload.refuse(error) from error
        return upload

    async def recover(self) -> int:
        """Complete every batch that was sealed before a crash, and let go of those long forgotten.

        Return how many were completed. For a start, and to be called now and then. Raises `GatewayError`.
        """
        completed = 0
        oldest = rfc3339(self.clock() - self.limits.kept)
        for unfinished in await in_thread(self.register.unfinished):
            who, name = unfinished.contributor, unfinished.name
            stack = ExitStack()
            try:
                await in_thread(stack.enter_context, self.register.exclusively(who, name))
                # As it is now that nobody else works on it.
                batch = await in_thread(self.register.find, who, name)
                if batch is None:
                    continue
                if batch.state is BatchState.SEALED:
                    await self.complete(batch)
                    completed += 1
                elif batch.touched < oldest:
                    await self._let_go(batch)
            except BatchBusyError:
                continue
            finally:
                await in_thread(stack.close)
        return completed

    async def wait_until_idle(self, timeout_s: float) -> int:
        """Wait until the uploads that a stop has cut have let go; return how many have not in time.

        To be called after the server has stopped, and before register, vault and log are closed.
        """
        ends = [asyncio.ensure_future(upload.ended.wait()) for upload in self._uploads.values()]
        if not ends:
            return 0
        _, late = await asyncio.wait(ends, timeout=timeout_s)
        for each in late:
            each.cancel()
        return len(late)

    async def complete(self, batch: Batch) -> Outcome:
        """Carry out what was sealed; every step may have been done before."""
        sealed = msgspec.json.decode(batch.outcome, type=_Sealed)
        kind = EntryKind.CONTRIBUTION_ACCEPTED if sealed.accepted else EntryKind.CONTRIBUTION_REFUSED
        committed = await self.journal.record_end(
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
            origin=self.origin,
            contribution=sealed.contribution,
            report=sealed.report,
            signer=self.signing_key,
        )
        done = _Done(
            accepted=sealed.accepted,
            report=sealed.report,
            receipt=receipt,
            records=sealed.records,
            root=sealed.root,
        )
        await in_thread(self._carry_out, batch, sealed, msgspec.json.encode(done))
        return Outcome(sealed.accepted, sealed.report, receipt)

    def _carry_out(self, batch: Batch, sealed: _Sealed, done: bytes) -> None:
        staged = self._staged(batch)
        if sealed.accepted:
            if staged is None:
                raise RuntimeError("the vault has lost a batch that the log says was accepted")
            if staged.version is None:
                self.vault.commit(staged, dsse.envelope_to_json(sealed.contribution))
                contract = self.forms.of_identity(batch.contract)
                if self._giving is not None and contract is not None:
                    self._giving.gave(contract, sealed.report.accepted)
        elif staged is not None:
            self.vault.discard(staged)
        self.register.settle(batch.exchange, BatchState.DONE, done)

    def discard(self, batch: Batch) -> None:
        """Let the records of an open batch go, and forget it."""
        staged = self._staged(batch)
        if staged is not None:
            self.vault.discard(staged)
        self.register.forget(batch.exchange)

    def require_staged(self, batch: Batch, records: int) -> None:
        """Raise `GatewayError` unless the vault has all that was staged: what is lost cannot be accepted."""
        staged = self._staged(batch)
        if records and (staged is None or staged.records != records):
            raise GatewayError(
                "The vault has let go of what was staged; open the batch again and send it anew.",
                reason=Reason.BATCH_CLOSED,
            )

    def leave(self, upload: Upload, key: tuple[str, str]) -> None:
        """Note that an upload has ended."""
        if self._uploads.get(key) is upload:
            del self._uploads[key]

    def _staged(self, batch: Batch) -> Any:
        contract = self.forms.of_identity(batch.contract)
        return None if contract is None else self.vault.staged(contract, batch.dataset, batch.exchange)

    def _admit(self, call: Call) -> Member:
        member = admit(call, self.directory, self.clock(), role=None)
        if call.fault is not None:
            raise call.fault
        return member

    async def _enter(self, upload: Upload, member: Member, opening: Opening | GatewayError) -> None:
        if isinstance(opening, GatewayError):
            raise opening
        form = self.forms.find(member, opening.contract, opening.dataset, self.clock())
        upload.form = form
        if len(self._uploads) >= self.limits.uploads:
            raise GatewayError("Too many uploads are under way; try again shortly.", reason=Reason.OVERLOADED)
        key = member.id, opening.batch
        before = self._uploads.get(key)
        if before is not None:
            # Its connection broke and nobody has noticed yet: the company is here now.
            before.give_way()
            await before.ended.wait()
        self._uploads[key] = upload
        upload.hold(key)
        await in_thread(upload.enter, self.register.exclusively(member.id, opening.batch))
        batch = await in_thread(self.register.find, member.id, opening.batch)
        if batch is not None and (batch.contract, batch.dataset, batch.choice) != (
            form.contract.id,
            form.terms.name,
            opening.choice.value,
        ):
            raise _conflict()
        if batch is None:
            batch = await self._begin(member, form, opening)
        if batch.state is BatchState.SEALED:
            await self.complete(batch)
            batch = await in_thread(self.register.find, member.id, opening.batch)
            assert batch is not None
        await upload.go_on(batch)

    async def _begin(self, member: Member, form: Form, opening: Opening) -> Batch:
        now = self.clock()
        batch = Batch(
            contributor=member.id,
            name=opening.batch,
            exchange=new_exchange_id(now),
            contract=form.contract.id,
            dataset=form.terms.name,
            choice=opening.choice.value,
            seed=secrets.token_bytes(SEED_BYTES),
            touched=rfc3339(now),
        )
        await self.journal.record(
            EntryKind.CONTRIBUTION_BEGUN,
            exchange=batch.exchange,
            provider=member.id,
            dataset=batch.dataset,
            contract=batch.contract,
            detail={"batch": batch.name, "choice": batch.choice},
        )
        await in_thread(self.register.add, batch)
        return batch

    async def _let_go(self, batch: Batch) -> None:
        await self.journal.record(
            EntryKind.CONTRIBUTION_REFUSED,
            exchange=batch.exchange,
            provider=batch.contributor,
            dataset=batch.dataset,
            contract=batch.contract,
            reasons=(Reason.CONTRIBUTION_ABANDONED.value,),
            detail={"batch": batch.name},
        )
        await in_thread(self.discard, batch)


class Upload:
    """One call that uploads a batch, or the rest of one. Made by `ContributionService.open`."""

    def __init__(self, service: ContributionService, call: Call) -> None:
        self._service = service
        self._call = call
        self._stack = ExitStack()
        self._locks = ExitStack()
        """Apart: they block."""
        self._batch: Batch | None = None
        self._staging: Staging | None = None
        self._way_given = False
        self._refused = False
        self.member: Member | None = None
        self.form: Form | None = None
        self.ended = asyncio.Event()

    # -- for the transport -----------------------------------------------------------------------

    @property
    def position(self) -> Position:
        """How far the batch is durable."""
        batch, form = self._open_batch
        done = self._done()
        if done is not None:
            return Position(
                BatchDigest(done.records), batch.seed, batch.contract, batch.dataset, complete=True
            )
        assert self._staging is not None
        return Position(self._staging.durable.digest, batch.seed, form.contract.id, batch.dataset)

    async def take(self, first: int, text: bytes) -> bool:
        """Take a page of whole lines whose first is record number `first` (from 0) of the batch.

        Return whether `position` has moved on. Raises `GatewayError`; the batch is then refused.
        """
        try:
            return await self._take(first, text)
        except Exception as error:
            raise await self.refuse(error) from error

    async def finish(self, envelope: dsse.Envelope) -> Outcome:
        """End the batch with what the company signed over it. Raises `GatewayError`."""
        try:
            return await self._finish(envelope)
        except Exception as error:
            raise await self.refuse(error) from error

    async def fail(self, error: GatewayError) -> GatewayError:
        """Refuse the batch for what the transport found wrong; return what to tell."""
        return await self.refuse(error)

    def require_allowed(self) -> None:
        """Raise `GatewayError` unless contract, member and this call may still go on: asked all the time."""
        if self._way_given:
            raise BatchBusyError
        if self.form is not None:
            self._service.forms.require_in_force(self.form.contract, self._service.clock())
        if self.member is not None and not self._service.directory.is_active(self.member.id):
            raise GatewayError(
                "This member is suspended; ask the operator of the gateway.", reason=Reason.MEMBER_SUSPENDED
            )

    async def leave(self) -> None:
        """End this call, however it went; what has come and was not refused is staged for the next one."""
        batch, staging = self._batch, self._staging
        if staging is not None and batch is not None and batch.state is BatchState.OPEN and not self._refused:
            # A fault here loses nothing: the sender hears next time what is durable.
            with suppress(GatewayError):
                await in_thread(staging.flush)
        await self.close()

    async def close(self) -> None:
        """End this call's hold on the batch. What is staged stays, for the next call."""
        try:
            await in_thread(self._locks.close)
        finally:
            self._stack.close()
            self.ended.set()

    # -- for the service -------------------------------------------------------------------------

    def hold(self, key: tuple[str, str]) -> None:
        """Be the upload of the batch `key` here until this one ends."""
        self._stack.callback(self._service.leave, self, key)

    def enter(self, lock: AbstractContextManager[None]) -> None:
        """Keep `lock` until this upload ends. Blocks."""
        self._locks.enter_context(lock)

    def give_way(self) -> None:
        """End this upload at its next step: another call goes on with the batch."""
        self._way_given = True

    async def go_on(self, batch: Batch) -> None:
        """Take the batch up where it stands."""
        self._batch = batch
        if batch.state is BatchState.DONE:
            return
        assert self.form is not None
        service, form = self._service, self.form
        checker = checker_of(form, service.secret, batch.exchange)
        self._staging = await in_thread(
            Staging.resume,
            service.vault,
            service.register,
            form,
            batch,
            checker,
            service.limits,
            service.clock,
        )

    async def refuse(self, error: Exception) -> GatewayError:
        """Record that the batch is refused and let its records go, unless it can go on; return what to tell.

        Another batch of the same name that has ended is left as it is.
        """
        refusal = _refusal(error)
        if self._refused:
            return refusal
        self._refused = True
        batch = self._batch
        is_open = batch is not None and batch.state is BatchState.OPEN
        kept = is_open and refusal.reason in TRANSIENT
        try:
            if not isinstance(error, BatchBusyError):
                await self._service.journal.record_refusal(
                    refusal, call=self._call, known=self.member is not None, members=self._members(kept=kept)
                )
                if batch is not None and is_open and not kept and refusal.reason is not Reason.INTERNAL:
                    await in_thread(self._service.discard, batch)
        except GatewayError as unrecorded:
            refusal = unrecorded
        finally:
            await self.close()
        return refusal

    async def _take(self, first: int, text: bytes) -> bool:
        self.require_allowed()
        staging = self._staging
        if staging is None:
            raise _conflict()
        before = staging.durable
        await in_thread(staging.take, first, text)
        return staging.durable is not before

    async def _finish(self, envelope: dsse.Envelope) -> Outcome:
        self.require_allowed()
        assert self.member is not None
        service = self._service
        batch, form = self._open_batch
        statement, key_id = open_contribution(envelope, service.directory.signing_keys(self.member.id))
        verify_made_now(statement, service.origin, service.clock())
        done = self._done()
        if done is not None:
            if (statement.records, statement.root) != (done.records, done.root):
                raise _conflict()
            return Outcome(done.accepted, done.report, done.receipt)
        assert self._staging is not None
        await in_thread(self._staging.flush)
        intake = self._staging.intake
        _verify_statement(statement, batch, intake.digest)
        await in_thread(service.require_staged, batch, intake.report.accepted)
        self.require_allowed()
        report = closed_report(intake.report, form.dataset.freshness, service.clock().date())
        accepted = report.accepted > 0 and (batch.choice == Choice.ACCEPT_VALID.value or report.rejected == 0)
        sealed = _Sealed(
            accepted=accepted,
            report=report,
            contribution=envelope,
            records=intake.records,
            root=intake.digest.root,
            key_id=key_id,
        )
        outcome = msgspec.json.encode(sealed)
        await in_thread(service.register.settle, batch.exchange, BatchState.SEALED, outcome)
        self._batch = replace(batch, state=BatchState.SEALED, outcome=outcome)
        return await service.complete(self._batch)

    def _members(self, *, kept: bool) -> dict[str, Any]:
        batch, form = self._batch, self.form
        detail = {"batch": batch.name} if batch is not None else {}
        if kept and self._staging is not None:
            detail["kept"] = str(self._staging.durable.records)
        return {
            "exchange": batch.exchange if batch is not None else "",
            "provider": self.member.id if self.member is not None else "",
            "dataset": form.terms.name if form is not None else "",
            "contract": form.contract.id if form is not None else "",
            "detail": detail,
        }

    def _done(self) -> _Done | None:
        batch = self._batch
        if batch is None or batch.state is not BatchState.DONE:
            return None
        return msgspec.json.decode(batch.outcome, type=_Done)

    @property
    def _open_batch(self) -> tuple[Batch, Form]:
        assert self._batch is not None
        assert self.form is not None
        return self._batch, self.form


def _verify_statement(statement: ContributionStatement, batch: Batch, digest: BatchDigest) -> None:
    """Raise unless the company signed over this batch what the gateway has received."""
    said = statement.contract, statement.dataset, statement.batch, statement.choice.value
    if said != (batch.contract, batch.dataset, batch.name, batch.choice):
        raise GatewayError(
            "The statement is over another batch: its contract, dataset, id or choice is not that of this "
            "upload. Nothing was kept.",
            reason=Reason.CONTRIBUTION_MISMATCH,
        )
    signed = statement.records, statement.pages, statement.bytes, statement.root
    if signed != (digest.records, digest.pages, digest.size_bytes, digest.root):
        raise GatewayError(
            "The records that were signed are not those that arrived: the file has changed during the "
            "upload, or the program that signs is wrong. Nothing was kept; send the batch again.",
            reason=Reason.CONTRIBUTION_MISMATCH,
        )


def _refusal(error: Exception) -> GatewayError:
    """Return what the caller is told of `error`; of a fault of ours, nothing but a reference to it."""
    if isinstance(error, GatewayError) and error.reason is not Reason.INTERNAL:
        return error
    return GatewayError(
        "The gateway failed; give the reference to its operator.",
        reason=Reason.INTERNAL,
        reference=record_fault(error, method="Contribute"),
    )


def _conflict() -> GatewayError:
    return GatewayError(
        "A batch of this id came before with other content, or for another contract, dataset or choice. It "
        "stays as it is; give other records another batch id.",
        reason=Reason.CONTRIBUTION_CONFLICT,
    )
