"""P5: no identifier, record value or secret in the log, the debug log, metrics, error texts, receipts.

A thousand canaries go everywhere a caller or a provider can put something; then every place that an
operator, an officer or another member can read is searched for each of them.
"""

from __future__ import annotations

import base64
import random
import string
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import msgspec
import pytest

from gateway.demo.world import ARREARS, COMPANIES
from gateway.evidence import dsse
from gateway.identifiers import national_id, organisation_code
from gateway.identifiers.uscc import check_character as uscc_check_character
from gateway.model import Actor, MemberState, Operation, Subject
from tests.simulators.caller import QUERY, RawCaller, query_body
from tests.simulators.outcome import refusal_of
from tests.simulators.policy import PolicyFault
from tests.simulators.provider import Fault
from tests.simulators.world import SimulatedWorld

pytestmark = pytest.mark.asyncio(loop_scope="module")

CREDIT = {"legal_basis": "credit-reporting-act-14", "memorandum": "registry-harbour-bank"}
COUNT = 1000


@dataclass
class Canaries:
    """Values that occur nowhere else, each made once and remembered."""

    rng: random.Random = field(default_factory=lambda: random.Random(5))
    planted: list[str] = field(default_factory=list)

    def _plant(self, value: str) -> str:
        self.planted.append(value)
        return value

    def word(self) -> str:
        return self._plant("canary" + "".join(self.rng.choices(string.ascii_lowercase, k=14)))

    def phone(self) -> str:
        return self._plant(f"000-{self.rng.randint(10**9, 10**10 - 1)}")

    def person(self) -> str:
        body = f"110101{self.rng.randint(1950, 1999)}{self.rng.randint(1, 12):02d}"
        body += f"{self.rng.randint(1, 28):02d}{self.rng.randint(1, 999):03d}"
        return self._plant(body + national_id.check_character(body))

    def code(self) -> str:
        organisation = "XT" + "".join(self.rng.choices("ABCDEFGH23456789", k=6))
        organisation += organisation_code.check_character(organisation)
        body = "91110101" + organisation
        return self._plant(body + uscc_check_character(body))

    def nonce(self) -> str:
        return self._plant("".join(self.rng.choices(string.ascii_letters, k=22)))


@dataclass
class Findings:
    """What came back to callers, apart from records that were released to them."""

    texts: list[str] = field(default_factory=list)
    released: int = 0
    refused: int = 0


def records(canaries: Canaries, count: int) -> list[dict[str, object]]:
    return [
        {
            "uscc": canaries.code(),
            "name": canaries.word(),
            "kind": canaries.word(),
            "status": canaries.word(),
            "registered_on": "2001-02-03",
            "capital": canaries.rng.randint(10**6, 10**8),
            "scope": canaries.word(),
            "area_code": "110101",
            "address": canaries.word(),
            "phone": canaries.phone(),
            "representative_name": canaries.word(),
            "representative_id": canaries.person(),
        }
        for _ in range(count)
    ]


async def send(findings: Findings, caller: RawCaller, envelope: dsse.Envelope, **options) -> None:
    """Send a query; keep what is not a record: the refusal, or the receipt and the token."""
    try:
        answer = await caller.query(envelope, **options)
    except grpc.aio.AioRpcError as error:
        findings.refused += 1
        findings.texts += [f"{refusal_of(error)}", f"{error.trailing_metadata()}", error.debug_error_string()]
        return
    findings.released += 1
    receipt = answer.receipt
    findings.texts += [
        receipt.tlog_proof,
        receipt.statement.payload.decode(),
        *(delivery.payload.decode() for delivery in receipt.deliveries),
        answer.next_page_token,
        ",".join(answer.page.fields),
    ]


def envelopes(world: SimulatedWorld, caller: RawCaller, canaries: Canaries) -> Iterator[dsse.Envelope]:
    """Yield statements of every kind, good and bad, with canaries wherever text can stand."""

    def ask(dataset: str = COMPANIES, purpose: str = "public-lookup", **parts) -> dsse.Envelope:
        query = caller.statement(dataset, purpose, **parts)
        query = msgspec.structs.replace(query, nonce=canaries.nonce())
        if query.actor is None:
            query = msgspec.structs.replace(query, actor=Actor(canaries.word(), canaries.word()))
        return caller.seal(query)

    held = world.registry.records
    for record in held[:12]:
        yield ask(subjects=[Subject("uscc", record["uscc"])])
        yield ask(filters={"name": record["name"]})
        yield ask(purpose="credit-check", subjects=[Subject("uscc", record["uscc"])], **CREDIT)
        yield ask(
            purpose="credit-check",
            subjects=[Subject("representative_id", record["representative_id"])],
            **CREDIT,
        )
    for _ in range(12):
        yield ask(filters={"name": canaries.word()})
        yield ask(filters={"kind": canaries.word(), "name": canaries.word()})
        yield ask(purpose=canaries.word())
        yield ask(purpose="credit-check", legal_basis=canaries.word(), memorandum=canaries.word())
        yield ask(dataset=f"members/registry/datasets/{canaries.word()}")
        yield ask(dataset=canaries.word())
        yield ask(fields=[canaries.word()])
        yield ask(filters={canaries.word(): canaries.word()})
        yield ask(subjects=[Subject(canaries.word(), canaries.person())])
        yield ask(subjects=[Subject("uscc", canaries.word())])
        yield ask(subjects=[Subject("uscc", canaries.person())])
        yield ask(filters={"representative_id": canaries.person()})
        yield ask(filters={"phone": canaries.phone()})
        yield ask(filters={"area_code": canaries.word()})
        yield ask(dataset=ARREARS, purpose=canaries.word(), subjects=[Subject("uscc", canaries.code())])
        good = ask(filters={"name": canaries.word()})
        yield caller.seal(canaries.word().encode())
        yield caller.seal(f'{{"{canaries.word()}":"{canaries.person()}"}}'.encode())
        yield caller.seal(good.payload.replace(b'"filters"', f'"{canaries.word()}"'.encode()))
        yield caller.seal(good.payload + f'"{canaries.word()}'.encode())
        yield caller.seal(good.payload, canaries.word())
        yield msgspec.structs.replace(good, signatures=(dsse.Signature(canaries.word(), b"x" * 64),))
        yield msgspec.structs.replace(
            good, signatures=(dsse.Signature(good.signatures[0].keyid, canaries.word().encode()),)
        )
        yield caller.seal(msgspec.structs.replace(caller.statement(COMPANIES, "x"), audience=canaries.word()))
        yield caller.seal(msgspec.structs.replace(caller.statement(COMPANIES, "x"), time=canaries.word()))
        yield caller.seal(msgspec.structs.replace(caller.statement(COMPANIES, "x"), nonce=canaries.word()))


async def run_everything(world: SimulatedWorld, canaries: Canaries) -> Findings:
    """Make every kind of success and failure happen, with canaries in all of it."""
    findings = Findings()
    world.registry.records = records(canaries, 60)
    callers = {name: world.caller(name) for name in ("harbour-bank", "northern-bank", "tradeplatform")}
    bank = callers["harbour-bank"]
    for number, envelope in enumerate(envelopes(world, bank, canaries)):
        metadata = (
            (("x-request-id", canaries.word()), ("user-agent", canaries.word())) if number % 10 == 0 else ()
        )
        await send(findings, bank, envelope, metadata=metadata)
        if number % 40 == 0:
            await send(findings, bank, envelope)  # a replay
            await send(findings, callers["northern-bank"], envelope)  # another's statement
    for body in (canaries.word(), canaries.person()):
        raw = query_body(bank.seal(body.encode())) + body.encode()
        try:
            await bank.unary(QUERY, raw)
        except grpc.aio.AioRpcError as error:
            findings.texts += [f"{refusal_of(error)}", error.debug_error_string()]
            findings.refused += 1
    await send(
        findings, bank, bank.seal(bank.statement(COMPANIES, "public-lookup")), page_token=canaries.word()
    )
    await send(findings, bank, bank.seal(bank.statement(COMPANIES, "public-lookup")), page_size=7)
    await send(findings, bank, bank.seal(bank.statement(COMPANIES, canaries.word())), timeout_s=None)
    for fault in Fault:
        world.registry.fault = fault
        timeout_s = 0.5 if fault is Fault.HANGS else 5.0
        sealed = bank.seal(bank.statement(COMPANIES, "public-lookup", filters={"name": canaries.word()}))
        await send(findings, bank, sealed, timeout_s=timeout_s)
        sealed = bank.seal(bank.statement(COMPANIES, "public-lookup"))
        await send(findings, bank, sealed, timeout_s=timeout_s)
        await stream(findings, bank, timeout_s=0.7)
    world.registry.fault = None
    await stream(findings, bank, timeout_s=5.0)
    for policy_fault in PolicyFault:
        if policy_fault is PolicyFault.HANGS:
            continue
        world.node.scripted.fault = policy_fault
        sealed = bank.seal(bank.statement(COMPANIES, "public-lookup", filters={"name": canaries.word()}))
        await send(findings, bank, sealed)
    world.node.scripted.fault = None
    for uscc in (world.registry.records[0]["uscc"], canaries.code()):
        asked = bank.statement(
            COMPANIES,
            "public-lookup",
            Operation.MATCH,
            subjects=[Subject("uscc", uscc)],
            match={"name": canaries.word()},
        )
        answer = await bank.match(asked)
        findings.texts += [answer.receipt.tlog_proof, answer.receipt.statement.payload.decode()]
    await world.set_state("tradeplatform", MemberState.SUSPENDED)
    return findings


async def stream(findings: Findings, caller: RawCaller, timeout_s: float) -> None:
    asked = caller.statement(COMPANIES, "public-lookup", Operation.STREAM)
    try:
        async for message in caller.stream(asked, page_size=20, timeout_s=timeout_s):
            if message.HasField("receipt"):
                findings.texts.append(message.receipt.statement.payload.decode())
                findings.texts += [item.payload.decode() for item in message.receipt.deliveries]
    except grpc.aio.AioRpcError as error:
        findings.texts += [f"{refusal_of(error)}", error.debug_error_string()]


def places(world: SimulatedWorld, findings: Findings, receipts: Path) -> dict[str, bytes]:
    """Return everything that somebody other than the recipient can read, by where it stands."""
    found = {
        str(path.relative_to(world.directory)): path.read_bytes()
        for path in world.deployment.directory.rglob("*")
        if path.is_file()
    }
    found |= {f"receipt {path.name}": path.read_bytes() for path in receipts.iterdir()}
    found["log lines"] = world.output.getvalue().encode()
    found["metrics"] = world.metrics_text().encode()
    found["answers and errors"] = "\n".join(findings.texts).encode()
    return found


def hits(canaries: Canaries, found: dict[str, bytes]) -> list[tuple[str, str]]:
    """Return (place, canary) for each canary found, also in base64 and in the escapes of JSON."""
    out = []
    for canary in canaries.planted:
        raw = canary.encode()
        forms = {raw, raw.lower(), raw.upper(), base64.b64encode(raw).rstrip(b"=")[:-1]}
        for place, content in found.items():
            if any(form in content for form in forms):
                out.append((place, canary))
    return out


async def test_no_canary_is_found_anywhere(own_world: SimulatedWorld, tmp_path: Path) -> None:
    canaries, receipts = Canaries(), tmp_path / "receipts"
    receipts.mkdir()
    findings = await run_everything(own_world, canaries)
    client = own_world.client()
    page = await client.query(
        COMPANIES, purpose="public-lookup", actor=Actor(canaries.word(), canaries.word())
    )
    assert page.receipt is not None
    (receipts / "query.json").write_bytes(page.receipt.to_json())
    assert len(canaries.planted) >= COUNT
    assert findings.released >= 60
    assert findings.refused >= 250
    found = places(own_world, findings, receipts)
    assert len(found["log lines"]) > 10_000
    assert any(name.endswith("audit.db") for name in found)
    assert hits(canaries, found)[:5] == []


async def test_a_canary_that_leaks_is_found(own_world: SimulatedWorld, tmp_path: Path) -> None:
    """The control: one planted in each place is found there, in each form."""
    canaries = Canaries()
    words = [canaries.word(), canaries.person(), canaries.code(), canaries.phone()]
    receipts = tmp_path / "receipts"
    receipts.mkdir()
    (own_world.deployment.directory / "data" / "leak").write_bytes(words[0].encode())
    (receipts / "leak.json").write_bytes(base64.b64encode(words[1].encode()))
    own_world.output.write(words[2].lower())
    found = places(own_world, Findings(texts=[words[3]]), receipts)
    assert sorted(canary for _, canary in hits(canaries, found)) == sorted(words)
