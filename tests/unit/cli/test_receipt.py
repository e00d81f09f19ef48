"""`receipt verify` and `receipt show`, on receipts made as the gateway makes them, and on tampered ones."""

import base64
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from gateway.audit.note import Ed25519Signer
from gateway.audit.receipt import Receipt, issue_receipt
from gateway.audit.sqlite import SqliteStore
from gateway.audit.writer import AuditLog
from gateway.cli.seeds import PageSeed, encode_seeds, seeds_path
from gateway.clock import rfc3339
from gateway.evidence import dsse
from gateway.evidence.canonical import encode_canonical
from gateway.evidence.commitment import commit
from gateway.evidence.delivery import DELIVERY_TYPE, build_delivery
from gateway.evidence.keys import SigningKey
from gateway.evidence.records import page_digest, records_root, split_lines
from gateway.model import ENTRY_VERSION, Entry, EntryKind
from tests.unit.cli.conftest import add_bank, add_registry

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
DATASET = "members/registry/datasets/companies"


@dataclass(frozen=True)
class Kept:
    """What a consumer has kept, and the trust file."""

    receipt: Path
    records: Path
    trust: Path

    @property
    def seeds(self):
        return seeds_path(self.receipt)


def release(settings, provider_key, exchange, pages):
    """Do what the gateway does at a release; return (receipt, seeds)."""
    seeds = [bytes([number]) * 32 for number in range(len(pages))]
    digests = [page_digest(split_lines(text), seed) for text, seed in zip(pages, seeds, strict=True)]
    query, salt = commit(b"{}")
    records = sum(text.count(b"\n") for text in pages)
    entry = Entry(
        v=ENTRY_VERSION,
        kind=EntryKind.EXCHANGE_RELEASED,
        time=rfc3339(NOW),
        exchange=exchange,
        consumer="harbour-bank",
        provider="registry",
        operation="stream",
        dataset=DATASET,
        tier="public",
        purpose="public-lookup",
        released=("name", "uscc"),
        withheld=("phone",),
        records=records,
        pages=len(pages),
        commitments={"query": query, "records": base64.b64encode(records_root(digests)).decode()},
    )
    deliveries = [
        dsse.sign(
            build_delivery(
                exchange=exchange,
                dataset=DATASET,
                page=number,
                records=text,
                count=text.count(b"\n"),
                time=NOW,
                last=number == len(pages) - 1,
            ).statement,
            DELIVERY_TYPE,
            [provider_key],
        )
        for number, text in enumerate(pages)
    ]
    signer = Ed25519Signer(settings.log.origin, SigningKey.load(settings.log.key))
    with AuditLog(SqliteStore(settings.log.database), signer, origin=settings.log.origin) as log:
        committed = log.append_sync(entry)
    receipt = issue_receipt(
        committed,
        origin=settings.log.origin,
        openings={"query": salt},
        page_digests=digests,
        deliveries=deliveries,
        signer=SigningKey.load(settings.keys.signing),
    )
    lines = [
        PageSeed(exchange=exchange, page=number, records=text.count(b"\n"), seed=seed)
        for number, (text, seed) in enumerate(zip(pages, seeds, strict=True))
    ]
    return receipt, lines


def lines_of(first, count):
    return b"".join(b'{"name":"Company %d"}\n' % number for number in range(first, first + count))


@pytest.fixture
def provider_key(gateway, tmp_path):
    for result in (add_registry(gateway, tmp_path / "registry"), add_bank(gateway, tmp_path / "bank")):
        assert result.exit_code == 0, result.output
    return SigningKey.load(tmp_path / "registry" / "signing.key")


@pytest.fixture
def kept(config, settings, provider_key, tmp_path):
    pages = [lines_of(0, 3), lines_of(3, 2)]
    receipt, seeds = release(settings, provider_key, "018f0000-0000-7000-8000-000000000001", pages)
    found = Kept(tmp_path / "r.json", tmp_path / "out.jsonl", config.parent / "trust.json")
    found.receipt.write_bytes(receipt.to_json())
    found.records.write_bytes(b"".join(pages))
    found.seeds.write_bytes(encode_seeds(seeds))
    return found


def verify(cli, kept, *more):
    return cli("receipt", "verify", kept.receipt, "--trust", kept.trust, *more)


def test_a_receipt_verifies_offline_and_says_what_it_proves(cli, kept):
    result = verify(cli, kept)
    assert result.exit_code == 0, result.output
    assert [line[:5] for line in result.stdout.splitlines() if line[2:3].isdigit()] == [
        f"  {number}. " for number in range(1, 7)
    ]
    for fact in ("harbour-bank", "registry", DATASET, "public-lookup", "018f0000", "name, uscc"):
        assert fact in result.stdout


def test_programs_get_the_facts(cli, kept):
    [row] = cli.json("receipt", "verify", kept.receipt, "--trust", kept.trust)
    assert row["verified"] is True
    assert (row["entry"], row["tree_size"], row["records"], row["pages"]) == (2, 3, 5, 2)
    assert len(row["checks"]) == 6


def test_the_records_verify_with_their_seeds(cli, kept):
    result = verify(cli, kept, "--records", kept.records)
    assert result.exit_code == 0, result.output
    assert "5 records as released" in result.stdout
    moved = kept.seeds.rename(kept.seeds.with_name("elsewhere"))
    assert verify(cli, kept, "--records", kept.records).exit_code == 2
    assert verify(cli, kept, "--records", kept.records, "--seeds", moved).exit_code == 0


def change(text, old, new):
    assert old in text
    return text.replace(old, new, 1)


TAMPERED_RECORDS = {
    "a changed value": lambda text: change(text, b"Company 1", b"Company 9"),
    "a lost line": lambda text: text.split(b"\n", 1)[1],
    "an added line": lambda text: text + b'{"name":"Company 5"}\n',
    "two lines exchanged": lambda text: b"\n".join(
        [*reversed(text.split(b"\n")[:2]), *text.split(b"\n")[2:]]
    ),
    "a lost line end": lambda text: text[:-1],
    "nothing left": lambda _: b"",
}


@pytest.mark.parametrize("what", TAMPERED_RECORDS)
def test_tampered_records_do_not_verify(cli, kept, what):
    kept.records.write_bytes(TAMPERED_RECORDS[what](kept.records.read_bytes()))
    result = verify(cli, kept, "--records", kept.records)
    assert result.exit_code == 3
    assert "does NOT verify" in result.stdout


def without_last_seed(seeds):
    return seeds[:-1]


def repeated_seed(seeds):
    return [*seeds, seeds[-1]]


def foreign_seed(seeds):
    return [msgspec.structs.replace(seeds[0], seed=b"\xee" * 32), *seeds[1:]]


def of_another_page(seeds):
    return [msgspec.structs.replace(seeds[0], page=1), *seeds[1:]]


def missing_pages_as_others(seeds):
    return [seeds[0], msgspec.structs.replace(seeds[1], exchange="another")]


@pytest.mark.parametrize(
    "tamper", [without_last_seed, repeated_seed, foreign_seed, of_another_page, missing_pages_as_others]
)
def test_tampered_seeds_do_not_verify(cli, kept, tamper):
    seeds = msgspec.json.Decoder(PageSeed).decode_lines(kept.seeds.read_bytes())
    kept.seeds.write_bytes(encode_seeds(tamper(seeds)))
    assert verify(cli, kept, "--records", kept.records).exit_code == 3


def test_a_file_that_holds_no_seeds_is_told(cli, kept):
    kept.seeds.write_text("hello\n")
    result = verify(cli, kept, "--records", kept.records)
    assert result.exit_code == 2
    assert "not a seeds file" in result.stderr


def swap_pages(statement):
    return {**statement, "pages": list(reversed(statement["pages"]))}


def move_entry(statement):
    return {**statement, "index": statement["index"] - 1}


def other_gateway(statement):
    return {**statement, "gateway": "audit.example.net/log/other"}


def more_records(statement):
    return {**statement, "entry": {**statement["entry"], "records": 4}}


@pytest.mark.parametrize("forged", [True, False], ids=["resigned by a thief of the key", "not signed again"])
@pytest.mark.parametrize("change", [swap_pages, move_entry, other_gateway, more_records])
def test_a_changed_statement_does_not_verify(cli, kept, settings, change, forged):
    receipt = Receipt.from_json(kept.receipt.read_bytes())
    payload = encode_canonical(change(json.loads(receipt.statement.payload)))
    statement = msgspec.structs.replace(receipt.statement, payload=payload)
    if forged:
        statement = dsse.sign(payload, statement.payload_type, [SigningKey.load(settings.keys.signing)])
    kept.receipt.write_bytes(msgspec.structs.replace(receipt, statement=statement).to_json())
    result = verify(cli, kept)
    assert result.exit_code == 3
    assert "does NOT verify" in result.stdout


def test_the_tampering_above_is_what_breaks_it(cli, kept, settings):
    receipt = Receipt.from_json(kept.receipt.read_bytes())
    payload = encode_canonical(json.loads(receipt.statement.payload))
    again = dsse.sign(payload, receipt.statement.payload_type, [SigningKey.load(settings.keys.signing)])
    kept.receipt.write_bytes(msgspec.structs.replace(receipt, statement=again).to_json())
    assert verify(cli, kept).exit_code == 0


@pytest.mark.parametrize("at", range(0, 100, 4))
def test_a_flipped_bit_anywhere_in_the_file_does_not_verify(cli, kept, at):
    raw = bytearray(kept.receipt.read_bytes())
    # White space between members means nothing; every other byte does.
    position = next(
        index for index in range(len(raw) * at // 100, len(raw)) if raw[index : index + 1].isalnum()
    )
    raw[position] ^= 0x02
    kept.receipt.write_bytes(raw)
    assert verify(cli, kept).exit_code == 3


def test_a_receipt_without_the_providers_deliveries_does_not_verify(cli, kept):
    receipt = Receipt.from_json(kept.receipt.read_bytes())
    kept.receipt.write_bytes(msgspec.structs.replace(receipt, deliveries=receipt.deliveries[:1]).to_json())
    assert verify(cli, kept).exit_code == 3


@pytest.mark.parametrize("content", [b"", b"hello", b"[]", b"{}", b"\xff" * 40, b'{"statement":' * 5000])
def test_a_file_that_is_no_receipt_does_not_verify(cli, kept, content):
    kept.receipt.write_bytes(content)
    assert verify(cli, kept).exit_code == 3
    assert cli("receipt", "show", kept.receipt).exit_code == 3


def test_another_gateways_trust_file_does_not_verify_it(cli, kept, tmp_path):
    cli("init", tmp_path / "other", "--origin", "audit.example.net/log/other")
    result = cli("receipt", "verify", kept.receipt, "--trust", tmp_path / "other" / "trust.json")
    assert result.exit_code == 3


def test_several_receipts_share_one_records_file(cli, gateway, settings, provider_key, kept, tmp_path):
    receipt, seeds = release(settings, provider_key, "018f0000-0000-7000-8000-000000000002", [lines_of(5, 1)])
    second = tmp_path / "r-2.json"
    second.write_bytes(receipt.to_json())
    kept.records.write_bytes(kept.records.read_bytes() + lines_of(5, 1))
    kept.seeds.write_bytes(kept.seeds.read_bytes() + encode_seeds(seeds))
    both = verify(cli, kept, second, "--records", kept.records)
    assert both.exit_code == 0, both.output
    assert "6 records as released" in both.stdout
    one = verify(cli, kept, "--records", kept.records)
    assert one.exit_code == 0
    assert "1 further record of exchanges whose receipts were not given" in one.stdout


def test_one_bad_receipt_among_several_is_named(cli, kept, tmp_path):
    (tmp_path / "bad.json").write_text("{}")
    result = verify(cli, kept, tmp_path / "bad.json")
    assert result.exit_code == 3
    assert f"{tmp_path / 'bad.json'} does NOT verify" in result.stdout
    assert f"{kept.receipt} verifies" in result.stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("receipt", "verify", "none.json"), "gateway query --receipt"),
        (("receipt", "show", "none.json"), "gateway query --receipt"),
        (("receipt", "verify"), "FILE"),
    ],
)
def test_a_missing_file_is_told(cli, kept, words, told):
    result = cli(*words, *(("--trust", kept.trust) if words[1:2] == ("verify",) else ()))
    assert result.exit_code == 2
    assert told in result.stderr


def test_a_missing_or_broken_trust_file_is_told(cli, kept, tmp_path):
    missing = cli("receipt", "verify", kept.receipt, "--trust", tmp_path / "none.json")
    assert missing.exit_code == 2
    assert "gateway keys trust" in missing.stderr
    (tmp_path / "broken.json").write_text("{}")
    broken = cli("receipt", "verify", kept.receipt, "--trust", tmp_path / "broken.json")
    assert broken.exit_code == 2
    assert "not a trust file" in broken.stderr


def test_show_says_that_it_verifies_nothing(cli, kept):
    result = cli("receipt", "show", kept.receipt)
    assert result.exit_code == 0
    assert "Nothing of this has been verified" in result.stderr
    assert "harbour-bank" in result.stdout
