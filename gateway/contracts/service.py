"""Contracting: the parties' acts, one after the other, each in the log before it counts.

    1 open      what was handed in, its signature and its terms
    2 decide    under the store's lock, by the pure rules of `negotiation`
    3 record    an entry for each version that changes
    4 keep      only then

Whatever is refused leaves an entry, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Final

import structlog

from gateway.audit.appender import Log
from gateway.audit.errors import LogUnavailableError
from gateway.clock import Clock, rfc3339
from gateway.contracts import negotiation
from gateway.contracts.checks import verify_terms
from gateway.contracts.entries import entry_of
from gateway.contracts.errors import ContractError, ContractsUnavailableError, unknown_contract
from gateway.contracts.register import ContractRegister
from gateway.contracts.signing import SignedTerms, open_signed
from gateway.contracts.store import ContractStore
from gateway.contracts.version import Change, History, Version
from gateway.errors import GatewayError, Reason
from gateway.evidence import dsse
from gateway.evidence.keys import VerifyKey
from gateway.members import Directory
from gateway.model import ENTRY_VERSION, ContractState, Entry, EntryKind, Member, parse_contract_name

_log: Final = structlog.get_logger()

SETTLE_INTERVAL_S: Final = 1.0
"""How often it is looked for contracts whose time is over. They are out of force at once all the same."""

RECORD_TIMEOUT_S: Final = 20.0
"""How long a change waits for its entry, holding the store's lock."""

Repair = Callable[[], None]
"""Makes true in the store what the log tells and a crash has kept from being kept. Blocks."""

Rule = Callable[[History, datetime], list[Change]]
Vouch = Callable[[Sequence[Version]], None]
"""Raises `ContractError` with `CONTRACT_CONTRADICTED` for versions that the log does not bear out."""


class Contracting:
    """Takes contracts through their life. One instance serves all calls of a process, on its event loop."""

    def __init__(
        self,
        store: ContractStore,
        register: ContractRegister,
        directory: Directory,
        log: Log,
        clock: Clock,
        *,
        tiers: Sequence[str],
        vouch: Vouch,
        repair: Repair,
    ) -> None:
        """Take the store, its register, and who may sign; `tiers` are those that policy knows."""
        self.register = register
        self._store = store
        self._directory = directory
        self._log = log
        self._clock = clock
        self._tiers = tiers
        self._vouch = vouch
        self._repair = repair

    # -- acts --------------------------------------------------------------------------------------

    async def propose(self, member: Member, envelope: dsse.Envelope) -> Version:
        """Propose the terms in `envelope`, which `member` has signed; raise `GatewayError`."""
        signed = await self._open_new(member, envelope)
        changes = await self._change(
            signed.terms.contract, lambda history, now: negotiation.propose(history, signed, now)
        )
        return changes[0].version

    async def counter(self, member: Member, envelope: dsse.Envelope) -> Version:
        """Answer the newest version, still proposed, with the terms in `envelope`; raise `GatewayError`."""
        signed = await self._open_new(member, envelope)
        changes = await self._change(
            signed.terms.contract, lambda history, now: negotiation.counter(history, signed, now)
        )
        return changes[0].version

    async def sign(self, member: Member, envelope: dsse.Envelope) -> Version:
        """Add the signature of `member` on the terms that were proposed; raise `GatewayError`."""
        signed = await asyncio.to_thread(open_signed, envelope, member.id, self._keys(member))
        changes = await self._change(
            signed.terms.contract, lambda history, now: negotiation.sign(history, signed, now)
        )
        return changes[0].version

    async def suspend(self, member: Member, name: str, reason: str) -> Version:
        """Suspend a contract of `member`'s; raise `GatewayError`."""
        contract, number = _parse_name(name)
        changes = await self._change(
            contract,
            lambda history, now: negotiation.suspend(history, number, member.id, reason, now),
        )
        return changes[0].version

    async def resume(self, member: Member, name: str) -> Version:
        """Take back the suspension that `member` has made; raise `GatewayError`."""
        contract, number = _parse_name(name)
        changes = await self._change(
            contract, lambda history, now: negotiation.resume(history, number, member.id, now)
        )
        return changes[0].version

    async def terminate(self, member: Member, name: str, reason: str) -> Version:
        """End a contract of `member`'s for good; raise `GatewayError`."""
        contract, number = _parse_name(name)
        changes = await self._change(
            contract,
            lambda history, now: negotiation.terminate(history, number, member.id, reason, now),
        )
        return changes[0].version

    # -- looking -----------------------------------------------------------------------------------

    def find(self, member: Member, name: str) -> Version:
        """Return a version that `member` is a party to; raise `ContractError` with `CONTRACT_UNKNOWN`."""
        _parse_name(name)
        version = self.register.version(name)
        if version is None or member.id not in version.members:
            raise unknown_contract()
        return version

    def versions_of(self, member: Member, contract: str = "") -> list[Version]:
        """Return the versions that `member` is a party to, those of one contract if it is named."""
        return [
            version
            for version in self.register.versions()
            if member.id in version.members and contract in {"", version.terms.contract}
        ]

    def is_in_force(self, version: Version) -> bool:
        """Whether something may be released under `version` now."""
        if version.standing.state is not ContractState.ACTIVE:
            return False
        dataset = version.terms.datasets[0].name
        return any(found.id == version.id for found in self.register.covering(dataset, self._clock()))

    # -- what happens by itself --------------------------------------------------------------------

    async def keep_settled(self) -> None:
        """Do what is due by itself, until cancelled. What fails is tried again."""
        while True:
            await asyncio.sleep(SETTLE_INTERVAL_S)
            try:
                await self.settle()
            except GatewayError as error:
                _log.error("contracts.unsettled", reason=error.reason.value)

    async def settle(self) -> None:
        """Repair what a crash has left, and note what is over; of several workers and nodes one does."""
        await asyncio.to_thread(self._repair)
        now = self._clock()
        by_contract: dict[str, list[Version]] = {}
        for version in self.register.versions():
            by_contract.setdefault(version.terms.contract, []).append(version)
        for contract, versions in by_contract.items():
            if negotiation.settle(tuple(versions), now):
                # One that the log contradicts has been told of; it must not keep the others from it.
                with suppress(ContractError):
                    await self._change(contract, negotiation.settle)

    # -- inside ------------------------------------------------------------------------------------

    async def record_refusal(
        self,
        act: str,
        error: GatewayError,
        *,
        member: str = "",
        contract: str = "",
        subject: str = "",
        more: dict[str, str] | None = None,
    ) -> None:
        """Record that an act was refused; the details of `error` name the entry afterwards.

        While the log cannot be written, the caller is told that and nothing else: `LogUnavailableError`.
        """
        if error.reason is Reason.LOG_UNAVAILABLE:
            return
        committed = await self._log.append(
            Entry(
                v=ENTRY_VERSION,
                kind=EntryKind.CONTRACT_REFUSED,
                time=rfc3339(self._clock()),
                consumer=member,
                contract=contract,
                subject=subject,
                reasons=(error.reason.value,),
                detail={"act": act, **(more or {})},
            )
        )
        error.details["entry"] = str(committed.index)

    async def _open_new(self, member: Member, envelope: dsse.Envelope) -> SignedTerms:
        signed = await asyncio.to_thread(open_signed, envelope, member.id, self._keys(member))
        await asyncio.to_thread(verify_terms, signed.terms, self._tiers)
        known = {other.id for other in self._directory.members()}
        if not known.issuperset(party.member for party in signed.terms.parties):
            raise ContractError(
                "A party is no member of this gateway; ask the operator for the members' ids.",
                reason=Reason.CONTRACT_MALFORMED,
            )
        return signed

    def _keys(self, member: Member) -> dict[str, VerifyKey]:
        return self._directory.signing_keys(member.id)

    async def _change(self, contract: str, rule: Rule) -> Sequence[Change]:
        """Carry out what `rule` makes of a contract; on return the register knows it, too."""
        loop = asyncio.get_running_loop()
        now = self._clock()

        def decide(history: History) -> list[Change]:
            self._vouch(history)
            return rule(history, now)

        record = partial(self._record, loop)
        # Shielded: a caller that goes away must not leave the thread without somebody to hear of it.
        changes = await asyncio.shield(asyncio.to_thread(self._store.change, contract, decide, record))
        try:
            await self.register.refresh()
        except ContractsUnavailableError as error:
            # The change is made and recorded; the register tells by itself that it cannot be read.
            _log.error("contracts.unreadable", reason=error.reason.value)
        return changes

    def _record(self, loop: asyncio.AbstractEventLoop, change: Change) -> None:
        """Append the entry of `change` and wait until it is durable. Runs beside the event loop."""
        # Its own time: the change may have waited for others, and the log takes none that lies back.
        entry = entry_of(change, self._clock())
        future: Future[object] = asyncio.run_coroutine_threadsafe(self._append(entry), loop)
        try:
            future.result(RECORD_TIMEOUT_S)
        except TimeoutError as error:
            raise LogUnavailableError("The audit log does not answer; nothing was changed.") from error

    async def _append(self, entry: Entry) -> object:
        return await self._log.append(entry)


def _parse_name(name: str) -> tuple[str, int]:
    try:
        return parse_contract_name(name)
    except ValueError as error:
        raise ContractError(
            "name must be contracts/{contract}/versions/{version}.", reason=Reason.REQUEST_MALFORMED
        ) from error
