"""The contracts of a member, through the gateway: proposing, signing, ending, looking."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc

from gateway.api.v1 import contract_service_pb2 as api
from gateway.api.v1 import contract_service_pb2_grpc, evidence_pb2
from gateway.client.calling import once
from gateway.client.errors import ClientError
from gateway.contracts.document import decode_terms
from gateway.contracts.signing import CONTRACT_TYPE, sign_terms, verify_contract
from gateway.errors import GatewayError
from gateway.evidence import dsse
from gateway.evidence.keys import SigningKey
from gateway.evidence.trust import Trust
from gateway.model import ContractState, Terms

_PAGE_SIZE = 500

_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class PartyContract:
    """One version of a contract as a party sees it."""

    name: str
    """`contracts/{contract}/versions/{version}`."""
    id: str
    """`sha256:<hex>` of the terms."""
    state: ContractState
    in_force: bool
    """Whether something may be released under it now."""
    title: str
    parties: tuple[str, ...]
    """The contributor first."""
    signed_by: tuple[str, ...]
    held_by: tuple[str, ...]
    """Who suspends it now."""
    reason: str
    changed: str
    ended: str
    valid_from: str
    valid_until: str
    envelope: dsse.Envelope | None = None
    """The terms and the signatures; None in lists."""
    terms: Terms | None = None
    """None in lists."""


class AsyncContracts:
    """Calls ContractService as one member.

    The signatures on a contract are verified with the trust file before it is returned, unless the client was
    told not to verify. All methods raise a `ClientError`.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        trust: Trust,
        signing_key: SigningKey | None,
        *,
        timeout_s: float,
        verify: bool,
    ) -> None:
        self._stub: Any = contract_service_pb2_grpc.ContractServiceStub(channel)
        self._trust = trust
        self._key = signing_key
        self._timeout_s = timeout_s
        self._verify = verify

    async def propose(self, terms: Terms) -> PartyContract:
        """Sign `terms` and propose them to the other parties."""
        request = api.ProposeContractRequest(envelope=_wire(self._signed(terms)))
        return await self._call(self._stub.ProposeContract, request)

    async def counter(self, terms: Terms) -> PartyContract:
        """Answer the version that `terms` name as their predecessor with these, signed."""
        request = api.CounterContractRequest(envelope=_wire(self._signed(terms)))
        return await self._call(self._stub.CounterContract, request)

    async def sign(self, terms: Terms) -> PartyContract:
        """Sign terms that another party has proposed."""
        request = api.SignContractRequest(envelope=_wire(self._signed(terms)))
        return await self._call(self._stub.SignContract, request)

    async def suspend(self, name: str, reason: str) -> PartyContract:
        """Suspend a contract: within a second nothing more is released under it."""
        request = api.SuspendContractRequest(name=name, reason=reason)
        return await self._call(self._stub.SuspendContract, request)

    async def resume(self, name: str) -> PartyContract:
        """Take back this member's own suspension."""
        return await self._call(self._stub.ResumeContract, api.ResumeContractRequest(name=name))

    async def terminate(self, name: str, reason: str) -> PartyContract:
        """End a contract for good, or reject or withdraw a proposal."""
        request = api.TerminateContractRequest(name=name, reason=reason)
        return await self._call(self._stub.TerminateContract, request)

    async def get(self, name: str) -> PartyContract:
        """Return one version with its terms and signatures."""
        return await self._call(self._stub.GetContract, api.GetContractRequest(name=name))

    async def list(self, contract: str = "") -> list[PartyContract]:
        """Return the versions of all contracts, or of one, by name and version; without their terms."""
        found: list[PartyContract] = []
        token = ""
        while True:
            request = api.ListContractsRequest(contract=contract, page_size=_PAGE_SIZE, page_token=token)
            response = await once(self._stub.ListContracts, request, self._timeout_s)
            found.extend(_described(item) for item in response.contracts)
            token = response.next_page_token
            if not token:
                return found

    def _signed(self, terms: Terms) -> dsse.Envelope:
        if self._key is None:
            raise ClientError("A contract is signed: give the client a signing key.")
        return _sound(lambda: sign_terms(terms, self._key))  # type: ignore[arg-type]

    async def _call(self, method: Any, request: Any) -> PartyContract:
        message = await once(method, request, self._timeout_s)
        envelope = dsse.Envelope(
            payload=message.envelope.payload,
            payload_type=message.envelope.payload_type,
            signatures=tuple(dsse.Signature(item.keyid, item.sig) for item in message.envelope.signatures),
        )
        if self._verify:
            self._check(message, envelope)
        return _described(message, envelope, _sound(lambda: decode_terms(envelope.payload)))

    def _check(self, message: api.Contract, envelope: dsse.Envelope) -> None:
        verified = _sound(lambda: verify_contract(envelope, self._trust.member_verify_keys))
        if verified.id != message.digest or verified.signed_by != tuple(message.signed_by):
            raise ClientError("The gateway says of the contract what its signatures do not bear out.")


class Contracts:
    """`AsyncContracts` for programs without an event loop: the same methods."""

    def __init__(self, contracts: AsyncContracts, run: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
        self._contracts = contracts
        self._run = run

    def propose(self, terms: Terms) -> PartyContract:
        """Sign `terms` and propose them to the other parties."""
        return self._done(self._contracts.propose(terms))

    def counter(self, terms: Terms) -> PartyContract:
        """Answer the version that `terms` name as their predecessor with these, signed."""
        return self._done(self._contracts.counter(terms))

    def sign(self, terms: Terms) -> PartyContract:
        """Sign terms that another party has proposed."""
        return self._done(self._contracts.sign(terms))

    def suspend(self, name: str, reason: str) -> PartyContract:
        """Suspend a contract: within a second nothing more is released under it."""
        return self._done(self._contracts.suspend(name, reason))

    def resume(self, name: str) -> PartyContract:
        """Take back this member's own suspension."""
        return self._done(self._contracts.resume(name))

    def terminate(self, name: str, reason: str) -> PartyContract:
        """End a contract for good, or reject or withdraw a proposal."""
        return self._done(self._contracts.terminate(name, reason))

    def get(self, name: str) -> PartyContract:
        """Return one version with its terms and signatures."""
        return self._done(self._contracts.get(name))

    def list(self, contract: str = "") -> list[PartyContract]:
        """Return the versions of all contracts, or of one, by name and version; without their terms."""
        return self._done(self._contracts.list(contract))

    def _done(self, answer: Coroutine[Any, Any, _Answer]) -> _Answer:
        done: _Answer = self._run(answer)
        return done


def _sound(check: Callable[[], _Answer]) -> _Answer:
    try:
        return check()
    except GatewayError as error:
        raise ClientError(f"The contract does not hold: {error.message}") from error


def _described(
    message: api.Contract, envelope: dsse.Envelope | None = None, terms: Terms | None = None
) -> PartyContract:
    return PartyContract(
        name=message.name,
        id=message.digest,
        state=ContractState(api.ContractState.Name(message.state).removeprefix("CONTRACT_STATE_").lower()),
        in_force=message.in_force,
        title=message.title,
        parties=tuple(message.parties),
        signed_by=tuple(message.signed_by),
        held_by=tuple(message.held_by),
        reason=message.reason,
        changed=message.changed,
        ended=message.ended,
        valid_from=message.valid_from,
        valid_until=message.valid_until,
        envelope=envelope,
        terms=terms,
    )


def _wire(envelope: dsse.Envelope) -> evidence_pb2.Envelope:
    return evidence_pb2.Envelope(
        payload=envelope.payload,
        payload_type=CONTRACT_TYPE,
        signatures=[evidence_pb2.Signature(keyid=item.keyid, sig=item.sig) for item in envelope.signatures],
    )
