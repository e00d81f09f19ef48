"""Rewriting the log with its stolen key: found by a witness, and by nobody without one.

The log is written by the gateway's own writer, the witness is asked over real HTTP. Each attack leaves a log
in which nothing is wrong by itself: the control shows that without a witness it is taken for the true one.
"""

import shutil
from contextlib import AsyncExitStack
from datetime import timedelta

import aiohttp
import pytest

from gateway.audit.cosignature import Ed25519CosignatureSigner
from gateway.audit.errors import LogForkedError, LogRolledBackError, NoteError, WitnessQuorumError
from gateway.audit.fsck import fsck
from gateway.audit.note import Ed25519Signer
from gateway.audit.proof import TlogProof
from gateway.audit.publication import Grade, LogHistory, Publisher
from gateway.audit.sqlite import SqliteStore
from gateway.audit.sqlite_publications import SqlitePublications
from gateway.audit.sqlite_reader import SqliteReader
from gateway.audit.tree import leaf_hash
from gateway.audit.witness_policy import WitnessPolicy
from gateway.audit.writer import AuditLog
from gateway.clock import rfc3339, system_clock
from gateway.evidence.keys import SigningKey
from gateway.model.entry import Entry, EntryKind
from gateway.witness.client import WitnessClient
from gateway.witness.server import WitnessServer, make_app
from gateway.witness.state import WitnessState
from gateway.witness.witness import Witness

ORIGIN = "audit.example.org/log/2026"
STOLEN_KEY = Ed25519Signer.from_seed(ORIGIN, bytes(range(32)))


class Agency:
    """A log's operator, and the witness of another agency that looks on."""

    def __init__(self, folder, policy, session):
        self.database = folder / "audit.db"
        self.policy = policy
        self._session = session

    async def append(self, count, purpose="statistics", database=None):
        with (
            SqliteStore(database or self.database) as store,
            AuditLog(store, STOLEN_KEY, origin=ORIGIN) as log,
        ):
            for number in range(count):
                await log.append(
                    Entry(
                        v=1,
                        kind=EntryKind.EXCHANGE_RELEASED,
                        time=rfc3339(system_clock()),
                        purpose=purpose,
                        records=number,
                    )
                )

    async def publish(self, *, witnessed=True):
        """Publish with a new process's memory: none. Without witnesses, that is with the defence off."""
        policy = self.policy if witnessed else WitnessPolicy.parse(b"quorum none\n")
        with SqliteReader(self.database) as reader, SqlitePublications(self.database) as publications:
            asked = [WitnessClient(item, self._session) for item in policy.witnesses]
            history = LogHistory(reader, STOLEN_KEY.verifier)
            publisher = Publisher(history, publications, policy, asked, refresh=timedelta(0))
            return await publisher.publish()

    def looks_sound(self):
        return fsck(self.database, STOLEN_KEY.verifier).findings == ()

    def replace_by(self, other):
        for leftover in self.database.parent.glob("audit.db*"):
            leftover.unlink()
        shutil.copy(other, self.database)

    def back_up(self, name):
        """Copy the database as `sqlite3 .backup` does: whole, without its write-ahead log."""
        import sqlite3

        copy = self.database.parent / name
        source, target = sqlite3.connect(self.database), sqlite3.connect(copy)
        source.backup(target)
        source.close()
        target.close()
        copy.chmod(0o600)
        return copy

    def prove(self, index):
        with SqliteReader(self.database) as reader, SqlitePublications(self.database) as publications:
            published = publications.latest()
            hashes = reader.inclusion_proof(index, published.size)
            return TlogProof(index, hashes, published.note), leaf_hash(reader.entry(index).data)


@pytest.fixture
async def agency(tmp_path):
    signer = Ed25519CosignatureSigner("witness.example.org/w1", SigningKey(bytes([9]) * 32))
    async with AsyncExitStack() as stack:
        state = stack.enter_context(WitnessState.create(tmp_path / "witness.db"))
        state.add_key(ORIGIN, STOLEN_KEY.verifier.vkey())
        server = WitnessServer(make_app(Witness(state, [signer])), "127.0.0.1:0")
        await server.start()
        stack.push_async_callback(server.stop)
        session = await stack.enter_async_context(aiohttp.ClientSession())
        policy = WitnessPolicy.parse(
            f"witness w1 {signer.verifier.vkey()} http://127.0.0.1:{server.port}\nquorum w1\n".encode()
        )
        yield Agency(tmp_path, policy, session)


async def test_an_honest_log_is_witnessed_again_and_again(agency):
    for _ in range(3):
        await agency.append(20)
        assert (await agency.publish()).grade is Grade.WITNESSED
    assert agency.looks_sound()


async def roll_back(agency):
    await agency.append(20)
    await agency.publish()
    yesterday = agency.back_up("yesterday.db")
    await agency.append(20)
    await agency.publish()
    agency.replace_by(yesterday)


async def test_rolling_back_to_yesterday_s_backup_is_found(agency):
    await roll_back(agency)
    with pytest.raises(LogRolledBackError, match="Restore the newest copy") as refusal:
        await agency.publish()
    assert refusal.value.details["evidence"] == "signed"


async def test_rolling_back_goes_unnoticed_without_a_witness(agency):
    await roll_back(agency)
    assert agency.looks_sound()
    assert (await agency.publish(witnessed=False)).size == 20


@pytest.mark.parametrize("more", [5, 20, 100])
async def test_going_on_from_yesterday_s_backup_is_found_however_far_it_went(agency, more):
    await roll_back(agency)
    await agency.append(more, purpose="something else")
    with pytest.raises((LogForkedError, LogRolledBackError)) as refusal:
        await agency.publish()
    assert type(refusal.value) is (LogRolledBackError if more < 20 else LogForkedError)
    assert refusal.value.details["evidence"] == "signed"


async def test_going_on_from_yesterday_s_backup_goes_unnoticed_without_a_witness(agency):
    await roll_back(agency)
    await agency.append(100, purpose="something else")
    assert agency.looks_sound()
    assert (await agency.publish(witnessed=False)).size == 120


async def fork(agency):
    """Two branches, both signed with the log's key: one is shown to the witness, the other to a recipient."""
    await agency.append(10)
    await agency.publish()
    branch = agency.back_up("branch.db")
    await agency.append(10, purpose="the truth")
    await agency.publish()
    await agency.append(10, purpose="a lie", database=branch)
    agency.replace_by(branch)


async def test_a_second_branch_is_found(agency):
    await fork(agency)
    with pytest.raises(LogForkedError, match="Keep both") as refusal:
        await agency.publish()
    assert refusal.value.details["evidence"] == "signed"


async def test_a_second_branch_goes_unnoticed_without_a_witness(agency):
    await fork(agency)
    assert agency.looks_sound()
    assert (await agency.publish(witnessed=False)).size == 20


async def test_a_proof_on_the_second_branch_is_refused_by_who_asks_for_a_witness(agency):
    await fork(agency)
    await agency.publish(witnessed=False)
    proof, leaf = agency.prove(15)
    proof.verify(leaf, [STOLEN_KEY.verifier], origin=ORIGIN)  # the control: nothing else is wrong with it
    with pytest.raises(WitnessQuorumError):
        agency.policy.verify(proof.checkpoint, log_verifiers=[STOLEN_KEY.verifier])


async def test_a_cosignature_cannot_be_moved_to_the_second_branch(agency):
    await agency.append(10)
    true_note = (await agency.publish()).note
    await fork(agency)
    forged = (await agency.publish(witnessed=False)).note
    cosignature = true_note.splitlines(keepends=True)[-1]
    assert agency.policy.verify(true_note, log_verifiers=[STOLEN_KEY.verifier])  # the control
    with pytest.raises(NoteError):
        agency.policy.verify(forged + cosignature, log_verifiers=[STOLEN_KEY.verifier])


async def re_sign_everything(agency):
    """Write the same number of entries anew, with other contents, and sign them all with the stolen key."""
    await agency.append(30)
    await agency.publish()
    fresh = agency.database.with_name("fresh.db")
    await agency.append(30, purpose="never happened", database=fresh)
    agency.replace_by(fresh)


async def test_signing_everything_anew_is_found(agency):
    await re_sign_everything(agency)
    with pytest.raises(LogForkedError) as refusal:
        await agency.publish()
    assert refusal.value.details["evidence"] == "signed"


async def test_signing_everything_anew_goes_unnoticed_without_a_witness(agency):
    await re_sign_everything(agency)
    assert agency.looks_sound()
    assert (await agency.publish(witnessed=False)).size == 30


async def test_truncating_the_published_checkpoints_hides_nothing_from_a_witness(agency):
    """What the operator keeps of its own publications is no evidence against it; the witness's memory is."""
    await roll_back(agency)
    with SqlitePublications(agency.database) as publications:
        assert publications.latest().size == 20  # yesterday's, as if nothing had been published since
    with pytest.raises(LogRolledBackError):
        await agency.publish()
