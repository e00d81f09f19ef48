"""Two gateways on one database: one log, one answer to who is served, and a nonce that is good once."""

from __future__ import annotations

import asyncio
import fcntl
import json
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from typer.testing import CliRunner

from gateway.audit.checkpoint import open_checkpoint
from gateway.audit.disclosure import verify_disclosure
from gateway.audit.errors import LogMismatchError
from gateway.audit.fsck import fsck
from gateway.audit.note import Ed25519Verifier
from gateway.audit.postgres_reader import PostgresReader
from gateway.audit.receipt import Receipt, verify_receipt
from gateway.audit.sqlite_reader import SqliteReader
from gateway.cli.main import app
from gateway.config import GatewayConfig
from gateway.database.session import connect
from gateway.demo.world import COMPANIES
from gateway.deployment import move
from gateway.deployment.disclosures import disclose_entry
from gateway.deployment.move import move_to_postgres
from gateway.doctor import Finding, State, examine_deployment
from gateway.errors import ConfigError
from gateway.evidence.trust import Trust
from gateway.members import open_member_store
from gateway.model import EntryKind, MemberState
from gateway.node import Node
from gateway.pseudonym import Keyring
from gateway.tilesite.server import TileSite
from tests.simulators.outcome import refused
from tests.simulators.postgres import PostgresServer, running_postgres
from tests.simulators.two_nodes import TwoNodes, named
from tests.simulators.world import SimulatedWorld

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module")
def server() -> Any:
    with running_postgres() as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: Any, server: PostgresServer) -> AsyncIterator[TwoNodes]:
    world = TwoNodes(tmp_path_factory.mktemp("world"), server)
    await world.start()
    try:
        yield world
        world.log.verify()
    finally:
        await world.stop()


@pytest.mark.asyncio(loop_scope="module")
async def test_both_nodes_answer_and_one_log_tells_of_it(world: TwoNodes) -> None:
    before = world.log.size()
    for number in (0, 1):
        await world.on(number).works()
    kinds = [entry.kind for entry in world.log.entries(before)]
    assert kinds == [EntryKind.EXCHANGE_REQUESTED, EntryKind.EXCHANGE_RELEASED] * 2
    world.log.verify()


@pytest.mark.asyncio(loop_scope="module")
async def test_many_calls_to_both_at_once_make_one_sound_log(world: TwoNodes) -> None:
    clients = [world.on(number % 2).client() for number in range(8)]
    filters = {"uscc": world.companies[0].uscc}
    await asyncio.gather(
        *(client.query(COMPANIES, purpose="public-lookup", filters=filters) for client in clients * 4)
    )
    world.log.verify()


@pytest.mark.asyncio(loop_scope="module")
async def test_a_statement_is_not_good_again_on_the_other_node(world: TwoNodes) -> None:
    here, there = world.on(0).caller(), world.on(1).caller()
    envelope = here.seal(here.statement(COMPANIES, "public-lookup"))
    await here.query(envelope)
    world.assert_recorded(await refused(there.query(envelope)), "ALREADY_EXISTS", "REPLAYED")
    fresh = there.seal(there.statement(COMPANIES, "public-lookup"))
    await there.query(fresh)


@pytest.mark.asyncio(loop_scope="module")
async def test_of_copies_to_both_nodes_at_once_exactly_one_is_answered(world: TwoNodes) -> None:
    callers = [world.on(number % 2).caller() for number in range(6)]
    envelope = callers[0].seal(callers[0].statement(COMPANIES, "public-lookup"))
    outcomes = await asyncio.gather(*(caller.query(envelope) for caller in callers), return_exceptions=True)
    assert len([outcome for outcome in outcomes if not isinstance(outcome, BaseException)]) == 1


@pytest.mark.timed
@pytest.mark.asyncio(loop_scope="module")
async def test_a_suspension_bites_within_a_second_on_both_nodes(world: TwoNodes) -> None:
    world.add_member("coastal-bank")
    callers = [world.on(number).caller("coastal-bank") for number in (0, 1)]
    for caller in callers:
        await _answered(caller)
    await world.set_state("coastal-bank", MemberState.SUSPENDED)
    begun = time.monotonic()
    for caller in callers:
        await _refused_as(caller, "member is suspended")
    assert time.monotonic() - begun < 1
    await world.set_state("coastal-bank", MemberState.ACTIVE)
    for caller in callers:
        await _answered(caller)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_member_changed_behind_its_back_is_refused_on_both_nodes(world: TwoNodes) -> None:
    """Who takes a node holds the role that may change members; without the log's key it helps nothing."""
    callers = [world.on(number).caller() for number in (0, 1)]
    for caller in callers:
        await _answered(caller)

    def set_roles(roles: str) -> list[str]:
        with connect(world.address, "attack") as session:
            session.execute("UPDATE members SET roles = %s WHERE id = 'harbour-bank'", (roles,))
        with closing(open_member_store(world.address)) as store:
            [bank] = [member for member in store.members()[1] if member.id == "harbour-bank"]
        return sorted(bank.roles)

    assert await asyncio.to_thread(set_roles, "auditor,consumer") == ["auditor", "consumer"], "the control"
    for caller in callers:
        await _refused_as(caller, "member is suspended")
    await asyncio.to_thread(set_roles, "consumer")
    for caller in callers:
        await _answered(caller)


@pytest.mark.asyncio(loop_scope="module")
async def test_no_node_takes_another_for_dead_or_its_settings_for_changed(world: TwoNodes) -> None:
    entries = world.log.entries()
    started = [entry for entry in entries if entry.kind is EntryKind.GATEWAY_STARTED]
    assert {entry.detail["node"] for entry in started} >= {"node-0", "node-1"}
    assert [entry for entry in entries if entry.kind is EntryKind.GATEWAY_CRASHED] == []
    before = world.log.size()
    again = Node(named(world.deployment.load(), 2), clock=world.clock)
    await again.start()
    await again.stop()
    told = [entry.kind for entry in world.log.entries(before)]
    again = Node(named(world.deployment.load(), 2), clock=world.clock)
    await again.start()
    await again.stop()
    assert told[:2] == [EntryKind.CONFIGURATION_CHANGED, EntryKind.GATEWAY_STARTED], "the control: it is new"
    assert [entry.kind for entry in world.log.entries(before + len(told))] == [
        EntryKind.GATEWAY_STARTED,
        EntryKind.GATEWAY_STOPPED,
    ]


@pytest.mark.asyncio(loop_scope="module")
async def test_the_doctor_examines_a_shared_deployment(world: TwoNodes, server: PostgresServer) -> None:
    def examine(*, deep: bool = False) -> dict[str, Finding]:
        config = world.deployment.load()
        return {
            finding.check: finding
            for finding in examine_deployment(
                named(config, 0), world.deployment.config, world.clock(), deep=deep
            )
        }

    sound = await asyncio.to_thread(examine, deep=True)
    assert [finding for finding in sound.values() if finding.state is State.FAIL] == []
    assert "can only add to the log" in sound["log tables"].detail
    assert "cannot be looked at from here" in sound["log disk"].detail
    assert "all" in sound["log"].detail
    with server.owner(world.address) as session:
        session.execute("ALTER TABLE sluicegate.published DISABLE TRIGGER published_is_append_only")
    try:
        found = await asyncio.to_thread(examine)
    finally:
        with server.owner(world.address) as session:
            session.execute("ALTER TABLE sluicegate.published ENABLE ALWAYS TRIGGER published_is_append_only")
    assert found["log tables"].state is State.FAIL
    assert "published_is_append_only" in found["log tables"].detail


async def _answered(caller: Any) -> None:
    async with asyncio.timeout(5):
        while True:
            try:
                await caller.query(caller.statement(COMPANIES, "public-lookup"))
            except Exception:  # noqa: BLE001 - until the node knows the member
                await asyncio.sleep(0.02)
            else:
                return


async def _refused_as(caller: Any, told: str) -> None:
    async with asyncio.timeout(5):
        while True:
            try:
                await caller.query(caller.statement(COMPANIES, "public-lookup"))
            except Exception as error:
                if told not in str(error):
                    raise
                return
            await asyncio.sleep(0.02)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_node_with_another_keyring_does_not_start(world: TwoNodes, tmp_path: Path) -> None:
    config = world.deployment.load()
    Keyring.generate(world.clock()).save(tmp_path / "keyring.json")
    keys = config.keys.model_copy(update={"keyring": tmp_path / "keyring.json"})
    changed = config.model_copy(update={"keys": keys})
    other = Node(changed, clock=world.clock)
    try:
        with pytest.raises(ConfigError, match="keyring is not that of the deployment's other nodes"):
            await other.start()
    finally:
        await other.stop()
    same = Node(config, clock=world.clock)
    await same.start()
    await same.stop()


@pytest.mark.asyncio(loop_scope="module")
async def test_the_commands_work_on_the_shared_database(world: TwoNodes, tmp_path: Path) -> None:
    def run(*words: str) -> Any:
        result = CliRunner().invoke(
            app, [*words, "--config", str(world.deployment.config), "--output", "json"]
        )
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    def all_of_them() -> None:
        assert run("audit", "list", "--limit", "1")[0]["kind"]
        assert run("audit", "show", "0")["index"] == 0
        assert run("audit", "fsck")["findings"] == []
        assert run("audit", "fsck", "--chain")["logs"] == [world.trust.origin]
        assert (
            run("audit", "search", "kind = gateway.started", "--limit", "1")[0]["kind"] == "gateway.started"
        )
        assert run("audit", "published") == []
        assert run("audit", "export", str(tmp_path / "tiles"))["entries"] >= 1
        assert run("audit", "report", str(tmp_path / "report.jsonl"))["entries"] >= 1
        assert "harbour-bank" in {member["id"] for member in run("member", "list")}
        assert run("audit", "accept-clock", "--reason", "it is right")["entry"] > 0
        assert run("member", "confirm", "harbour-bank", "--reason", "seen")
        assert run("database", "status")["sound"] is True
        assert run("database", "adopt")["changed"] == []
        assert all(part["sound"] for part in run("config", "check") if part["part"] != "policy")

    await asyncio.to_thread(all_of_them)


@pytest.mark.asyncio(loop_scope="module")
async def test_an_outsiders_view_is_served_from_the_database(world: TwoNodes) -> None:
    tiles = world.config.tiles.model_copy(update={"listen": "127.0.0.1:0"})
    site = TileSite(world.config.model_copy(update={"tiles": tiles}))
    await site.start()
    try:
        address = f"http://127.0.0.1:{site.port}/checkpoint"
        async with aiohttp.ClientSession() as session, session.get(address) as answer:
            note = await answer.text()
    finally:
        await site.stop()
    verifier = verifier_of(world.config, world.trust)
    assert open_checkpoint(note, [verifier]).size <= world.log.size()


@pytest.mark.asyncio(loop_scope="module")
async def test_an_entry_is_disclosed_from_the_database(world: TwoNodes) -> None:
    await world.on(0).works()
    index = world.log.size() - 1
    entry = world.log.entries(index)[0]
    disclosure, recorded = await asyncio.to_thread(
        disclose_entry, world.config, index, ["dataset"], reason="asked for by a court", by="officer"
    )
    found = verify_disclosure(disclosure, world.trust)
    assert (found.index, dict(found.fields)) == (index, {"dataset": entry.dataset})
    assert world.log.entries(recorded)[0].kind is EntryKind.ENTRY_DISCLOSED


@pytest.mark.asyncio(loop_scope="module")
async def test_a_server_that_goes_away_and_comes_back(world: TwoNodes, server: PostgresServer) -> None:
    """Nothing is released meanwhile, and both nodes serve again by themselves."""
    before = world.log.size()
    await asyncio.to_thread(server.kill)
    for number in (0, 1):
        caller = world.on(number).caller()
        with pytest.raises(Exception, match="UNAVAILABLE"):
            await caller.query(caller.statement(COMPANIES, "public-lookup"))
    await asyncio.to_thread(server.start)
    for number in (0, 1):
        await _answered(world.on(number).caller())
    world.log.verify()
    kinds = [entry.kind for entry in world.log.entries(before)]
    assert kinds.count(EntryKind.EXCHANGE_RELEASED) == 2


# -- moving there --------------------------------------------------------------------------------


@pytest.fixture
def deployed(tmp_path: Path) -> SimulatedWorld:
    return SimulatedWorld(tmp_path / "world")


def verifier_of(config: GatewayConfig, trust: Trust) -> Ed25519Verifier:
    assert trust.origin == config.log.origin
    return Ed25519Verifier.from_vkey(trust.log_keys[0])


@pytest.mark.asyncio(loop_scope="module")
async def test_a_receipt_from_before_the_move_stays_provable(
    deployed: SimulatedWorld, server: PostgresServer
) -> None:
    await deployed.start()
    page = await deployed.client().query(
        COMPANIES, purpose="public-lookup", filters={"uscc": deployed.companies[0].uscc}
    )
    receipt: Receipt = page.receipt
    await deployed.stop()
    address = server.database()
    with SqliteReader(deployed.config.log.database) as reader:
        size, note = reader.size(), reader.checkpoint()
    members = open_member_store(deployed.config.members.database).members()[1]
    stages: list[str] = []
    moved = await asyncio.to_thread(
        move_to_postgres, deployed.config, address, lambda *_: None, stages.append
    )
    assert (moved.entries, moved.members) == (size, len(members))
    assert len(stages) == 4
    verified = verify_receipt(receipt, deployed.trust)
    with PostgresReader(address) as reader:
        assert reader.checkpoint() == note
        assert reader.entry(verified.index).data
        hashes = reader.consistency_proof(verified.checkpoint.size, size)
        assert hashes or verified.checkpoint.size == size
    with closing(open_member_store(address)) as store:
        assert store.members()[1] == members
    assert any(path.name.startswith("audit-contributions.db") for path in moved.files)
    for path in moved.files:
        assert path.stat().st_mode & 0o777 == 0o400
    with pytest.raises(ConfigError, match="missing"):
        await asyncio.to_thread(move_to_postgres, deployed.config, address)
    with pytest.raises(ConfigError, match=r"missing|cannot be used"):
        await Node(deployed.config).start()


@pytest.mark.asyncio(loop_scope="module")
async def test_a_log_that_is_not_sound_is_not_moved(deployed: SimulatedWorld, server: PostgresServer) -> None:
    address = server.database()
    with closing(sqlite3.connect(deployed.config.log.database)) as connection, connection:
        connection.execute("DROP TRIGGER entry_keeps_update")
        connection.execute("UPDATE entry SET consumer = 'nobody' WHERE idx = 1")
    with pytest.raises(LogMismatchError, match="not sound"):
        await asyncio.to_thread(move_to_postgres, deployed.config, address)
    assert deployed.config.log.database.exists()
    with PostgresReader(address) as reader:
        assert not reader.exists()


@pytest.mark.asyncio(loop_scope="module")
async def test_a_move_that_was_interrupted_is_taken_up_again(
    deployed: SimulatedWorld, server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = server.database()

    def interrupted(path: Path) -> Path:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(move, "_retire", interrupted)
        with pytest.raises(KeyboardInterrupt):
            move_to_postgres(deployed.config, address)
    moved = move_to_postgres(deployed.config, address)
    with PostgresReader(address) as reader:
        assert reader.size() == moved.entries > 0


@pytest.mark.asyncio(loop_scope="module")
async def test_a_log_that_another_stands_in_the_way_of_is_not_moved(
    deployed: SimulatedWorld, server: PostgresServer, tmp_path: Path
) -> None:
    other = SimulatedWorld(tmp_path / "other")
    address = server.database()
    move_to_postgres(other.config, address)
    with pytest.raises(LogMismatchError, match="holds an audit log already"):
        move_to_postgres(deployed.config, address)
    report = fsck(deployed.config.log.database, verifier_of(deployed.config, deployed.trust))
    assert report.findings == ()


@pytest.mark.asyncio(loop_scope="module")
async def test_a_log_that_is_being_written_to_is_not_moved(
    deployed: SimulatedWorld, server: PostgresServer
) -> None:
    address = server.database()
    with (deployed.config.log.database.with_name("audit.db.lock")).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match="writing to this log"):
            move_to_postgres(deployed.config, address)
    await deployed.start()
    try:
        with pytest.raises(ConfigError, match="A gateway is running"):
            await asyncio.to_thread(move_to_postgres, deployed.config, address)
    finally:
        await deployed.stop()
    assert await asyncio.to_thread(move_to_postgres, deployed.config, address), "the control"


def test_migrating_as_the_gateways_own_role_is_refused(
    deployed: SimulatedWorld, server: PostgresServer
) -> None:
    address = server.empty_database()
    config = ("--config", str(deployed.deployment.config))
    result = CliRunner().invoke(
        app, ["database", "migrate", "--database", address.url, "--as", address.url, *config]
    )
    assert (result.exit_code, "another role" in result.stderr) == (2, True)
    owner = server.owner_address(address)
    for told in ("is in place", "was there already"):
        result = CliRunner().invoke(
            app, ["database", "migrate", "--database", address.url, "--as", owner.url, *config]
        )
        assert result.exit_code == 0, result.output
        assert told in result.stdout
