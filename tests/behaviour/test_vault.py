"""What a contributor has put into the vault is asked for and proven like any provider's records."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from contextlib import closing
from dataclasses import asdict

import msgspec
import pytest
import pytest_asyncio
import yaml

from gateway.audit.receipt import verify_receipt
from gateway.client import ClientError, StreamSummary
from gateway.demo.world import COMPANIES
from gateway.deployment.vault import (
    look_after,
    opened_vault,
    prepare_rotation,
    rotate_data_keys,
    rotate_vault_key,
    vault_status,
    what_is_due,
)
from gateway.evidence.keys import SignatureError, SigningKey
from gateway.model import EntryKind, MemberState
from gateway.model.contract import Contract, ContractState, Party, PartyRole, Recipients
from gateway.vault import open_vault
from tests.simulators.in_force import until_listed
from tests.simulators.vault import contract
from tests.simulators.waiting import until
from tests.simulators.world import SimulatedWorld

pytestmark = pytest.mark.asyncio(loop_scope="module")

LOOKUP = {"purpose": "public-lookup"}
GIVEN = "members/registry/datasets/given-companies"


def contributed(world: SimulatedWorld, **changes) -> Contract:
    path = next(path for path in world.config.catalogue.glob("*.yaml") if "companies" in path.name)
    description = json.loads(json.dumps(yaml.safe_load(path.read_text()), default=str))
    made = contract(
        "registry-vault", dataset=GIVEN, key=("uscc",), description=description | {"id": "given-companies"},
        **changes,
    )  # fmt: skip
    terms = msgspec.structs.replace(
        made.terms,
        parties=(Party("registry", PartyRole.CONTRIBUTOR), Party("harbour-bank", PartyRole.RECIPIENT)),
        purposes=("public-lookup",),
        recipients=Recipients(classes=("agency", "bank")),
    )
    return msgspec.structs.replace(made, terms=terms)


async def bring_into_force(world: SimulatedWorld) -> None:
    world.node.contracts.put(contributed(world).terms)
    await until_listed(world.client(), GIVEN)


def lines_of(companies: Iterable) -> list[bytes]:
    records = [{**asdict(one), "registered_on": one.registered_on.isoformat()} for one in companies]
    return [json.dumps(record, sort_keys=True, separators=(",", ":")).encode() for record in records]


def contribute(world: SimulatedWorld, batch: str = "b1", **changes) -> None:
    with closing(open_vault(world.config.vault, clock=world.clock)) as vault:
        staged = vault.writer.begin(contributed(world, **changes), GIVEN, batch)
        vault.writer.commit(vault.writer.stage(staged, lines_of(world.companies)))


async def asked(world: SimulatedWorld, number: int = 0, dataset: str = GIVEN):
    company = world.companies[number]
    page = await world.client().query(dataset, **LOOKUP, filters={"uscc": company.uscc})
    assert [record["uscc"] for record in page] == [company.uscc]
    return page


async def asked_until_refused(world: SimulatedWorld) -> None:
    async with asyncio.timeout(5):
        while True:
            await asked(world)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def vaulted(tmp_path_factory):
    """A world whose registry has handed its companies over, before the gateway started."""
    world = SimulatedWorld(tmp_path_factory.mktemp("world"))
    contribute(world)
    await world.start()
    await bring_into_force(world)
    try:
        yield world
        assert world.registry.orders == []
        world.log.verify()
    finally:
        await world.stop()


async def test_a_query_is_answered_from_the_vault_with_a_receipt_that_tells_so(vaulted):
    page = await asked(vaulted)
    assert page.verified is not None
    assert page.verified.from_vault
    vault_key = SigningKey.load(vaulted.config.vault.signing).key_id
    assert page.verified.entry.provider_key == vault_key
    assert page.verified.entry.provider == "registry"
    assert set(vaulted.trust.vault_keys) == {vault_key}


async def test_a_whole_dataset_streams_from_the_vault_page_by_page(vaulted):
    found, pages = [], 0
    async for page in vaulted.client("tax").stream(GIVEN, **LOOKUP, page_size=25):
        if isinstance(page, StreamSummary):
            assert page.verified.from_vault
            continue
        pages += 1
        found += [record["uscc"] for record in page]
    assert pages == 3
    assert sorted(found) == sorted(company.uscc for company in vaulted.companies)


async def test_pages_follow_each_other_by_their_tokens(vaulted):
    client, token, found = vaulted.client("tax"), "", []
    while True:
        page = await client.query(GIVEN, **LOOKUP, page_size=40, page_token=token)
        found += [record["uscc"] for record in page]
        token = page.next_page_token
        if not token:
            break
    assert sorted(found) == sorted(company.uscc for company in vaulted.companies)


async def test_a_receipt_is_void_where_the_trust_file_knows_another_vault_or_none(vaulted):
    page = await asked(vaulted)
    assert verify_receipt(page.receipt, vaulted.trust).from_vault
    other = SigningKey.generate().verify_key
    for keys in ({}, {other.key_id: other.public}):
        with pytest.raises(SignatureError):
            verify_receipt(page.receipt, msgspec.structs.replace(vaulted.trust, vault_keys=keys))


async def test_a_suspended_contributors_records_are_not_given_out(vaulted):
    await vaulted.set_state("registry", MemberState.SUSPENDED)
    try:
        with pytest.raises(ClientError) as raised:
            await asked_until_refused(vaulted)
        # Which of the two is found first depends on when the catalogue follows.
        assert raised.value.reason in {"PROVIDER_UNAVAILABLE", "CONTRACT_NOT_IN_FORCE"}
    finally:
        await vaulted.set_state("registry", MemberState.ACTIVE)
    async with asyncio.timeout(5):
        while True:
            try:
                await asked(vaulted)
            except ClientError:
                continue
            break


async def test_keys_are_rotated_under_a_running_gateway(vaulted):
    entry = (await asyncio.to_thread(rotate_vault_key, vaulted.config, clock=vaulted.clock))[2]
    count, second = await asyncio.to_thread(rotate_data_keys, vaulted.config, clock=vaulted.clock)
    assert count == 1
    await asked(vaulted, 1)
    await asyncio.to_thread(contribute, vaulted, "b2")
    await asked(vaulted, 2)
    told = [vaulted.log.entries(index)[0] for index in (entry, second)]
    assert {one.kind for one in told} == {EntryKind.VAULT_KEY_ROTATED}
    assert [one.detail["what"] for one in told] == ["key-encryption key", "data keys"]
    assert await asyncio.to_thread(prepare_rotation, vaulted.config) != told[0].detail["after"]
    assert vault_status(vaulted.config).rotating
    await asyncio.to_thread(rotate_vault_key, vaulted.config, clock=vaulted.clock)
    await asked(vaulted, 3)


async def test_the_vaults_key_counts_for_nothing_that_a_provider_holds(own_world):
    """Control: signed by the registry's own key, the same records are released."""
    await asked(own_world, dataset=COMPANIES)
    own_key = own_world.registry._key
    own_world.registry._key = SigningKey.load(own_world.config.vault.signing)
    with pytest.raises(ClientError) as raised:
        await asked(own_world, dataset=COMPANIES)
    assert raised.value.reason == "PROVIDER_SIGNATURE"
    own_world.registry._key = own_key
    await asked(own_world, dataset=COMPANIES)


async def test_what_is_contributed_while_the_gateway_runs_is_served_at_once(own_world):
    await bring_into_force(own_world)
    with pytest.raises(ClientError) as raised:
        await asked(own_world)
    assert raised.value.reason == "PROVIDER_REFUSED"
    await asyncio.to_thread(contribute, own_world)
    assert (await asked(own_world)).verified.from_vault


async def until_served(world: SimulatedWorld) -> None:
    async def is_so() -> bool:
        try:
            return (await asked(world)).verified.from_vault
        except ClientError as error:
            if error.reason != "PROVIDER_REFUSED":
                raise
            return False

    await until(is_so)


async def test_the_end_of_a_contract_destroys_its_keys_as_the_log_shows(own_world):
    await bring_into_force(own_world)
    await asyncio.to_thread(contribute, own_world)
    await until_served(own_world)
    ended = contributed(
        own_world, state=ContractState.TERMINATED, ended="2026-01-02T00:00:00Z", retention_days=1
    )

    class Contracts:
        def contracts(self):
            return [ended]

    purges, due = what_is_due(own_world.config, Contracts(), clock=own_world.clock)
    assert (purges, [one.name for one in due]) == ([], ["registry-vault"])
    kept = await asyncio.to_thread(look_after, own_world.config, Contracts(), clock=own_world.clock)
    assert [one.dataset for one in kept.destroyed] == [GIVEN]
    [status] = vault_status(own_world.config).holdings
    assert (status.keys, status.borne_out) == (0, True)
    entry = own_world.log.entries(status.holding.destroyed)[0]
    assert (entry.kind, entry.subject) == (EntryKind.VAULT_KEY_DESTROYED, GIVEN)
    assert (entry.detail["contract"], entry.records) == ("registry-vault", len(own_world.companies))
    # The contract itself is in force here, and yet nothing can be given any more.
    with pytest.raises(ClientError) as raised:
        await asked_until_refused(own_world)
    assert raised.value.reason == "PROVIDER_REFUSED"
    with opened_vault(own_world.config) as vault, vault.store.engine.writing() as session:
        session.change("UPDATE vault_holding SET destroyed = 0", {})
    assert not vault_status(own_world.config).holdings[0].borne_out
