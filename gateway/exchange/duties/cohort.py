"""Small cohorts: an answer about few subjects says something of each of them, so nothing of it leaves.

What counts is the whole answer, all its pages together: a last page with one record tells nothing that
the pages before it do not. So the answer is looked through, as far as need be, before its first page
leaves; the pages after it are bound to that look by their sealed tokens.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Final

from gateway.errors import GatewayError, Reason
from gateway.evidence.records import SEED_BYTES
from gateway.exchange.transform import ReleasedPage
from gateway.model import Duties
from gateway.model.duties import MAX_COHORT

MAX_RECORDS_SEEN: Final = MAX_COHORT
"""Records that are looked through, and kept meanwhile, until there are subjects enough."""

Page = tuple[ReleasedPage, bytes]
"""A page, and where the next begins (empty: nowhere)."""


class Cohort:
    """Counts the subjects of an answer, page by page, until there are enough."""

    def __init__(self, duties: Duties) -> None:
        self._smallest = duties.smallest_cohort.records if duties.smallest_cohort is not None else 0
        self._subjects: set[str | bytes] = set()
        self._seen = 0

    @property
    def is_large_enough(self) -> bool:
        """Whether something may leave."""
        return len(self._subjects) >= self._smallest

    def add(self, page: ReleasedPage) -> None:
        """Count the subjects of `page`; raise `GatewayError` if too much was looked through in vain."""
        if self.is_large_enough:
            return
        self._subjects |= page.subjects
        self._seen += page.count + page.expired
        if self._seen > MAX_RECORDS_SEEN:
            self.require()

    def require(self) -> None:
        """Raise `GatewayError` unless something may leave; it does not tell how many there were."""
        if not self.is_large_enough:
            raise too_small()


def too_small() -> GatewayError:
    """Return the refusal of an answer about too few subjects: the same for none and for nearly enough."""
    return GatewayError(
        "The answer is about too few subjects to leave. Ask a wider question.", reason=Reason.COHORT_TOO_SMALL
    )


async def held_back(
    duties: Duties, pages: AsyncGenerator[ReleasedPage, None]
) -> AsyncGenerator[ReleasedPage, None]:
    """Yield `pages`, the first of them only once the whole answer is known to be about subjects enough."""
    cohort = Cohort(duties)
    waiting: list[ReleasedPage] = []
    async with aclosing(pages):
        async for page in pages:
            cohort.add(page)
            waiting.append(page)
            if cohort.is_large_enough:
                for ready in waiting:
                    yield ready
                waiting.clear()
    cohort.require()


async def as_one_bit(pages: AsyncGenerator[ReleasedPage, None]) -> AsyncGenerator[ReleasedPage, None]:
    """Yield one page that says whether `pages` hold any record; no more are asked for than that takes."""
    found, tokens = False, b""
    async with aclosing(pages):
        async for page in pages:
            found, tokens = page.count > 0, page.tokens
            if found:
                break
    yield bit(found=found, tokens=tokens)


def bit(*, found: bool, tokens: bytes = b"") -> ReleasedPage:
    """Return the page that says yes or no, and nothing else. `tokens` are of the records that it tells of."""
    line = b'{"match":true}' if found else b'{"match":false}'
    return ReleasedPage.of_line(line, secrets.token_bytes(SEED_BYTES), tokens)


async def look_ahead(
    duties: Duties, first: ReleasedPage, cursor: bytes, fetch: Callable[[bytes, int], Awaitable[Page]]
) -> bool:
    """Look through the pages after `first`, as far as the duties need; return whether there is any record.

    `fetch` brings the page that begins at a cursor, as it would leave after so many records. Raises
    `GatewayError` if the cohort is too small.
    """
    cohort = Cohort(duties)
    cohort.add(first)
    released = first.count
    seen = first.count + first.expired
    while cursor and seen <= MAX_RECORDS_SEEN:
        if cohort.is_large_enough and (released or duties.one_bit is None):
            break
        page, cursor = await fetch(cursor, released)
        cohort.add(page)
        released += page.count
        seen += page.count + page.expired
    cohort.require()
    return released > 0
