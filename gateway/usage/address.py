"""Which addresses a webhook may lead to: no service of the gateway's own network is to be reached through it.

The name is resolved once, and the connection made to an address that was found good: a name server that
answers otherwise the next time changes nothing.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from gateway.errors import GatewayError, Reason

MAX_URL_CHARACTERS: Final = 1000
HTTPS_PORT: Final = 443

_EMBEDDING: Final = tuple(
    map(
        ipaddress.ip_network,
        ("::/96", "::ffff:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "2001::/32", "2002::/16"),
    )
)
"""IPv6 ranges whose addresses stand for an IPv4 address: what they lead to cannot be told here."""

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Returns the addresses of a host; raises `OSError` if there are none."""


class WebhookRefusedError(GatewayError):
    """The webhook leads where none may."""

    reason = Reason.REQUEST_MALFORMED


class DeliveryError(GatewayError):
    """The notice was not taken; another attempt may help."""

    reason = Reason.PROVIDER_UNAVAILABLE


@dataclass(frozen=True, slots=True)
class Target:
    """Where a webhook leads."""

    url: str
    host: str
    port: int


def parse_target(url: str) -> Target:
    """Return where `url` leads; raise `WebhookRefusedError` unless it is https, without user or fragment."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or HTTPS_PORT
    except ValueError as error:
        raise _malformed() from error
    is_plain = url.isascii() and url.isprintable() and " " not in url and "\\" not in url
    if not is_plain or len(url) > MAX_URL_CHARACTERS or parts.scheme != "https" or not host:
        raise _malformed()
    if "@" in parts.netloc or parts.fragment:
        raise _malformed()
    return Target(url, host, port)


def is_public(address: str) -> bool:
    """Whether `address` is one of the public internet, for certain."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if any(parsed in network for network in _EMBEDDING if network.version == parsed.version):
        return False
    return parsed.is_global and not parsed.is_multicast and not parsed.is_reserved


async def pin(target: Target, resolve: Resolve, allowed_hosts: frozenset[str]) -> str:
    """Return the address to connect to.

    Every address of the host must be public, or the host one that the operator allows. Raises
    `WebhookRefusedError`, and `OSError` if the host has no address now.
    """
    addresses = await resolve(target.host, target.port)
    if not addresses:
        raise OSError("no address")
    if target.host not in allowed_hosts and not all(map(is_public, addresses)):
        raise WebhookRefusedError(
            "The webhook's host has an address that is not of the public internet; nothing is sent there."
        )
    return addresses[0]


async def resolve(host: str, port: int) -> Sequence[str]:
    """Return the addresses of `host` as the system's resolver knows them; raise `OSError`."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(info[4][0]).partition("%")[0] for info in found))


def _malformed() -> WebhookRefusedError:
    return WebhookRefusedError(
        f"A webhook is an https:// address of at most {MAX_URL_CHARACTERS} ASCII characters, without user "
        "name, password and fragment."
    )
