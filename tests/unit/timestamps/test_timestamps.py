"""Time-stamps by a real (OpenSSL) authority: taken if they verify, and never a reason to stop."""

from __future__ import annotations

import hashlib
import math
import shutil
import sqlite3
import subprocess
from contextlib import closing
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.audit.checkpoint import Checkpoint, sign_checkpoint
from gateway.audit.errors import LogUnavailableError
from gateway.audit.note import Ed25519Signer
from gateway.clock import system_clock
from gateway.config import TimestampsConfig
from gateway.errors import ConfigError
from gateway.node import _timestamp_age_s
from gateway.timestamps.authority import HttpAuthority
from gateway.timestamps.stamper import Stamper, StamperHooks
from gateway.timestamps.store import Timestamp, TimestampStore, TimestampStoreError
from gateway.timestamps.token import (
    MAX_TOKEN_BYTES,
    Authorities,
    TimestampError,
    TimestampUnavailableError,
    make_request,
)
from tests.simulators.timestamp_authority import OpensslAuthority, serving, token_answer
from tests.simulators.waiting import until

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")

ORIGIN = "audit.example.org/log/2026"
SIGNER = Ed25519Signer.from_seed(ORIGIN, bytes(range(32)))


def note_of(size: int) -> str:
    return sign_checkpoint(Checkpoint(ORIGIN, size, hashlib.sha256(b"%d" % size).digest()), SIGNER)


@pytest.fixture(scope="module")
def openssl(tmp_path_factory):
    return OpensslAuthority(tmp_path_factory.mktemp("tsa") / "ours")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    return OpensslAuthority(tmp_path_factory.mktemp("tsa") / "strangers")


@pytest.fixture(scope="module")
def authorities(openssl):
    return Authorities.load(openssl.ca)


@pytest.fixture
def store(tmp_path):
    store = TimestampStore(tmp_path / "timestamps.db")
    store.create()
    return store


class World:
    """A stamper, the authority it asks, and a log that is a number."""

    def __init__(self, server, session, authorities, store):
        self.size = 1
        self.server = server
        self.failures = []
        self.clock_offset = timedelta()
        self.stamper = Stamper(
            lambda: note_of(self.size),
            SIGNER.verifier,
            HttpAuthority(server.url, session),
            authorities,
            store,
            clock=lambda: system_clock() + self.clock_offset,
            hooks=StamperHooks(failed=self.failures.append),
        )


@pytest.fixture
async def world(openssl, authorities, store):
    timeout = aiohttp.ClientTimeout(total=0.5)
    async with serving(openssl) as server, aiohttp.ClientSession(timeout=timeout) as session:
        yield World(server, session, authorities, store)


async def test_the_latest_checkpoint_is_stamped_and_the_token_kept(world, store, authorities):
    before = datetime.now(UTC) - timedelta(seconds=2)
    stamp = await world.stamper.stamp()
    assert before < stamp.time < datetime.now(UTC) + timedelta(seconds=2)
    assert (stamp.size, stamp.note) == (1, note_of(1))
    assert store.latest() == stamp
    assert authorities.verify(stamp.token, note_of(1)) == stamp.time


async def test_a_log_that_has_not_grown_is_not_stamped_again(world, store):
    await world.stamper.stamp()
    assert await world.stamper.stamp() is None
    world.size = 5
    assert (await world.stamper.stamp()).size == 5
    assert [stamp.size for stamp in store] == [1, 5]
    assert world.server.asked == 2


async def test_openssl_verifies_what_is_kept(world, openssl, tmp_path):
    stamp = await world.stamper.stamp()
    (tmp_path / "note").write_text(stamp.note)
    (tmp_path / "token").write_bytes(stamp.token)

    def verified() -> bool:
        words = ("-data", tmp_path / "note", "-in", tmp_path / "token", "-CAfile", openssl.ca)
        done = subprocess.run(["openssl", "ts", "-verify", *words], capture_output=True, check=False)
        return done.returncode == 0

    assert verified()
    (tmp_path / "note").write_text(stamp.note.replace("\n1\n", "\n2\n"))
    assert not verified()


# -- what an authority, or somebody on the way, may answer --------------------------------------------


def other_imprint(authority):
    return lambda _: token_answer(authority.reply(make_request(note_of(999)).data))


def other_nonce(authority):
    """The right imprint, in answer to another request."""
    token = authority.reply(make_request(note_of(1)).data)
    return lambda _: token_answer(token)


def other_hash(authority):
    token = authority.reply(authority.request_for(note_of(1).encode(), "sha512"))
    return lambda _: token_answer(token)


def cut(authority):
    return lambda request: token_answer(authority.reply(request)[:-40])


def altered(authority):
    def answer(request):
        token = bytearray(authority.reply(request))
        token[-10] ^= 1  # within the signature
        return token_answer(bytes(token))

    return answer


def garbage(_):
    return lambda _: token_answer(b"\x30\x82nonsense" * 10)


def nothing(_):
    return lambda _: token_answer(b"")


def rejection(_):
    # TimeStampResp ::= SEQUENCE { status PKIStatusInfo { status INTEGER rejection(2) } }
    return lambda _: token_answer(bytes.fromhex("30053003020102"))


@pytest.mark.parametrize(
    "make", [other_imprint, other_nonce, cut, altered, garbage, nothing, rejection, other_hash]
)
async def test_an_answer_that_is_no_token_over_this_checkpoint_for_this_request_is_not_kept(
    world, store, openssl, make
):
    world.server.answer = make(openssl)
    with pytest.raises(TimestampError):
        await world.stamper.stamp()
    assert store.latest() is None
    world.server.answer = None
    assert await world.stamper.stamp() == store.latest()


async def test_a_token_of_a_foreign_authority_is_not_kept(world, store, stranger):
    world.server.answer = lambda request: token_answer(stranger.reply(request))
    with pytest.raises(TimestampError, match="trusted authority"):
        await world.stamper.stamp()
    assert store.latest() is None


def test_the_control_the_foreign_authority_is_believed_by_who_trusts_it(stranger, authorities):
    request = make_request(note_of(1))
    token = stranger.reply(request.data)
    assert Authorities.load(stranger.ca).verify(token, note_of(1), nonce=request.nonce)
    with pytest.raises(TimestampError):
        authorities.verify(token, note_of(1), nonce=request.nonce)


def test_the_control_without_the_nonce_an_older_answer_would_pass(openssl, authorities):
    older = openssl.reply(make_request(note_of(1)).data)
    assert authorities.verify(older, note_of(1))
    with pytest.raises(TimestampError):
        authorities.verify(older, note_of(1), nonce=make_request(note_of(1)).nonce)


@pytest.mark.parametrize(
    "answer",
    [
        lambda _: web.Response(status=500),
        lambda _: web.Response(status=302, headers={"Location": "http://127.0.0.1:9/"}),
        lambda _: web.Response(text="<html>sign in</html>", content_type="text/html"),
        lambda _: token_answer(b"x" * (MAX_TOKEN_BYTES + 1)),
    ],
    ids=["an error", "a redirect", "a page", "too much"],
)
async def test_an_answer_that_is_no_time_stamp_at_all_is_an_outage(world, store, answer):
    world.server.answer = answer
    with pytest.raises(TimestampUnavailableError):
        await world.stamper.stamp()
    assert store.latest() is None


async def test_an_authority_that_hangs_is_an_outage(world):
    world.server.hangs = True
    with pytest.raises(TimestampUnavailableError, match="in time"):
        await world.stamper.stamp()


async def test_an_authority_that_is_not_there_is_an_outage(authorities, store):
    async with aiohttp.ClientSession() as session:
        stamper = Stamper(
            lambda: note_of(1),
            SIGNER.verifier,
            HttpAuthority("http://127.0.0.1:9/", session),
            authorities,
            store,
        )
        with pytest.raises(TimestampUnavailableError, match="not reached"):
            await stamper.stamp()


@pytest.mark.parametrize("off", [timedelta(hours=1), timedelta(hours=-1)])
async def test_an_authority_with_another_time_than_ours_is_not_believed(world, store, off):
    world.clock_offset = off
    with pytest.raises(TimestampError, match="clocks"):
        await world.stamper.stamp()
    assert store.latest() is None


async def test_a_checkpoint_that_is_not_the_logs_is_not_stamped(world, authorities, store):
    world.stamper._checkpoint = lambda: note_of(1).replace("\n1\n", "\n2\n")
    with pytest.raises(LogUnavailableError):
        await world.stamper.stamp()
    assert world.server.asked == 0


async def test_an_outage_is_told_and_passes(world, store):
    import asyncio

    world.server.answer = lambda _: web.Response(status=503)
    task = asyncio.create_task(world.stamper.run(interval_s=0.05, retry_s=0.01))
    try:
        await until(lambda: bool(world.failures))
        world.server.answer = None
        await until(lambda: store.latest() is not None)
        world.size = 2
        await until(lambda: store.latest().size == 2)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


# -- texts and files ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def token(openssl):
    return openssl.reply(make_request(note_of(1)).data)


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_no_altered_token_is_believed(token, authorities, data):
    at = data.draw(st.integers(0, len(token) - 1))
    changed = bytearray(token)
    changed[at] ^= data.draw(st.integers(1, 255))
    try:
        told = authorities.verify(bytes(changed), note_of(1))
    except TimestampError:
        return
    # Bytes that no signature covers (a tag's form, the copy of a certificate) change nothing that is told.
    assert told == authorities.verify(token, note_of(1))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_but_a_token_are_believed(authorities, data):
    with pytest.raises(TimestampError):
        authorities.verify(data, note_of(1))


@pytest.mark.parametrize("url", ["", "tsa.example.org", "ftp://tsa.example.org/", "http://"])
async def test_a_url_that_is_none_is_refused(url):
    async with aiohttp.ClientSession() as session:
        with pytest.raises(ConfigError, match=r"log\.timestamps\.url"):
            HttpAuthority(url, session)


def test_certificates_that_are_none_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        Authorities.load(tmp_path / "missing.pem")
    (tmp_path / "empty.pem").write_text("")
    with pytest.raises(ConfigError):
        Authorities.load(tmp_path / "empty.pem")


def test_time_stamps_are_only_added(store):
    stamp = Timestamp(1, datetime(2026, 1, 1, tzinfo=UTC), note_of(1), b"token")
    store.add(stamp)
    store.create()  # again, and it stays as it is
    assert store.latest() == stamp
    with closing(sqlite3.connect(store.path)) as database:
        for statement in ("DELETE FROM timestamp", "UPDATE timestamp SET size = 0"):
            with pytest.raises(sqlite3.IntegrityError, match="only added"):
                database.execute(statement)
    assert store.path.stat().st_mode & 0o077 == 0


def test_the_earliest_that_covers_an_entry_is_found(store):
    for size, hour in ((10, 1), (20, 2), (30, 3)):
        store.add(Timestamp(size, datetime(2026, 1, 1, hour, tzinfo=UTC), note_of(size), b""))
    assert store.covering(11).size == 20
    assert store.covering(31) is None
    assert [stamp.size for stamp in store.page(2)] == [30, 20]


def test_a_store_that_is_missing_foreign_or_of_another_version_is_told(tmp_path, store):
    for path in (tmp_path / "missing.db", tmp_path / "foreign.db"):
        if path.name == "foreign.db":
            path.write_bytes(b"nonsense" * 1000)
        with pytest.raises(TimestampStoreError, match="cannot be used"):
            TimestampStore(path).latest()
    with closing(sqlite3.connect(store.path)) as database:
        database.execute("PRAGMA user_version = 9")
    with pytest.raises(TimestampStoreError, match="version 9"):
        store.latest()


def test_the_age_of_the_evidence_is_told(tmp_path, store):
    config = TimestampsConfig(url="http://x/", ca=tmp_path, database=store.path)
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert _timestamp_age_s(config, lambda: noon) == math.inf
    store.add(Timestamp(1, noon - timedelta(minutes=2), note_of(1), b""))
    assert _timestamp_age_s(config, lambda: noon) == 120.0
    missing = config.model_copy(update={"database": tmp_path / "missing"})
    assert _timestamp_age_s(missing, lambda: noon) == math.inf
