"""Overseeing: which corrections are open, and the housekeeping that goes with them."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from datetime import timedelta
from typing import Final

import msgspec

from gateway.clock import Clock
from gateway.corrections.announcing import Announcing
from gateway.corrections.notices import CorrectionStatus, Notices
from gateway.corrections.register import Register
from gateway.errors import GatewayError, Reason
from gateway.evidence.canonical import DECODE_ERRORS, encode_canonical

COUNT_INTERVAL_S: Final = 5.0
FORGET_EVERY: Final = 720
"""Counts between two times of forgetting: an hour."""
DEFAULT_PAGE_SIZE: Final = 50
MAX_PAGE_SIZE: Final = 200


class Overseeing:
    """Lists corrections, counts those that are open, and forgets what is old. One instance a process."""

    def __init__(
        self,
        stored: Notices,
        register: Register,
        announcing: Announcing,
        clock: Clock,
        *,
        remember: timedelta,
        overdue_after: timedelta,
    ) -> None:
        """Take for how long it is remembered who received what, and when an open correction is overdue."""
        self._stored = stored
        self._register = register
        self._announcing = announcing
        self._clock = clock
        self._remember = remember
        self._overdue_after = overdue_after
        self.open = 0
        """Notices that are not answered, as of a moment ago."""
        self.overdue = 0

    def page(
        self, announcer: str | None, page_size: int, page_token: str
    ) -> tuple[list[CorrectionStatus], str]:
        """Return a page of corrections, newest first, and the token of the next; blocks.

        `announcer` None sees all. Raises `GatewayError`.
        """
        if page_size < 0:
            raise GatewayError("page_size must not be negative.", reason=Reason.REQUEST_MALFORMED)
        size = min(page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
        found = self._stored.statuses(announcer, _before(page_token), size + 1)
        shown = found[:size]
        if len(found) <= size:
            return shown, ""
        last = shown[-1].correction
        return shown, base64.urlsafe_b64encode(encode_canonical((last.announced, last.id))).decode()

    async def keep_order(self, on_error: Callable[[GatewayError], None]) -> None:
        """Count, finish what crashes left, and forget, again and again until cancelled."""
        rounds = 0
        while True:
            try:
                await asyncio.to_thread(self._tidy, forgets=rounds % FORGET_EVERY == 0)
            except GatewayError as error:
                on_error(error)
            rounds += 1
            await asyncio.sleep(COUNT_INTERVAL_S)

    def _tidy(self, *, forgets: bool) -> None:
        now = self._clock()
        self._announcing.finish()
        self.open, self.overdue = self._stored.open_count(now - self._overdue_after)
        if forgets:
            self._register.forget(now - self._remember)
            self._stored.forget(now - self._remember)


def _before(page_token: str) -> tuple[str, str] | None:
    if not page_token:
        return None
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(page_token.encode()), type=tuple[str, str])
    except (*DECODE_ERRORS, ValueError) as error:
        raise GatewayError(
            "This page token is none that was given out; start again without it.",
            reason=Reason.PAGE_TOKEN_INVALID,
        ) from error
