"""From a contributor's file to another member's answer: the gateway, intake and vault as they are."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest

from gateway.client import Choice, ClientError, Contributed, PartyContract, record_line
from gateway.contracts.document import read_terms
from gateway.contributions import service
from gateway.contributions.ending import Endings
from gateway.deployment.contracts import KeptContracts
from gateway.deployment.vault import look_after
from gateway.errors import GatewayError, Reason
from gateway.model import EntryKind, Terms
from gateway.vault import open_vault
from tests.simulators.in_force import description, until_listed
from tests.simulators.waiting import until, wait_until
from tests.simulators.world import SimulatedWorld

pytestmark = pytest.mark.asyncio(loop_scope="module")

GIVER, TAKER = "tradeplatform", "harbour-bank"
SHOPS = f"members/{GIVER}/datasets/shops"
CONTRACT = "shops"
ENDED = {"CONTRACT_MISSING", "CONTRACT_NOT_IN_FORCE", "DATASET_UNKNOWN"}
"""What a query of a contributed dataset is refused for once its contract has ended."""


def terms_of(**changes: Any) -> Terms:
    return read_terms(
        {
            "v": 1,
            "contract": CONTRACT,
            "version": 1,
            "title": "Shops of the trade platform",
            "parties": [
                {"member": GIVER, "role": "contributor"},
                {"member": TAKER, "role": "recipient"},
            ],
            "datasets": [
                {
                    "name": SHOPS,
                    "held": "vault",
                    "description": description(SHOPS),
                    "fields": {"remarks": {"treatment": "drop"}},
                    "key": ["uscc"],
                }
            ],
            "purposes": ["public-lookup"],
            "recipients": {"members": [TAKER]},
            "valid_from": "2020-01-01T00:00:00Z",
            "valid_until": "2099-01-01T00:00:00Z",
            **changes,
        }
    )


def shops(world: SimulatedWorld) -> list[dict[str, Any]]:
    return [
        {
            "uscc": company.uscc,
            "name": company.name,
            "phone": "13912345678",
            "complaints": number,
            "joined_on": "2020-02-29",
            "remarks": "a remark",
        }
        for number, company in enumerate(world.companies)
    ]


def with_bad_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return `rows` and three more that cannot be accepted."""
    code = rows[0]["uscc"]
    return [
        *rows,
        {**rows[0], "uscc": code[:-1] + ("0" if code[-1] != "0" else "1")},
        {**rows[1], "joined_on": "2026-02-30"},
        rows[2],
    ]


async def agree(world: SimulatedWorld, **changes: Any) -> PartyContract:
    """Have both parties sign, and wait until the dataset is in the catalogue."""
    terms = terms_of(**changes)
    await world.client(GIVER).contracts.propose(terms)
    signed = await world.client(TAKER).contracts.sign(terms)
    assert signed.in_force
    await until_listed(world.client(TAKER), SHOPS)
    return signed


async def give(
    world: SimulatedWorld, rows: list[dict[str, Any]], batch: str, patience_s: float = 10.0
) -> Contributed:
    lines = [record_line(row) for row in rows]
    return await world.client(GIVER).contribute(
        lambda: iter(lines),
        contract=CONTRACT,
        dataset="shops",
        batch=batch,
        choice=Choice.ACCEPT_VALID,
        patience_s=patience_s,
    )


async def ask(world: SimulatedWorld, uscc: str, member: str = TAKER) -> Any:
    return await world.client(member).query(SHOPS, purpose="public-lookup", filters={"uscc": uscc})


async def served(world: SimulatedWorld, row: dict[str, Any]) -> Any:
    """Wait until the gateway knows of what the vault holds; return the answer about `row`."""
    found: list[Any] = []

    async def is_served() -> bool:
        try:
            page = await ask(world, row["uscc"])
        except ClientError as error:
            if error.reason not in {*ENDED, "PROVIDER_REFUSED"}:
                raise
            return False
        found.append(page)
        return [record["name"] for record in page] == [row["name"]]

    await until(is_served)
    return found[-1]


async def reason_of(call: Awaitable[Any]) -> str:
    with pytest.raises(ClientError) as refused:
        await call
    return refused.value.reason


async def test_what_a_company_gives_another_member_gets_until_the_contract_is_suspended(
    own_world: SimulatedWorld,
) -> None:
    world = own_world
    contract = await agree(world)
    rows = shops(world)
    done = await give(world, with_bad_rows(rows), "march")
    assert (done.accepted, done.report.accepted, done.report.rejected) == (True, len(rows), 3)
    assert done.report.problems == {
        "uscc": {"identifier-check-digit": 1},
        "joined_on": {"date": 1},
        "": {"duplicate": 1},
    }
    accepted = done.verified.entry
    assert accepted.kind is EntryKind.CONTRIBUTION_ACCEPTED
    assert (accepted.contract, accepted.records, accepted.provider) == (contract.id, len(rows), GIVER)

    page = await served(world, rows[7])
    [record] = page.records
    assert (record["uscc"], record["name"]) == (rows[7]["uscc"], rows[7]["name"])
    assert "remarks" not in record
    assert page.verified.from_vault
    assert (page.verified.entry.contract, page.verified.entry.provider) == (contract.id, GIVER)
    assert await reason_of(ask(world, rows[7]["uscc"], "northern-bank")) == "CONTRACT_NOT_APPLICABLE"

    await world.restart_node()
    again = await give(world, with_bad_rows(rows), "march")
    assert again.receipt == done.receipt
    assert (await served(world, rows[8])).verified.from_vault
    changed = {**rows[8], "name": "Another name"}
    assert (await give(world, [changed], "april")).accepted
    await served(world, changed)

    await world.client(GIVER).contracts.suspend(contract.name, "a doubt")

    async def is_refused() -> bool:
        try:
            await ask(world, rows[8]["uscc"])
        except ClientError as error:
            return error.reason in ENDED
        return False

    await until(is_refused)
    with pytest.raises(ClientError) as refused:
        await give(world, rows, "may")
    assert refused.value.reason == Reason.CONTRACT_NOT_IN_FORCE.value
    assert refused.value.entry is not None
    [entry] = world.log.entries(refused.value.entry)[:1]
    assert (entry.kind, entry.records) == (EntryKind.CONTRIBUTION_REFUSED, 0)
    await world.restart_node()
    assert await reason_of(ask(world, rows[8]["uscc"])) in ENDED

    await world.client(GIVER).contracts.resume(contract.name)
    await until_listed(world.client(TAKER), SHOPS)
    await served(world, changed)
    world.log.verify()


@pytest.mark.parametrize("defended", [True, False])
async def test_records_that_the_vault_lets_go_during_their_upload_are_asked_for_again(
    own_world: SimulatedWorld, monkeypatch: pytest.MonkeyPatch, defended: bool
) -> None:
    """Control: where the vault's refusal counts as the batch's end, the batch has to begin anew."""
    world = own_world
    if not defended:
        monkeypatch.setattr(service, "TRANSIENT", service.TRANSIENT - {Reason.BATCH_CLOSED})
    await agree(world)
    lines = [record_line({**row, "remarks": "x" * 60_000}) for row in shops(world)] * 2
    let_go: list[bool] = []

    def records() -> Iterator[bytes]:
        for at, line in enumerate(lines):
            if at == len(lines) - 1 and not let_go:
                discard_staged(world)
                let_go.append(True)
            yield line

    done = await world.client(GIVER).contribute(
        records,
        contract=CONTRACT,
        dataset="shops",
        batch="let-go",
        choice=Choice.ACCEPT_VALID,
        patience_s=10.0,
    )
    assert let_go
    assert (done.breaks, done.report.accepted) == (1, len(world.companies))
    begun = [entry for entry in world.log.entries() if entry.kind is EntryKind.CONTRIBUTION_BEGUN]
    assert len(begun) == (1 if defended else 2)
    await served(world, shops(world)[3])
    world.log.verify()


@pytest.mark.parametrize("sealed", [True, False])
async def test_a_batch_whose_end_is_decided_outlasts_a_purge(
    own_world: SimulatedWorld, monkeypatch: pytest.MonkeyPatch, sealed: bool
) -> None:
    """Control: of one whose end is not decided nothing stays."""
    world = own_world
    await agree(world)

    def fail(*_: object) -> None:
        raise GatewayError("The gateway ends here.", reason=Reason.LOG_UNAVAILABLE)

    with monkeypatch.context() as broken:
        # With all records staged: after the seal, or before it.
        broken.setattr(Endings, "complete" if sealed else "require_staged", fail)
        assert await reason_of(give(world, shops(world), "march", patience_s=0.1)) == "LOG_UNAVAILABLE"
        await world.stop_node()
    assert world.config.vault is not None
    world.clock.advance(timedelta(hours=world.config.vault.staged_hours + 1))
    kept = await asyncio.to_thread(look_after, world.config, KeptContracts(world.config), clock=world.clock)
    assert kept.leftovers == (0 if sealed else 1)
    await world.start_node()
    await until_listed(world.client(TAKER), SHOPS)
    if sealed:
        await served(world, shops(world)[3])
    accepted = [each for each in world.log.entries() if each.kind is EntryKind.CONTRIBUTION_ACCEPTED]
    assert [each.records for each in accepted] == ([len(world.companies)] if sealed else [])
    world.log.verify()


def discard_staged(world: SimulatedWorld) -> None:
    """Wait for records that are staged, and let them go as upkeep does."""
    with closing(open_vault(world.config.vault, clock=world.clock)) as vault:
        wait_until(lambda: vault.writer.remove_leftovers(timedelta(seconds=-1)))
