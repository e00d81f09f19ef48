"""Contracts over real gRPC: who may do what, what is refused, and that all of it stands in the log."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from gateway.api.v1 import contract_service_pb2 as api
from gateway.client import ClientError, PartyContract
from gateway.clock import parse_rfc3339
from gateway.contracts.document import encode_terms, read_terms
from gateway.contracts.signing import CONTRACT_TYPE, sign_terms
from gateway.deployment.contracts import resume_contract, suspend_contract
from gateway.errors import Reason
from gateway.evidence import dsse
from gateway.evidence.keys import SigningKey
from gateway.model import ContractState, Entry, EntryKind, MemberState, Terms
from gateway.rpc.convert import envelope_to_wire
from tests.simulators.log_faults import entries_refused
from tests.simulators.negotiated import content_of
from tests.simulators.outcome import Refusal, reason_of, refused
from tests.simulators.waiting import until
from tests.simulators.world import SimulatedWorld

pytestmark = pytest.mark.asyncio(loop_scope="module")

SERVICE = "/gateway.api.v1.ContractService/"
GIVER, TAKER, STRANGER = "tax", "harbour-bank", "northern-bank"

_numbers = iter(range(10_000))


def a_name() -> str:
    return f"customers-{next(_numbers)}"


def terms_of(contract: str, **changes: Any) -> Terms:
    dataset = content_of()["datasets"][0]
    return read_terms(
        content_of(
            **{
                "contract": contract,
                "parties": [
                    {"member": GIVER, "role": "contributor"},
                    {"member": TAKER, "role": "recipient"},
                ],
                "datasets": [{**dataset, "name": f"members/{GIVER}/datasets/customers"}],
                "valid_from": "2020-01-01T00:00:00Z",
                "valid_until": "2099-01-01T00:00:00Z",
                **changes,
            }
        )
    )


def following(found: PartyContract, **changes: Any) -> Terms:
    assert found.terms is not None
    content = msgspec.to_builtins(found.terms)
    return read_terms({**content, "predecessor": found.id, "version": content["version"] + 1, **changes})


async def in_force(world: SimulatedWorld, **changes: Any) -> PartyContract:
    terms = terms_of(a_name(), **changes)
    await world.client(GIVER).contracts.propose(terms)
    return await world.client(TAKER).contracts.sign(terms)


async def send(world: SimulatedWorld, method: str, request: Any, member: str = GIVER, **options: Any) -> Any:
    return await world.caller(member).unary(SERVICE + method, request.SerializeToString(), **options)


def handed_in(world: SimulatedWorld, method: str, terms: Terms | bytes, *signers: str) -> Any:
    payload = terms if isinstance(terms, bytes) else encode_terms(terms)
    keys = [SigningKey.load(world.members[signer].signing_key) for signer in signers]
    envelope = dsse.sign(payload, CONTRACT_TYPE, keys)
    return getattr(api, f"{method}Request")(envelope=envelope_to_wire(envelope))


def assert_refused(world: SimulatedWorld, refusal: Refusal, code: str, reason: Reason) -> Entry:
    """Fail unless the refusal is as it must be and stands in the log; return its entry."""
    assert (refusal.code, refusal.reason) == (code, reason)
    assert refusal.entry is not None
    [entry] = world.log.entries(refusal.entry)[:1]
    assert entry.kind is EntryKind.CONTRACT_REFUSED
    assert entry.reasons == (reason.value,)
    return entry


def entries_of(world: SimulatedWorld, found: PartyContract) -> list[Entry]:
    return [entry for entry in world.log.entries() if entry.contract == found.id]


# -- what goes right -------------------------------------------------------------------------------


async def test_a_contract_is_proposed_signed_and_in_force(world: SimulatedWorld) -> None:
    terms = terms_of(a_name())
    giver, taker = world.client(GIVER).contracts, world.client(TAKER).contracts
    proposed = await giver.propose(terms)
    assert (proposed.state, proposed.signed_by, proposed.in_force) == (
        ContractState.PROPOSED,
        (GIVER,),
        False,
    )
    assert await taker.get(proposed.name) == proposed
    signed = await taker.sign(terms)
    assert (signed.state, signed.signed_by, signed.in_force) == (ContractState.ACTIVE, (TAKER, GIVER), True)
    assert signed.terms == terms
    assert (await giver.get(proposed.name)) == signed
    kinds = [entry.kind for entry in entries_of(world, signed)]
    assert kinds == [EntryKind.CONTRACT_PROPOSED, EntryKind.CONTRACT_ACTIVATED]


async def test_every_transition_stands_in_the_log(world: SimulatedWorld) -> None:
    found = await in_force(world)
    giver, taker = world.client(GIVER).contracts, world.client(TAKER).contracts
    await giver.suspend(found.name, "a doubt")
    suspended = await taker.suspend(found.name, "another")
    assert (suspended.held_by, suspended.reason) == ((TAKER, GIVER), "another")
    assert (await giver.resume(found.name)).state is ContractState.SUSPENDED
    assert (await taker.resume(found.name)).state is ContractState.ACTIVE
    ended = await taker.terminate(found.name, "over")
    assert (ended.state, ended.ended, ended.in_force) == (ContractState.TERMINATED, ended.changed, False)
    told = [(entry.kind.value, entry.detail["by"]) for entry in entries_of(world, found)]
    assert told == [
        ("contract.proposed", GIVER),
        ("contract.activated", TAKER),
        ("contract.suspended", GIVER),
        ("contract.suspended", TAKER),
        ("contract.resumed", GIVER),
        ("contract.resumed", TAKER),
        ("contract.terminated", TAKER),
    ]


async def test_a_counter_proposal_and_a_new_version_run_their_course(world: SimulatedWorld) -> None:
    giver, taker = world.client(GIVER).contracts, world.client(TAKER).contracts
    first = await giver.propose(terms_of(a_name()))
    second = await taker.counter(following(first, title="For less"))
    assert (await giver.get(first.name)).state is ContractState.COUNTERED
    await giver.sign(second.terms)
    third = await giver.propose(following(second, title="For another year"))
    assert (await giver.get(second.name)).in_force
    assert (await taker.sign(third.terms)).in_force
    found = await taker.list(third.name.split("/")[1])
    assert [item.state.value for item in found] == ["countered", "superseded", "active"]
    assert [item.envelope for item in found] == [None] * 3


async def test_a_member_sees_only_its_own_contracts(world: SimulatedWorld) -> None:
    """Control: the parties see it."""
    found = await in_force(world)
    names = [item.name for item in await world.client(TAKER).contracts.list()]
    assert found.name in names
    assert await world.client(STRANGER).contracts.list() == []
    refusal = await refused(send(world, "GetContract", api.GetContractRequest(name=found.name), STRANGER))
    absent = await refused(
        send(world, "GetContract", api.GetContractRequest(name="contracts/x/versions/1"), STRANGER)
    )
    assert (refusal.code, refusal.reason) == ("NOT_FOUND", Reason.CONTRACT_UNKNOWN)
    assert refusal == absent


async def test_lists_come_in_pages(world: SimulatedWorld) -> None:
    wanted = [(await in_force(world)).name for _ in range(3)]
    names: list[str] = []
    token = ""
    while True:
        request = api.ListContractsRequest(page_size=2, page_token=token)
        answer = api.ListContractsResponse.FromString(await send(world, "ListContracts", request))
        names += [item.name for item in answer.contracts]
        token = answer.next_page_token
        if not token:
            break
        assert len(answer.contracts) == 2
    assert set(wanted) <= set(names)
    assert len(set(names)) == len(names)


@pytest.mark.timed
async def test_the_operator_suspends_and_the_parties_cannot_take_that_back(world: SimulatedWorld) -> None:
    found = await in_force(world)
    giver = world.client(GIVER).contracts
    await asyncio.to_thread(
        suspend_contract, world.config, found.name, "an order of the court", clock=world.clock
    )

    async def is_suspended() -> bool:
        return (await giver.get(found.name)).held_by == ("@operator",)

    await until(is_suspended, within_s=1.0)
    refusal = await refused(send(world, "ResumeContract", api.ResumeContractRequest(name=found.name)))
    assert_refused(world, refusal, "PERMISSION_DENIED", Reason.CONTRACT_HELD)
    await asyncio.to_thread(resume_contract, world.config, found.name, clock=world.clock)

    async def is_active() -> bool:
        return (await giver.get(found.name)).in_force

    await until(is_active, within_s=1.0)


# -- what others may try ---------------------------------------------------------------------------


async def test_a_wrong_party_proposes_and_signs_nothing(world: SimulatedWorld) -> None:
    terms = terms_of(a_name())
    refusal = await refused(
        send(world, "ProposeContract", handed_in(world, "ProposeContract", terms, STRANGER), STRANGER)
    )
    entry = assert_refused(world, refusal, "PERMISSION_DENIED", Reason.CONTRACT_NOT_PARTY)
    assert (entry.consumer, entry.detail["act"]) == (STRANGER, "propose")
    found = await world.client(GIVER).contracts.propose(terms)
    refusal = await refused(
        send(world, "SignContract", handed_in(world, "SignContract", terms, STRANGER), STRANGER)
    )
    entry = assert_refused(world, refusal, "PERMISSION_DENIED", Reason.CONTRACT_NOT_PARTY)
    assert entry.contract == found.id
    for method, more in (
        ("SuspendContract", {"reason": "x"}),
        ("ResumeContract", {}),
        ("TerminateContract", {"reason": "x"}),
    ):
        request = getattr(api, f"{method}Request")(name=found.name, **more)
        refusal = await refused(send(world, method, request, STRANGER))
        entry = assert_refused(world, refusal, "NOT_FOUND", Reason.CONTRACT_UNKNOWN)
        assert entry.subject == found.name


@pytest.mark.parametrize(
    ("signers", "reason"),
    [
        ((), Reason.SIGNATURE_MISSING),
        ((GIVER,), Reason.SIGNATURE_FOREIGN),
        ((STRANGER,), Reason.SIGNATURE_FOREIGN),
        ((TAKER, GIVER), Reason.SIGNATURE_INVALID),
    ],
    ids=["missing", "another party's", "a stranger's", "two"],
)
async def test_a_wrong_or_missing_signature_is_refused(
    world: SimulatedWorld, signers: tuple[str, ...], reason: Reason
) -> None:
    """Control: signed by whom it should be, it comes into force."""
    terms = terms_of(a_name())
    found = await world.client(GIVER).contracts.propose(terms)
    request = handed_in(world, "SignContract", terms, *signers)
    refusal = await refused(send(world, "SignContract", request, TAKER))
    assert assert_refused(world, refusal, "UNAUTHENTICATED", reason).contract == found.id
    assert (await world.client(TAKER).contracts.sign(terms)).in_force


async def test_the_same_party_does_not_sign_twice(world: SimulatedWorld) -> None:
    terms = terms_of(a_name())
    await world.client(GIVER).contracts.propose(terms)
    for method in ("SignContract", "ProposeContract"):
        refusal = await refused(send(world, method, handed_in(world, method, terms, GIVER)))
        assert_refused(world, refusal, "ALREADY_EXISTS", Reason.CONTRACT_SIGNED_BEFORE)
    assert (await world.client(TAKER).contracts.sign(terms)).state is ContractState.ACTIVE


async def test_terms_altered_after_the_first_signature_are_refused(world: SimulatedWorld) -> None:
    """Control: as they were proposed they are signed."""
    terms = terms_of(a_name())
    await world.client(GIVER).contracts.propose(terms)
    altered = msgspec.structs.replace(terms, purposes=("advertising",))
    refusal = await refused(
        send(world, "SignContract", handed_in(world, "SignContract", altered, TAKER), TAKER)
    )
    assert_refused(world, refusal, "FAILED_PRECONDITION", Reason.CONTRACT_ALTERED)
    genuine = sign_terms(terms, SigningKey.load(world.members[TAKER].signing_key))
    forged = msgspec.structs.replace(genuine, payload=encode_terms(altered))
    request = api.SignContractRequest(envelope=envelope_to_wire(forged))
    refusal = await refused(send(world, "SignContract", request, TAKER))
    assert_refused(world, refusal, "UNAUTHENTICATED", Reason.SIGNATURE_INVALID)
    assert (await world.client(TAKER).contracts.sign(terms)).in_force


async def test_calls_in_the_wrong_order_are_refused_and_change_nothing(world: SimulatedWorld) -> None:
    terms = terms_of(a_name())
    giver = world.client(GIVER).contracts
    found = await giver.propose(terms)
    early = (
        ("SuspendContract", api.SuspendContractRequest(name=found.name, reason="a doubt")),
        ("ResumeContract", api.ResumeContractRequest(name=found.name)),
        ("ProposeContract", handed_in(world, "ProposeContract", following(found), GIVER)),
    )
    for method, request in early:
        refusal = await refused(send(world, method, request))
        assert_refused(world, refusal, "FAILED_PRECONDITION", Reason.CONTRACT_ORDER)
    assert await giver.get(found.name) == found
    await world.client(TAKER).contracts.sign(terms)
    await giver.terminate(found.name, "over")
    late = (
        ("SignContract", handed_in(world, "SignContract", terms, GIVER)),
        ("SuspendContract", api.SuspendContractRequest(name=found.name, reason="a doubt")),
        ("TerminateContract", api.TerminateContractRequest(name=found.name, reason="again")),
        ("CounterContract", handed_in(world, "CounterContract", following(found), GIVER)),
    )
    for method, request in late:
        refusal = await refused(send(world, method, request))
        assert_refused(world, refusal, "FAILED_PRECONDITION", Reason.CONTRACT_ORDER)


async def test_malformed_requests_leave_an_entry_without_what_they_said(world: SimulatedWorld) -> None:
    sound = encode_terms(terms_of(a_name()))
    for payload, reason in (
        (b"{}", Reason.CONTRACT_MALFORMED),
        (sound.replace(b'"v":1', b'"v":1.0'), Reason.CONTRACT_MALFORMED),
        (sound.replace(b'"title"', b'"11010119900307123X"'), Reason.CONTRACT_MALFORMED),
        (encode_terms(terms_of(a_name(), recipients={})), Reason.CONTRACT_MALFORMED),
        (
            encode_terms(
                terms_of(
                    a_name(),
                    parties=[
                        {"member": GIVER, "role": "contributor"},
                        {"member": "nobody", "role": "recipient"},
                    ],
                )
            ),
            Reason.CONTRACT_MALFORMED,
        ),
        (b" " * 1_000_001, Reason.MESSAGE_TOO_LARGE),
    ):
        refusal = await refused(
            send(world, "ProposeContract", handed_in(world, "ProposeContract", payload, GIVER))
        )
        assert refusal.reason == reason
        [entry] = world.log.entries(refusal.entry or 0)[:1]
        assert entry.reasons == (reason.value,)
        assert b"11010119900307123X" not in msgspec.json.encode(entry)
        assert "11010119900307123X" not in refusal.message
    refusal = await refused(world.caller(GIVER).unary(SERVICE + "SignContract", b"\xff\xff"))
    assert_refused(world, refusal, "INVALID_ARGUMENT", Reason.REQUEST_MALFORMED)
    request = api.SuspendContractRequest(name="contracts/all", reason="x")
    refusal = await refused(send(world, "SuspendContract", request))
    assert_refused(world, refusal, "INVALID_ARGUMENT", Reason.REQUEST_MALFORMED)
    assert await reason_of(send(world, "ListContracts", api.ListContractsRequest(page_size=-1)))
    request = api.ListContractsRequest(page_token="x")
    assert await reason_of(send(world, "ListContracts", request)) == Reason.PAGE_TOKEN_INVALID


async def test_a_stranger_is_refused_and_named_in_the_log(world: SimulatedWorld) -> None:
    stranger = world.caller(credentials=world.stranger())
    body = api.TerminateContractRequest(name="contracts/x/versions/1", reason="x").SerializeToString()
    refusal = await refused(stranger.unary(SERVICE + "TerminateContract", body))
    entry = assert_refused(world, refusal, "UNAUTHENTICATED", Reason.MEMBER_UNKNOWN)
    assert "stranger" in entry.detail["uri"]


async def test_a_large_contract_travels(world: SimulatedWorld) -> None:
    """Up to a million bytes; ordinary requests stay below 128 KiB."""
    dataset = terms_of("x").datasets[0]
    described = {**dataset.description, "tags": ["x" * 1000] * 900}
    found = await in_force(world, datasets=[{**msgspec.to_builtins(dataset), "description": described}])
    assert found.envelope is not None
    assert len(found.envelope.payload) > 900_000


async def test_a_contract_whose_signatures_do_not_verify_is_not_shown(world: SimulatedWorld) -> None:
    """Control: with the right trust file it is."""
    found = await in_force(world)
    members = {**world.trust.members}
    del members[TAKER]
    client = world.client(GIVER)
    client.contracts._trust = msgspec.structs.replace(world.trust, members=members)
    with pytest.raises(ClientError, match="does not hold"):
        await client.contracts.get(found.name)
    assert await world.client(GIVER).contracts.get(found.name) == found


# -- time, and faults ------------------------------------------------------------------------------


async def test_a_contract_holds_between_its_dates_and_its_end_is_noted(own_world: SimulatedWorld) -> None:
    world = own_world
    begins = world.clock().replace(microsecond=0) + timedelta(hours=1)
    dates = {
        "valid_from": f"{begins:%Y-%m-%dT%H:%M:%SZ}",
        "valid_until": f"{begins + timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}",
    }
    found = await in_force(world, **dates)
    proposal = await world.client(GIVER).contracts.propose(terms_of(a_name(), **dates))
    giver = world.client(GIVER).contracts
    register = world.node.contracting.register
    assert found.state is ContractState.ACTIVE
    assert not found.in_force
    world.clock.advance(timedelta(hours=1, seconds=1))
    assert (await giver.get(found.name)).in_force
    world.clock.advance(timedelta(hours=1))
    assert register.covering(f"members/{GIVER}/datasets/customers", world.clock()) == []
    refusal = await refused(
        send(
            world, "ProposeContract", handed_in(world, "ProposeContract", terms_of(a_name(), **dates), GIVER)
        )
    )
    assert_refused(world, refusal, "FAILED_PRECONDITION", Reason.CONTRACT_OVER)

    async def is_noted() -> bool:
        return {(await giver.get(name)).state for name in (found.name, proposal.name)} == {
            ContractState.EXPIRED
        }

    await until(is_noted)
    [entry] = [entry for entry in entries_of(world, found) if entry.kind is EntryKind.CONTRACT_EXPIRED]
    assert parse_rfc3339(entry.time) >= begins + timedelta(hours=1)
    refusal = await refused(
        send(world, "SuspendContract", api.SuspendContractRequest(name=found.name, reason="x"))
    )
    assert_refused(world, refusal, "FAILED_PRECONDITION", Reason.CONTRACT_ORDER)
    world.log.verify()


@pytest.mark.timed
async def test_a_contract_of_a_suspended_member_is_not_in_force(own_world: SimulatedWorld) -> None:
    found = await in_force(own_world)
    await own_world.set_state(GIVER, MemberState.SUSPENDED)
    taker = own_world.client(TAKER).contracts

    async def is_out_of_force() -> bool:
        return not (await taker.get(found.name)).in_force

    await until(is_out_of_force, within_s=1.0)


async def test_contracts_are_there_after_a_restart(own_world: SimulatedWorld) -> None:
    found = await in_force(own_world)
    await own_world.restart_node()
    assert await own_world.client(GIVER).contracts.get(found.name) == found


async def test_while_the_log_cannot_be_written_no_contract_changes(own_world: SimulatedWorld) -> None:
    """P2: what cannot be recorded is not done. Control: once the log is back, the same is done."""
    found = await in_force(own_world)
    giver = own_world.client(GIVER).contracts
    request = api.SuspendContractRequest(name=found.name, reason="a doubt")
    with entries_refused(own_world.log.database, EntryKind.CONTRACT_SUSPENDED.value):
        refusal = await refused(send(own_world, "SuspendContract", request))
        assert (refusal.code, refusal.reason) == ("UNAVAILABLE", Reason.LOG_UNAVAILABLE)
        assert (await giver.get(found.name)).in_force
    assert (await giver.suspend(found.name, "a doubt")).state is ContractState.SUSPENDED
