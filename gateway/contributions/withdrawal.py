"""Withdrawal: a company takes records back that it contributed, by their keys.

First the vault lets them go, then `contribution.withdrawn` says so. Between the two a crash leaves
records withdrawn of which nobody was told: the company, unanswered, asks again, and the entry follows.
The other way round the log would say of records that they are withdrawn while they are still given out.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Final

from gateway.audit.committed import Committed
from gateway.audit.contribution import WithdrawalStatement, open_withdrawal, statement_digest, verify_made_now
from gateway.clock import Clock
from gateway.contributions.form import Form, Forms
from gateway.contributions.journal import ContributionJournal
from gateway.contributions.ports import RecordVault
from gateway.contributions.threads import in_thread
from gateway.errors import GatewayError, Reason
from gateway.evidence import dsse
from gateway.evidence.commitment import commit
from gateway.exchange.admission import admit
from gateway.exchange.call import Call
from gateway.members import Directory
from gateway.model import EntryKind, Member
from gateway.telemetry.faults import record_fault

_METHOD: Final = "WithdrawRecords"


@dataclass(frozen=True, slots=True)
class WithdrawnRecords:
    """What became of a withdrawal, and where the log tells of it."""

    records: int
    """How many there were of those named."""
    committed: Committed
    salt: str
    """Opens the entry's commitment to the statement (base64)."""


@dataclass(slots=True)
class _Attempt:
    call: Call
    member: Member | None = None
    form: Form | None = None


class Withdrawals:
    """Takes withdrawals. One instance serves all calls of a process, on its event loop."""

    def __init__(
        self,
        *,
        origin: str,
        clock: Clock,
        directory: Directory,
        forms: Forms,
        vault: RecordVault[Any],
        journal: ContributionJournal,
    ) -> None:
        self._origin = origin
        self._clock = clock
        self._directory = directory
        self._forms = forms
        self._vault = vault
        self._journal = journal

    async def withdraw(self, call: Call, envelope: dsse.Envelope) -> WithdrawnRecords:
        """Let the records go that the statement in `envelope` names. Raises `GatewayError`."""
        attempt = _Attempt(call)
        try:
            return await self._withdraw(attempt, envelope)
        except Exception as error:
            refusal = _refusal(error)
            form = attempt.form
            await self._journal.record_refusal(
                refusal,
                call=call,
                known=attempt.member is not None,
                members={
                    "operation": "withdraw",
                    "provider": attempt.member.id if attempt.member is not None else "",
                    "dataset": form.terms.name if form is not None else "",
                    "contract": form.contract.id if form is not None else "",
                },
            )
            if refusal is error:
                raise
            raise refusal from error

    async def _withdraw(self, attempt: _Attempt, envelope: dsse.Envelope) -> WithdrawnRecords:
        member = attempt.member = admit(attempt.call, self._directory, self._clock(), role=None)
        if attempt.call.fault is not None:
            raise attempt.call.fault
        statement, key_id = open_withdrawal(envelope, self._directory.signing_keys(member.id))
        verify_made_now(statement, self._origin, self._clock())
        form = attempt.form = self._forms.find(member, statement.contract, statement.dataset, self._clock())
        _verify_keys(statement, form)
        withdrawn = await in_thread(
            self._vault.withdraw, form.contract, form.terms.name, list(statement.keys)
        )
        # Salted: a key could be found by trying.
        commitment, salt = commit(envelope.payload)
        committed = await self._journal.record(
            EntryKind.CONTRIBUTION_WITHDRAWN,
            hashlib.sha256(f"withdrawal/{statement_digest(envelope)}".encode()).digest(),
            operation="withdraw",
            provider=member.id,
            dataset=form.terms.name,
            contract=form.contract.id,
            records=withdrawn.records,
            commitments={"statement": commitment},
            envelope_key=key_id,
            detail={"keys": str(len(statement.keys))},
        )
        return WithdrawnRecords(withdrawn.records, committed, salt)


def _verify_keys(statement: WithdrawalStatement, form: Form) -> None:
    length = len(form.terms.key)
    if length == 0:
        raise GatewayError(
            "The contract names no key of this dataset, so that its records cannot be withdrawn one by one.",
            reason=Reason.CONTRACT_NOT_APPLICABLE,
        )
    if any(len(key) != length for key in statement.keys):
        raise GatewayError(
            f"A key of this dataset has {length} value(s), in the order of the contract.",
            reason=Reason.STATEMENT_MALFORMED,
        )


def _refusal(error: Exception) -> GatewayError:
    if isinstance(error, GatewayError) and error.reason is not Reason.INTERNAL:
        return error
    return GatewayError(
        "The gateway failed; give the reference to its operator.",
        reason=Reason.INTERNAL,
        reference=record_fault(error, method=_METHOD),
    )
