"""Asking a witness: only what verifies counts, and what it knows of our log is found out."""

from datetime import timedelta

import aiohttp
import pytest

from gateway.audit.checkpoint import open_checkpoint
from gateway.audit.cosignature import Ed25519CosignatureSigner
from gateway.audit.errors import LogForkedError, LogRolledBackError, WitnessUnavailableError
from gateway.audit.note import Ed25519Signer, sign_note
from gateway.audit.publication import LogHistory
from gateway.audit.witness_policy import KnownWitness
from gateway.errors import ConfigError
from gateway.evidence.keys import SigningKey
from gateway.witness.client import MAX_ANSWER_BYTES, WitnessClient
from gateway.witness.server import WitnessServer, make_app
from tests.simulators.witness import ScriptedWitness

SIZE = "text/x.tlog.size"
PLAIN = "text/plain; charset=utf-8"


@pytest.fixture
async def session():
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def url(witness):
    server = WitnessServer(make_app(witness), "127.0.0.1:0")
    await server.start()
    yield f"http://127.0.0.1:{server.port}"
    await server.stop()


@pytest.fixture
def client_of(session, signer, clock):
    return lambda url: WitnessClient(KnownWitness("w1", signer.verifier, url), session, clock=clock)


async def cosign(client, log, size=None):
    note = log.checkpoint(size)
    history = LogHistory(log, log.signer.verifier)
    return await client.cosign(note, open_checkpoint(note, [log.signer.verifier]), history)


def text_of(log):
    return log.checkpoint().partition("\n\n")[0] + "\n"


async def test_a_growing_log_is_cosigned_with_what_the_client_remembers(client_of, url, log, signer):
    client = client_of(url + "/")
    for count in (0, 1, 7, 300):
        (line,) = await cosign(client, log.grow(count))
        signer.verifier.verify(text_of(log), line.signature)


async def test_a_client_that_remembers_nothing_learns_the_size_from_the_conflict(client_of, url, log):
    await cosign(client_of(url), log.grow(9))
    assert await cosign(client_of(url), log.grow(9))


async def test_a_client_is_not_led_astray_by_a_witness_that_forgot(client_of, log, signer):
    sizes = iter([b"9\n", b"4\n"])

    def submitted(body):
        if body.startswith((b"old 4\n", b"old 0\n\naudit.example.org/log/2026\n3\n")):
            return 200, PLAIN, signer.signature_line(text_of(log)).encode()
        return 409, SIZE, next(sizes)

    async with ScriptedWitness(submitted) as witness:
        assert await cosign(client_of(witness.url), log.grow(9))
        assert [body.split(b"\n")[0] for body in witness.bodies] == [b"old 0", b"old 9", b"old 4"]


def lines_of(log, signer):
    return signer.signature_line(text_of(log))


SPOILT = {
    "empty": lambda log, signer, clock: "",
    "no line": lambda log, signer, clock: "thank you\n",
    "another checkpoint": lambda log, signer, clock: signer.signature_line(
        text_of(log).replace("\n9\n", "\n8\n")
    ),
    "another key": lambda log, signer, clock: Ed25519CosignatureSigner(
        signer.name, SigningKey(bytes(32)), clock
    ).signature_line(text_of(log)),
    "a plain signature": lambda log, signer, clock: Ed25519Signer.from_seed(
        signer.name, bytes([9]) * 32
    ).signature_line(text_of(log)),
    "a bit changed": lambda log, signer, clock: lines_of(log, signer)[:-10] + "AAAAAAA==\n",
    "a time to come": lambda log, signer, clock: signer.cosign(
        text_of(log), clock.now + timedelta(minutes=6)
    ),
    "no newline": lambda log, signer, clock: lines_of(log, signer)[:-1],
    "one good and one spoilt": lambda log, signer, clock: (
        lines_of(log, signer) + signer.signature_line(text_of(log).replace("\n9\n", "\n8\n"))
    ),
    "too long": lambda log, signer, clock: "x" * (MAX_ANSWER_BYTES + 1),
}


@pytest.mark.parametrize("how", SPOILT)
async def test_a_cosignature_that_does_not_verify_is_not_accepted(client_of, log, signer, clock, how):
    log.grow(9)
    answer = [lines_of(log, signer)]
    async with ScriptedWitness(lambda _: (200, PLAIN, answer[0].encode())) as witness:
        assert await cosign(client_of(witness.url), log)  # the control
        answer[0] = SPOILT[how](log, signer, clock)
        with pytest.raises(WitnessUnavailableError):
            await cosign(client_of(witness.url), log)


async def test_lines_by_other_keys_are_ignored(client_of, log, signer, clock):
    log.grow(9)
    other = Ed25519CosignatureSigner("other.example", SigningKey(bytes(32)), clock)
    answer = other.signature_line(text_of(log)) + lines_of(log, signer)
    async with ScriptedWitness(lambda _: (200, PLAIN, answer.encode())) as witness:
        (line,) = await cosign(client_of(witness.url), log)
    assert line.name == signer.name


@pytest.mark.parametrize("status", [201, 204, 301, 400, 403, 404, 413, 429, 500, 503])
async def test_any_other_answer_is_an_outage(client_of, log, status):
    async with ScriptedWitness(lambda _: (status, PLAIN, b"")) as witness:
        with pytest.raises(WitnessUnavailableError, match=f"answered {status}"):
            await cosign(client_of(witness.url), log.grow(3))


async def test_a_witness_that_is_not_there_is_an_outage(client_of, log):
    with pytest.raises(WitnessUnavailableError, match="cannot be reached"):
        await cosign(client_of("http://127.0.0.1:1"), log.grow(3))


@pytest.mark.parametrize("body", [b"", b"nine\n", b"09\n", b"9"])
async def test_a_conflict_without_a_size_is_an_outage(client_of, log, body):
    async with ScriptedWitness(lambda _: (409, SIZE, body)) as witness:
        with pytest.raises(WitnessUnavailableError, match="size"):
            await cosign(client_of(witness.url), log.grow(3))


async def test_a_witness_that_keeps_moving_is_an_outage(client_of, log):
    sizes = iter(range(1, 9))
    async with ScriptedWitness(lambda _: (409, SIZE, f"{next(sizes)}\n".encode())) as witness:
        with pytest.raises(WitnessUnavailableError, match="moving"):
            await cosign(client_of(witness.url), log.grow(9))


async def test_a_larger_size_that_our_log_has_by_now_is_no_rollback(client_of, url, log):
    await cosign(client_of(url), log.grow(9))
    with pytest.raises(WitnessUnavailableError, match="newer checkpoint"):
        await cosign(client_of(url), log, size=5)


async def test_a_larger_size_than_our_log_has_is_a_rollback_with_the_signed_checkpoint_as_proof(
    client_of, url, log
):
    await cosign(client_of(url), log.grow(9))
    log.leaves = log.leaves[:5]
    with pytest.raises(LogRolledBackError, match="rolled back") as refusal:
        await cosign(client_of(url), log)
    assert refusal.value.details == {"witness": "w1", "size": "9", "evidence": "signed"}


async def test_another_history_is_a_fork_with_the_signed_checkpoint_as_proof(client_of, url, log):
    await cosign(client_of(url), log.grow(9))
    for fork in (log.fork(5, 4), log.fork(5, 20)):
        with pytest.raises(LogForkedError, match="forked") as refusal:
            await cosign(client_of(url), fork)
        assert refusal.value.details == {"witness": "w1", "size": "9", "evidence": "signed"}


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((409, SIZE, b"10\n"), LogRolledBackError),
        ((409, PLAIN, b""), LogForkedError),
        ((422, PLAIN, b""), LogForkedError),
    ],
)
async def test_a_witness_that_shows_no_checkpoint_is_taken_at_its_word(client_of, log, answer, error):
    async with ScriptedWitness(lambda _: answer) as witness:
        with pytest.raises(error) as refusal:
            await cosign(client_of(witness.url), log.grow(9))
    assert refusal.value.details["evidence"] == "claimed"


@pytest.mark.parametrize("answer", [(409, SIZE, b"10\n"), (409, PLAIN, b""), (422, PLAIN, b"")])
async def test_a_witness_whose_own_checkpoint_agrees_with_ours_is_only_out_of_order(client_of, log, answer):
    log.grow(9)
    async with ScriptedWitness(lambda _: answer, shown=log.checkpoint(7).encode()) as witness:
        with pytest.raises(WitnessUnavailableError, match="agrees"):
            await cosign(client_of(witness.url), log)


async def test_a_checkpoint_that_our_log_has_not_signed_proves_nothing(client_of, log):
    log.grow(9)
    stranger = Ed25519Signer.from_seed(log.signer.name, bytes(32))
    forged = sign_note(text_of(log).replace("\n9\n", "\n10\n"), [stranger])
    async with ScriptedWitness(lambda _: (422, PLAIN, b""), shown=forged.encode()) as witness:
        with pytest.raises(LogForkedError) as refusal:
            await cosign(client_of(witness.url), log)
    assert refusal.value.details["evidence"] == "claimed"


@pytest.mark.parametrize("url", [None, "", "ftp://x/", "https://", "witness.example"])
def test_a_witness_without_a_url_is_refused(client_of, url):
    with pytest.raises(ConfigError, match="no URL"):
        client_of(url)
