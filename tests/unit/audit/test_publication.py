"""Publishing with witnesses that a test plays: who is asked, what is kept, what an outage does."""

import asyncio
import sqlite3
from datetime import timedelta

import pytest

from gateway.audit.checkpoint import open_checkpoint
from gateway.audit.cosignature import Ed25519CosignatureSigner
from gateway.audit.errors import (
    LogForkedError,
    LogRolledBackError,
    LogUnavailableError,
    NoteSignatureError,
    WitnessUnavailableError,
)
from gateway.audit.fsck import fsck
from gateway.audit.note import parse_note, parse_signature_lines
from gateway.audit.publication import Grade, LogHistory, Publication, PublicationHooks, Publisher
from gateway.audit.sqlite import SqliteStore
from gateway.audit.sqlite_publications import SqlitePublications
from gateway.audit.sqlite_reader import SqliteReader
from gateway.audit.witness_policy import WitnessPolicy
from gateway.evidence.keys import SigningKey


class PlayedWitness:
    """Cosigns whatever it is shown, or does what it is told to."""

    def __init__(self, number, clock):
        self.name = f"w{number}"
        self.signer = Ed25519CosignatureSigner(f"w{number}.example", SigningKey(bytes([number]) * 32), clock)
        self.does = None
        self.asked = 0

    async def cosign(self, note, checkpoint, history):
        self.asked += 1
        if self.does is not None:
            await self.does()
        return parse_signature_lines(self.signer.signature_line(parse_note(note).text))


def raises(error):
    async def do():
        raise error("Told to.")

    return do


@pytest.fixture
def witnesses(clock):
    return [PlayedWitness(number, clock) for number in (1, 2, 3)]


@pytest.fixture
def policy(witnesses):
    lines = [f"witness {item.name} {item.signer.verifier.vkey()}" for item in witnesses]
    return WitnessPolicy.parse("\n".join([*lines, "group g 2 w1 w2 w3", "quorum g"]).encode())


@pytest.fixture
def publications(path, fill):
    fill(path, 10)
    with SqlitePublications(path) as publications:
        yield publications


@pytest.fixture
def told():
    return []


@pytest.fixture
def publisher(path, publications, policy, witnesses, identity, clock, told):
    hooks = PublicationHooks(
        published=lambda item: told.append(item.grade.value),
        witness_failed=lambda name, error: told.append(f"{name} {type(error).__name__}"),
        failed=lambda error: told.append(type(error).__name__),
    )
    with SqliteReader(path) as reader:
        yield Publisher(
            LogHistory(reader, identity.verifier),
            publications,
            policy,
            witnesses,
            clock=clock,
            timeout=timedelta(seconds=0.2),
            hooks=hooks,
        )


async def test_the_latest_checkpoint_is_published_with_every_cosignature(
    publisher, publications, policy, identity
):
    published = await publisher.publish()
    assert (published.size, published.grade) == (10, Grade.WITNESSED)
    assert publications.latest() == published
    found = policy.verify(published.note, log_verifiers=[identity.verifier])
    assert [item.witness for item in found.cosignatures] == ["w1", "w2", "w3"]
    assert publisher.last_witnessed() == found.cosignatures


async def test_an_outage_of_one_leaves_the_checkpoint_witnessed(publisher, witnesses, told):
    witnesses[0].does = raises(WitnessUnavailableError)
    assert (await publisher.publish()).grade is Grade.WITNESSED
    assert told == ["w1 WitnessUnavailableError", "witnessed"]


async def test_an_outage_of_the_quorum_lowers_the_grade_and_stops_nothing(publisher, witnesses, publications):
    for witness in witnesses[:2]:
        witness.does = raises(WitnessUnavailableError)
    published = await publisher.publish()
    assert published.grade is Grade.PUBLISHED
    assert len(parse_note(published.note).signatures) == 2  # the log's, and that of the one who answered
    assert publications.latest(Grade.WITNESSED) is None
    assert publisher.last_witnessed() == ()
    for witness in witnesses:
        witness.does = None
    assert (await publisher.publish()).grade is Grade.WITNESSED
    assert publications.at(10).grade is Grade.WITNESSED


async def test_a_long_outage_leaves_one_row_until_somebody_answers(publisher, witnesses, publications, clock):
    for witness in witnesses:
        witness.does = raises(WitnessUnavailableError)
    first = await publisher.publish()
    clock.advance(timedelta(hours=1))
    assert await publisher.publish() == first
    assert publications.page(10) == [first]
    witnesses[0].does = None
    second = await publisher.publish()
    assert (second.grade, len(publications.page(10))) == (Grade.PUBLISHED, 2)


async def test_a_witnessed_checkpoint_stays_so_through_an_outage(publisher, witnesses, publications, clock):
    first = await publisher.publish()
    for witness in witnesses:
        witness.does = raises(WitnessUnavailableError)
    clock.advance(timedelta(hours=1))
    assert await publisher.publish() == first
    assert publications.page(10) == [first]


async def test_a_head_that_our_key_has_not_signed_ends_the_publishing(publisher, path, tamper):
    tamper(path, "UPDATE head SET note = replace(note, '2026', '2027')")
    with pytest.raises(NoteSignatureError):
        await publisher.run(timedelta(seconds=0))


async def test_a_witness_that_hangs_is_waited_for_only_so_long(publisher, witnesses, told):
    witnesses[2].does = asyncio.Event().wait
    assert (await publisher.publish()).grade is Grade.WITNESSED
    assert "w3 WitnessUnavailableError" in told


async def test_witnesses_are_asked_at_the_same_time(publisher, witnesses):
    meeting = asyncio.Barrier(3)
    for witness in witnesses:
        witness.does = meeting.wait
    assert (await publisher.publish()).grade is Grade.WITNESSED
    assert "w1" in {witness.name for witness in witnesses}


@pytest.mark.parametrize("error", [LogRolledBackError, LogForkedError])
async def test_another_history_is_raised_and_nothing_is_published(
    publisher, witnesses, publications, error, told
):
    witnesses[1].does = raises(error)
    with pytest.raises(error):
        await publisher.publish()
    assert publications.latest() is None
    assert told == [f"w2 {error.__name__}"]
    with pytest.raises(error):
        await publisher.run(timedelta(seconds=0))


async def test_a_fault_of_ours_is_not_taken_for_an_outage(publisher, witnesses):
    witnesses[1].does = raises(ZeroDivisionError)
    with pytest.raises(ZeroDivisionError):
        await publisher.publish()


async def test_a_witnessed_checkpoint_is_not_published_again_until_it_is_old(
    publisher, witnesses, clock, publications
):
    first = await publisher.publish()
    assert await publisher.publish() == first
    assert witnesses[0].asked == 1
    clock.advance(timedelta(minutes=11))
    again = await publisher.publish()
    assert (again.size, again.moment) == (10, clock.now)
    assert publications.page(10) == [again, first]


async def test_a_log_that_grew_is_published_again(publisher, path, open_log, make_entry):
    await publisher.publish()
    with SqliteStore(path) as store:
        open_log(store).append_sync(make_entry(99))
    assert (await publisher.publish()).size == 11


async def test_publishing_goes_on_after_an_outage_of_the_store(publisher, publications, told):
    fine = publications.record
    attempts = []

    def fail(publication):
        attempts.append(publication)
        if len(attempts) == 1:
            raise LogUnavailableError("Told to.")
        fine(publication)
        raise asyncio.CancelledError

    publications.record = fail
    with pytest.raises(asyncio.CancelledError):
        await publisher.run(timedelta(seconds=0))
    assert told == ["LogUnavailableError"]
    assert publications.latest().size == 10


async def test_a_checkpoint_by_another_key_is_never_shown_to_a_witness(
    path, publications, policy, witnesses, clock
):
    from gateway.audit.note import Ed25519Signer

    stranger = Ed25519Signer.from_seed("audit.example.org/log/2026", bytes([5]) * 32).verifier
    with SqliteReader(path) as reader:
        publisher = Publisher(LogHistory(reader, stranger), publications, policy, witnesses, clock=clock)
        with pytest.raises(NoteSignatureError):
            await publisher.publish()
    assert witnesses[0].asked == 0


def publication(publications, identity, size, grade=Grade.PUBLISHED):
    from tests.unit.audit.conftest import NOON

    with SqliteReader(publications.path) as reader:
        note = reader.checkpoint_at(size)
    assert open_checkpoint(note, [identity.verifier]).size == size
    return Publication(size, note, NOON, grade)


def test_every_publication_is_kept_and_the_best_of_a_size_is_found(publications, identity):
    first = publication(publications, identity, 7)
    best = publication(publications, identity, 7, Grade.WITNESSED)
    last = publication(publications, identity, 10)
    for item in (first, best, publication(publications, identity, 7), last):
        publications.record(item)
    assert [item.size for item in publications.page(10)] == [10, 7, 7, 7]
    assert publications.page(10, below=10)[1] == best
    assert publications.at(7) == best
    assert publications.at(8) is None
    assert publications.latest() == last
    assert publications.latest(Grade.WITNESSED) == best
    with pytest.raises(ValueError, match="page"):
        publications.page(0)


def test_publications_are_never_changed_nor_deleted(publications, identity, path):
    publications.record(publication(publications, identity, 10))
    connection = sqlite3.connect(path)
    for statement in ("DELETE FROM published", "UPDATE published SET size = 3"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("UPDATE published SET size = 7", "not the one"),
        ("UPDATE published SET size = 8", "no checkpoint of this size"),
        ("UPDATE published SET note = replace(note, '2026', '2027')", "not the one"),
        ("UPDATE published SET note = 'x'", "not the one"),
    ],
)
def test_fsck_finds_a_publication_that_is_not_the_log_s(
    publications, identity, path, tamper, statement, what
):
    publications.record(publication(publications, identity, 10))
    assert fsck(path, identity.verifier).findings == ()  # the control
    tamper(path, statement)
    (finding,) = fsck(path, identity.verifier).findings
    assert finding.place == "published"
    assert what in finding.what


def test_publishing_waits_for_the_writer_s_lock_and_gives_up(publications, identity, path):
    import fcntl

    impatient = SqlitePublications(path, lock_timeout_s=0.05)
    with open(f"{path}.lock", "w") as lock:  # noqa: PTH123
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(LogUnavailableError, match="holds the log's lock"):
            impatient.record(publication(publications, identity, 10))
    impatient.record(publication(publications, identity, 10))
