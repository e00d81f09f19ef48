"""Who calls: members, their certificates, their state and their roles."""

from __future__ import annotations

import time
from datetime import timedelta

import grpc
import pytest

from gateway.demo.world import COMPANIES
from gateway.deployment.layout import member_uri
from gateway.model import EntryKind, MemberState, Operation, Role
from gateway.pki.authority import CertificateAuthority
from tests.simulators.caller import QUERY, Credentials, query_body
from tests.simulators.outcome import reason_of, refusal_of, refused
from tests.simulators.waiting import until
from tests.simulators.world import SimulatedWorld

pytestmark = pytest.mark.asyncio(loop_scope="module")


def lookup(caller, **parts):
    return caller.statement(COMPANIES, "public-lookup", **parts)


async def test_a_certificate_of_our_authority_without_a_member_is_refused(world: SimulatedWorld) -> None:
    caller = world.caller(credentials=world.stranger())
    refusal = await refused(caller.query(lookup(caller)))
    entry = world.assert_recorded(refusal, "UNAUTHENTICATED", "MEMBER_UNKNOWN")
    assert entry.consumer == ""
    assert entry.detail["uri"] == member_uri("stranger")


@pytest.mark.parametrize(
    "names",
    [
        pytest.param({"dns": ["harbour-bank.members.sluicegate"]}, id="no URI"),
        pytest.param({"dns": ["x.example"], "uri": "https://harbour-bank.example"}, id="a foreign URI"),
    ],
)
async def test_a_certificate_that_names_no_member_is_refused(world: SimulatedWorld, names) -> None:
    caller = world.caller(credentials=world.stranger(**names))
    reason = "MEMBER_UNKNOWN" if "uri" in names else "CERTIFICATE_INVALID"
    world.assert_recorded(await refused(caller.query(lookup(caller))), "UNAUTHENTICATED", reason)


async def test_a_member_without_the_role_of_consumer_is_refused(world: SimulatedWorld) -> None:
    caller = world.caller("registry")
    refusal = await refused(caller.query(lookup(caller)))
    world.assert_recorded(refusal, "PERMISSION_DENIED", "ROLE_MISSING")


async def test_an_envelope_of_another_member_is_refused(world: SimulatedWorld) -> None:
    """The certificate says who calls; a statement that another member signed is not the caller's."""
    theirs = world.caller("harbour-bank")
    envelope = theirs.seal(lookup(theirs))
    refusal = await refused(world.caller("northern-bank").query(envelope))
    entry = world.assert_recorded(refusal, "UNAUTHENTICATED", "SIGNATURE_FOREIGN")
    assert entry.consumer == "northern-bank"
    # Control: the same envelope from its own member is good, and was not used up by the other.
    await theirs.query(envelope)


@pytest.mark.timed
async def test_a_suspension_bites_within_a_second_and_ends_with_it(world: SimulatedWorld) -> None:
    world.add_member("short-lived-bank")
    caller = world.caller("short-lived-bank")
    await until_served(caller)
    await world.set_state("short-lived-bank", MemberState.SUSPENDED)
    suspended = time.monotonic()
    await until_answered_with(caller, "MEMBER_SUSPENDED")
    assert time.monotonic() - suspended < 1.0, "a suspended member was served after a second"
    refusal = await refused(caller.query(lookup(caller)))
    world.assert_recorded(refusal, "PERMISSION_DENIED", "MEMBER_SUSPENDED")
    await world.set_state("short-lived-bank", MemberState.ACTIVE)
    await until_served(caller)


async def until_answered_with(caller, reason: str) -> None:
    """Return when the caller gets `reason`; a change of members takes up to a second to be known."""
    await until(lambda: _answered_with(caller, reason))


async def _answered_with(caller, reason: str) -> bool:
    found = await reason_of(caller.query(lookup(caller, filters={"kind": "nothing"})))
    assert found in {"", "MEMBER_UNKNOWN", "MEMBER_SUSPENDED"}
    return found == reason


async def until_served(caller) -> None:
    await until_answered_with(caller, "")


async def test_a_suspension_cuts_a_running_stream(world: SimulatedWorld) -> None:
    world.add_member("streaming-bank")
    caller = world.caller("streaming-bank")
    await until_served(caller)
    world.registry.gate.clear()
    statement = caller.statement(COMPANIES, "public-lookup", Operation.STREAM)
    stream = caller.stream(statement, page_size=10)
    received = [await anext(stream), await anext(stream)]
    await world.set_state("streaming-bank", MemberState.SUSPENDED)
    other = world.caller("streaming-bank")
    await until_answered_with(other, "MEMBER_SUSPENDED")
    world.registry.gate.set()
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        received.extend([message async for message in stream])
    entry = world.assert_recorded(refusal_of(raised.value), "PERMISSION_DENIED", "MEMBER_SUSPENDED")
    assert len(received) == 2
    assert (entry.kind, entry.pages, entry.records) == (EntryKind.EXCHANGE_FAILED, 2, 20)


async def test_an_auditor_may_not_ask_for_records(world: SimulatedWorld) -> None:
    world.add_member("audit-office", roles=frozenset({Role.AUDITOR}))
    caller = world.caller("audit-office")
    deadline = time.monotonic() + 5
    while (refusal := await refused(caller.query(lookup(caller)))).reason == "MEMBER_UNKNOWN":
        assert time.monotonic() < deadline
    world.assert_recorded(refusal, "PERMISSION_DENIED", "ROLE_MISSING")


async def test_a_foreign_authority_does_not_get_as_far_as_a_call(world: SimulatedWorld) -> None:
    """TLS ends it: there is no caller to name, hence no entry."""
    foreign = CertificateAuthority.create("Foreign", 10)
    issued = foreign.issue("harbour-bank", uri=member_uri("harbour-bank"), valid_days=1)
    caller = world.caller(
        credentials=Credentials(issued.cert_pem, issued.key_pem, world.authority.certificate_pem)
    )
    size = world.log.size()
    refusal = await refused(caller.unary(QUERY, query_body(caller.seal(lookup(caller)))))
    assert (refusal.code, refusal.reason) == ("UNAVAILABLE", "")
    assert world.log.size() == size


async def test_a_certificate_that_expires_on_a_live_connection_is_refused(world: SimulatedWorld) -> None:
    """The last test of the module: it moves the clock two days on."""
    world.add_member("lapsing-bank", valid_days=1)
    caller = world.caller("lapsing-bank")
    await until_served(caller)
    world.clock.advance(timedelta(days=2))
    refusal = await refused(caller.query(lookup(caller)))
    world.assert_recorded(refusal, "UNAUTHENTICATED", "CERTIFICATE_EXPIRED")
