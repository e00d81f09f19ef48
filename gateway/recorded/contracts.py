"""Contracts as the log records them, compared with those in the contract store.

Every entry about a contract tells how it stands after the change, and commits to that by a digest. The last
entry about each version is what holds: a row that says otherwise does not count.
"""

from __future__ import annotations

import base64
import binascii
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from gateway.audit.errors import LogMismatchError, LogUnavailableError
from gateway.contracts.entries import CONTRACT_KINDS, told_standing, version_digest
from gateway.contracts.errors import ContractError, ContractsUnavailableError
from gateway.contracts.signing import verified_version
from gateway.contracts.store import ContractSource, ContractStore, unrecorded
from gateway.contracts.version import Change, History, PartySignature, Version
from gateway.errors import GatewayError, Reason
from gateway.evidence.keys import VerifyKey
from gateway.model import EntryKind, parse_contract_name
from gateway.recorded.entries import RecordedEntries, RecordedEntry
from gateway.recorded.members import Contradiction

_CHANGE_UNDER_WAY_S: Final = 0.1
"""A change stands in the log a moment before it stands in the store."""


KeysOf = Callable[[str], Mapping[str, VerifyKey]]
"""The keys registered for a member, by key id."""


@dataclass(frozen=True, slots=True)
class ContractContradiction:
    """A version of a contract about which store and log contradict each other."""

    name: str
    """`contracts/{contract}/versions/{version}`."""
    id: str
    what: Contradiction
    entry: str = ""
    """The version's last entry, such as `entries/17`."""
    is_proposal: bool = False
    """Whether all that is missing is a proposal that nobody has answered: it may be made anew."""


class RecordedContracts:
    """The contracts as of the last entry about each; reads on where it left off. Safe from any thread."""

    def __init__(self, entries: RecordedEntries) -> None:
        self._entries = entries
        self._lock = threading.Lock()
        self._read_to = 0
        self._last: dict[str, RecordedEntry] = {}

    def contradictions(self, versions: Iterable[Version]) -> list[ContractContradiction]:
        """Compare all `versions` that there are with the log as it stands.

        Raises `LogMismatchError` and `LogUnavailableError`.
        """
        last = self._newest()
        stored = {version.id: version for version in versions}
        found = [item for version in stored.values() if (item := _compare(version, last)) is not None]
        for contract_id, recorded in last.items():
            if contract_id not in stored:
                found.append(
                    ContractContradiction(
                        recorded.entry.subject,
                        contract_id,
                        Contradiction.MISSING,
                        recorded.name,
                        recorded.entry.kind is EntryKind.CONTRACT_PROPOSED,
                    )
                )
        return sorted(found, key=lambda item: item.name)

    def vouch(self, versions: Sequence[Version]) -> None:
        """Raise `ContractError` with `CONTRACT_CONTRADICTED` unless the log bears out all `versions`."""
        try:
            last = self._newest()
        except LogMismatchError as error:
            raise ContractsUnavailableError(
                f"The contracts cannot be compared with the log. {error.message}"
            ) from error
        if any(_compare(version, last) is not None for version in versions):
            raise ContractError(
                "The contract store and the audit log contradict each other about this contract; the "
                "operator must run `gateway doctor`.",
                reason=Reason.CONTRACT_CONTRADICTED,
            )

    def interrupted(self, version: Version) -> RecordedEntry | None:
        """Return the last entry about `version` if only a crash can have kept its change from being kept."""
        recorded = self._newest().get(version.id)
        if recorded is None:
            return None
        detail = recorded.entry.detail
        return recorded if detail.get("before") == version_digest(version) else None

    def _newest(self) -> Mapping[str, RecordedEntry]:
        with self._lock:
            if not self._read_to:
                self._read_closed(self._entries.older)
            size, entries = self._entries.of_kinds(CONTRACT_KINDS, since=self._read_to)
            self._take(entries)
            self._read_to = size
            return dict(self._last)

    def _read_closed(self, log: RecordedEntries | None) -> None:
        if log is not None:
            self._read_closed(log.older)
            self._take(log.of_kinds(CONTRACT_KINDS)[1])

    def _take(self, entries: Iterable[RecordedEntry]) -> None:
        for item in entries:
            self._last[item.entry.contract] = item


class VettedContracts:
    """The contracts of a store without those that the log contradicts. A `ContractSource`."""

    def __init__(
        self,
        source: ContractSource,
        recorded: RecordedContracts,
        on_contradictions: Callable[[Sequence[ContractContradiction]], None],
    ) -> None:
        """Take the store, the log's record, and who hears of the contradictions whenever they change."""
        self._source = source
        self._recorded = recorded
        self._on_contradictions = on_contradictions
        self._told: list[ContractContradiction] = []
        self._seen_at = -1
        self._attempted_at = -1
        self._lock = threading.Lock()

    def revision(self) -> int:
        """Return the store's revision."""
        return self._source.revision()

    def versions(self) -> tuple[int, list[Version]]:
        """Return (revision, every version that the log bears out)."""
        with self._lock:
            revision, versions = self._source.versions()
            found = self._contradictions(versions)
            if found:
                time.sleep(_CHANGE_UNDER_WAY_S)
                revision, versions = self._source.versions()
                found = self._contradictions(versions)
            self._seen_at = revision
            if found != self._told:
                self._told = found
                self._on_contradictions(found)
            refused = {contradiction.id for contradiction in found}
            return revision, [version for version in versions if version.id not in refused]

    def repair(self, store: ContractStore, keys_of: KeysOf) -> None:
        """Make true in `store` what the log tells and a crash has kept from being kept."""
        told, seen_at = self._told, self._seen_at
        if not told or seen_at == self._attempted_at:
            return
        for contract in {parse_contract_name(contradiction.name)[0] for contradiction in told}:
            # What was edited such that no signature fits stays as it is: it has been told.
            with suppress(ContractsUnavailableError):
                store.change(
                    contract, lambda history: rolled_forward(history, self._recorded, keys_of), unrecorded
                )
        self._attempted_at = seen_at

    async def await_change(self, timeout_s: float) -> None:
        """Return when the store may have changed, at the latest after `timeout_s`."""
        await self._source.await_change(timeout_s)

    def _contradictions(self, versions: list[Version]) -> list[ContractContradiction]:
        try:
            return self._recorded.contradictions(versions)
        except (LogUnavailableError, LogMismatchError) as error:
            raise ContractsUnavailableError(
                f"The contracts cannot be compared with the log. {error.message}"
            ) from error


def rolled_forward(history: History, recorded: RecordedContracts, keys_of: KeysOf) -> list[Change]:
    """Return the changes of a contract that the log tells of and a crash has kept from being kept.

    What the log says is made true again, digest for digest; nothing else is touched.
    """
    changes = []
    for version in history:
        item = recorded.interrupted(version)
        if item is not None and (after := _replayed(version, item, keys_of)) is not None:
            changes.append(Change(item.entry.kind, after, item.entry.detail.get("by", ""), version))
    return changes


def told_contract(contradiction: ContractContradiction) -> str:
    """Return a sentence for people."""
    match contradiction.what:
        case Contradiction.UNRECORDED:
            return f"{contradiction.name} stands in the contract store, but no entry of the log tells of it"
        case Contradiction.MISSING if contradiction.is_proposal:
            return (
                f"{contradiction.name} was proposed ({contradiction.entry}), but does not stand in the store"
            )
        case Contradiction.MISSING:
            return (
                f"{contradiction.name} is missing from the contract store, or was edited there; "
                f"{contradiction.entry} tells of it"
            )
        case _:
            return f"{contradiction.name} does not stand as {contradiction.entry} tells"


def _compare(version: Version, last: Mapping[str, RecordedEntry]) -> ContractContradiction | None:
    recorded = last.get(version.id)
    if recorded is None:
        return ContractContradiction(version.name, version.id, Contradiction.UNRECORDED)
    if recorded.entry.detail.get("digest") == version_digest(version):
        return None
    return ContractContradiction(version.name, version.id, Contradiction.ALTERED, recorded.name)


def _replayed(version: Version, item: RecordedEntry, keys_of: KeysOf) -> Version | None:
    entry = item.entry
    standing = told_standing(entry)
    if standing is None:
        return None
    signatures = version.signatures
    if "signature" in entry.detail:
        key = keys_of(entry.consumer).get(entry.envelope_key)
        if key is None:
            return None
        try:
            sig = base64.b64decode(entry.detail["signature"], validate=True)
        except binascii.Error:
            return None
        signature = PartySignature(
            member=entry.consumer, keyid=entry.envelope_key, public=key.public, sig=sig
        )
        signatures = (*signatures, signature)
    try:
        after = verified_version(version.payload, signatures, standing)
    except GatewayError:
        return None
    return after if version_digest(after) == entry.detail.get("digest") else None
