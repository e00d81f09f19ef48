"""Asking a time-stamping authority over HTTP (RFC 3161 section 3.4)."""

from __future__ import annotations

import asyncio
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from gateway.errors import ConfigError
from gateway.timestamps.token import MAX_TOKEN_BYTES, TimestampUnavailableError

_OK: Final = 200
_QUERY: Final = "application/timestamp-query"
_REPLY: Final = "application/timestamp-reply"


class HttpAuthority:
    """One authority, asked over a shared HTTP session with a time limit. Follows no redirect."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        """Take the authority's URL; raise `ConfigError` unless it is http or https."""
        if urlsplit(url).scheme not in {"http", "https"} or not urlsplit(url).hostname:
            raise ConfigError("log.timestamps.url is an http or https URL, such as https://tsa.example.org/.")
        self._url = url
        self._session = session

    async def ask(self, request: bytes) -> bytes:
        """Return the answer to a request, unverified, both DER; raise `TimestampUnavailableError`."""
        try:
            async with self._session.post(
                self._url, data=request, headers={"Content-Type": _QUERY}, allow_redirects=False
            ) as reply:
                if reply.status != _OK:
                    raise TimestampUnavailableError(
                        f"The time-stamping authority answered with HTTP status {reply.status}."
                    )
                if reply.content_type != _REPLY:
                    raise TimestampUnavailableError(
                        "The time-stamping authority answered with something that is no time-stamp."
                    )
                # One byte more than is taken: to know that there is more.
                body = await _read(reply.content, MAX_TOKEN_BYTES + 1)
        except (aiohttp.ClientError, TimeoutError, asyncio.IncompleteReadError) as error:
            raise TimestampUnavailableError(
                "The time-stamping authority was not reached, or did not answer in time."
            ) from error
        if len(body) > MAX_TOKEN_BYTES:
            raise TimestampUnavailableError(f"The answer is larger than {MAX_TOKEN_BYTES} bytes.")
        return body


async def _read(content: aiohttp.StreamReader, limit: int) -> bytes:
    body = b""
    while len(body) < limit and (chunk := await content.read(limit - len(body))):
        body += chunk
    return body
