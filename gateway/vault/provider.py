"""The vault as a provider: it answers the gateway's own signed orders, and signs what it delivers."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import msgspec

from gateway.clock import Clock
from gateway.errors import GatewayError, Reason
from gateway.evidence import dsse
from gateway.evidence.delivery import DELIVERY_TYPE, build_delivery
from gateway.evidence.keys import SigningKey, VerifyKey
from gateway.evidence.order import ORDER_TYPE, FetchOrder, OrderError, decode_order
from gateway.exchange.providers import DeliveredPage
from gateway.model import Member, parse_dataset_name
from gateway.sources.cursor import CursorSeal
from gateway.sources.order import check_times, to_request
from gateway.sources.source import MAX_PAGE_SIZE, SourcePage
from gateway.vault.dataset import HeldDataset
from gateway.vault.errors import RecordsDestroyedError, VaultUnavailableError
from gateway.vault.reading import VaultReader
from gateway.vault.store import VaultStore
from gateway.vault.tables import Holding

REFRESH_INTERVAL_S: Final = 1.0
"""How often a key destroyed on another worker or node is looked for."""

_Value = TypeVar("_Value")


class Holdings:
    """What the vault holds, in memory. Only the event loop reads it; a background task renews it."""

    def __init__(self, store: VaultStore) -> None:
        """Read it once; raise `VaultUnavailableError`."""
        self._store = store
        self._by_dataset: Mapping[str, tuple[Holding, ...]] = _by_dataset(store)

    def of(self, dataset: str) -> tuple[Holding, ...]:
        """Return the holdings of a dataset whose keys were not destroyed, by contract."""
        return tuple(held for held in self._by_dataset.get(dataset, ()) if held.destroyed is None)

    async def refresh(self) -> None:
        """Read it again; raise `VaultUnavailableError`."""
        self._by_dataset = await asyncio.to_thread(_by_dataset, self._store)

    async def keep_fresh(self, on_error: Callable[[VaultUnavailableError], None]) -> None:
        """Renew it until cancelled; `on_error` hears of each failed reading."""
        while True:
            await asyncio.sleep(REFRESH_INTERVAL_S)
            try:
                await self.refresh()
            except VaultUnavailableError as error:
                on_error(error)


class VaultProvider:
    """See `gateway.exchange.providers.RecordProvider`."""

    def __init__(
        self,
        reader: VaultReader,
        holdings: Holdings,
        *,
        order_keys: Mapping[str, VerifyKey],
        signing_key: SigningKey,
        cursor_secret: bytes,
        clock: Clock,
        contract_name: Callable[[str], str | None] | None = None,
    ) -> None:
        """Take what is read, whose orders are served, and the key that signs deliveries.

        Cursors sealed under one `cursor_secret` (32 bytes) are good on every worker and node.
        `contract_name` returns the name of the contract of an identity; an order that says under which
        contract it is made is served from that contract's records alone.
        """
        self._reader = reader
        self._holdings = holdings
        self._order_keys = order_keys
        self._signing_key = signing_key
        self._cursors = CursorSeal(cursor_secret)
        self._clock = clock
        self._contract_name = contract_name

    async def fetch(
        self, provider: Member, order: dsse.Envelope, page_size: int, cursor: bytes, timeout_s: float
    ) -> tuple[DeliveredPage, bytes]:
        """See `RecordProvider`."""
        accepted, dataset = await self._accept(provider, order)
        wanted = to_request(accepted, page_size=min(page_size, MAX_PAGE_SIZE), cursor=cursor or None)
        total = None
        with _as_provider(provider):
            page = await _in_time(asyncio.to_thread(dataset.fetch, wanted), timeout_s)
            if accepted.list_question is not msgspec.UNSET:
                total = await asyncio.to_thread(dataset.count_records)
        return self._sign(accepted, page, 0, last=True, total=total), page.next_cursor or b""

    async def stream(
        self, provider: Member, order: dsse.Envelope, page_size: int, timeout_s: float
    ) -> AsyncGenerator[DeliveredPage, None]:
        """See `RecordProvider`."""
        accepted, dataset = await self._accept(provider, order)
        pages = dataset.stream(to_request(accepted, page_size=min(page_size, MAX_PAGE_SIZE)))
        ends_s = time.monotonic() + timeout_s
        number = 0
        # The next page is read while this one is on its way.
        following = asyncio.ensure_future(asyncio.to_thread(next, pages, None))
        try:
            while True:
                with _as_provider(provider):
                    page = await _in_time(following, ends_s - time.monotonic())
                if page is None:
                    return
                following = asyncio.ensure_future(asyncio.to_thread(next, pages, None))
                yield self._sign(accepted, page, number, last=page.next_cursor is None)
                number += 1
        finally:
            # A generator that runs on a thread cannot be closed: wait for it first.
            await asyncio.shield(asyncio.gather(following, return_exceptions=True))
            pages.close()

    async def _accept(self, provider: Member, envelope: dsse.Envelope) -> tuple[FetchOrder, HeldDataset]:
        """Check the order as any provider does, though it is our own."""
        payload, _ = dsse.verify(envelope, ORDER_TYPE, self._order_keys)
        order = decode_order(payload)
        check_times(order, self._clock())
        if parse_dataset_name(order.dataset)[0] != provider.id:
            raise OrderError("The fetch order is addressed to another provider.")
        held = self._held(order)
        if not held:
            # It may have been contributed a moment ago, on this node or another.
            with _as_provider(provider):
                await self._holdings.refresh()
            held = self._held(order)
        if len(held) != 1:
            raise OrderError(
                "The vault holds nothing of this dataset under this contract."
                if not held
                else "This dataset was contributed under several contracts; the query must name one."
            )
        return order, HeldDataset(self._reader, held[0], self._cursors)

    def _held(self, order: FetchOrder) -> tuple[Holding, ...]:
        held = self._holdings.of(order.dataset)
        if order.contract is msgspec.UNSET or self._contract_name is None:
            return held
        name = self._contract_name(order.contract)
        return tuple(one for one in held if one.contract == name)

    def _sign(
        self, order: FetchOrder, page: SourcePage, number: int, *, last: bool, total: int | None = None
    ) -> DeliveredPage:
        delivery = build_delivery(
            exchange=order.exchange,
            dataset=order.dataset,
            page=number,
            records=page.records,
            count=page.count,
            time=self._clock(),
            last=last,
            total=total,
        )
        envelope = dsse.sign(delivery.statement, DELIVERY_TYPE, [self._signing_key])
        return DeliveredPage(page.records, page.count, delivery.salt, envelope)


async def _in_time(pending: Awaitable[_Value], timeout_s: float) -> _Value:
    """Return what `pending` comes to; what runs on a thread goes on if that takes too long."""
    future = asyncio.ensure_future(pending)
    done, _ = await asyncio.wait({future}, timeout=max(timeout_s, 0))
    if not done:
        future.add_done_callback(_forget)
        raise GatewayError(
            "The vault did not answer in time; nothing more was released. Try again later.",
            reason=Reason.PROVIDER_TIMEOUT,
        )
    return future.result()


def _forget(future: asyncio.Future[Any]) -> None:
    """Take note of what came too late, which nobody waits for any more."""
    if not future.cancelled():
        future.exception()


@contextmanager
def _as_provider(provider: Member) -> Iterator[None]:
    """Tell what the vault cannot do as any provider's exchange does."""
    try:
        yield
    except VaultUnavailableError as error:
        raise GatewayError(
            "The vault of contributed records cannot be read now; nothing more was released. Try again "
            "later.",
            reason=Reason.PROVIDER_UNAVAILABLE,
            provider=provider.id,
        ) from error
    except RecordsDestroyedError as error:
        raise GatewayError(error.message, reason=Reason.PROVIDER_REFUSED, provider=provider.id) from error


def _by_dataset(store: VaultStore) -> dict[str, tuple[Holding, ...]]:
    found: dict[str, list[Holding]] = defaultdict(list)
    for holding in store.holdings():
        found[holding.dataset].append(holding)
    return {dataset: tuple(held) for dataset, held in found.items()}
