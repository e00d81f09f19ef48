"""ContributionService over gRPC."""

from __future__ import annotations

import asyncio
import re
from typing import Any, Final

import grpc

from gateway.api.v1 import contribution_service_pb2 as api
from gateway.audit.contribution import BATCH_PATTERN, MAX_PAGE_BYTES, MAX_PAGE_RECORDS
from gateway.contributions.checks import MAX_RECORD_BYTES
from gateway.contributions.ending import Outcome
from gateway.contributions.service import ContributionService, Opening, Position, Upload
from gateway.contributions.withdrawal import Withdrawals
from gateway.errors import GatewayError, Reason
from gateway.evidence.quality import Choice
from gateway.identifiers import KINDS
from gateway.rpc.calls import describe_call, parse_request
from gateway.rpc.convert import envelope_from_wire
from gateway.rpc.status import abort

UNARY_TIMEOUT_S: Final = 30.0
UPLOAD_TIMEOUT_S: Final = 3600.0
SILENCE_S: Final = 60.0
"""A company that sends nothing for so long is taken to be gone; it can go on whenever it is back."""
LOOK_S: Final = 0.25
"""How often, while nothing comes, contract and member are looked at: an end of either bites (P11)."""

MAX_MESSAGE_BYTES: Final = MAX_PAGE_BYTES + 64 * 1024

_CHOICES: Final = {
    api.CONTRIBUTION_CHOICE_ALL_OR_NOTHING: Choice.ALL_OR_NOTHING,
    api.CONTRIBUTION_CHOICE_ACCEPT_VALID: Choice.ACCEPT_VALID,
}
_BATCH: Final = re.compile(BATCH_PATTERN)

_Context = grpc.aio.ServicerContext[Any, Any]


class ContributionServicer:
    """Turns calls into contributions. Request bodies come as bytes (`gateway.rpc.calls` says why)."""

    def __init__(self, service: ContributionService, withdrawals: Withdrawals) -> None:
        self._service = service
        self._withdrawals = withdrawals

    async def GetContributionForm(  # noqa: N802 - named by the proto file, like the methods below
        self, body: bytes, context: _Context
    ) -> api.GetContributionFormResponse:
        """Answer with what a contributor needs to prepare records."""
        try:
            call = describe_call(context, body, UNARY_TIMEOUT_S)
            request = parse_request(body, api.GetContributionFormRequest)
            form = await self._service.form(call, request.contract, request.dataset)
        except GatewayError as error:
            await abort(context, error)
            raise
        return api.GetContributionFormResponse(
            contract=form.contract.id,
            dataset=form.terms.name,
            fields=[
                api.ContributionField(
                    name=field.name,
                    type=field.type.value,
                    required=field.required or field.name in form.terms.key,
                    identifier_kind=field.identifier or "",
                )
                for field in form.dataset.fields.values()
            ],
            key=form.terms.key,
            max_record_bytes=MAX_RECORD_BYTES,
            max_page_bytes=MAX_PAGE_BYTES,
            max_page_records=MAX_PAGE_RECORDS,
        )

    async def Contribute(self, _requests: Any, context: _Context) -> None:  # noqa: N802
        """Read a batch and write how far it is durable, then how it ended."""
        messages = _Messages(context)
        upload: Upload | None = None
        try:
            first = await messages.next()
            call = describe_call(context, first or b"", UPLOAD_TIMEOUT_S)
            upload = await self._service.open(call, _opening(first))
            await context.write(_progress(upload.position))
            await _receive(upload, messages, context)
        except GatewayError as error:
            await abort(context, error)
        finally:
            messages.close()
            if upload is not None:
                await upload.leave()

    async def WithdrawRecords(  # noqa: N802
        self, body: bytes, context: _Context
    ) -> api.WithdrawRecordsResponse:
        """Answer with how many records are withdrawn, and the entry that says so."""
        call = describe_call(context, body, UNARY_TIMEOUT_S)
        try:
            request = parse_request(body, api.WithdrawRecordsRequest)
            done = await self._withdrawals.withdraw(call, envelope_from_wire(request.envelope))
        except GatewayError as error:
            await abort(context, error)
            raise
        return api.WithdrawRecordsResponse(
            records=done.records,
            entry=done.committed.data,
            entry_index=done.committed.index,
            tlog_proof=done.committed.tlog_proof(),
            salt=done.salt,
        )


async def _receive(upload: Upload, messages: _Messages, context: _Context) -> None:
    """Take the messages after the first, up to the last."""
    while True:
        try:
            body = await messages.next(upload)
            message = _step(body)
        except GatewayError as error:
            raise await upload.fail(error) from error
        match message.WhichOneof("step"):
            case "page":
                if await upload.take(message.page.first_record, message.page.records):
                    await context.write(_progress(upload.position))
            case "closing":
                outcome = await upload.finish(envelope_from_wire(message.closing.envelope))
                await context.write(_outcome(outcome))
                return
            case "abandonment":
                raise await upload.fail(_abandoned())
            case _:
                raise await upload.fail(_malformed("An upload has one opening, and each message one step."))


class _Messages:
    """The messages of a call, the next read while the one before is worked on."""

    def __init__(self, context: _Context) -> None:
        self._context = context
        self._reading: asyncio.Task[Any] | None = None

    async def next(self, upload: Upload | None = None) -> bytes | None:
        """Return the next message; None if there is none. Meanwhile `upload` must stay allowed.

        Raises `GatewayError` if that ends, or if nothing comes for long.
        """
        reading = self._reading or asyncio.ensure_future(self._context.read())
        self._reading = reading
        waited_s = 0.0
        while True:
            done, _ = await asyncio.wait({reading}, timeout=LOOK_S)
            if done:
                break
            waited_s += LOOK_S
            if upload is not None:
                upload.require_allowed()
            if waited_s >= SILENCE_S:
                raise GatewayError(
                    "Nothing has come for a minute; open the batch again to go on.",
                    reason=Reason.READER_STALLED,
                )
        body = reading.result()
        self._reading = None
        if body is grpc.aio.EOF:
            return None
        self._reading = asyncio.ensure_future(self._context.read())
        return bytes(body)

    def close(self) -> None:
        """Read nothing more."""
        if self._reading is not None:
            self._reading.cancel()


def _opening(body: bytes | None) -> Opening | GatewayError:
    """Return what the first message opens, or what is wrong with it: that, too, leaves an entry."""
    try:
        message = _step(body)
        opening = message.opening
        if message.WhichOneof("step") != "opening":
            return _malformed("The first message of an upload is its opening.")
        if _BATCH.fullmatch(opening.batch) is None or _is_identifier(opening.batch):
            return _malformed(
                "A batch's id has letters, digits, '.', '_' and '-', at most 64 of them, and is nobody's "
                "identifier."
            )
        if opening.choice not in _CHOICES:
            return _malformed("The opening says all-or-nothing or accept-valid.")
        return Opening(opening.contract, opening.dataset, opening.batch, _CHOICES[opening.choice])
    except GatewayError as error:
        return error


def _is_identifier(text: str) -> bool:
    for kind in KINDS.values():
        try:
            kind.normalise(text)
        except GatewayError:
            continue
        if kind.pseudonymisable:
            return True
    return False


def _step(body: bytes | None) -> api.ContributeRequest:
    if body is None:
        raise GatewayError(
            "The upload ended without its closing; what is durable of it stays for when it goes on.",
            reason=Reason.CANCELLED,
        )
    return parse_request(body, api.ContributeRequest, limit=MAX_MESSAGE_BYTES)


def _progress(position: Position) -> api.ContributeResponse:
    digest = position.digest
    return api.ContributeResponse(
        progress=api.ContributionProgress(
            records=digest.records,
            pages=digest.pages,
            root=digest.root,
            seed=position.seed,
            contract=position.contract,
            dataset=position.dataset,
            complete=position.complete,
        )
    )


def _outcome(outcome: Outcome) -> api.ContributeResponse:
    return api.ContributeResponse(
        outcome=api.ContributionOutcome(accepted=outcome.accepted, receipt=outcome.receipt.to_json())
    )


def _abandoned() -> GatewayError:
    return GatewayError(
        "The upload was given up by its sender; nothing of it was kept.", reason=Reason.CONTRIBUTION_ABANDONED
    )


def _malformed(message: str) -> GatewayError:
    return GatewayError(message, reason=Reason.REQUEST_MALFORMED)
