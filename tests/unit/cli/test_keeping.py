"""Answers are kept whole or not at all, for their owner only."""

import json
import stat
from types import SimpleNamespace

import pytest

from gateway.audit.receipt import Receipt
from gateway.cli.failures import CommandError
from gateway.cli.keeping import Keeper
from gateway.evidence import dsse

RECEIPT = Receipt(statement=dsse.Envelope(payload=b"{}", payload_type="x", signatures=()), tlog_proof="")


def verified(exchange):
    return SimpleNamespace(entry=SimpleNamespace(exchange=exchange))


def fill(keeper, *exchanges):
    for exchange in exchanges:
        keeper.take_page(0, b'{"a":1}\n{"a":2}\n', b"s" * 32)
        keeper.take_receipt(RECEIPT, verified(exchange))


def test_everything_is_there_after_finish(tmp_path):
    with Keeper(tmp_path / "out.jsonl", None) as keeper:
        fill(keeper, "e1", "e2")
        receipts = keeper.finish()
    assert [path.name for path in receipts] == ["out.jsonl.receipt.json", "out.jsonl.receipt-2.json"]
    assert (tmp_path / "out.jsonl").read_bytes().count(b"\n") == 4
    seeds = [
        json.loads(line) for line in (tmp_path / "out.jsonl.receipt.json.seeds").read_text().splitlines()
    ]
    assert [(seed["exchange"], seed["page"], seed["records"]) for seed in seeds] == [
        ("e1", 0, 2),
        ("e2", 0, 2),
    ]
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}
    assert len(list(tmp_path.iterdir())) == 4


def cut_short(directory):
    with Keeper(directory / "out.jsonl", directory / "r.json") as keeper:
        fill(keeper, "e1")
        assert (directory / "out.jsonl.part").exists()
        raise RuntimeError("cut")


def test_nothing_is_there_when_it_ends_early(tmp_path):
    with pytest.raises(RuntimeError, match="cut"):
        cut_short(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_receipt_alone_keeps_its_seeds(tmp_path):
    with Keeper(None, tmp_path / "r.json") as keeper:
        fill(keeper, "e1")
        keeper.finish()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.json", "r.json.seeds"]


def test_nothing_wanted_is_nothing_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Keeper(None, None) as keeper:
        fill(keeper, "e1")
        assert keeper.finish() == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.part", "r.json", "r.json.seeds"])
def test_no_file_is_ever_replaced(tmp_path, name):
    (tmp_path / name).write_text("precious")
    with pytest.raises(CommandError, match="exists already"):
        Keeper(tmp_path / "out.jsonl", tmp_path / "r.json")
    assert (tmp_path / name).read_text() == "precious"


def test_a_file_that_appeared_meanwhile_is_left_alone_and_nothing_else_stays(tmp_path):
    with Keeper(tmp_path / "out.jsonl", tmp_path / "r.json") as keeper:
        fill(keeper, "e1", "e2")
        (tmp_path / "r-2.json").write_text("precious")
        with pytest.raises(CommandError, match=r"r-2\.json cannot be created"):
            keeper.finish()
    assert [path.name for path in tmp_path.iterdir()] == ["r-2.json"]
    assert (tmp_path / "r-2.json").read_text() == "precious"
