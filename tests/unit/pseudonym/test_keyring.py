import json
import os
import stat
from datetime import UTC, datetime, timedelta

import pytest

from gateway.errors import ConfigError, Reason
from gateway.pseudonym import KeyEpoch, KeyEpochError, Keyring, KeyringError

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
WEEK = timedelta(days=7)


@pytest.fixture
def keyring():
    return Keyring.generate(START)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "keyring.json"


def test_a_saved_keyring_is_read_back_as_it_was(keyring, path):
    rotated = keyring.rotate(START + 30 * DAY, WEEK)
    rotated.save(path)
    assert Keyring.load(path) == rotated
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_file_is_the_documented_one(keyring, path):
    keyring.save(path)
    content = json.loads(path.read_text())
    assert content["scheme"] == "sg1"
    (epoch,) = content["epochs"]
    assert set(epoch) == {"id", "key", "not_before", "not_after"}
    assert epoch["id"] == "2026a"
    assert epoch["not_before"] == "2026-01-01T00:00:00Z"
    assert len(epoch["key"]) == 44


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610])
def test_a_keyring_open_to_others_is_refused_and_told_how_to_close_it(keyring, path, mode):
    keyring.save(path)
    path.chmod(mode)
    with pytest.raises(ConfigError, match="chmod 600"):
        Keyring.load(path)
    path.chmod(0o600)
    assert Keyring.load(path) == keyring


def test_a_link_to_a_keyring_is_refused(keyring, path, tmp_path):
    keyring.save(path)
    link = tmp_path / "link.json"
    link.symlink_to(path)
    with pytest.raises(ConfigError, match="symbolic link"):
        Keyring.load(link)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_keyring_of_another_user_is_refused(keyring, path):
    keyring.save(path)
    os.chown(path, 12345, -1)
    with pytest.raises(ConfigError, match="another user"):
        Keyring.load(path)


def test_a_missing_keyring_is_refused(path):
    with pytest.raises(ConfigError):
        Keyring.load(path)


def test_saving_never_overwrites_unless_told_to(keyring, path):
    keyring.save(path)
    other = Keyring.generate(START)
    with pytest.raises(ConfigError):
        other.save(path)
    assert Keyring.load(path) == keyring
    other.save(path, replace_existing=True)
    assert Keyring.load(path) == other
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_keyring_that_cannot_be_replaced_leaves_nothing_behind(keyring, path):
    path.mkdir()
    with pytest.raises(KeyringError, match="cannot be replaced"):
        keyring.save(path, replace_existing=True)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def altered(content, **changes):
    content["epochs"][0].update(changes)
    return content


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: [],
        lambda content: {**content, "scheme": "sg2"},
        lambda content: {**content, "extra": 1},
        lambda content: {**content, "epochs": []},
        lambda content: {**content, "epochs": content["epochs"] * 2},
        lambda content: {**content, "epochs": [*content["epochs"], {**content["epochs"][0], "id": "other"}]},
        lambda content: altered(content, extra=1),
        lambda content: altered(content, key="c2hvcnQ="),
        lambda content: altered(content, key="not base64!"),
        lambda content: altered(content, id="No Id"),
        lambda content: altered(content, not_before="2026-01-01T00:00:00"),
        lambda content: altered(content, not_after=content["epochs"][0]["not_before"]),
    ],
)
def test_a_damaged_keyring_is_refused_without_a_word_of_its_keys(keyring, path, damage):
    keyring.save(path)
    content = json.loads(path.read_text())
    key = content["epochs"][0]["key"]
    path.write_text(json.dumps(damage(content)))
    with pytest.raises(KeyringError) as refusal:
        Keyring.load(path)
    assert key not in str(refusal.value) + str(refusal.value.__cause__)
    assert key[:8] not in str(refusal.value) + str(refusal.value.__cause__)


def test_a_file_that_is_not_json_is_refused(keyring, path):
    keyring.save(path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(KeyringError, match="not a keyring"):
        Keyring.load(path)


def test_keys_never_show(keyring):
    shown = repr(keyring) + str(keyring) + repr(keyring.epochs[0])
    key = keyring.epochs[0].key
    assert repr(key) not in shown
    assert key.hex() not in shown
    assert "key=" not in shown


def test_every_generated_key_is_another():
    keys = {Keyring.generate(START).epochs[0].key for _ in range(20)}
    assert len(keys) == 20
    assert {len(key) for key in keys} == {32}


def test_a_rotation_gives_two_epochs_for_the_overlap_and_the_newest_leads(keyring):
    now = START + 100 * DAY
    rotated = keyring.rotate(now, WEEK)
    assert [epoch.id for epoch in rotated.epochs_at(now - DAY)] == ["2026a"]
    assert [epoch.id for epoch in rotated.epochs_at(now)] == ["2026a", "2026b"]
    assert [epoch.id for epoch in rotated.epochs_at(now + WEEK)] == ["2026b"]
    assert rotated.current(now - DAY).id == "2026a"
    assert rotated.current(now).id == "2026b"
    assert rotated.epochs[0].key == keyring.epochs[0].key
    assert rotated.epochs[1].key != keyring.epochs[0].key
    assert keyring.epochs[0].not_after > now + WEEK, "the old keyring is as it was"


def test_a_rotation_never_lengthens_an_epoch(keyring):
    end = keyring.epochs[0].not_after
    rotated = keyring.rotate(end - DAY, WEEK)
    assert rotated.epochs[0].not_after == end


def test_a_rotation_without_overlap_cuts_at_once(keyring):
    now = START + DAY
    rotated = keyring.rotate(now, timedelta(0))
    assert [epoch.id for epoch in rotated.epochs_at(now)] == ["2026b"]


def test_epoch_ids_follow_the_year_and_are_never_used_twice(keyring):
    for _ in range(27):
        keyring = keyring.rotate(START + DAY, WEEK)
    names = [epoch.id for epoch in keyring.epochs]
    assert len(set(names)) == 28
    assert {"2026a", "2026b", "2026z", "2026aa", "2026ab"} <= set(names)
    assert keyring.rotate(START + 400 * DAY, WEEK).epochs[-1].id == "2027a"


@pytest.mark.parametrize(("overlap", "lifetime"), [(-DAY, DAY), (DAY, timedelta(0)), (DAY, -DAY)], ids=str)
def test_a_rotation_that_makes_no_sense_is_refused(keyring, overlap, lifetime):
    with pytest.raises(KeyringError):
        keyring.rotate(START + DAY, overlap, lifetime=lifetime)


@pytest.mark.parametrize("moment", [START - DAY, START + 366 * DAY])
def test_outside_every_epoch_there_is_no_key(keyring, moment):
    assert keyring.epochs_at(moment) == ()
    with pytest.raises(KeyEpochError) as refusal:
        keyring.current(moment)
    assert refusal.value.reason is Reason.KEY_EPOCH_MISSING


def test_an_epoch_begins_with_its_first_instant_and_ends_before_its_last(keyring):
    epoch = keyring.epochs[0]
    assert epoch.covers(epoch.not_before)
    assert not epoch.covers(epoch.not_after)


def test_epochs_stand_in_the_order_of_time_whatever_the_file_says():
    late = KeyEpoch("b", START + DAY, START + 3 * DAY, b"b" * 32)
    early = KeyEpoch("a", START, START + 2 * DAY, b"a" * 32)
    ring = Keyring((late, early))
    assert [epoch.id for epoch in ring.epochs] == ["a", "b"]
    assert ring.current(START + DAY).id == "b"
