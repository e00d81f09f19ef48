"""The one way this gateway speaks HTTP to an OPA server: `opa_client`, bounded on every side.

The client makes its session without limits and leaves the body's size to the server. Here the session is
made by us: no proxy or credentials from the environment, no redirect followed, no compressed answer, a
bounded body, one deadline for everything.
"""

from __future__ import annotations

import ssl
from types import SimpleNamespace
from typing import Final

import aiohttp
from opa_client.opa_async import AsyncOpaClient

MAX_ANSWER_BYTES: Final = 1024 * 1024
"""An answer above this is refused unread; a decision on 400 fields is a tenth of it."""

_TLS_VERSION: Final = ssl.TLSVersion.TLSv1_2


class BoundedResponse(aiohttp.ClientResponse):
    """A response whose body is never read beyond `MAX_ANSWER_BYTES`."""

    async def read(self) -> bytes:
        """Return the whole body; raise `aiohttp.ClientPayloadError` if it is too large."""
        if self._body is None:
            body = bytearray()
            async for chunk in self.content.iter_any():
                body += chunk
                if len(body) > MAX_ANSWER_BYTES:
                    self.close()
                    raise aiohttp.ClientPayloadError("the answer is larger than allowed")
            self._body = bytes(body)
        return self._body


class BoundedOpaClient(AsyncOpaClient):  # type: ignore[misc]
    """`AsyncOpaClient` with a session of our making; it never tries twice."""

    def __init__(
        self, host: str, port: int, timeout_s: float, token: str | None, tls: ssl.SSLContext | None
    ) -> None:
        super().__init__(
            host=host,
            port=port,
            ssl=tls is not None,
            token=token,
            headers={"Accept-Encoding": "identity"},
            retries=0,
            timeout=timeout_s,
        )
        self._tls = tls

    async def _init_session(self) -> None:
        tracing = aiohttp.TraceConfig()
        tracing.on_request_redirect.append(_refuse_redirect)
        self._connector = aiohttp.TCPConnector(ssl=self._tls if self._tls is not None else True)
        self._session = aiohttp.ClientSession(
            headers=self.headers,
            connector=self._connector,
            timeout=aiohttp.ClientTimeout(total=self.timeout),
            response_class=BoundedResponse,
            trace_configs=[tracing],
            trust_env=False,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )


async def _refuse_redirect(
    _session: aiohttp.ClientSession,
    _context: SimpleNamespace,
    _parameters: aiohttp.TraceRequestRedirectParams,
) -> None:
    raise aiohttp.ClientPayloadError("the server answers with a redirect")


def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """Return a verifying client context; `ca_file` (PEM) replaces the machine's own authorities."""
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = _TLS_VERSION
    return context
