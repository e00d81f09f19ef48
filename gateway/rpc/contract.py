"""ContractService over gRPC: the parties' acts, and what they may see."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc

from gateway.api.v1 import contract_service_pb2 as api
from gateway.api.v1 import evidence_pb2
from gateway.clock import Clock
from gateway.contracts.document import MAX_TERMS_BYTES, identity
from gateway.contracts.service import Contracting
from gateway.contracts.signing import to_envelope
from gateway.contracts.version import Version
from gateway.errors import GatewayError, Reason
from gateway.exchange.admission import admit
from gateway.exchange.call import Call
from gateway.members import Directory
from gateway.model import Member, PartyRole, parse_contract_name
from gateway.rpc.calls import describe_call, parse_request
from gateway.rpc.convert import envelope_from_wire, envelope_to_wire
from gateway.rpc.status import abort
from gateway.telemetry.faults import record_fault

TIMEOUT_S: Final = 30.0
DEFAULT_PAGE_SIZE: Final = 50
MAX_PAGE_SIZE: Final = 500
MAX_SIGNED_BYTES: Final = MAX_TERMS_BYTES + 16 * 1024
"""A request with terms: they, one signature, and little else."""


class ContractServicer:
    """Turns calls into acts on contracts. What is refused leaves an entry."""

    def __init__(self, contracting: Contracting, directory: Directory, clock: Clock) -> None:
        self._contracting = contracting
        self._directory = directory
        self._clock = clock

    async def ProposeContract(  # noqa: N802
        self, body: bytes, context: grpc.aio.ServicerContext[Any, Any]
    ) -> api.Contract:
        """Propose terms that the caller has signed first."""

        async def act(request: api.ProposeContractRequest, member: Member) -> Version:
            return await self._contracting.propose(member, envelope_from_wire(request.envelope))

        return await self._act("propose", body, context, api.ProposeContractRequest, act)

    async def SignContract(  # noqa: N802
        self, body: bytes, context: grpc.aio.ServicerContext[Any, Any]
    ) -> api.Contract:
        """Add the caller's signature."""

        async def act(request: api.SignContractRequest, member: Member) -> Version:
            return await self._contracting.sign(member, envelope_from_wire(request.envelope))

        return await self._act("sign", body, context, api.SignContractRequest, act)

    async def CounterContract(  # noqa: N802
        self, body: bytes, context: grpc.aio.ServicerContext[Any, Any]
    ) -> api.Contract:
        """Answer a proposal with other terms."""

        async def act(request: api.CounterContractRequest, member: Member) -> Version:
            return await self._contracting.counter(member, envelope_from_wire(request.envelope))

        return await self._act("counter", body, context, api.CounterContractRequest, act)

    async def SuspendContract(  # noqa: N802
        self, body: bytes, context: grpc.aio.ServicerContext[Any, Any]
    ) -> api.Contract:
        """Suspend a contract of the caller's."""

        async def act(request: api.SuspendContractRequest, member: Member) -> Version:
            return await self._contracting.suspend(member, request.name, request.reason)

        return await self._act("suspend", body, context, api.SuspendContractRequest, act)

    async def ResumeContract(  # noqa: N802
        self, body: bytes, context: grpc.aio.ServicerContext[Any, Any]
    ) -> api.Contract:
        """Take back the caller's own suspension."""

        async def act(request: api.ResumeContractRequest, member: Member) -> Version:
            return await self._contracting.resume(member, request.name)

        return await self._act("resume", body, context, api.ResumeContractRequest, act)

    async def TerminateContract(  # noqa: N802
        self, body: bytes, context: grpc.aio.ServicerContext[Any, Any]
    ) -> api.Contract:
        """End a contract of the caller's."""

        async def act(request: api.TerminateContractRequest, member: Member) -> Version:
            return await self._contracting.terminate(member, request.name, request.reason)

        return await self._act("terminate", body, context, api.TerminateContractRequest, act)

    async def GetContract(  # noqa: N802
        self, body: bytes, context: grpc.aio.ServicerContext[Any, Any]
    ) -> api.Contract:
        """Answer with one version that the caller is a party to."""
        try:
            member = self._admit(describe_call(context, body, TIMEOUT_S))
            request = parse_request(body, api.GetContractRequest)
            return self._described(self._contracting.find(member, request.name))
        except GatewayError as error:
            await abort(context, error)
            raise

    async def ListContracts(  # noqa: N802
        self, body: bytes, context: grpc.aio.ServicerContext[Any, Any]
    ) -> api.ListContractsResponse:
        """Answer with a page of the versions that the caller is a party to."""
        try:
            member = self._admit(describe_call(context, body, TIMEOUT_S))
            request = parse_request(body, api.ListContractsRequest)
            size = _page_size(request.page_size)
            found = self._contracting.versions_of(member, request.contract.removeprefix("contracts/"))
            # The token is the last one seen: listing goes on after it even if there are others by then.
            after = _key(request.page_token) if request.page_token else ("", 0)
            left = [version for version in found if _key(version.name) > after]
            page = left[:size]
            return api.ListContractsResponse(
                contracts=[self._described(version, with_terms=False) for version in page],
                next_page_token=page[-1].name if len(left) > size else "",
            )
        except GatewayError as error:
            await abort(context, error)
            raise

    def _admit(self, call: Call) -> Member:
        member = admit(call, self._directory, self._clock(), role=None)
        if call.fault is not None:
            raise call.fault
        return member

    async def _act(
        self,
        name: str,
        body: bytes,
        context: grpc.aio.ServicerContext[Any, Any],
        request_type: type[Any],
        act: Callable[[Any, Member], Awaitable[Version]],
    ) -> api.Contract:
        """Admit the caller and carry out `act`; whatever goes wrong stands in the log before it is told."""
        call = describe_call(context, body, TIMEOUT_S)
        member, request = None, None
        try:
            member = self._admit(call)
            request = parse_request(body, request_type, limit=MAX_SIGNED_BYTES)
            return self._described(await act(request, member))
        except Exception as error:
            refusal = _refusal(error, name)
            try:
                await self._record(name, call, member, request, refusal)
            except GatewayError as failed:
                refusal = failed
            await abort(context, refusal)
            raise

    async def _record(
        self, name: str, call: Call, member: Member | None, request: Any, refusal: GatewayError
    ) -> None:
        more: dict[str, str] = {}
        if member is None and call.caller is not None:
            more = {"uri": call.caller.uri[:300], "certificate": call.caller.fingerprint}
        subject, digest = _about(request)
        await self._contracting.record_refusal(
            name,
            refusal,
            member=member.id if member is not None else "",
            contract=digest,
            subject=subject,
            more=more,
        )

    def _described(self, version: Version, *, with_terms: bool = True) -> api.Contract:
        terms, standing = version.terms, version.standing
        ordered = sorted(terms.parties, key=lambda party: party.role is not PartyRole.CONTRIBUTOR)
        return api.Contract(
            name=version.name,
            digest=version.id,
            state=api.ContractState.Value(f"CONTRACT_STATE_{standing.state.name}"),
            title=terms.title,
            parties=[party.member for party in ordered],
            signed_by=standing.signed_by,
            held_by=standing.held_by,
            reason=standing.reason,
            changed=standing.changed,
            ended=standing.ended or "",
            valid_from=terms.valid_from,
            valid_until=terms.valid_until,
            envelope=envelope_to_wire(to_envelope(version)) if with_terms else None,
            in_force=self._contracting.is_in_force(version),
        )


def _about(request: Any) -> tuple[str, str]:
    """Return (name, identity) of what a refused request was about, as far as it says so in our own form."""
    if request is None:
        return "", ""
    if isinstance(getattr(request, "envelope", None), evidence_pb2.Envelope):
        payload = request.envelope.payload
        return "", identity(payload) if payload else ""
    try:
        parse_contract_name(request.name)
    except ValueError:
        return "", ""
    return request.name, ""


def _refusal(error: Exception, act: str) -> GatewayError:
    """Return what the caller is told of `error`; of a fault of ours, nothing but a reference to it."""
    if isinstance(error, GatewayError) and error.reason is not Reason.INTERNAL:
        return error
    return GatewayError(
        "The gateway failed; give the reference to its operator.",
        reason=Reason.INTERNAL,
        reference=record_fault(error, method=f"ContractService/{act}"),
    )


def _page_size(asked: int) -> int:
    if asked < 0:
        raise GatewayError("page_size must not be negative.", reason=Reason.REQUEST_MALFORMED)
    return min(asked or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)


def _key(name: str) -> tuple[str, int]:
    try:
        return parse_contract_name(name)
    except ValueError as error:
        raise GatewayError(
            "page_token must be the next_page_token of the page before.", reason=Reason.PAGE_TOKEN_INVALID
        ) from error
