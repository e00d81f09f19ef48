"""Contributing: an upload that goes on after every break until the gateway has answered for the batch."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import grpc
import msgspec

from gateway.api.v1 import contribution_service_pb2 as api
from gateway.audit.contribution import (
    MAX_PAGE_BYTES,
    MAX_PAGE_RECORDS,
    BatchDigest,
    ContributionReceipt,
    VerifiedContribution,
    sign_contribution,
    verify_contribution_receipt,
)
from gateway.client.errors import ClientError, ReceiptInvalidError, TransportError, from_rpc_error, invalid
from gateway.client.wire import envelope_to_wire
from gateway.clock import Clock
from gateway.errors import GatewayError, Reason
from gateway.evidence import dsse
from gateway.evidence.canonical import encode_canonical
from gateway.evidence.keys import SigningKey
from gateway.evidence.quality import Choice, QualityReport
from gateway.evidence.trust import Trust

UPLOAD_TIMEOUT_S: Final = 3000.0
"""Of one call; an upload that takes longer goes on in the next."""
PATIENCE_S: Final = 120.0
"""How long an upload that makes no progress is tried again."""
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 5.0
_WORTH_TRYING: Final = frozenset(
    {
        Reason.CONTRIBUTION_BUSY,
        Reason.VAULT_UNAVAILABLE,
        Reason.BATCH_CLOSED,
        Reason.LOG_UNAVAILABLE,
        Reason.MEMBERS_UNAVAILABLE,
        Reason.OVERLOADED,
        Reason.READER_STALLED,
    }
)

Records = Callable[[], Iterable[bytes]]
"""Gives the records of a batch from the first: canonical JSON (`record_line`), the same each time."""

OnProgress = Callable[[int], None]
"""Hears how many records are durable."""


@dataclass(frozen=True, slots=True)
class Contributed:
    """What became of a batch."""

    accepted: bool
    report: QualityReport
    receipt: ContributionReceipt
    verified: VerifiedContribution
    breaks: int
    """How often the upload went on after a break."""


class BrokenSourceError(ClientError):
    """The records cannot be read to their end; the batch was given up, and nothing of it kept."""


class _AbandonedError(BrokenSourceError):
    """The gateway was told so."""


def record_line(record: Mapping[str, Any]) -> bytes:
    """Return a record in canonical form; members that are None are left out."""
    return encode_canonical({name: value for name, value in record.items() if value is not None})


def pages_of(lines: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Divide records into pages, always in the same way, as what is signed depends on it."""
    page: list[bytes] = []
    size = 0
    for line in lines:
        if page and (size + len(line) + 1 > MAX_PAGE_BYTES or len(page) == MAX_PAGE_RECORDS):
            yield page
            page, size = [], 0
        page.append(line)
        size += len(line) + 1
    if page:
        yield page


class Contribution:
    """One batch on its way, over as many calls as it takes."""

    def __init__(
        self,
        stub: Any,
        opening: api.ContributionOpening,
        records: Records,
        key: SigningKey,
        trust: Trust,
        clock: Clock,
        on_progress: OnProgress | None = None,
    ) -> None:
        self._stub = stub
        self._opening = opening
        self._records = records
        self._key = key
        self._trust = trust
        self._clock = clock
        self._tell = on_progress or (lambda _records: None)
        self._durable = 0
        self._breaks = 0

    async def run(self, patience_s: float) -> Contributed:
        """Upload, and go on after each break; raise a `ClientError`."""
        loop = asyncio.get_running_loop()
        pause_s, moved_at, durable = _FIRST_PAUSE_S, loop.time(), 0
        while True:
            try:
                return await self._attempt()
            except ClientError as error:
                if self._durable > durable:
                    pause_s, moved_at, durable = _FIRST_PAUSE_S, loop.time(), self._durable
                if not _is_worth_trying(error) or loop.time() - moved_at > patience_s:
                    raise
            self._breaks += 1
            await asyncio.sleep(random.uniform(pause_s / 2, pause_s))  # noqa: S311 - spreads load only
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _attempt(self) -> Contributed:
        call = self._stub.Contribute(timeout=UPLOAD_TIMEOUT_S)
        try:
            return await self._converse(call)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
        finally:
            call.cancel()

    async def _converse(self, call: Any) -> Contributed:
        await _write(call, api.ContributeRequest(opening=self._opening))
        progress = (await _read(call)).progress
        self._note(progress)
        sending = asyncio.ensure_future(self._send(call, progress))
        sending.add_done_callback(lambda done: _end_with(call, done))
        try:
            while True:
                answer = await _read(call)
                if answer.HasField("outcome"):
                    return self._verified(answer.outcome, await sending)
                self._note(answer.progress)
        finally:
            sending.cancel()
            # The call tells better than the sender why it broke, unless the records themselves did.
            [ended] = await asyncio.gather(sending, return_exceptions=True)
            if isinstance(ended, Exception) and not isinstance(ended, TransportError):
                raise ended

    async def _send(self, call: Any, progress: api.ContributionProgress) -> dsse.Envelope:
        """Send what is not durable yet, and the statement over all of it; return that."""
        digest = BatchDigest()
        pages = iter(pages_of(self._records()))
        while True:
            try:
                page = await asyncio.to_thread(next, pages, None)
            except ClientError as error:
                await _write(call, api.ContributeRequest(abandonment=api.ContributionAbandonment()))
                raise _AbandonedError(error.message) from error
            if page is None:
                break
            first = digest.records
            digest, _ = await asyncio.to_thread(digest.add_page, page, progress.seed)
            if progress.complete or digest.records < progress.records:
                continue
            if digest.records == progress.records:
                if digest.root != progress.root:
                    raise _changed()
                continue
            if first < progress.records:
                raise _changed()
            text = b"\n".join(page) + b"\n"
            await _write(
                call, api.ContributeRequest(page=api.ContributionPage(first_record=first, records=text))
            )
        envelope = sign_contribution(
            digest,
            gateway=self._trust.origin,
            contract=progress.contract,
            dataset=progress.dataset,
            batch=self._opening.batch,
            choice=_CHOICES[self._opening.choice],
            key=self._key,
            now=self._clock(),
        )
        await _write(
            call, api.ContributeRequest(closing=api.ContributionClosing(envelope=envelope_to_wire(envelope)))
        )
        return envelope

    def _verified(self, outcome: api.ContributionOutcome, sent: dsse.Envelope) -> Contributed:
        try:
            receipt = ContributionReceipt.from_json(outcome.receipt)
            verified = verify_contribution_receipt(receipt, self._trust)
        except GatewayError as error:
            raise invalid(error) from error
        # Told again, the receipt holds what was signed when the batch ended, at another time.
        ours = _parts(sent.payload)
        if _parts(receipt.contribution.payload) != ours or verified.accepted != outcome.accepted:
            raise ReceiptInvalidError("The receipt is for another batch than the one that was sent.")
        return Contributed(outcome.accepted, verified.report, receipt, verified, self._breaks)

    def _note(self, progress: api.ContributionProgress) -> None:
        self._durable = max(self._durable, progress.records)
        self._tell(progress.records)


def _parts(payload: bytes) -> dict[str, Any]:
    parts: dict[str, Any] = msgspec.json.decode(payload)
    del parts["time"]
    return parts


def _end_with(call: Any, sending: asyncio.Future[Any]) -> None:
    """End a call whose sender failed: the gateway waits for it, and we for the gateway."""
    if sending.cancelled() or sending.exception() is None:
        return
    if not isinstance(sending.exception(), _AbandonedError):
        call.cancel()


async def _write(call: Any, message: Any) -> None:
    try:
        await call.write(message)
    except (asyncio.InvalidStateError, grpc.aio.UsageError) as error:
        raise TransportError("The gateway broke the upload off.") from error


async def _read(call: Any) -> Any:
    answer = await call.read()
    if answer is grpc.aio.EOF:
        raise TransportError("The gateway ended the upload without an answer.")
    return answer


def _is_worth_trying(error: ClientError) -> bool:
    return (isinstance(error, TransportError) and not isinstance(error, BrokenSourceError)) or (
        error.reason in _WORTH_TRYING
    )


def _changed() -> BrokenSourceError:
    return BrokenSourceError(
        "The records are no longer those of which a part has arrived; give the batch another id, or restore "
        "the file."
    )


_CHOICES: Final = {
    api.CONTRIBUTION_CHOICE_ALL_OR_NOTHING: Choice.ALL_OR_NOTHING,
    api.CONTRIBUTION_CHOICE_ACCEPT_VALID: Choice.ACCEPT_VALID,
}
CHOICES_ON_THE_WIRE: Final = {choice: number for number, choice in _CHOICES.items()}
