"""The client for programs without an event loop: the asyncio client on a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

from gateway.api.v1 import audit_service_pb2, catalog_service_pb2, contribution_service_pb2
from gateway.audit.acknowledgement import AcknowledgedRelease
from gateway.audit.contribution import WithdrawnContribution
from gateway.audit.receipt import Receipt
from gateway.client.aio import AsyncClient
from gateway.client.answers import Listed, Match, Page, StreamSummary
from gateway.client.contributing import Contributed, Records

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


async def _made(make: Any) -> AsyncClient:
    client: AsyncClient = make()
    return client


async def _next(items: AsyncIterator[Any]) -> Any:
    return await anext(items, _END)
