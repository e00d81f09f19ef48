"""A start tells what changed since the last one, and who never stopped."""

from __future__ import annotations

import shutil
from datetime import timedelta

import pytest

from gateway.audit.note import Ed25519Signer
from gateway.audit.sqlite import SqliteStore
from gateway.audit.writer import AuditLog
from gateway.clock import rfc3339, system_clock
from gateway.evidence.keys import SigningKey
from gateway.model import ENTRY_VERSION, Entry, EntryKind
from gateway.policy.bundle import load_bundle
from gateway.pseudonym import Keyring
from gateway.recorded.deployment import (
    DeploymentState,
    changes_between,
    observe_deployment,
    settings_in_force,
)
from gateway.recorded.starts import Instance, announce, announcements, crashed


@pytest.fixture
def log(config):
    signer = Ed25519Signer(config.log.origin, SigningKey.load(config.log.key))
    with AuditLog(SqliteStore(config.log.database), signer, origin=config.log.origin) as log:
        yield log


def observe(config):
    bundle = load_bundle(config.policy.directory)
    return observe_deployment(config, bundle.digest, SigningKey.load(config.keys.signing).key_id)


async def start(log, entries, state, instance):
    made = await announce(log, entries, state, instance, system_clock)
    detail = {**instance.detail(), **state.detail()}
    await tell(log, EntryKind.GATEWAY_STARTED, detail, bundle=state.digests["policy"])
    return [announcement.kind.value for announcement, _ in made]


async def tell(log, kind, detail, **members):
    return await log.append(
        Entry(v=ENTRY_VERSION, kind=kind, time=rfc3339(system_clock()), detail=detail, **members)
    )


async def stop(log, instance):
    await tell(log, EntryKind.GATEWAY_STOPPED, instance.detail())


async def test_a_first_start_and_one_like_it_announce_nothing(config, log, entries):
    for run in ("a", "b"):
        assert await start(log, entries, observe(config), Instance(run)) == []
        await stop(log, Instance(run))


def edit_policy(config):
    path = config.policy.directory / "bundle.yaml"
    path.write_text(path.read_text().replace("revision: ", "revision: 9"))
    return config


def edit_catalogue(config):
    path = next(config.catalogue.glob("*.yaml"))
    path.write_text(path.read_text() + "\n# one more line\n")
    return config


def edit_configuration(config):
    return config.model_copy(update={"log": config.log.model_copy(update={"queue": 17})})


def exchange_authority(config):
    shutil.copy(config.tls.certificate, config.tls.client_ca)
    return config


def rotate_keyring(config):
    keyring = Keyring.load(config.keys.keyring).rotate(system_clock(), timedelta(days=1))
    keyring.save(config.keys.keyring, replace_existing=True)
    return config


def exchange_signing_key(config):
    config.keys.signing.write_bytes(SigningKey.generate().to_pem())
    return config


EDITS = [
    (edit_policy, "policy.changed", "policy"),
    (edit_catalogue, "catalogue.changed", "catalogue"),
    (edit_configuration, "configuration.changed", "configuration"),
    (exchange_authority, "authorities.changed", "authorities"),
    (rotate_keyring, "keys.changed", "keyring"),
    (exchange_signing_key, "keys.changed", "signing_key"),
]


@pytest.mark.parametrize(("edit", "kind", "part"), EDITS)
async def test_what_was_changed_between_two_starts_is_told_with_both_digests(
    config, log, entries, edit, kind, part
):
    before = observe(config)
    await start(log, entries, before, Instance("a"))
    await stop(log, Instance("a"))
    after = observe(edit(config))
    [announcement] = announcements(entries, after, Instance("b"))
    assert (announcement.kind, announcement.subject) == (kind, part)
    assert announcement.detail["before"] == before.digests[part]
    assert announcement.detail["after"] == after.digests[part]
    assert await start(log, entries, after, Instance("b")) == [kind]
    await stop(log, Instance("b"))
    assert await start(log, entries, after, Instance("c")) == []


async def test_a_changed_setting_is_named_and_no_value_is_told(config, log, entries):
    secretive = config.model_copy(
        update={
            "policy": config.policy.model_copy(update={"opa_url": "http://user:hunter2@opa.example:1"}),
            "log": config.log.model_copy(update={"queue": 17}),
        }
    )
    await start(log, entries, observe(config), Instance("a"))
    [announcement] = announcements(entries, observe(secretive), Instance("a", "2"))
    assert announcement.detail["settings"] == "log.queue,policy.opa_url"
    told = str(announcement) + str(observe(secretive).detail())
    assert "hunter2" not in told
    assert "opa.example" not in told
    assert "hunter2" not in str(dict(settings_in_force(secretive)))


def test_the_state_comes_back_from_its_entry(config):
    state = observe(config)
    entry = Entry(
        v=1,
        kind=EntryKind.GATEWAY_STARTED,
        time="",
        bundle=state.digests["policy"],
        detail=state.detail(),
    )
    assert DeploymentState.of(entry) == state


def test_of_an_entry_of_an_older_release_nothing_is_said_to_have_changed(config):
    old = DeploymentState.of(Entry(v=1, kind=EntryKind.GATEWAY_STARTED, time="", detail={"version": "0.0"}))
    assert changes_between(old, observe(config)) == []


async def test_a_start_without_a_stop_before_it_is_told_once(config, log, entries):
    state = observe(config)
    await start(log, entries, state, Instance("a", "1"))
    await start(log, entries, state, Instance("a", "2"))
    await stop(log, Instance("a", "2"))
    assert await start(log, entries, state, Instance("b", "1")) == ["gateway.crashed"]
    assert await start(log, entries, state, Instance("b", "2")) == []
    [crash] = entries.newest(EntryKind.GATEWAY_CRASHED, 5)
    assert crash.entry.detail["run"] == "a"
    assert crash.entry.detail["worker"] == "1"


async def test_a_worker_that_was_begun_anew_tells_of_the_one_before_it(config, log, entries):
    state, own = observe(config), Instance("a", "1")
    await start(log, entries, state, own)
    await start(log, entries, state, Instance("a", "2"))
    assert await start(log, entries, state, own) == ["gateway.crashed"]
    await stop(log, own)
    await stop(log, Instance("a", "2"))
    assert await start(log, entries, state, Instance("b")) == []


async def test_a_sibling_that_runs_and_a_process_of_another_node_did_not_crash(config, log, entries):
    state = observe(config)
    await start(log, entries, state, Instance("a", "1"))
    await start(log, entries, state, Instance("n", "1", node="north"))
    assert crashed(entries, Instance("a", "2")) == []
    [(_, instance)] = crashed(entries, Instance("m", "1", node="north"))
    assert instance.node == "north"


async def test_of_two_that_start_together_one_tells(config, log, entries):
    await start(log, entries, observe(config), Instance("a"))
    after = observe(edit_catalogue(config))
    told = announcements(entries, after, Instance("b", "1"))
    assert told == announcements(entries, after, Instance("b", "2"))
    made = [await announce(log, entries, after, Instance("b", number), system_clock) for number in ("1", "2")]
    assert [len(each) for each in made] == [2, 0]
    assert len(entries.newest(EntryKind.CATALOGUE_CHANGED, 5)) == 1
