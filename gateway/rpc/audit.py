"""AuditService over gRPC: entries, checkpoints and proofs."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import grpc
import msgspec

from gateway.api.v1 import audit_service_pb2 as api
from gateway.audit.filter import Field, Filter, Has, both
from gateway.audit.filter_parser import parse_filter
from gateway.audit.paging import open_page_token, page_token
from gateway.audit.reading import ENTRIES, reading_detail
from gateway.audit.store import MAX_PAGE_SIZE, AuditReader, StoredEntry
from gateway.clock import Clock, rfc3339
from gateway.errors import GatewayError, Reason
from gateway.exchange.admission import admit
from gateway.members import Directory
from gateway.model import ENTRY_VERSION, Entry, EntryKind, Member, Role, member_name
from gateway.rpc.calls import describe_call, parse_request
from gateway.rpc.status import abort

TIMEOUT_S: Final = 30.0
DEFAULT_PAGE_SIZE: Final = 50
MAX_PAGE_BYTES: Final = 1024 * 1024
"""Of an answer with entries: far below the 4 MiB that gRPC's clients take by default."""
_ENTRY_OVERHEAD_BYTES: Final = 64
_ENTRY_NAME: Final = re.compile(r"entries/(0|[1-9][0-9]{0,17})")
_decode_entry: Final = msgspec.json.Decoder(Entry).decode

_Message = TypeVar("_Message")

AppendEntry = Callable[[Entry], Awaitable[object]]
"""Makes an entry durable; returns when it is, and raises `GatewayError` if it is not."""


class AuditServicer:
    """Answers from the log's own readers; reading never waits for writing."""

    def __init__(self, reader: AuditReader, directory: Directory, clock: Clock, append: AppendEntry) -> None:
        """Take what is read, who may read, and `append`, which makes the entry of a reading durable."""
        self._reader = reader
        self._directory = directory
        self._clock = clock
        self._append = append

    async def GetEntry(self, body: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> api.Entry:  # noqa: N802
        """Answer with one entry of an exchange that the caller took part in; auditors see all."""

        def answer(request: api.GetEntryRequest, member: Member) -> tuple[api.Entry, Entry | None]:
            index = _index(request.name)
            if index >= self._reader.size():
                raise _not_found()
            data = self._reader.entry(index).data
            entry = _decode_entry(data)
            is_party = member.id in {entry.consumer, entry.provider}
            if Role.AUDITOR not in member.roles and not is_party:
                raise _not_found()
            # A party holds the receipt of this entry; that somebody else reads it is worth an entry.
            detail = {"by": member_name(member.id), "through": "GetEntry", "entries": "1"}
            recorded = None if is_party else self._reading(request.name, detail)
            return api.Entry(name=request.name, data=data), recorded

        return await self._answer(body, context, api.GetEntryRequest, answer)

    async def ListEntries(  # noqa: N802
        self, body: bytes, context: grpc.aio.ServicerContext[Any, Any]
    ) -> api.ListEntriesResponse:
        """Answer with a page of the entries that the caller may read, newest first."""

        def answer(
            request: api.ListEntriesRequest, member: Member
        ) -> tuple[api.ListEntriesResponse, Entry | None]:
            if request.page_size < 0:
                raise GatewayError("page_size must not be negative.", reason=Reason.REQUEST_MALFORMED)
            asked = parse_filter(request.filter)
            wanted = permitted(asked, member)
            before = open_page_token(request.page_token, wanted) if request.page_token else None
            page_size = min(request.page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
            found = self._reader.page(wanted, page_size, before)
            shown = found.entries[: _fitting(found.entries)]
            further = shown[-1].index if len(shown) < len(found.entries) else found.before
            response = api.ListEntriesResponse(
                entries=[api.Entry(name=f"entries/{entry.index}", data=entry.data) for entry in shown],
                next_page_token=page_token(wanted, further) if further else "",
            )
            detail = reading_detail(
                self._reader, member_name(member.id), "ListEntries", asked, count=len(shown)
            )
            return response, self._reading(ENTRIES, detail)

        return await self._answer(body, context, api.ListEntriesRequest, answer)

    async def GetCheckpoint(  # noqa: N802
        self, body: bytes, context: grpc.aio.ServicerContext[Any, Any]
    ) -> api.Checkpoint:
        """Answer with the signed checkpoint at a tree size, 0 for the latest."""

        def answer(request: api.GetCheckpointRequest, _member: Member) -> tuple[api.Checkpoint, None]:
            size = self._tree_size(request.tree_size)
            note = self._reader.checkpoint_at(size)
            if note is None:
                raise GatewayError(
                    "No checkpoint was made at this tree size; ask for the latest with 0.",
                    reason=Reason.ENTRY_NOT_FOUND,
                )
            return api.Checkpoint(note=note, tree_size=size), None

        return await self._answer(body, context, api.GetCheckpointRequest, answer)

    async def GetInclusionProof(  # noqa: N802
        self, body: bytes, context: grpc.aio.ServicerContext[Any, Any]
    ) -> api.InclusionProof:
        """Answer with the proof that an entry stands in the tree of a size."""

        def answer(request: api.GetInclusionProofRequest, _member: Member) -> tuple[api.InclusionProof, None]:
            index, size = _index(request.name), self._tree_size(request.tree_size)
            if index >= size:
                raise _not_found()
            hashes = self._reader.inclusion_proof(index, size)
            return api.InclusionProof(index=index, tree_size=size, hashes=hashes), None

        return await self._answer(body, context, api.GetInclusionProofRequest, answer)

    async def GetConsistencyProof(  # noqa: N802
        self, body: bytes, context: grpc.aio.ServicerContext[Any, Any]
    ) -> api.ConsistencyProof:
        """Answer with the proof that the tree of one size is a beginning of that of another."""

        def answer(
            request: api.GetConsistencyProofRequest, _member: Member
        ) -> tuple[api.ConsistencyProof, None]:
            old, new = request.old_tree_size, self._tree_size(request.new_tree_size)
            if not 1 <= old <= new:
                raise GatewayError(
                    "old_tree_size must be at least 1 and at most the new size.",
                    reason=Reason.REQUEST_MALFORMED,
                )
            hashes = self._reader.consistency_proof(old, new)
            return api.ConsistencyProof(old_tree_size=old, new_tree_size=new, hashes=hashes), None

        return await self._answer(body, context, api.GetConsistencyProofRequest, answer)

    def _reading(self, subject: str, detail: Mapping[str, str]) -> Entry:
        return Entry(
            v=ENTRY_VERSION,
            kind=EntryKind.AUDIT_READ,
            time=rfc3339(self._clock()),
            subject=subject,
            detail=dict(detail),
        )

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
        answer: Callable[[Any, Member], tuple[_Message, Entry | None]],
    ) -> _Message:
        """Admit the caller and run `answer` on a thread: it reads the disk.

        If it gives an entry of what was read, nothing leaves before that is durable.
        """
        try:
            call = describe_call(context, body, TIMEOUT_S)
            member = _any_role(call, self._directory, self._clock)
            message, reading = await asyncio.to_thread(answer, parse_request(body, request_type), member)
            if reading is not None:
                await self._append(reading)
        except GatewayError as error:
            await abort(context, error)
            raise
        return message


def permitted(asked: Filter, member: Member) -> Filter:
    """Return `asked` narrowed down to what `member` may read: its own entries, unless it is an auditor."""
    if Role.AUDITOR in member.roles:
        return asked
    return both(Has(Field.MEMBER, member.id), asked)


def _fitting(found: Sequence[StoredEntry]) -> int:
    """Return how many of the entries fit into an answer; at least one does."""
    room = MAX_PAGE_BYTES
    for count, entry in enumerate(found):
        room -= len(entry.data) + _ENTRY_OVERHEAD_BYTES
        if room < 0 and count:
            return count
    return len(found)


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
