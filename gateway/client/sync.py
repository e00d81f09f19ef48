"""The client for programs without an event loop: the asyncio client on a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

from gateway.api.v1 import (
    audit_service_pb2,
    catalog_service_pb2,
    contribution_service_pb2,
    correction_service_pb2,
    usage_service_pb2,
)
from gateway.audit.acknowledgement import AcknowledgedRelease
from gateway.audit.contribution import WithdrawnContribution
from gateway.audit.receipt import Receipt
from gateway.client.aio import AsyncClient
from gateway.client.answers import Listed, Match, Page, StreamSummary
from gateway.client.contracts import Contracts
from gateway.client.contributing import Contributed, Records
from gateway.client.corrections import AsyncCorrections, ReceivedNotice
from gateway.evidence import dsse
from gateway.evidence.correction import AnswerOutcome

_Answer = TypeVar("_Answer")
_END = object()


class Client:
    """Calls one gateway as one member. Use it as a context manager; threads may share it.

    Its methods are those of `AsyncClient`, with the same arguments and errors.
    """

    def __init__(self, make: Any) -> None:
        """Take a function that makes the `AsyncClient`; it is called on the client's own event loop."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="gateway-client", daemon=True)
        self._thread.start()
        try:
            self._client: AsyncClient = self._run(_made(make))
        except BaseException:
            self._stop()
            raise
        self.contracts = Contracts(self._client.contracts, self._run)
        """The contracts that this member is a party to."""

    @classmethod
    def from_config(cls, path: str | Path, **options: Any) -> Self:
        """Return a client as the file at `path` describes it."""
        return cls(lambda: AsyncClient.from_config(path, **options))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the channel and end the thread."""
        if self._thread.is_alive():
            self._run(self._client.close())
            self._stop()

    def query(self, dataset: str, **parts: Any) -> Page:
        """Return one page of records."""
        return self._run(self._client.query(dataset, **parts))

    def pages(self, dataset: str, **parts: Any) -> Iterator[Page]:
        """Yield all pages of a query."""
        return self._iterate(self._client.pages(dataset, **parts))

    def stream(self, dataset: str, **parts: Any) -> Iterator[Page | StreamSummary]:
        """Yield the pages of a bulk query, then its summary."""
        return self._iterate(self._client.stream(dataset, **parts))

    def match(self, dataset: str, **parts: Any) -> Match:
        """Return whether a subject's record has the stated values."""
        return self._run(self._client.match(dataset, **parts))

    def ask_lists(self, lists: str, **parts: Any) -> Listed:
        """Return whether the subject is on the list, or on enough lists of the set."""
        return self._run(self._client.ask_lists(lists, **parts))

    def acknowledge(self, receipt: Receipt) -> AcknowledgedRelease:
        """Tell the gateway, signed, that what `receipt` is for has arrived."""
        return self._run(self._client.acknowledge(receipt))

    @property
    def corrections(self) -> Corrections:
        """What concerns records that were corrected or withdrawn."""
        return Corrections(self._client.corrections, self._run, self._iterate)

    def contribution_form(
        self, contract: str, dataset: str
    ) -> contribution_service_pb2.GetContributionFormResponse:
        """Return what is needed to prepare records for a dataset under a contract."""
        return self._run(self._client.contribution_form(contract, dataset))

    def contribute(self, records: Records, **parts: Any) -> Contributed:
        """Give records under a contract; return how the batch ended."""
        return self._run(self._client.contribute(records, **parts))

    def withdraw(
        self, keys: Sequence[tuple[str | int | bool, ...]], **parts: Any
    ) -> tuple[int, list[WithdrawnContribution]]:
        """Take records back, by the values of their key fields."""
        return self._run(self._client.withdraw(keys, **parts))

    def datasets(self) -> list[catalog_service_pb2.Dataset]:
        """Return every dataset, with what this member would receive of it."""
        return self._run(self._client.datasets())

    def dataset(self, name: str) -> catalog_service_pb2.Dataset:
        """Return one dataset, with what this member would receive of it."""
        return self._run(self._client.dataset(name))

    def entry(self, index: int) -> bytes:
        """Return an entry of the audit log to which this member is a party."""
        return self._run(self._client.entry(index))

    def entries(self, wanted: str = "", *, page_size: int = 0) -> Iterator[tuple[int, bytes]]:
        """Yield (index, canonical JSON) of the entries that this member may read, newest first."""
        return self._iterate(self._client.entries(wanted, page_size=page_size))

    def checkpoint(self, tree_size: int = 0) -> str:
        """Return the log's checkpoint as a signed note."""
        return self._run(self._client.checkpoint(tree_size))

    def inclusion_proof(self, index: int, tree_size: int = 0) -> audit_service_pb2.InclusionProof:
        """Return the proof that an entry is in the tree of a size."""
        return self._run(self._client.inclusion_proof(index, tree_size))

    def consistency_proof(self, old: int, new: int = 0) -> audit_service_pb2.ConsistencyProof:
        """Return the proof that one tree is a prefix of another."""
        return self._run(self._client.consistency_proof(old, new))

    def usage(self, first_day: str, last_day: str, **options: Any) -> usage_service_pb2.GetUsageResponse:
        """Return the use of this member's records in a period."""
        return self._run(self._client.usage(first_day, last_day, **options))

    def watch_usage(self, from_index: int = 0, **options: Any) -> Iterator[usage_service_pb2.UsageEvent]:
        """Yield what happens to this member's records, as it happens."""
        return self._iterate(self._client.watch_usage(from_index, **options))

    def statement_of_use(self, month: str, *, so_far: bool = False) -> dsse.Envelope:
        """Return the signed statement of a month, or so far; nothing of it has been verified."""
        return self._run(self._client.statement_of_use(month, so_far=so_far))

    def notices(self, after: int = 0) -> Iterator[usage_service_pb2.Notice]:
        """Yield the notices given to this member, oldest first."""
        return self._iterate(self._client.notices(after))

    def watch_notices(self, after: int = 0, **options: Any) -> Iterator[usage_service_pb2.Notice]:
        """Yield notices, and new ones as they come."""
        return self._iterate(self._client.watch_notices(after, **options))

    def set_webhook(self, envelope: dsse.Envelope) -> str:
        """Say where notices are sent."""
        return self._run(self._client.set_webhook(envelope))

    def _run(self, coroutine: Coroutine[Any, Any, _Answer]) -> _Answer:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def _iterate(self, items: AsyncIterator[_Answer]) -> Iterator[_Answer]:
        try:
            while (item := self._run(_next(items))) is not _END:
                yield item
        finally:
            close = getattr(items, "aclose", None)
            if close is not None:
                self._run(close())

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Corrections:
    """See `Client.corrections`. Its methods are those of `AsyncCorrections`."""

    def __init__(self, corrections: AsyncCorrections, run: Any, iterate: Any) -> None:
        self._corrections = corrections
        self._run = run
        self._iterate = iterate

    def announce(self, *parts: Any, **options: Any) -> correction_service_pb2.Correction:
        """Announce that records of our dataset are corrected or withdrawn."""
        found: correction_service_pb2.Correction = self._run(self._corrections.announce(*parts, **options))
        return found

    def waiting(self, after: int = 0, **options: Any) -> Iterator[ReceivedNotice]:
        """Yield the notices that wait for our answer."""
        found: Iterator[ReceivedNotice] = self._iterate(self._corrections.waiting(after, **options))
        return found

    def watch(self, after: int = 0) -> Iterator[ReceivedNotice]:
        """Yield the notices that wait, then each as it is announced, for ever."""
        found: Iterator[ReceivedNotice] = self._iterate(self._corrections.watch(after))
        return found

    def answer(self, received: ReceivedNotice, outcome: AnswerOutcome) -> AcknowledgedRelease:
        """Tell the gateway, signed, what was done."""
        found: AcknowledgedRelease = self._run(self._corrections.answer(received, outcome))
        return found

    def list(self) -> list[correction_service_pb2.Correction]:
        """Return our corrections with their recipients, newest first."""
        found: list[correction_service_pb2.Correction] = self._run(self._corrections.list())
        return found


async def _made(make: Any) -> AsyncClient:
    client: AsyncClient = make()
    return client


async def _next(items: AsyncIterator[Any]) -> Any:
    return await anext(items, _END)
