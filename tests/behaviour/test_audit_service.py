"""Reading the log through the gateway: one's own share of it, and proofs that verify."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import msgspec
import pytest

from gateway.audit.checkpoint import open_checkpoint
from gateway.audit.errors import ProofError
from gateway.audit.note import Ed25519Verifier
from gateway.audit.proof import verify_consistency, verify_inclusion
from gateway.audit.tree import leaf_hash
from gateway.client import error_class
from gateway.demo.world import COMPANIES
from gateway.errors import Reason
from gateway.model import Entry, Role
from tests.simulators.outcome import refused
from tests.simulators.world import SimulatedWorld

pytestmark = pytest.mark.asyncio(loop_scope="module")

AUDIT = "/gateway.api.v1.AuditService"


async def entry_of(world: SimulatedWorld, member: str) -> int:
    page = await world.client(member).query(COMPANIES, purpose="public-lookup", filters={"kind": "none"})
    assert page.verified is not None
    return page.verified.index


async def not_found(client, index: int) -> str:
    """Return all that the refusal says, to compare refusals with each other."""
    with pytest.raises(error_class(Reason.ENTRY_NOT_FOUND)) as raised:
        await client.entry(index)
    return f"{raised.value} {raised.value.code} {raised.value.details}"


async def test_a_member_reads_its_own_entries(world: SimulatedWorld) -> None:
    index = await entry_of(world, "harbour-bank")
    data = await world.client("harbour-bank").entry(index)
    assert msgspec.json.decode(data, type=Entry) == world.log.entries(index)[0]


async def test_a_provider_reads_the_entries_about_its_data(world: SimulatedWorld) -> None:
    index = await entry_of(world, "harbour-bank")
    assert await world.client("registry").entry(index)


async def test_the_entry_of_another_is_answered_like_one_that_is_not_there(world: SimulatedWorld) -> None:
    index = await entry_of(world, "harbour-bank")
    other = world.client("northern-bank")
    theirs = await not_found(other, index)
    absent = await not_found(other, 10**9)
    started = await not_found(other, 0)
    assert theirs == absent == started


async def test_an_auditor_reads_everything(world: SimulatedWorld) -> None:
    world.add_member("court-of-audit", roles=frozenset({Role.AUDITOR}))
    index = await entry_of(world, "harbour-bank")
    auditor = world.client("court-of-audit")
    deadline = time.monotonic() + 5
    while True:
        try:
            await auditor.entry(index)
        except error_class(Reason.MEMBER_UNKNOWN):
            assert time.monotonic() < deadline
        else:
            break
    for number in range(world.log.size()):
        assert msgspec.json.decode(await auditor.entry(number), type=Entry) == world.log.entries(number)[0]


async def test_a_stranger_reads_nothing(world: SimulatedWorld) -> None:
    caller = world.caller(credentials=world.stranger())
    for method in ("GetEntry", "GetCheckpoint", "GetInclusionProof", "GetConsistencyProof"):
        refusal = await refused(caller.unary(f"{AUDIT}/{method}", b""))
        assert (refusal.code, refusal.reason) == ("UNAUTHENTICATED", "MEMBER_UNKNOWN")


async def test_inclusion_and_consistency_proofs_verify(world: SimulatedWorld) -> None:
    client = world.client()
    verifier = Ed25519Verifier.from_vkey(world.trust.log_keys[0])

    async def checkpoint(size: int = 0):
        return open_checkpoint(await client.checkpoint(size), [verifier], origin=world.trust.origin)

    old = await checkpoint()
    indexes = [await entry_of(world, "harbour-bank") for _ in range(5)]
    new = await checkpoint()
    for index in indexes:
        data = await client.entry(index)
        proof = await client.inclusion_proof(index, new.size)
        assert (proof.index, proof.tree_size) == (index, new.size)
        verify_inclusion(leaf_hash(data), index, new.size, list(proof.hashes), new.root)
        with pytest.raises(ProofError):
            verify_inclusion(leaf_hash(data + b" "), index, new.size, list(proof.hashes), new.root)
    proof = await client.consistency_proof(old.size, new.size)
    verify_consistency(old.size, old.root, new.size, new.root, list(proof.hashes))
    with pytest.raises(ProofError):
        verify_consistency(old.size, new.root, new.size, new.root, list(proof.hashes))
    assert await checkpoint(old.size) == old


@pytest.mark.parametrize(
    ("method", "body", "code", "reason"),
    [
        ("GetEntry", b"\x0a\x07entries", "INVALID_ARGUMENT", "REQUEST_MALFORMED"),
        ("GetEntry", b"\x0a\x0aentries/01", "INVALID_ARGUMENT", "REQUEST_MALFORMED"),
        ("GetEntry", b"\x0a\x0aentries/-1", "INVALID_ARGUMENT", "REQUEST_MALFORMED"),
        ("GetEntry", b"\x0a\x09entries/9\x0a\x09entries/9", "INVALID_ARGUMENT", "REQUEST_MALFORMED"),
        ("GetEntry", b"\xff\xff", "INVALID_ARGUMENT", "REQUEST_MALFORMED"),
        ("GetEntry", b"\x0a\x1aentries/999999999999999999", "NOT_FOUND", "ENTRY_NOT_FOUND"),
        ("GetCheckpoint", b"\x08\xff\xff\xff\xff\x0f", "NOT_FOUND", "ENTRY_NOT_FOUND"),
        ("GetCheckpoint", b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "NOT_FOUND", "ENTRY_NOT_FOUND"),
        ("GetInclusionProof", b"\x0a\x1aentries/999999999999999999", "NOT_FOUND", "ENTRY_NOT_FOUND"),
        ("GetConsistencyProof", b"", "INVALID_ARGUMENT", "REQUEST_MALFORMED"),
        ("GetConsistencyProof", b"\x08\x05\x10\x02", "INVALID_ARGUMENT", "REQUEST_MALFORMED"),
    ],
)
async def test_a_question_about_the_log_is_refused_for(
    world: SimulatedWorld, method: str, body: bytes, code: str, reason: str
) -> None:
    refusal = await refused(world.caller().unary(f"{AUDIT}/{method}", body))
    assert (refusal.code, refusal.reason, refusal.domain) == (code, reason, "sluicegate")


async def test_a_size_without_a_checkpoint_is_not_found(own_world: SimulatedWorld) -> None:
    """Several entries may share one commit; between them there is no checkpoint."""
    client = own_world.client()
    await asyncio.gather(*(entry_of(own_world, "harbour-bank") for _ in range(20)))
    sizes = range(1, own_world.log.size() + 1)
    found = [await has_checkpoint(client, size) for size in sizes]
    assert found[-1]


async def has_checkpoint(client, size: int) -> bool:
    with suppress(error_class(Reason.ENTRY_NOT_FOUND)):
        return bool(await client.checkpoint(size))
    return False
