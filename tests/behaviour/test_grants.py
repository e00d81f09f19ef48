"""The catalogue says what a member would receive; a query then gives exactly that."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing

import pytest

from gateway.client import ClientError, error_class
from gateway.demo.world import ARREARS, COMPANIES, MEMBERS
from gateway.errors import Reason
from gateway.model import Role, Subject
from gateway.deployment.shipped import shipped_policies
from gateway.policy import load_bundle
from tests.simulators.world import SimulatedWorld

pytestmark = pytest.mark.asyncio(loop_scope="module")

ABOUT_SUBJECTS = {
    name for name, row in load_bundle(shipped_policies()).data["purposes"].items() if row["subjects"] is not None
}
CONSUMERS = [member for member, _, _, roles in MEMBERS if Role.CONSUMER in roles]


@pytest.mark.parametrize("dataset", [COMPANIES, ARREARS])
@pytest.mark.parametrize("member", CONSUMERS)
async def test_each_grant_gives_what_it_says(world: SimulatedWorld, member: str, dataset: str) -> None:
    client = world.client(member)
    described = await client.dataset(dataset)
    for grant in described.grants:
        page = await client.query(
            dataset,
            purpose=grant.purpose,
            legal_basis=grant.legal_basis,
            memorandum=grant.memorandum,
            document="Order 2026/1",
            subjects=[Subject("uscc", world.companies[0].uscc)] if grant.purpose in ABOUT_SUBJECTS else [],
            page_size=50,
        )
        treatments = {item.field: item.treatment for item in grant.treatments}
        given = {name for name, treatment in treatments.items() if treatment != "drop"}
        assert set(page.fields) == given
        entry = page.verified.entry
        assert entry.tier == grant.tier
        assert set(entry.released) == given
        assert entry.obligations == {
            name: treatment for name, treatment in treatments.items() if treatment not in {"drop", "release"}
        }
        assert set(entry.withheld) == {name for name, treatment in treatments.items() if treatment == "drop"}
        assert len(page) > 0
        for record in page:
            for name, treatment in treatments.items():
                if treatment == "pseudonymise" and record[name] is not None:
                    assert record[name].startswith("sg1:")


async def test_the_demo_has_grants_of_every_treatment(world: SimulatedWorld) -> None:
    """The control of the test above: it has seen fields released, dropped, coarsened, pseudonymised."""
    seen = set()
    for member in CONSUMERS:
        for dataset in await world.client(member).datasets():
            seen |= {item.treatment for grant in dataset.grants for item in grant.treatments}
    assert seen == {"release", "drop", "generalise", "pseudonymise"}


@pytest.mark.parametrize("member", CONSUMERS)
async def test_what_is_not_granted_is_denied(world: SimulatedWorld, member: str) -> None:
    client = world.client(member)
    purposes = ("public-lookup", "tender-check", "credit-check", "licensing", "law-enforcement", "statistics")
    for dataset in await client.datasets():
        granted = {(grant.purpose, grant.memorandum) for grant in dataset.grants}
        for purpose in purposes:
            if (purpose, "") not in granted:
                with pytest.raises(ClientError) as raised:
                    await client.query(dataset.name, purpose=purpose)
                assert raised.value.code in {"PERMISSION_DENIED", "UNAUTHENTICATED"}


async def test_nothing_is_listed_of_a_provider_that_is_not_connected(own_world: SimulatedWorld) -> None:
    with closing(sqlite3.connect(own_world.config.members.database)) as database, database:
        database.execute("UPDATE members SET endpoint = NULL WHERE id = 'registry'")
        database.execute("UPDATE registry SET revision = revision + 1")
    client = own_world.client()
    deadline = time.monotonic() + 3
    while (await client.dataset(COMPANIES)).grants:
        assert time.monotonic() < deadline
    with pytest.raises(error_class(Reason.PROVIDER_UNAVAILABLE)):
        await client.query(COMPANIES, purpose="public-lookup")


async def test_the_catalogue_holds_no_value_of_a_record(world: SimulatedWorld) -> None:
    text = json.dumps([str(dataset) for dataset in await world.client().datasets()])
    assert not any(company.uscc in text or company.name in text for company in world.companies)
