"""The members as a running gateway sees them: never stale, and silent rather than wrong."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from gateway.errors import ConfigError, GatewayError, Reason
from gateway.evidence.keys import SigningKey, VerifyKey
from gateway.members import Directory, MemberError, MemberStore
from gateway.members.directory import STALE_AFTER_S
from gateway.model import Member, MemberState, Role
from tests.simulators.waiting import until

KEY = SigningKey(b"\x03" * 32)


def bank(name: str = "bank", *, endpoint: str | None = None, key: SigningKey = KEY) -> Member:
    return Member(
        id=name,
        title=name.title(),
        member_class="bank",
        roles=frozenset({Role.CONSUMER, Role.PROVIDER}),
        uri=f"spiffe://sluicegate/members/{name}",
        signing_keys={key.key_id: key.verify_key.public},
        endpoint=endpoint,
    )


@pytest.fixture
def store(tmp_path: Path) -> MemberStore:
    MemberStore.create(tmp_path / "members.db")
    return MemberStore(tmp_path / "members.db")


def set_state(store: MemberStore, member: str, state: MemberState) -> None:
    store.change(member, lambda known: msgspec.structs.replace(known, state=state))


def add_key(store: MemberStore, member: str, key: VerifyKey) -> None:
    store.change(
        member,
        lambda known: msgspec.structs.replace(
            known, signing_keys={**known.signing_keys, key.key_id: key.public}
        ),
    )


def reason_of(call, *arguments: str) -> Reason:
    with pytest.raises(GatewayError) as raised:
        call(*arguments)
    return raised.value.reason


def test_a_member_is_read_back_as_it_was_added(store: MemberStore) -> None:
    store.add(bank(endpoint="127.0.0.1:1"))
    assert store.members()[1] == [bank(endpoint="127.0.0.1:1")]


def test_every_change_raises_the_revision(store: MemberStore) -> None:
    seen = [store.revision()]
    store.add(bank())
    seen.append(store.revision())
    set_state(store, "bank", MemberState.SUSPENDED)
    seen.append(store.revision())
    add_key(store, "bank", SigningKey.generate().verify_key)
    seen.append(store.revision())
    assert seen == sorted(set(seen))


def test_id_uri_and_key_are_each_of_one_member(store: MemberStore) -> None:
    store.add(bank())
    with pytest.raises(MemberError):
        store.add(bank(key=SigningKey.generate()))
    with pytest.raises(MemberError):
        store.add(bank("other"))
    assert [member.id for member in store.members()[1]] == ["bank"]


def test_a_key_under_another_id_is_refused(store: MemberStore) -> None:
    with pytest.raises(MemberError):
        store.add(msgspec.structs.replace(bank(), signing_keys={"0" * 64: KEY.verify_key.public}))


def test_nobody_changes_a_member_that_is_not_there(store: MemberStore) -> None:
    with pytest.raises(MemberError):
        set_state(store, "nobody", MemberState.SUSPENDED)
    with pytest.raises(MemberError):
        add_key(store, "nobody", KEY.verify_key)


@pytest.mark.parametrize("act", ["add", "change"])
def test_what_cannot_be_recorded_is_not_done(store: MemberStore, act: str) -> None:
    def refuse(_: Member) -> None:
        raise GatewayError("the log is full")

    store.add(bank("other", key=SigningKey.generate()))
    before = store.members()
    acts = {
        "add": lambda: store.add(bank(), refuse),
        "change": lambda: store.change(
            "other", lambda known: msgspec.structs.replace(known, title="x"), refuse
        ),
    }
    with pytest.raises(GatewayError, match="the log is full"):
        acts[act]()
    assert store.members() == before


def test_what_cannot_be_done_is_not_recorded(store: MemberStore) -> None:
    """An entry of a change that never came would contradict the store for ever."""
    store.add(bank())
    recorded: list[Member] = []
    with pytest.raises(MemberError):
        store.add(bank("other"), recorded.append)
    with pytest.raises(MemberError):
        store.change("nobody", lambda known: known, recorded.append)
    assert recorded == []
    store.change("bank", lambda known: known, recorded.append)
    assert recorded == [bank()]


def test_a_row_that_no_command_writes_is_told(store: MemberStore, tmp_path: Path) -> None:
    store.add(bank())
    with closing(sqlite3.connect(tmp_path / "members.db")) as database, database:
        database.execute("UPDATE members SET roles = 'emperor'")
    with pytest.raises(MemberError, match="restore the store"):
        store.members()


def test_a_store_is_not_made_twice(store: MemberStore, tmp_path: Path) -> None:
    with pytest.raises(MemberError):
        MemberStore.create(tmp_path / "members.db")


def test_the_store_is_closed_to_others(store: MemberStore, tmp_path: Path) -> None:
    assert (tmp_path / "members.db").stat().st_mode & 0o077 == 0


def test_a_file_that_is_no_store_is_an_error_of_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "members.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(ConfigError):
        MemberStore(tmp_path / "members.db").revision()


async def test_a_caller_is_found_by_its_uri_and_by_nothing_else(store: MemberStore) -> None:
    store.add(bank())
    directory = Directory(store)
    assert directory.caller(bank().uri).id == "bank"
    for uri in ("bank", bank().uri.upper(), bank().uri + "/", ""):
        assert reason_of(directory.caller, uri) is Reason.MEMBER_UNKNOWN
    set_state(store, "bank", MemberState.SUSPENDED)
    await directory.refresh()
    assert reason_of(directory.caller, bank().uri) is Reason.MEMBER_SUSPENDED


async def test_a_provider_must_be_active_and_have_an_endpoint(store: MemberStore) -> None:
    store.add(bank())
    store.add(bank("registry", endpoint="127.0.0.1:1", key=SigningKey.generate()))
    directory = Directory(store)
    assert directory.provider("registry").endpoint == "127.0.0.1:1"
    assert reason_of(directory.provider, "bank") is Reason.PROVIDER_UNAVAILABLE
    assert reason_of(directory.provider, "nobody") is Reason.PROVIDER_UNAVAILABLE
    set_state(store, "registry", MemberState.SUSPENDED)
    await directory.refresh()
    assert reason_of(directory.provider, "registry") is Reason.PROVIDER_UNAVAILABLE
    assert not directory.is_active("registry")


async def test_a_new_key_is_known_after_a_refresh(store: MemberStore) -> None:
    store.add(bank())
    directory = Directory(store)
    fresh = SigningKey.generate()
    add_key(store, "bank", fresh.verify_key)
    heard: list[int] = []
    directory.on_change(lambda: heard.append(1))
    await directory.refresh()
    await directory.refresh()
    assert directory.signing_keys("bank").keys() == {KEY.key_id, fresh.key_id}
    assert directory.signing_keys("nobody") == {}
    assert heard == [1]


async def test_a_store_that_cannot_be_read_serves_nobody_until_it_can(
    store: MemberStore, tmp_path: Path
) -> None:
    """A suspension might stand in what cannot be read."""
    store.add(bank())
    directory = Directory(store)
    faults: list[ConfigError] = []
    task = asyncio.create_task(directory.keep_fresh(faults.append))
    try:
        await asyncio.sleep(0)
        assert directory.caller(bank().uri).id == "bank"
        away = tmp_path / "away.db"
        (tmp_path / "members.db").rename(away)
        (tmp_path / "members.db").write_bytes(b"not a database" * 50)

        def serves_nobody() -> bool:
            try:
                directory.caller(bank().uri)
            except GatewayError as error:
                return error.reason is Reason.MEMBERS_UNAVAILABLE
            return False

        await until(serves_nobody, within_s=STALE_AFTER_S + 2)
        assert faults
        away.replace(tmp_path / "members.db")
        await until(lambda: not serves_nobody(), within_s=STALE_AFTER_S + 2)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
