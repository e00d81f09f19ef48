"""What nodes share beside the log: members, and the agreement on policy and keyring."""

import asyncio
import time
from contextlib import closing

import msgspec
import psycopg
import pytest

from gateway.database.agreement import Agreement
from gateway.errors import ConfigError, GatewayError, Reason
from gateway.evidence.keys import SigningKey
from gateway.members import Directory, MemberError, SqliteMemberStore, directory
from gateway.members.postgres import PostgresMemberStore
from gateway.model import Member, MemberState, Role
from tests.simulators.waiting import until

pytestmark = pytest.mark.postgres

KEY = SigningKey.generate()


def bank(member="bank", **changes):
    facts = {
        "id": member,
        "title": "Harbour Bank",
        "member_class": "bank",
        "roles": frozenset({Role.CONSUMER, Role.PROVIDER}),
        "uri": f"spiffe://sluicegate/members/{member}",
        "signing_keys": {KEY.key_id: KEY.verify_key.public},
        "endpoint": "127.0.0.1:1",
    }
    return Member(**{**facts, **changes})


def set_state(store, member, state):
    store.change(member, lambda known: msgspec.structs.replace(known, state=state))


def with_key(key):
    return lambda known: msgspec.structs.replace(
        known, signing_keys={**known.signing_keys, key.key_id: key.verify_key.public}
    )


@pytest.fixture
def store(address):
    with closing(PostgresMemberStore(address)) as store:
        yield store


def test_a_member_is_read_back_as_it_was_added_and_as_sqlite_would(store, tmp_path):
    store.add(bank())
    other = SqliteMemberStore.create(tmp_path / "members.db")
    other.add(bank())
    assert store.members()[1] == other.members()[1] == [bank()]


def test_every_change_raises_the_revision_whoever_makes_it(server, address, store):
    seen = [store.revision()]

    def changed():
        seen.append(store.revision())

    store.add(bank())
    changed()
    set_state(store, "bank", MemberState.SUSPENDED)
    changed()
    store.change("bank", with_key(SigningKey.generate()))
    changed()
    with server.owner(address) as connection:
        connection.execute("UPDATE sluicegate.members SET state = 'active'")
    changed()
    assert seen == sorted(set(seen))


def test_what_contradicts_is_refused_and_leaves_nothing(store):
    store.add(bank())
    store.add(bank("second", signing_keys={}))
    before = store.members()
    for refused in (
        lambda: store.add(bank(uri="spiffe://sluicegate/members/other")),
        lambda: store.add(bank("other")),
        lambda: store.add(bank("third", signing_keys={"wrong": KEY.verify_key.public})),
        lambda: store.change("nobody", lambda known: known),
        lambda: store.change("bank", lambda known: msgspec.structs.replace(known, id="other")),
        lambda: store.change("second", with_key(KEY)),
        lambda: store.change("second", lambda known: msgspec.structs.replace(known, uri=bank().uri)),
    ):
        with pytest.raises(MemberError):
            refused()
    assert store.members() == before


@pytest.mark.parametrize("act", ["add", "change"])
def test_what_cannot_be_recorded_is_not_done(store, act):
    def refuse(_):
        raise GatewayError("the log is full")

    store.add(bank("other", signing_keys={}))
    before = store.members()
    acts = {
        "add": lambda: store.add(bank(), refuse),
        "change": lambda: store.change("other", with_key(KEY), refuse),
    }
    with pytest.raises(GatewayError, match="the log is full"):
        acts[act]()
    assert store.members() == before


def test_what_cannot_be_done_is_not_recorded(store):
    store.add(bank())
    recorded = []
    for refused in (
        lambda: store.add(bank("other"), recorded.append),
        lambda: store.change("nobody", lambda known: known, recorded.append),
    ):
        with pytest.raises(MemberError):
            refused()
    assert recorded == []
    store.change("bank", lambda known: known, recorded.append)
    assert recorded == [bank()]


def test_a_key_is_revoked_and_may_be_registered_again(store):
    other = SigningKey.generate()
    store.add(bank())
    store.change("bank", with_key(other))
    assert store.members()[1][0].signing_keys.keys() == {KEY.key_id, other.key_id}
    store.change("bank", lambda _: bank())
    assert store.members()[1] == [bank()]
    store.change("bank", with_key(other))


def test_while_one_changes_members_nobody_else_does_and_everybody_reads(server, address, store):
    """Two commands at once could otherwise record what the other undoes."""
    store.add(bank())
    before = store.members()
    found = []

    def meanwhile(_):
        with closing(PostgresMemberStore(address)) as reader:
            found.append(reader.members())
        with server.owner(address) as connection:
            connection.execute("SET lock_timeout = '50ms'")
            try:
                connection.execute("UPDATE sluicegate.members SET title = 'x'")
            except psycopg.errors.LockNotAvailable:
                found.append("locked")

    store.change("bank", with_key(SigningKey.generate()), meanwhile)
    assert found == [before, "locked"]


def test_a_row_that_no_command_writes_is_told(server, address, store):
    store.add(bank())
    with server.owner(address) as connection:
        connection.execute("UPDATE sluicegate.members SET roles = 'emperor'")
    with pytest.raises(MemberError, match="restore the store"):
        store.members()


def test_a_store_outlives_a_restart_of_the_server(server, store):
    store.add(bank())
    server.restart()
    with pytest.raises(MemberError):
        store.revision()
    assert store.members()[1] == [bank()]


async def served(place: Directory) -> bool:
    try:
        place.caller(bank().uri)
    except GatewayError as error:
        if error.reason is not Reason.MEMBER_SUSPENDED:
            raise
        return False
    return True


async def _seconds_until_a_suspension_bites(address) -> list[float]:
    stores = [PostgresMemberStore(address) for _ in range(2)]
    stores[0].add(bank())
    nodes = [Directory(store) for store in stores]
    tasks = [asyncio.create_task(node.keep_fresh(lambda _error: None)) for node in nodes]
    try:
        await until(lambda: all(store._notices._connection is not None for store in stores))
        await asyncio.sleep(0)
        operator = PostgresMemberStore(address)
        await asyncio.to_thread(set_state, operator, "bank", MemberState.SUSPENDED)
        begun, took = time.monotonic(), []
        for node in nodes:

            async def suspended(node=node) -> bool:
                return not await served(node)

            await until(suspended, within_s=10)
            took.append(time.monotonic() - begun)
        operator.close()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for store in stores:
            store.close()
    return took


@pytest.fixture
def patient(monkeypatch):
    """Directories that look by themselves only after seconds, and do not mind."""
    monkeypatch.setattr(directory, "REFRESH_INTERVAL_S", 3.0)
    monkeypatch.setattr(directory, "STALE_AFTER_S", 60.0)


@pytest.mark.timed
async def test_a_suspension_is_heard_of_at_once_on_every_node(address, patient):
    assert max(await _seconds_until_a_suspension_bites(address)) < 1


@pytest.mark.timed
async def test_without_notices_it_would_come_with_the_next_look(server, address, patient):
    _silence(server, address)
    assert max(await _seconds_until_a_suspension_bites(address)) > 1


@pytest.mark.timed
async def test_without_notices_the_usual_look_is_soon_enough(server, address):
    _silence(server, address)
    assert max(await _seconds_until_a_suspension_bites(address)) < 1


def _silence(server, address):
    with server.owner(address) as connection:
        connection.execute(
            "CREATE OR REPLACE FUNCTION sluicegate.announce_members() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN UPDATE sluicegate.registry SET revision = revision + 1; RETURN NULL; END $$"
        )


HELD = {"policy": "sha256:a", "keyring": "sha256:b"}


def test_the_first_node_says_what_all_hold_and_another_is_refused(address):
    with closing(Agreement(address, HELD)) as first, closing(Agreement(address, HELD)) as same:
        first.join()
        same.join()
        same.require()
    for differing in ({"policy": "sha256:x"}, {"keyring": "sha256:x"}):
        told = f"This node's {next(iter(differing))} is not"
        with (
            closing(Agreement(address, {**HELD, **differing})) as other,
            pytest.raises(ConfigError, match=told),
        ):
            other.join()


@pytest.mark.timed
async def test_a_running_node_serves_nobody_once_others_hold_something_else(address):
    new = {**HELD, "policy": "sha256:new"}
    with closing(Agreement(address, HELD)) as old, closing(Agreement(address, new)) as fresh:
        old.join()
        task = asyncio.create_task(old.keep_current())
        try:
            await asyncio.sleep(0)
            old.require()
            begun = time.monotonic()
            assert fresh.adopt() == ("policy",)
            await until(lambda: _refusal(old) is not None, within_s=5)
            assert time.monotonic() - begun < 1
            assert _refusal(old).reason is Reason.POLICY_STALE
            assert "policy" in _refusal(old).message
            fresh.join()
            assert fresh.adopt() == ()
            assert old.adopt() == ("policy",)
            await until(lambda: _refusal(old) is None, within_s=5)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_a_node_that_cannot_ask_serves_nobody(server, address):
    with closing(Agreement(address, HELD)) as node:
        node.join()
        task = asyncio.create_task(node.keep_current())
        try:
            await asyncio.sleep(0)
            await asyncio.to_thread(server.stop)
            await until(lambda: _refusal(node) is not None, within_s=5)
            await asyncio.to_thread(server.start)
            await until(lambda: _refusal(node) is None, within_s=5)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def _refusal(node) -> GatewayError | None:
    try:
        node.require()
    except GatewayError as error:
        return error
    return None
