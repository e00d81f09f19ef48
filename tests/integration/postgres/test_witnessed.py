"""Witnesses look at a log in PostgreSQL: several nodes publish it, and an older state of it is found."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from gateway.audit.cosignature import Ed25519CosignatureSigner
from gateway.audit.errors import LogRolledBackError
from gateway.audit.publication import Grade
from gateway.audit.stores import open_publications, open_reader
from gateway.clock import system_clock
from gateway.config import WitnessesConfig
from gateway.evidence.keys import SigningKey
from gateway.telemetry.metrics import Metrics
from gateway.witness.publishing import publishing
from gateway.witness.server import WitnessServer, make_app
from gateway.witness.state import WitnessState
from gateway.witness.witness import Witness
from tests.simulators.entries import NOON, ORIGIN

pytestmark = pytest.mark.postgres


@pytest_asyncio.fixture
async def witnesses(tmp_path, signer):
    """Return the settings that name one witness, which runs."""
    cosigner = Ed25519CosignatureSigner("witness.example.org/w1", SigningKey(bytes([9]) * 32))
    async with AsyncExitStack() as stack:
        state = stack.enter_context(WitnessState.create(tmp_path / "witness.db"))
        state.add_key(ORIGIN, signer.verifier.vkey())
        server = WitnessServer(make_app(Witness(state, [cosigner])), "127.0.0.1:0")
        await server.start()
        stack.push_async_callback(server.stop)
        policy = tmp_path / "witnesses.policy"
        policy.write_text(
            f"witness w1 {cosigner.verifier.vkey()} http://127.0.0.1:{server.port}\nquorum w1\n"
        )
        yield WitnessesConfig(policy=policy)


async def published(witnesses, address, signer):
    """Publish as a node does when it starts."""
    with open_reader(address) as reader:
        metrics = Metrics()
        async with publishing(
            witnesses, address, reader, signer.verifier, system_clock, metrics
        ) as publisher:
            return await publisher.publish()


async def test_every_node_has_the_shared_log_witnessed(
    witnesses, address, open_store, sign, batch, signer, examined
):
    nodes = [open_store(address), open_store(address)]
    for number, store in enumerate(nodes):
        store.append(batch(5 * number, 5), sign, NOON)
    found = await asyncio.gather(*[published(witnesses, address, signer) for _ in nodes])
    assert {(item.size, item.grade) for item in found} == {(10, Grade.WITNESSED)}
    with open_publications(address) as kept:
        assert kept.latest(Grade.WITNESSED) in found
    examined(address)


async def test_an_older_state_of_the_database_is_found(
    witnesses, address, server, open_store, sign, batch, signer, examined
):
    open_store(address).append(batch(0, 10), sign, NOON)
    await published(witnesses, address, signer)
    restored = server.database()
    store = open_store(restored)
    store.append(batch(0, 4), sign, NOON)
    assert examined(restored).entries == 4, "the control: nothing is wrong with it by itself"
    with pytest.raises(LogRolledBackError):
        await published(witnesses, restored, signer)
