"""CSV, PDF, money, ranges of quotas, and proofs from the log's site."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import io
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec
import pytest

from gateway.audit.errors import LogUnavailableError
from gateway.audit.proof import verify_inclusion
from gateway.audit.tiles import parse_tile_path
from gateway.audit.tree import leaf_hash
from gateway.errors import GatewayError
from gateway.evidence.keys import SigningKey
from gateway.model import Entry, EntryKind
from gateway.model.contract import Price
from gateway.usage.charges import amount_of
from gateway.usage.csv_form import to_csv
from gateway.usage.issuing import Accounts
from gateway.usage.pdf_form import to_pdf
from gateway.usage.proofs import SiteProofs, read_evidence, write_evidence
from gateway.usage.sqlite import SqliteUsageStore
from gateway.usage.statement import parse_statement
from tests.simulators import usage as made


@pytest.fixture
def statement(tmp_path):
    exchanges = [
        made.Exchange(made.AMBER, made.BANKS[n % 2], "credit-check", (12 + n % 20) * 86400 + n, (), n, end, 0)
        for n, end in enumerate(["released", "denied", "failed"] * 20)
    ]
    with made.log_of(tmp_path / "audit.db", made.entries_of(exchanges)) as reader:
        store = SqliteUsageStore(tmp_path / "usage.db")
        accounts = Accounts(
            reader,
            made.Contracts(made.contract_of(made.AMBER)),
            store,
            SigningKey.generate(),
            lambda: datetime(2026, 12, 1, tzinfo=UTC),
            made.ignore,
        )
        envelope = asyncio.run(accounts.statement(made.AMBER, made.MONTH))
        store.close()
    return parse_statement(envelope.payload)


@pytest.mark.parametrize(
    ("records", "price", "minor_units"),
    [(0, 250, 0), (1, 250, 0), (1, 500, 1), (3, 500, 2), (1000, 250, 250), (1999, 1, 2), (1499, 1, 1)],
)
def test_money_is_rounded_to_the_nearest_minor_unit_halves_upwards(records, price, minor_units):
    assert amount_of(records, Price(currency="EUR", minor_units_per_thousand=price)) == minor_units


def test_the_csv_says_what_the_statement_says(statement):
    rows = list(csv.DictReader(io.StringIO(to_csv(statement, "d1").decode())))
    lines = [row for row in rows if row["row"] == "line"]
    assert [(row["day"], int(row["records"]), row["entries"]) for row in lines] == [
        (line.day, line.records, line.entries) for line in statement.lines
    ]
    owed = [row for row in rows if row["row"] == "amount"]
    assert [int(row["minor_units"]) for row in owed] == [amount.minor_units for amount in statement.amounts]
    assert rows[-1]["entries"] == "d1"


def test_no_cell_of_the_csv_is_a_formula(statement):
    line = msgspec.structs.replace(statement.lines[0], purpose="=1+1", consumer="@x", fields=("-2", "b"))
    hostile = msgspec.structs.replace(statement, lines=(line,))
    row = next(csv.DictReader(io.StringIO(to_csv(hostile, "").decode())))
    assert (row["purpose"], row["consumer"], row["fields"]) == ("'=1+1", "'@x", "'-2 b")


def test_the_pdf_is_the_same_every_time_and_names_the_statement(statement):
    digest = hashlib.sha256(b"x").hexdigest()
    first = to_pdf(statement, digest)
    assert first.startswith(b"%PDF-")
    assert first == to_pdf(statement, digest)
    assert first != to_pdf(statement, "0" * 64)


def test_evidence_is_read_as_it_was_written():
    lines = [write_evidence(3, b'{"v":1}', (b"a" * 32,)), write_evidence(5, b'{"v":2}', None)]
    assert read_evidence(lines) == ({3: b'{"v":1}', 5: b'{"v":2}'}, {3: (b"a" * 32,)})
    with pytest.raises(GatewayError):
        read_evidence([b"{}"])


@pytest.fixture
def site(tmp_path):
    """A log of a few hundred entries, and its tiles over HTTP."""
    entries = [
        Entry(v=1, kind=EntryKind.EXCHANGE_DENIED, time=f"2026-10-01T00:00:00.{number:06d}Z")
        for number in range(700)
    ]
    with made.log_of(tmp_path / "audit.db", entries) as reader:

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                if self.path.startswith("/moved"):
                    self.send_response(302)
                    self.send_header("Location", self.path.removeprefix("/moved"))
                    self.end_headers()
                    return
                tile = parse_tile_path(self.path.removeprefix("/"))
                content = reader.tile(tile.level, tile.number, tile.width)
                self.send_response(200)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_):
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            yield reader, f"http://127.0.0.1:{server.server_port}"
            server.shutdown()
            thread.join()


def test_proofs_are_made_from_the_tiles_of_the_logs_site(site):
    reader, url = site
    checkpoint = made.checkpoint_of(reader)
    proofs = SiteProofs(url)
    for index in (0, 255, 256, 511, 699):
        leaf = leaf_hash(reader.entry(index).data)
        verify_inclusion(leaf, index, 700, proofs.of(index, 700), checkpoint.root)


def test_a_site_that_redirects_or_is_not_there_gives_no_proof(site):
    _, url = site
    for address in (f"{url}/moved", "http://127.0.0.1:1"):
        with pytest.raises(LogUnavailableError):
            SiteProofs(address).of(0, 700)


@pytest.mark.parametrize("url", ["ftp://x.example.org", "http://x.example.org", "file:///etc/passwd", "x"])
def test_a_site_is_read_over_https(url):
    with pytest.raises(GatewayError):
        SiteProofs(url)
