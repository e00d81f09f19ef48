"""The matrix of a draft: what it says is what policy decides."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from gateway.cli.main import app
from gateway.demo.world import build_world
from gateway.errors import GatewayError, Reason
from gateway.exchange.simulation import simulate
from gateway.members import open_member_store
from gateway.model import Member, Role
from gateway.policy import EmbeddedEngine, load_bundle
from tests.simulators.contract_drafts import drafted
from tests.simulators.in_force import sellers_terms

POLICIES = Path(__file__).parents[3] / "policies"
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def member(name: str, member_class: str, *roles: Role) -> Member:
    return Member(
        id=name,
        title=name,
        member_class=member_class,
        roles=frozenset(roles or (Role.CONSUMER,)),
        uri=f"urn:{name}",
        signing_keys={},
    )


MEMBERS = [
    member("registry", "agency", Role.PROVIDER),
    member("harbour-bank", "bank"),
    member("northern-bank", "bank"),
    member("tax", "agency"),
]


@pytest.fixture
async def engine():
    engine = EmbeddedEngine(load_bundle(POLICIES))
    await engine.start()
    yield engine
    await engine.close()


async def test_the_matrix_says_who_sees_what_and_why_the_others_do_not(engine):
    terms = sellers_terms(recipients={"members": ["harbour-bank"], "classes": ["agency"]})
    cells = await simulate(terms, MEMBERS, engine, NOW)
    seen = {cell.member: cell for cell in cells}
    assert list(seen) == ["harbour-bank", "northern-bank", "tax"]
    assert seen["harbour-bank"].treatments == {
        "uscc": "release",
        "name": "release",
        "phone": "mask first:2,last:2",
        "complaints": "generalise band:100",
        "joined_on": "generalise year",
        "remarks": "drop",
    }
    assert seen["tax"].treatments["joined_on"] == "release"
    assert seen["tax"].valid_until == "2030-01-01T00:00:00Z"
    assert not seen["northern-bank"].allowed
    assert seen["northern-bank"].reasons == ("CONTRACT_NOT_APPLICABLE",)


async def test_a_draft_that_begins_later_is_asked_about_as_of_then(engine):
    terms = sellers_terms(valid_from="2028-01-01T00:00:00Z", purposes=["public-lookup", "tender-check"])
    cells = await simulate(terms, MEMBERS, engine, NOW)
    assert [(cell.purpose, cell.allowed) for cell in cells if cell.member == "harbour-bank"] == [
        ("public-lookup", True),
        ("tender-check", False),
    ]


async def test_a_party_that_is_no_member_is_told(engine):
    with pytest.raises(GatewayError) as raised:
        await simulate(sellers_terms(), MEMBERS[1:], engine, NOW)
    assert raised.value.reason is Reason.MEMBER_UNKNOWN
    assert raised.value.details["members"] == "registry"


def test_the_command_prints_the_matrix(tmp_path):
    world = build_world(tmp_path, gateway_port=0, registry_port=0, tax_port=0, company_count=3)
    draft = tmp_path / "draft.json"
    draft.write_bytes(msgspec.json.encode(sellers_terms()))
    with closing(open_member_store(world.deployment.load().members.database)) as store:
        assert store.members()[1]
    config = str(world.deployment.config)
    ran = CliRunner().invoke(app, ["contract", "simulate", str(draft), "--config", config])
    assert ran.exit_code == 0, ran.output
    [row] = [json.loads(line) for line in ran.stdout.splitlines()]
    assert "1 member of " in ran.stderr
    assert (row["member"], row["allowed"]) == ("harbour-bank", True)
    assert "complaints (generalise band:100)" in row["sees"]
    assert row["not_seen"] == ["remarks"]
    ran = CliRunner().invoke(app, ["contract", "simulate", str(draft), "--all", "--config", config])
    assert {json.loads(line)["allowed"] for line in ran.stdout.splitlines()} == {True, False}
    draft.write_text("v: 1\n")
    assert CliRunner().invoke(app, ["contract", "simulate", str(draft), "--config", config]).exit_code == 2


def test_the_command_takes_a_draft_as_it_is_drafted(tmp_path):
    world = build_world(tmp_path, gateway_port=0, registry_port=0, tax_port=0, company_count=3)
    draft = drafted(tmp_path)
    config = str(world.deployment.config)
    ran = CliRunner().invoke(app, ["contract", "simulate", str(draft), "--all", "--config", config])
    assert ran.exit_code == 0, ran.output
    assert {json.loads(line)["dataset"] for line in ran.stdout.splitlines()} == {
        "members/tax/datasets/customers"
    }
