"""Sending a notice to a webhook: one HTTPS POST to a pinned address, without redirects."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from gateway.config import UsageConfig
from gateway.errors import ConfigError
from gateway.usage.address import DeliveryError, Resolve, WebhookRefusedError, parse_target, pin, resolve

CONTENT_TYPE: Final = "application/vnd.dsse+json"

_DONE: Final = range(200, 300)
_REDIRECTED: Final = range(300, 400)


class WebhookSender:
    """Posts signed notices. Holds no connection: each notice is sent to an address that was looked at."""

    def __init__(
        self,
        tls: ssl.SSLContext,
        *,
        timeout_s: float,
        allowed_private_hosts: frozenset[str] = frozenset(),
        resolve: Resolve = resolve,
    ) -> None:
        """Take the authorities of webhooks' certificates, and the hosts that may have private addresses."""
        self._tls = tls
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._timeout_s = timeout_s
        self._allowed = allowed_private_hosts
        self._resolve = resolve

    async def send(self, url: str, body: bytes) -> None:
        """Post `body` to `url`; return once it was taken (any status 2xx, whatever the answer's body).

        Raises `DeliveryError`, and `WebhookRefusedError` if the endpoint redirects or leads where it may not.
        """
        target = parse_target(url)
        try:
            async with asyncio.timeout(self._timeout_s):
                address = await pin(target, self._resolve, self._allowed)
                status = await self._post(target.url, address, body)
        except (OSError, TimeoutError, aiohttp.ClientError) as error:
            raise DeliveryError("The webhook was not reached, or did not answer in time.") from error
        if status in _REDIRECTED:
            raise WebhookRefusedError("The webhook redirects; redirects are not followed.")
        if status not in _DONE:
            raise DeliveryError("The webhook did not take the notice.", status=status)

    async def _post(self, url: str, address: str, body: bytes) -> int:
        connector = aiohttp.TCPConnector(
            resolver=_Pinned(address), ssl=self._tls, use_dns_cache=False, force_close=True, limit=1
        )
        async with (
            aiohttp.ClientSession(
                connector=connector,
                timeout=self._timeout,
                trust_env=False,
                cookie_jar=aiohttp.DummyCookieJar(),
            ) as session,
            session.post(
                url, data=body, allow_redirects=False, headers={"Content-Type": CONTENT_TYPE}
            ) as response,
        ):
            return response.status


def webhook_sender(config: UsageConfig) -> WebhookSender:
    """Return the sender that `config` describes; raise `ConfigError` if its authorities cannot be read."""
    try:
        tls = ssl.create_default_context(cafile=config.webhook_ca)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"The authorities of webhooks' certificates {config.webhook_ca} cannot be read."
        ) from error
    return WebhookSender(
        tls, timeout_s=config.webhook_timeout_s, allowed_private_hosts=frozenset(config.allowed_private_hosts)
    )


class _Pinned(AbstractResolver):
    """Answers with the one address that was looked at."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the address, whatever `family` is asked for."""
        del family
        return [
            ResolveResult(
                hostname=host,
                host=self._address,
                port=port,
                family=socket.AF_INET6 if ":" in self._address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
        ]

    async def close(self) -> None:
        """Hold nothing."""
