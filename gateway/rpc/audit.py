"""AuditService over gRPC: entries, checkpoints and proofs."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any, Final, TypeVar

import grpc
import msgspec

from gateway.api.v1 import audit_service_pb2 as api
from gateway.audit.store import AuditReader
from gateway.clock import Clock
from gateway.errors import GatewayError, Reason
from gateway.exchange.admission import admit
from gateway.members import Directory
from gateway.model import Entry, Member, Role
from gateway.rpc.calls import describe_call, parse_request
from gateway.rpc.status import abort

TIMEOUT_S: Final = 30.0
_ENTRY_NAME: Final = re.compile(r"entries/(0|[1-9][0-9]{0,17})")
_decode_entry: Final = msgspec.json.Decoder(Entry).decode

_Message = TypeVar("_Message")


class AuditServicer:
    """Answers from the log's own readers; reading never waits for writing."""

    def __init__(self, reader: AuditReader, directory: Directory, clock: Clock) -> None:
        self._reader = reader
        self._directory = directory
        self._clock = clock

    async def GetEntry(self, body: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> api.Entry:  # noqa: N802
        """Answer with one entry of an exchange that the caller took part in; auditors see all."""

        def answer(request: api.GetEntryRequest, member: Member) -> api.Entry:
            index = _index(request.name)
            if index >= self._reader.size():
                raise _not_found()
            data = self._reader.entry(index).data
            entry = _decode_entry(data)
            if Role.AUDITOR not in member.roles and member.id not in {entry.consumer, entry.provider}:
                raise _not_found()
            return api.Entry(name=request.name, data=data)

        return await self._answer(body, context, api.GetEntryRequest, answer)

    async def GetCheckpoint(  # noqa: N802
        self, body: bytes, context: grpc.aio.ServicerContext[Any, Any]
    ) -> api.Checkpoint:
        """Answer with the signed checkpoint at a tree size, 0 for the latest."""

        def answer(request: api.GetCheckpointRequest, _member: Member) -> api.Checkpoint:
            size = self._tree_size(request.tree_size)
            note = self._reader.checkpoint_at(size)
            if note is None:
                raise GatewayError(
                    "No checkpoint was made at this tree size; ask for the latest with 0.",
                    reason=Reason.ENTRY_NOT_FOUND,
                )
            return api.Checkpoint(note=note, tree_size=size)

        return await self._answer(body, context, api.GetCheckpointRequest, answer)

    async def GetInclusionProof(  # noqa: N802
        self, body: bytes, context: grpc.aio.ServicerContext[Any, Any]
    ) -> api.InclusionProof:
        """Answer with the proof that an entry stands in the tree of a size."""

        def answer(request: api.GetInclusionProofRequest, _member: Member) -> api.InclusionProof:
            index, size = _index(request.name), self._tree_size(request.tree_size)
            if index >= size:
                raise _not_found()
            hashes = self._reader.inclusion_proof(index, size)
            return api.InclusionProof(index=index, tree_size=size, hashes=hashes)

        return await self._answer(body, context, api.GetInclusionProofRequest, answer)

    async def GetConsistencyProof(  # noqa: N802
        self, body: bytes, context: grpc.aio.ServicerContext[Any, Any]
    ) -> api.ConsistencyProof:
        """Answer with the proof that the tree of one size is a beginning of that of another."""

        def answer(request: api.GetConsistencyProofRequest, _member: Member) -> api.ConsistencyProof:
            old, new = request.old_tree_size, self._tree_size(request.new_tree_size)
            if not 1 <= old <= new:
                raise GatewayError(
                    "old_tree_size must be at least 1 and at most the new size.",
                    reason=Reason.REQUEST_MALFORMED,
                )
            hashes = self._reader.consistency_proof(old, new)
            return api.ConsistencyProof(old_tree_size=old, new_tree_size=new, hashes=hashes)

        return await self._answer(body, context, api.GetConsistencyProofRequest, answer)

    def _tree_size(self, asked: int) -> int:
        latest = self._reader.size()
        if asked == 0:
            return latest
        if not 0 < asked <= latest:
            raise GatewayError(
                "The log has no tree of this size.", reason=Reason.ENTRY_NOT_FOUND, latest=latest
            )
        return asked

    async def _answer(
        self,
        body: bytes,
        context: grpc.aio.ServicerContext[Any, Any],
        request_type: type[Any],
        answer: Callable[[Any, Member], _Message],
    ) -> _Message:
        """Admit the caller and run `answer` on a thread: it reads the disk."""
        try:
            call = describe_call(context, body, TIMEOUT_S)
            member = _any_role(call, self._directory, self._clock)
            return await asyncio.to_thread(answer, parse_request(body, request_type), member)
        except GatewayError as error:
            await abort(context, error)
            raise


def _any_role(call: Any, directory: Directory, clock: Clock) -> Member:
    member = admit(call, directory, clock(), role=None)
    if call.fault is not None:
        raise call.fault
    return member


def _index(name: str) -> int:
    match = _ENTRY_NAME.fullmatch(name)
    if match is None:
        raise GatewayError("name must be entries/{index}.", reason=Reason.REQUEST_MALFORMED)
    return int(match[1])


def _not_found() -> GatewayError:
    return GatewayError(
        "There is no such entry, or this member is no party to it.", reason=Reason.ENTRY_NOT_FOUND
    )
