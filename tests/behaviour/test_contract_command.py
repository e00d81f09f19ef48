"""`gateway contract` against a running gateway: from a description to a contract that has ended."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.contracts.signing import verify_contract
from gateway.evidence import dsse
from tests.simulators.contract_drafts import GIVER, NAME, TAKER, drafted
from tests.simulators.world import SimulatedWorld
from tests.unit.cli.conftest import Commands

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SimulatedWorld]:
    world = SimulatedWorld(tmp_path_factory.mktemp("world"))
    try:
        await world.start()
        for member in (GIVER, TAKER, "northern-bank"):
            file = world.members[member].directory / "client.toml"
            file.write_text(
                re.sub(r"(?m)^address = .*$", f'address = "127.0.0.1:{world.node.port}"', file.read_text())
            )
        yield world
        world.log.verify()
    finally:
        await world.stop()


async def run(world: SimulatedWorld, member: str, *words: object) -> Any:
    commands = Commands(world.members[member].directory / "client.toml")
    return await asyncio.to_thread(commands, "contract", *words)


async def done(world: SimulatedWorld, member: str, *words: object) -> Any:
    """Run with `--output json`, expect success, and return what was printed."""
    result = await run(world, member, *words, "--output", "json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


async def test_a_contract_from_draft_to_end(world: SimulatedWorld, tmp_path: Path) -> None:
    file = drafted(tmp_path)
    proposed = await done(world, GIVER, "propose", file)
    assert (proposed["state"], proposed["version"], proposed["signed_by"]) == ("proposed", 1, [GIVER])

    shown = await run(world, TAKER, "show", NAME)
    assert proposed["digest"] in shown.stdout
    assert "members/tax/datasets/customers" in shown.stdout
    wrong = await run(world, TAKER, "sign", NAME, "--digest", "sha256:" + "0" * 64)
    assert wrong.exit_code == 2

    file.write_text(file.read_text().replace("records: 10000", "records: 5000"))
    [difference] = await done(world, TAKER, "diff", NAME, "--with", file)
    assert (difference["effect"], difference["before"], difference["after"]) == ("narrower", "10000", "5000")
    answered = await done(world, TAKER, "counter", file)
    assert (answered["version"], answered["signed_by"]) == (2, [TAKER])
    assert [row["effect"] for row in await done(world, GIVER, "diff", NAME)] == ["narrower"]

    signed = await done(world, GIVER, "sign", NAME, "--digest", answered["digest"])
    assert signed["state"] == "active"
    rows = await done(world, TAKER, "list")
    assert [(row["version"], row["state"]) for row in rows] == [(1, "countered"), (2, "active")]

    kept = tmp_path / "signed.json"
    await done(world, TAKER, "show", NAME, "--out", kept)
    verified = verify_contract(
        dsse.envelope_from_json(kept.read_bytes().strip()), world.trust.member_verify_keys
    )
    assert (verified.id, verified.is_complete) == (signed["digest"], True)

    assert (await done(world, GIVER, "suspend", NAME, "--reason", "a doubt"))["held_by"] == [GIVER]
    refused = await run(world, TAKER, "resume", NAME)
    assert refused.exit_code == 1
    assert "CONTRACT_HELD" in refused.stderr
    operator = ("--operator", world.deployment.config)
    held = await done(
        world, GIVER, "suspend", f"contracts/{NAME}/versions/2", "--reason", "an order", *operator
    )
    assert held["held_by"] == ["@operator", GIVER]
    await done(world, GIVER, "resume", NAME, *operator)
    assert (await done(world, GIVER, "resume", NAME))["state"] == "active"

    ended = await done(world, TAKER, "terminate", NAME, "--reason", "no longer needed")
    assert (ended["state"], ended["reason"]) == ("terminated", "no longer needed")
    again = await run(world, TAKER, "terminate", NAME, "--reason", "again")
    assert again.exit_code == 1
    assert "CONTRACT_ORDER" in again.stderr


async def test_what_is_wrong_is_told_with_the_right_code(world: SimulatedWorld, tmp_path: Path) -> None:
    file = drafted(tmp_path, **{"contract: tax-customers": "contract: another"})
    stranger = await run(world, "northern-bank", "propose", file)
    assert (stranger.exit_code, "CONTRACT_NOT_PARTY" in stranger.stderr) == (1, True)
    for words in (
        ("show", "nothing"),
        ("diff", "nothing"),
        ("suspend", "nothing", "--reason", "x"),
        ("propose", tmp_path / "nothing.yaml"),
    ):
        assert (await run(world, GIVER, *words)).exit_code == 2
    (tmp_path / "list.yaml").write_text("[1, 2]")
    assert (await run(world, GIVER, "propose", tmp_path / "list.yaml")).exit_code == 2
    file.write_text(file.read_text().replace("onward_sharing:", "onward_shering:"))
    result = await run(world, GIVER, "propose", file)
    assert (result.exit_code, "onward_shering" in result.stderr) == (2, True)
