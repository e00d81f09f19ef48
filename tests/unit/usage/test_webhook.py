"""Webhooks over real TLS: taken, slow, down, redirecting, and leading where they may not."""

from __future__ import annotations

import asyncio
import ssl
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from gateway.pki.authority import CertificateAuthority
from gateway.usage.address import DeliveryError, WebhookRefusedError, is_public, parse_target
from gateway.usage.webhook import WebhookSender

NAME = "hooks.example.org"
PRIVATE = [
    "127.0.0.1",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",
    "224.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "fe80::1",
    "fd00::1",
    "ff02::1",
    "::ffff:10.0.0.1",
    "::ffff:8.8.8.8",
    "64:ff9b::a00:1",
    "2002:a00:1::1",
    "not an address",
]


@pytest.fixture(scope="module")
def authority():
    return CertificateAuthority.create("Hooks", 10)


@asynccontextmanager
async def endpoint(authority, handler, name=NAME):
    app = web.Application()
    app.router.add_post("/{rest:.*}", handler)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder) / "cert.pem", Path(folder) / "key.pem"
        authority.issue(name, dns=[name], valid_days=5).save(*files)
        tls.load_cert_chain(*files)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    try:
        yield f"https://{NAME}:{site._server.sockets[0].getsockname()[1]}/in"
    finally:
        await runner.cleanup()


def sender(authority, *, allowed=(NAME,), addresses=("127.0.0.1",), timeout_s=5.0, asked=None):
    async def resolve(host, port):
        if asked is not None:
            asked.append((host, port))
        if not addresses:
            raise OSError("no such host")
        return list(addresses)

    tls = ssl.create_default_context(cadata=authority.certificate_pem.decode())
    return WebhookSender(tls, timeout_s=timeout_s, allowed_private_hosts=frozenset(allowed), resolve=resolve)


async def test_a_notice_is_posted_to_the_address_that_was_looked_at(authority):
    taken, asked = [], []

    async def take(request):
        taken.append((request.host.partition(":")[0], request.content_type, await request.read()))
        return web.Response(status=204)

    async with endpoint(authority, take) as url:
        await sender(authority, asked=asked).send(url, b"body")
    assert taken == [(NAME, "application/vnd.dsse+json", b"body")]
    assert len(asked) == 1, "the name is resolved once"


async def test_a_private_address_is_refused_and_nothing_is_sent(authority):
    taken = []

    async def take(request):
        taken.append(request)
        return web.Response()

    async with endpoint(authority, take) as url:
        with pytest.raises(WebhookRefusedError):
            await sender(authority, allowed=()).send(url, b"body")
        assert not taken
        # The control: with the host allowed, the same address takes it.
        await sender(authority).send(url, b"body")
        assert len(taken) == 1


async def test_one_private_address_among_public_ones_is_enough_to_refuse(authority):
    with pytest.raises(WebhookRefusedError):
        await sender(authority, allowed=(), addresses=("8.8.8.8", "10.0.0.1")).send(f"https://{NAME}/", b"")


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_refused_and_not_followed(authority, status):
    followed = []

    async def redirect(request):
        if request.path == "/private":
            followed.append(request)
            return web.Response()
        return web.Response(status=status, headers={"Location": "/private"})

    async with endpoint(authority, redirect) as url:
        with pytest.raises(WebhookRefusedError):
            await sender(authority).send(url, b"body")
    assert not followed


@pytest.mark.parametrize("status", [400, 404, 429, 500, 503])
async def test_what_is_not_taken_may_be_tried_again(authority, status):
    async def refuse(_request):
        return web.Response(status=status)

    async with endpoint(authority, refuse) as url:
        with pytest.raises(DeliveryError):
            await sender(authority).send(url, b"body")


async def test_a_slow_endpoint_is_given_only_so_much_time(authority):
    release = asyncio.Event()

    async def wait(_request):
        await release.wait()
        return web.Response()

    async with endpoint(authority, wait) as url:
        with pytest.raises(DeliveryError):
            await sender(authority, timeout_s=0.3).send(url, b"body")
        release.set()


async def test_an_endpoint_that_is_down_or_unknown_may_be_tried_again(authority):
    with pytest.raises(DeliveryError):
        await sender(authority).send(f"https://{NAME}:1/", b"body")
    with pytest.raises(DeliveryError):
        await sender(authority, addresses=()).send(f"https://{NAME}/", b"body")


async def test_a_certificate_of_another_host_is_not_taken(authority):
    async def take(_request):
        raise AssertionError("nothing may be sent")

    async with endpoint(authority, take, name="other.example.org") as url:
        with pytest.raises(DeliveryError):
            await sender(authority).send(url, b"body")


async def test_a_certificate_of_another_authority_is_not_taken(authority):
    async def take(_request):
        raise AssertionError("nothing may be sent")

    async with endpoint(CertificateAuthority.create("Other", 10), take) as url:
        with pytest.raises(DeliveryError):
            await sender(authority).send(url, b"body")


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_that_is_not_public_is_known(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111"])
def test_a_public_address_is_known(address):
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.org/",
        "ftp://hooks.example.org/",
        "https://",
        "https:///x",
        "https://user@hooks.example.org/",
        "https://user:secret@hooks.example.org/",
        "https://hooks.example.org/#x",
        "https://hooks.example.org:99999/",
        "https://hooks.example.org/\n",
        "https://hooks.example.org\\@10.0.0.1/",
        "https://h\u00f6oks.example.org/",
        "https://hooks.example.org/" + "x" * 1000,
    ],
)
def test_what_is_no_webhook_is_refused_by_its_form(url):
    with pytest.raises(WebhookRefusedError):
        parse_target(url)
