"""`gateway timestamps` on tokens that OpenSSL has made."""

import shutil
import subprocess
from datetime import timedelta

import pytest

from gateway.audit.sqlite_reader import SqliteReader
from gateway.clock import system_clock
from gateway.config import GatewayConfig
from gateway.timestamps.store import Timestamp, TimestampStore
from gateway.timestamps.token import Authorities, make_request
from tests.simulators.timestamp_authority import OpensslAuthority
from tests.unit.cli.conftest import add_bank

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


@pytest.fixture
def authority(tmp_path):
    return OpensslAuthority(tmp_path / "tsa")


@pytest.fixture
def stamp(gateway, config, authority):
    """A function that has the log stamped as it is, with what a test changes of it."""
    section = f'\n[log.timestamps]\nurl = "http://127.0.0.1:9/"\nca = "{authority.ca}"\n'
    config.write_text(config.read_text() + section)
    settings = GatewayConfig.load(config)
    store = TimestampStore(settings.log.timestamps.database)
    store.create()

    def stamp(**changes):
        with SqliteReader(settings.log.database) as reader:
            note, size = reader.checkpoint(), reader.size()
        token = authority.reply(make_request(note).data)
        time = Authorities.load(authority.ca).verify(token, note)
        made = {"size": size, "time": time, "note": note, "token": token, **changes}
        store.add(Timestamp(**made))
        return made

    return stamp


def test_time_stamps_are_listed_and_verify(gateway, stamp, tmp_path):
    assert gateway("timestamps", "list").exit_code == 0
    add_bank(gateway, tmp_path / "bank")
    stamp()
    gateway("member", "suspend", "harbour-bank")
    stamp()
    assert [row["size"] for row in gateway.json("timestamps", "list")] == [2, 1]
    assert gateway.json("timestamps", "verify") == {"timestamps": 2, "findings": []}


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"size": 7}, "another size or time"),
        ({"time": system_clock() + timedelta(days=1)}, "another size or time"),
        ({"note": "nonsense\n"}, "not one over this checkpoint"),
        ({"token": b"nonsense"}, "not a time-stamp"),
    ],
)
def test_a_time_stamp_that_was_changed_is_found(gateway, stamp, changes, what):
    stamp(**changes)
    result = gateway("timestamps", "verify")
    assert result.exit_code == 3
    assert what in result.stdout


def test_a_log_that_was_rolled_back_behind_a_time_stamp_is_found(gateway, config, stamp, tmp_path):
    settings = GatewayConfig.load(config)
    older = settings.log.database.read_bytes()
    add_bank(gateway, tmp_path / "bank")
    stamp()
    for suffix in ("-wal", "-shm"):
        settings.log.database.with_name(settings.log.database.name + suffix).unlink(missing_ok=True)
    settings.log.database.write_bytes(older)
    result = gateway("timestamps", "verify")
    assert result.exit_code == 3
    assert "rolled back" in result.stdout


def test_what_is_exported_openssl_verifies(gateway, stamp, authority, tmp_path):
    add_bank(gateway, tmp_path / "bank")
    assert "No time-stamp covers entry 0" in gateway("timestamps", "export", 0, tmp_path / "out").stderr
    stamp()
    told = gateway.json("timestamps", "export", 0, tmp_path / "out")
    assert (told["entry"], told["tree_size"]) == (0, 1)
    files = ("-data", tmp_path / "out/checkpoint", "-in", tmp_path / "out/checkpoint.tsr")
    command = ["openssl", "ts", "-verify", *files, "-CAfile", authority.ca]
    assert subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == 0
    assert gateway("timestamps", "export", 0, tmp_path / "out").exit_code == 2
    assert gateway("timestamps", "export", 1, tmp_path / "more").exit_code == 2


def test_without_an_authority_there_is_nothing_to_list(gateway):
    for words in (("list",), ("verify",), ("export", "0", "out")):
        result = gateway("timestamps", *words)
        assert result.exit_code == 2
        assert "[log.timestamps]" in result.stderr
