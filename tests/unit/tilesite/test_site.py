"""The log's site, asked over a real connection."""

import asyncio
import gzip
import http.client
import ssl
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.audit.bundle import encode_bundle
from gateway.audit.errors import LogMismatchError
from gateway.audit.sqlite import SqliteStore
from gateway.audit.sqlite_reader import SqliteReader
from gateway.audit.store import prepare_entry
from gateway.config import GatewayConfig, LogConfig, TilesConfig, TlsConfig
from gateway.errors import ConfigError
from gateway.pki.authority import CertificateAuthority
from gateway.tilesite import TileSite
from tests.unit.audit.conftest import NOON, ORIGIN

COUNT = 600


@pytest.fixture
def log(path, fill):
    fill(path, COUNT, batch=23)
    return path


@pytest.fixture
def reader(log):
    with SqliteReader(log) as reader:
        yield reader


def settings(log, **tiles):
    unused = Path("unused")
    return GatewayConfig.model_construct(
        tls=TlsConfig(certificate=unused, key=unused, client_ca=unused),
        log=LogConfig(origin=tiles.pop("origin", ORIGIN), database=log),
        tiles=TilesConfig(listen=tiles.pop("listen", "127.0.0.1:0"), **tiles),
    )


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict
    body: bytes


@pytest.fixture
async def start():
    """Return a function that starts a site and returns how to ask it."""
    sites = []

    async def start(config, context=None):
        site = TileSite(config)
        await site.start()
        sites.append(site)

        def ask(path, method="GET", **headers):
            if context is None:
                connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=10)
            else:
                connection = http.client.HTTPSConnection("localhost", site.port, timeout=10, context=context)
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            answer = Answer(response.status, dict(response.getheaders()), response.read())
            connection.close()
            return answer

        return lambda *args, **kwargs: asyncio.to_thread(ask, *args, **kwargs)

    yield start
    for site in sites:
        await site.stop()


async def test_the_latest_checkpoint_is_shown_and_kept_for_a_moment_only(start, log, reader):
    ask = await start(settings(log))
    answer = await ask("/checkpoint")
    assert (answer.status, answer.body.decode()) == (200, reader.checkpoint())
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["cache-control"] == "public, max-age=2"


async def test_a_log_that_grows_is_shown_as_it_grows(start, log, reader, open_log, make_entry):
    ask = await start(settings(log))
    before = (await ask("/checkpoint")).body
    assert (await ask("/tile/0/002.p/89")).status == 404
    with SqliteStore(log) as store:
        writer = open_log(store)
        store.append([prepare_entry(make_entry(COUNT))], writer._appender.sign, NOON)
        writer.close()
    assert (await ask("/checkpoint")).body != before
    assert (await ask("/tile/0/002.p/89")).status == 200


async def test_the_checkpoint_of_every_committed_size_is_shown(start, log, reader):
    ask = await start(settings(log))
    for size in (0, 23, COUNT):
        assert (await ask(f"/checkpoint/{size}")).body.decode() == reader.checkpoint_at(size)
    for size in ("24", "007", "-1", "x", str(2**63)):
        assert (await ask(f"/checkpoint/{size}")).status == 404


@pytest.mark.parametrize("width", [1, 17, 87, 88])
async def test_a_partial_tile_of_any_width_is_shown(start, log, reader, width):
    ask = await start(settings(log))
    answer = await ask(f"/tile/0/002.p/{width}")
    assert answer.body == reader.tile(0, 2, width)
    assert len(answer.body) == 32 * width


async def test_full_tiles_are_shown_and_may_be_kept_for_ever(start, log, reader):
    ask = await start(settings(log))
    answer = await ask("/tile/0/001")
    assert answer.body == reader.tile(0, 1, 256)
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert (await ask("/tile/1/000.p/2")).body == reader.tile(1, 0, 2)
    head = await ask("/tile/0/001", "HEAD")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", "8192")


NOTHING_THERE = """
/ /tile /tile/0/002 /tile/0/002.p/89 /tile/0/003.p/1 /tile/1/000 /tile/1/000.p/3 /tile/2/000.p/1
/tile/63/000.p/1 /tile/64/000 /tile/0/1 /tile/0/x001/000 /tile/0/000.p/256 /tile/0/000.p/0 /tile/-1/000
/tile/0/x999/x999/x999/x999/x999/x999/999 /tile/0/../../checkpoint /tile/entries/002 /tile/entries/002.p/89
/tile/entries/x/000 /tile/0/000%0a /tile/0/000.p/1/
"""


async def test_what_the_log_does_not_have_is_not_found(start, log):
    ask = await start(settings(log, entries=True))
    for asked in NOTHING_THERE.split():
        assert (asked, (await ask(asked)).status) == (asked, 404)


async def test_entries_are_shown_only_where_the_operator_says_so(start, log, reader):
    ask = await start(settings(log))
    answer = await ask("/tile/entries/000")
    assert answer.status == 403
    assert b"registry" not in answer.body
    ask = await start(settings(log, entries=True))
    assert (await ask("/tile/entries/000")).body == encode_bundle(reader.entries(0, 256))
    assert (await ask("/tile/entries/002.p/5")).body == encode_bundle(reader.entries(512, 517))


async def test_entries_are_squeezed_for_those_who_ask(start, log, reader):
    ask = await start(settings(log, entries=True))
    plain = await ask("/tile/entries/000")
    squeezed = await ask("/tile/entries/000", **{"Accept-Encoding": "gzip"})
    assert "content-encoding" not in plain.headers
    assert squeezed.headers["content-encoding"] == "gzip"
    assert "Accept-Encoding" in squeezed.headers["vary"]
    assert gzip.decompress(squeezed.body) == plain.body
    assert "content-encoding" not in (await ask("/tile/0/000", **{"Accept-Encoding": "gzip"})).headers


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_nothing_can_be_changed(start, log, method):
    ask = await start(settings(log))
    for path in ("/checkpoint", "/tile/0/000", "/tile/entries/000"):
        assert (await ask(path, method)).status == 405


async def test_a_log_that_cannot_be_read_is_unavailable_and_comes_back(start, log):
    ask = await start(settings(log))
    moved = log.with_name("moved.db")
    # Opened anew by each reader that finds no idle connection: hold the one there is.
    log.rename(moved)
    answers = await asyncio.gather(*(ask("/checkpoint") for _ in range(8)))
    assert {answer.status for answer in answers} <= {200, 503}
    moved.rename(log)
    assert (await ask("/checkpoint")).status == 200


async def test_the_site_speaks_tls_where_it_has_a_certificate(start, log, tmp_path):
    authority = CertificateAuthority.create("test authority", 30)
    certificate, key = tmp_path / "site.pem", tmp_path / "site.key"
    authority.issue("site", dns=["localhost"], ips=["127.0.0.1"], valid_days=20).save(certificate, key)
    context = ssl.create_default_context(cadata=authority.certificate_pem.decode())
    ask = await start(settings(log, certificate=certificate, key=key), context)
    assert (await ask("/checkpoint")).status == 200
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        await ask("/checkpoint")


async def test_half_a_tls_identity_is_refused(log, tmp_path):
    with pytest.raises(ConfigError, match="go together"):
        await TileSite(settings(log, certificate=tmp_path / "site.pem")).start()


async def test_a_key_that_others_may_read_is_refused(log, tmp_path):
    for name in ("site.pem", "site.key"):
        (tmp_path / name).write_text("")
    (tmp_path / "site.key").chmod(0o644)
    with pytest.raises(ConfigError, match="open to others"):
        await TileSite(settings(log, certificate=tmp_path / "site.pem", key=tmp_path / "site.key")).start()
    (tmp_path / "site.key").chmod(0o600)
    with pytest.raises(ConfigError, match="PEM form"):
        await TileSite(settings(log, certificate=tmp_path / "site.pem", key=tmp_path / "site.key")).start()


async def test_another_log_than_configured_is_refused(log):
    with pytest.raises(LogMismatchError, match="another origin"):
        await TileSite(settings(log, origin="audit.example.org/log/2027")).start()


async def test_a_missing_log_is_refused(path):
    with pytest.raises(ConfigError, match="missing"):
        await TileSite(settings(path)).start()


async def test_a_taken_port_is_refused(start, log):
    site = TileSite(settings(log))
    await site.start()
    with pytest.raises(ConfigError, match="cannot listen"):
        await TileSite(settings(log, listen=f"127.0.0.1:{site.port}")).start()
    await site.stop()
