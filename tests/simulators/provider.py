"""A provider that speaks ProviderService correctly until it is told to fail in one particular way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum, auto
from typing import Any

import grpc
import msgspec

from gateway.api.v1 import provider_service_pb2 as api
from gateway.clock import Clock
from gateway.evidence import dsse
from gateway.evidence.delivery import DELIVERY_TYPE, build_delivery
from gateway.evidence.keys import SigningKey, VerifyKey
from gateway.evidence.order import ORDER_TYPE, FetchOrder, decode_order
from gateway.pki.reload import ReloadingCredentials
from gateway.rpc.convert import envelope_from_wire, envelope_to_wire
from gateway.rpc.server import RpcServer

Record = Mapping[str, Any]


class Fault(StrEnum):
    """What a provider can do wrong."""

    REFUSES = auto()
    HANGS = auto()
    """Takes the call and says nothing."""
    HANGS_MID_STREAM = auto()
    """Sends two pages, then nothing."""
    FAILS_MID_STREAM = auto()
    """Sends two pages, then a status."""
    DRIPS = auto()
    """Sends a page of one record each tenth of a second, without an end."""
    FIELD_MISSING = auto()
    WRONG_TYPE = auto()
    NOT_JSON = auto()
    OVER_DEEP_JSON = auto()
    INVALID_UTF8 = auto()
    TOO_MANY_RECORDS = auto()
    SIGNATURE_BROKEN = auto()
    SIGNATURE_MISSING = auto()
    SIGNATURE_OF_OTHER_KEY = auto()
    SIGNATURE_OF_OTHER_EXCHANGE = auto()
    SIGNATURE_OF_OTHER_RECORDS = auto()
    SIGNATURE_STALE = auto()
    PAGE_TWICE = auto()
    NO_LAST_PAGE = auto()
    MORE_AFTER_LAST = auto()
    COUNT_WRONG = auto()
    PAGE_TOO_LARGE = auto()
    UNKNOWN_FIELDS = auto()
    """Not a fault that stops an answer: fields that nobody knows are dropped and counted."""


@dataclass(frozen=True)
class _Page:
    lines: bytes
    count: int
    number: int
    last: bool


class SimulatedProvider:
    """Serves records from memory over real gRPC with mutual TLS, as member `registry` does.

    `fault` chooses how it fails; `orders` keeps what the gateway asked; `working` counts calls that
    have begun and not ended; `gate`, while cleared, holds a stream before its third page.
    """

    def __init__(
        self,
        records: Sequence[Record],
        signing_key: SigningKey,
        gateway_keys: Mapping[str, VerifyKey],
        credentials: ReloadingCredentials,
        clock: Clock,
    ) -> None:
        self.records = list(records)
        self.lists: dict[str, list[Record]] = {}
        """Records of other datasets than the one, by their names."""
        self.pause_s: Callable[[FetchOrder, int], float] = lambda _order, _found: 0.0
        """How long it thinks about an order for one page of which so many records are found."""
        self.says_size = True
        """Whether it tells how long a list is, when it is asked."""
        self.fault: Fault | None = None
        self.orders: list[FetchOrder] = []
        self.working = 0
        self.seen_certificate = b""
        self.ended = asyncio.Event()
        self.begun = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()
        self._key = signing_key
        self._gateway_keys = gateway_keys
        self._credentials = credentials
        self._clock = clock
        self._server: RpcServer | None = None
        self.port = 0

    async def start(self) -> None:
        service = api.DESCRIPTOR.services_by_name["ProviderService"]
        self._server = RpcServer({service: self}, with_reflection=False)
        self.port = await self._server.start(f"127.0.0.1:{self.port}", self._credentials.server_credentials())

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(0)
            self._server = None

    # -- the service -----------------------------------------------------------------------------

    async def FetchRecords(  # noqa: N802 - named by the proto file, like the method below
        self, body: bytes, context: grpc.aio.ServicerContext[Any, Any]
    ) -> api.FetchRecordsResponse:
        request = api.FetchRecordsRequest.FromString(body)
        order = self._accept(request.order)
        self._begin()
        try:
            await self._fail_before(context)
            start = int(request.cursor or b"0")
            wanted = self._chosen(order)
            await asyncio.sleep(self.pause_s(order, len(wanted)))
            page = self._page(order, wanted[start : start + request.page_size], 0, last=True)
            if self.fault is Fault.TOO_MANY_RECORDS:
                page = self._page(
                    order, (wanted * (request.page_size + 1))[: request.page_size + 1], 0, last=True
                )
            end = start + request.page_size
            return api.FetchRecordsResponse(
                page=self._deliver(order, page), next_cursor=b"%d" % end if end < len(wanted) else b""
            )
        finally:
            self._end()

    async def StreamRecords(  # noqa: N802
        self, body: bytes, context: grpc.aio.ServicerContext[Any, Any]
    ) -> None:
        request = api.StreamRecordsRequest.FromString(body)
        order = self._accept(request.order)
        self._begin()
        try:
            await self._fail_before(context)
            async for page in self._stream(order, request.page_size, context):
                await context.write(api.StreamRecordsResponse(page=self._deliver(order, page)))
        finally:
            self._end()

    async def _stream(
        self, order: FetchOrder, size: int, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[_Page]:
        wanted = self._chosen(order)
        if self.fault is Fault.DRIPS:
            for number in range(1_000_000):
                yield self._page(order, wanted[:1], number, last=False)
                await asyncio.sleep(0.1)
        if self.fault is Fault.TOO_MANY_RECORDS:
            wanted, size = wanted * 2, size + 1
        chunks = [wanted[at : at + size] for at in range(0, len(wanted), size)] or [[]]
        for number, chunk in enumerate(chunks):
            if number == 2:
                await self.gate.wait()
                if self.fault is Fault.HANGS_MID_STREAM:
                    await asyncio.Event().wait()
                if self.fault is Fault.FAILS_MID_STREAM:
                    await context.abort(grpc.StatusCode.INTERNAL, "disk of the registry on fire")
            last = number == len(chunks) - 1 and self.fault is not Fault.NO_LAST_PAGE
            page = self._page(order, chunk, number, last=last)
            yield page
            if self.fault is Fault.PAGE_TWICE and number == 1:
                yield page
            if last and self.fault is Fault.MORE_AFTER_LAST:
                yield self._page(order, chunk, number + 1, last=True)

    # -- what goes wrong -------------------------------------------------------------------------

    async def _fail_before(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        [self.seen_certificate] = context.auth_context()["x509_pem_cert"]
        if self.fault is Fault.REFUSES:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "not for you: 110101199003070134")
        if self.fault is Fault.HANGS:
            await asyncio.Event().wait()

    def _page(self, order: FetchOrder, records: Sequence[Record], number: int, *, last: bool) -> _Page:
        rows = [{name: record[name] for name in order.fields} for record in records]
        if self.fault is Fault.FIELD_MISSING and rows:
            rows[-1].pop("uscc", None)
        if self.fault is Fault.WRONG_TYPE and rows:
            rows[-1]["uscc"] = 91
        if self.fault is Fault.UNKNOWN_FIELDS:
            rows = [
                {**row, "inspector_no": "INSP-007", "note": {"deep": ["not for release"]}} for row in rows
            ]
        lines = b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)
        match self.fault:
            case Fault.NOT_JSON:
                lines = b"<html>91350100M000100Y43</html>\n" * len(rows)
            case Fault.OVER_DEEP_JSON:
                lines = b"[" * 100_000 + b"]" * 100_000 + b"\n"
                return _Page(lines, 1, number, last)
            case Fault.INVALID_UTF8:
                lines = b'{"uscc":"\xff\xfe","name":"\xc3\x28"}\n' * len(rows)
            case Fault.PAGE_TOO_LARGE:
                lines = lines.rstrip(b"\n") + b" " * (9 * 1024 * 1024) + b"\n"
        return _Page(lines, len(rows), number, last)

    def _deliver(self, order: FetchOrder, page: _Page) -> api.DeliveredPage:
        """Return the page signed, or wrongly signed."""
        fault, clock, key = self.fault, self._clock, self._key
        if fault is Fault.SIGNATURE_OF_OTHER_EXCHANGE:
            order = msgspec.structs.replace(order, exchange="01900000-0000-7000-8000-000000000000")
        if fault is Fault.SIGNATURE_OF_OTHER_KEY:
            key = SigningKey.generate()
        signed = page.lines + b"{}\n" if fault is Fault.SIGNATURE_OF_OTHER_RECORDS else page.lines
        moment = clock()
        if fault is Fault.SIGNATURE_STALE:
            moment = moment.replace(year=moment.year - 1)
        delivery = build_delivery(
            exchange=order.exchange,
            dataset=order.dataset,
            page=page.number,
            records=signed,
            count=page.count + (fault is Fault.COUNT_WRONG),
            time=moment,
            last=page.last,
            total=len(self._held(order)) if order.list_question and self.says_size else None,
        )
        signers = [] if fault is Fault.SIGNATURE_MISSING else [key]
        envelope = dsse.sign(delivery.statement, DELIVERY_TYPE, signers)
        if fault is Fault.SIGNATURE_BROKEN:
            [signature] = envelope.signatures
            broken = dsse.Signature(signature.keyid, signature.sig[:-1] + bytes([signature.sig[-1] ^ 1]))
            envelope = dsse.Envelope(envelope.payload, envelope.payload_type, (broken,))
        return api.DeliveredPage(
            records=page.lines,
            record_count=page.count,
            salt=delivery.salt,
            delivery=envelope_to_wire(envelope),
        )

    # -- what goes right -------------------------------------------------------------------------

    def _accept(self, envelope: Any) -> FetchOrder:
        payload, _ = dsse.verify(envelope_from_wire(envelope), ORDER_TYPE, self._gateway_keys)
        order = decode_order(payload)
        self.orders.append(order)
        return order

    def _chosen(self, order: FetchOrder) -> list[Record]:
        conditions = dict(order.filters)
        return [
            record
            for record in self._held(order)
            if all(record[name] == value for name, value in conditions.items())
            and (not order.subject_field or record[order.subject_field] in order.subject_values)
        ]

    def _held(self, order: FetchOrder) -> list[Record]:
        return self.lists.get(order.dataset, self.records)

    def _begin(self) -> None:
        self.working += 1
        self.ended.clear()
        self.begun.set()

    def _end(self) -> None:
        self.working -= 1
        if not self.working:
            self.ended.set()
            self.begun.clear()
