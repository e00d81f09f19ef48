"""Which bundles were in force, as the audit log tells, and whether another may follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from gateway.activation.errors import ActivationError
from gateway.activation.signers import Approval
from gateway.activation.statement import Action, ActivationStatement
from gateway.model import EntryKind
from gateway.policy.bundle_file import PackedBundle
from gateway.recorded.entries import RecordedEntries, RecordedEntry

_MOST_LOOKED_AT: Final = 100_000
"""More activations than a deployment sees in its life."""


@dataclass(frozen=True, slots=True)
class Activation:
    """One entry `policy.activated`."""

    entry: str
    """Its name, such as `entries/17`."""
    time: str
    action: str
    bundle: str
    revision: int
    previous: str
    statement: str
    """Digest of the statement that was signed."""
    file: str
    not_before: str
    not_after: str
    persons: str
    keys: str
    reason: str

    @classmethod
    def of(cls, recorded: RecordedEntry) -> Activation:
        """Return what an entry tells; raise `ActivationError` if no activation writes such a one."""
        entry = recorded.entry
        try:
            return cls(
                entry=recorded.name,
                time=entry.time,
                action=entry.detail["action"],
                bundle=entry.bundle,
                revision=int(entry.detail["revision"]),
                previous=entry.detail.get("previous", ""),
                statement=entry.detail["statement"],
                file=entry.detail["file"],
                not_before=entry.detail["not_before"],
                not_after=entry.detail["not_after"],
                persons=entry.detail["persons"],
                keys=entry.detail["keys"],
                reason=entry.detail["reason"],
            )
        except (KeyError, ValueError) as error:
            raise ActivationError(
                f"{recorded.name} of the log does not tell an activation in full; run `gateway audit fsck`."
            ) from error


def describe_approval(approval: Approval) -> dict[str, str]:
    """Return the detail of the entry that puts `approval` into force."""
    statement = approval.statement
    keys = [signer.key.key_id for signer in (*approval.authors, *approval.approvers)]
    return {
        "action": statement.action.value,
        "revision": str(statement.revision),
        "previous": statement.previous,
        "statement": approval.digest,
        "file": statement.file,
        "not_before": statement.not_before,
        "not_after": statement.not_after,
        "persons": ",".join(approval.persons),
        "keys": ",".join(keys),
        "reason": statement.reason,
    }


class RecordedActivations:
    """The activations that the log holds. Blocks; raises as `RecordedEntries` does."""

    def __init__(self, entries: RecordedEntries) -> None:
        self._entries = entries

    def newest(self) -> Activation | None:
        """Return what is in force; None if nothing was ever activated."""
        found = self._entries.newest(EntryKind.POLICY_ACTIVATED, 1)
        return Activation.of(found[0]) if found else None

    def all(self) -> list[Activation]:
        """Return every activation, oldest first, those in closed logs too."""
        found = self._entries.newest(EntryKind.POLICY_ACTIVATED, _MOST_LOOKED_AT)
        return [Activation.of(item) for item in reversed(found)]


def verify_bundle(statement: ActivationStatement, packed: PackedBundle) -> None:
    """Raise `ActivationError` unless `packed` is the bundle file that `statement` names."""
    if statement.file != packed.file_digest or statement.bundle != packed.bundle.digest:
        raise ActivationError("The approval is for another bundle file than this one.")
    if statement.revision != packed.bundle.revision:
        raise ActivationError("The approval names another revision than the bundle has.")


def verify_succession(
    approval: Approval, before: Sequence[Activation], *, origin: str, now: datetime
) -> None:
    """Raise `ActivationError` unless `approval` may follow on the activations `before`, oldest first.

    1. It is for this deployment's log.
    2. `now` lies within its time.
    3. It was never used.
    4. It was signed with what is in force before its eyes.
    5. An activation has a higher revision than any before; a rollback names a bundle that was in force
       before; a confirmation, the one that is.
    """
    statement = approval.statement
    if statement.origin != origin:  # 1
        raise ActivationError("The approval is for another deployment: it names another log.")
    if now < statement.starts:  # 2
        raise ActivationError(f"The approval does not hold before {statement.not_before}.")
    if now >= statement.ends:
        raise ActivationError(f"The approval has ended on {statement.not_after}; sign a new one.")
    if any(each.statement == approval.digest for each in before):  # 3
        raise ActivationError("This approval was used before; sign a new one.")
    current = before[-1] if before else None
    if statement.previous != (current.bundle if current else ""):  # 4
        raise ActivationError(
            "Another bundle is in force than when the approval was signed; look at `gateway policy status`, "
            "and sign anew."
        )
    _verify_action(statement, before)  # 5


def _verify_action(statement: ActivationStatement, before: Sequence[Activation]) -> None:
    current = before[-1] if before else None
    highest = max((each.revision for each in before), default=0)
    named = (statement.bundle, statement.revision, statement.file)
    match statement.action:
        case Action.ACTIVATE:
            if statement.revision <= highest:
                raise ActivationError(
                    f"Revision {statement.revision} is not above revision {highest}, which was in force "
                    "already. Raise the revision in bundle.yaml; to go back, sign a rollback.",
                    revision=statement.revision,
                    highest=highest,
                )
        case Action.ROLLBACK:
            if named not in {(each.bundle, each.revision, each.file) for each in before}:
                raise ActivationError("A rollback is to a bundle that was in force before; this never was.")
            if current is not None and statement.bundle == current.bundle:
                raise ActivationError("This bundle is in force; there is nothing to roll back to.")
        case Action.CONFIRM:
            if current is None or named != (current.bundle, current.revision, current.file):
                raise ActivationError("A confirmation is of the bundle in force; this is another.")
