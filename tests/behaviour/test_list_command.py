"""`gateway list-check` against a running gateway."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.simulators.lists import DEFAULTERS, LISTS, SET, merged, on, start_with_lists
from tests.simulators.world import SimulatedWorld
from tests.unit.cli.conftest import Commands

pytestmark = pytest.mark.asyncio(loop_scope="module")

WARNING = ("--purpose", "early-warning", "--legal-basis", "early-warning-rules-6", "--at-least", "3")
RESTRICTION = (
    *("--purpose", "restriction-check", "--legal-basis", "judgment-enforcement-rules-3"),
    *("--memorandum", "registry-defaulters-tradeplatform"),
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SimulatedWorld]:
    world = SimulatedWorld(tmp_path_factory.mktemp("world"))
    entries = merged(
        on(LISTS, world.companies[1].uscc), on([DEFAULTERS], world.companies[1].uscc, "luxury", "flights")
    )
    try:
        await start_with_lists(world, entries)
        for member in ("inspectorate", "tradeplatform"):
            file = world.members[member].directory / "client.toml"
            file.write_text(
                re.sub(r"(?m)^address = .*$", f'address = "127.0.0.1:{world.node.port}"', file.read_text())
            )
        yield world
        world.log.verify()
    finally:
        await world.stop()


async def run(world: SimulatedWorld, member: str, *words: object, **options: str):
    commands = Commands(world.members[member].directory / "client.toml")
    return await asyncio.to_thread(commands, "list-check", *words, **options)


async def test_a_yes_is_code_0_and_a_no_is_code_1(world: SimulatedWorld) -> None:
    for at, code in ((1, 0), (0, 1)):
        subject = f"uscc={world.companies[at].uscc}"
        result = await run(world, "inspectorate", SET, *WARNING, "--subject", subject, "--output", "json")
        assert result.exit_code == code, result.output
        assert json.loads(result.stdout)["listed"] is (code == 0)


async def test_the_answer_and_its_receipt_are_kept_and_verify_without_the_gateway(world, tmp_path) -> None:
    out = tmp_path / "answer.json"
    result = await run(
        world,
        "tradeplatform",
        "registry/judgment-defaulters",
        *RESTRICTION,
        *("--subject-from", "-", "--out", out, "--acknowledge", "--actor", "desk-4", "--case", "K-1"),
        stdin=f"uscc={world.companies[1].uscc}\n",
    )
    assert result.exit_code == 0, result.output
    assert json.loads(out.read_text())["restrictions"] == ["flights", "luxury"]
    words = ("receipt", "verify", f"{out}.receipt.json", "--records", out)
    trust = world.members["tradeplatform"].directory / "trust.json"
    verified = await asyncio.to_thread(Commands(), *words, "--trust", trust)
    assert verified.exit_code == 0, verified.output


@pytest.mark.parametrize(
    "words",
    [
        ("--subject", "uscc=1", "--subject-from", "-"),
        (),
        ("--subject-from", "-"),
        ("--subject", "uscc"),
        ("--subject", "uscc=1", "--case", "K-1"),
        ("--subject", "uscc=91350100M000100Y4X"),
    ],
)
async def test_a_wrong_question_is_code_2(world: SimulatedWorld, words: tuple[str, ...]) -> None:
    result = await run(world, "inspectorate", SET, *WARNING, *words, stdin="uscc=1\nuscc=2\n")
    assert result.exit_code == 2, result.output


async def test_a_denial_is_code_1_and_gives_no_advice_that_fails(world: SimulatedWorld) -> None:
    subject = f"uscc={world.companies[1].uscc}"
    result = await run(world, "tradeplatform", SET, *WARNING, "--subject", subject)
    assert result.exit_code == 1
    assert "catalog show list-sets" not in result.stderr
