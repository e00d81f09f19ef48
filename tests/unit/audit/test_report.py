"""Reports: what stands in them, what no spreadsheet may run, and what a manifest proves."""

import csv
import hashlib
import io
import json
from pathlib import Path

import jsonschema
import msgspec
import pytest

from gateway.audit.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from gateway.audit.errors import LogMismatchError
from gateway.audit.filter import EVERYTHING, Field, Has, format_filter
from gateway.audit.note import Ed25519Signer
from gateway.audit.report.formats import CSV_COLUMNS, ReportFormat, form_of, safe_cell
from gateway.audit.report.manifest import (
    EXPORT_TYPE,
    ExportError,
    ExportStatement,
    sign_manifest,
    verify_export,
)
from gateway.audit.report.ocsf import OCSF_VERSION
from gateway.audit.report.writing import write_report
from gateway.audit.sqlite_reader import SqliteReader
from gateway.audit.store import StoredEntry
from gateway.errors import GatewayError, Reason
from gateway.evidence import dsse
from gateway.evidence.canonical import encode_canonical
from gateway.evidence.keys import SigningKey
from gateway.evidence.trust import Trust
from gateway.model.entry import EntryKind

from .conftest import ORIGIN

COUNT = 2300
BANK = Has(Field.CONSUMER, "bank-1")
SCHEMA = json.loads(
    (Path(__file__).parents[2] / "vectors" / "ocsf" / f"api_activity-{OCSF_VERSION}.json").read_text()
)
FORMULAS = ["=1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\uff1d1", "\uff0b1", "\uff0d1", "\uff20A"]


@pytest.fixture
def reader(path, fill, make_entry):
    kinds = [kind for kind in EntryKind if kind is not EntryKind.LOG_CLOSED]

    def make(number):
        kind = kinds[number % len(kinds)]
        exchanging = kind.value.startswith("exchange")
        return make_entry(
            number,
            kind=kind,
            consumer=f"bank-{number % 3}" if exchanging else "",
            reasons=("FIELD_ABOVE_TIER",) if kind is EntryKind.EXCHANGE_DENIED else (),
            subject="" if exchanging else "members/harbour-bank",
            detail={} if exchanging else {"by": "officers/alice", "formula": "=cmd()"},
            bundle="b" * 16,
            duration_ms=number % 7,
            released=("kind", "name"),
        )

    fill(path, COUNT, batch=500, make=make)
    with SqliteReader(path) as reader:
        yield reader


@pytest.fixture
def gateway_key():
    return SigningKey.generate()


@pytest.fixture
def trust(gateway_key, signer):
    return Trust(
        v=1,
        origin=ORIGIN,
        log_keys=(signer.verifier.vkey(),),
        gateway_keys={gateway_key.key_id: gateway_key.verify_key.public},
        members={},
    )


def write(reader, kind, wanted=EVERYTHING, size=COUNT):
    file = io.BytesIO()
    seen = []
    written = write_report(reader, wanted, size, form_of(kind, ORIGIN), file, lambda *step: seen.append(step))
    assert seen[0] == (0, size)
    assert seen[-1] == (size, size)
    assert written.bytes == len(file.getvalue())
    assert written.sha256 == hashlib.sha256(file.getvalue()).hexdigest()
    return file.getvalue(), written


def test_json_lines_hold_the_entries_byte_for_byte(reader):
    text, written = write(reader, ReportFormat.JSONL, BANK)
    expected = reader.follow(BANK, 1000, 0, COUNT)
    lines = text.splitlines()
    assert (written.entries, written.first, written.last) == (
        len(expected),
        expected[0].index,
        expected[-1].index,
    )
    for line, stored in zip(lines, expected, strict=True):
        row = msgspec.json.decode(line, type=dict[str, msgspec.Raw])
        assert int(bytes(row["index"])) == stored.index
        assert bytes(row["entry"]) == stored.data


def test_a_csv_has_every_member_of_every_entry(reader):
    text, written = write(reader, ReportFormat.CSV)
    heading, *rows = csv.reader(io.StringIO(text.decode(), newline=""))
    assert tuple(heading) == CSV_COLUMNS
    assert written.entries == len(rows) == COUNT
    row = dict(zip(heading, rows[1], strict=True))
    assert (row["index"], row["kind"], row["reasons"]) == ("1", "exchange.denied", "FIELD_ABOVE_TIER")
    assert row["released"] == "kind name"
    of_members = next(row for row in rows if "member.added" in row)
    administrative = dict(zip(heading, of_members, strict=True))
    assert json.loads(administrative["detail"]) == {"by": "officers/alice", "formula": "=cmd()"}


def test_an_empty_report_is_a_report(reader):
    for kind in ReportFormat:
        text, written = write(reader, kind, Has(Field.CONSUMER, "nobody"))
        assert (written.entries, written.first, written.last) == (0, None, None)
        assert form_of(kind, ORIGIN).count(io.BytesIO(text)) == 0


@pytest.mark.parametrize("formula", FORMULAS)
def test_no_cell_begins_as_a_formula(make_entry, formula):
    entry = make_entry(1, tier=formula, purpose=formula, reasons=(formula,), subject=formula)
    stored = StoredEntry(1, encode_canonical(entry))
    text = form_of(ReportFormat.CSV, ORIGIN).write(stored).decode()
    [cells] = csv.reader(io.StringIO(text, newline=""))
    assert not [cell for cell in cells if cell.startswith(tuple(item[0] for item in FORMULAS))]
    row = dict(zip(CSV_COLUMNS, cells, strict=True))
    for name in ("tier", "purpose", "reasons", "subject"):
        assert row[name] == f"'{formula}"
    # The control: without the guard the cell is the formula.
    unguarded = io.StringIO()
    csv.writer(unguarded, quoting=csv.QUOTE_ALL).writerow([formula])
    [[cell]] = csv.reader(io.StringIO(unguarded.getvalue(), newline=""))
    assert cell == formula


def test_one_apostrophe_less_gives_back_any_cell():
    for text in (*FORMULAS, "'quoted", "''", "plain", "", "a=b", "1", " =1"):
        safe = safe_cell(text)
        assert (safe.removeprefix("'")) == text


def test_every_event_is_one_of_the_ocsf_schema(reader, make_entry):
    validator = jsonschema.Draft202012Validator(SCHEMA)
    text, written = write(reader, ReportFormat.OCSF)
    events = [json.loads(line) for line in text.splitlines()]
    assert written.entries == len(events) == COUNT
    for event in events[:60]:
        validator.validate(event)
    closing = encode_canonical(make_entry(1, kind=EntryKind.LOG_CLOSED, detail={"next": ORIGIN}))
    events.insert(0, json.loads(form_of(ReportFormat.OCSF, ORIGIN).write(StoredEntry(COUNT, closing))))
    validator.validate(events[0])
    assert {event["metadata"]["event_code"] for event in events[:60]} == {kind.value for kind in EntryKind}
    denied = next(event for event in events if event["metadata"]["event_code"] == "exchange.denied")
    assert (denied["action"], denied["status_code"], denied["type_uid"]) == (
        "Denied",
        "FIELD_ABOVE_TIER",
        600302,
    )
    assert denied["raw_data"].encode() == reader.entry(denied["metadata"]["sequence"]).data


def test_the_schema_refuses_what_is_no_event(reader):
    """The control: an event with a member more, one less, or a wrong number does not pass."""
    validator = jsonschema.Draft202012Validator(SCHEMA)
    event = json.loads(write(reader, ReportFormat.OCSF)[0].splitlines()[0])
    validator.validate(event)
    for change in ({"surprise": 1}, {"type_uid": 600305}, {"time": "now"}, {"actor": {}}):
        with pytest.raises(jsonschema.ValidationError):
            validator.validate({**event, **change})
    del event["api"]
    with pytest.raises(jsonschema.ValidationError):
        validator.validate(event)


def test_an_entry_that_is_none_ends_a_report(reader):
    for kind in (ReportFormat.CSV, ReportFormat.OCSF):
        with pytest.raises(LogMismatchError):
            form_of(kind, ORIGIN).write(StoredEntry(0, b"{}"))


# -- manifests -----------------------------------------------------------------------------------


def statement_of(reader, text, written, kind, **changes):
    members = {
        "v": 1,
        "gateway": ORIGIN,
        "time": "2026-03-01T12:00:00.000000Z",
        "format": kind,
        "filter": format_filter(BANK),
        "tree_size": COUNT,
        "entries": written.entries,
        "first": written.first,
        "last": written.last,
        "bytes": len(text),
        "sha256": hashlib.sha256(text).hexdigest(),
        "checkpoint": reader.checkpoint(),
    }
    return ExportStatement(**{**members, **changes})


@pytest.mark.parametrize("kind", ReportFormat)
def test_a_report_verifies_with_its_manifest(reader, gateway_key, trust, kind):
    text, written = write(reader, kind, BANK)
    manifest = sign_manifest(statement_of(reader, text, written, kind), gateway_key)
    verified = verify_export(io.BytesIO(text), manifest, trust)
    assert verified.statement.entries == written.entries
    assert verified.checkpoint.size == COUNT


@pytest.fixture
def sound(reader, gateway_key):
    """A report and its manifest."""
    text, written = write(reader, ReportFormat.JSONL, BANK)
    return text, sign_manifest(statement_of(reader, text, written, ReportFormat.JSONL), gateway_key)


def test_any_changed_byte_of_a_report_is_found(sound, trust):
    text, manifest = sound
    verify_export(io.BytesIO(text), manifest, trust)  # the control
    for at in (*range(0, len(text), 997), len(text) - 1):
        changed = bytearray(text)
        changed[at] ^= 1
        with pytest.raises(ExportError, match="was changed"):
            verify_export(io.BytesIO(changed), manifest, trust)


def test_a_report_cut_or_lengthened_is_found(sound, trust):
    text, manifest = sound
    lines = text.splitlines(keepends=True)
    for changed, what in (
        (text[:-1], "shorter"),
        (b"".join(lines[:-1]), "shorter"),
        (b"", "shorter"),
        (text + b"\n", "longer"),
        (text + lines[-1], "longer"),
        (b"".join([lines[1], lines[0], *lines[2:]]), "changed"),
    ):
        with pytest.raises(ExportError, match=what):
            verify_export(io.BytesIO(changed), manifest, trust)


def test_any_changed_character_of_a_manifest_is_found(sound, trust):
    text, manifest = sound
    verify_export(io.BytesIO(text), manifest, trust)  # the control
    meant = msgspec.json.decode(manifest)
    for at in range(len(manifest)):
        for letter in (b"A", b"0", b" "):
            changed = manifest[:at] + letter + manifest[at + 1 :]
            try:
                if msgspec.json.decode(changed) == meant:
                    continue  # white space between the members
            except (msgspec.DecodeError, UnicodeDecodeError):
                pass
            with pytest.raises(GatewayError):
                verify_export(io.BytesIO(text), changed, trust)


def test_each_failure_has_a_message_of_its_own(reader, sound, gateway_key, trust, signer):
    text, manifest = sound
    written = write(reader, ReportFormat.JSONL, BANK)[1]
    stranger = Ed25519Signer.from_seed(ORIGIN, bytes(32))
    root = open_checkpoint(reader.checkpoint(), [signer.verifier]).root

    def signed(key=gateway_key, kind=ReportFormat.JSONL, **changes):
        return sign_manifest(statement_of(reader, text, written, kind, **changes), key)

    def enveloped(payload, kind_of_payload=EXPORT_TYPE):
        return dsse.envelope_to_json(dsse.sign(payload, kind_of_payload, [gateway_key]))

    unsigned = msgspec.structs.replace(dsse.envelope_from_json(manifest), signatures=())
    loose = json.dumps(json.loads(dsse.envelope_from_json(manifest).payload)).encode()
    cases = {
        "is not a DSSE envelope": b"{}",
        "too large": b" " * 70_000,
        "carries no signature": dsse.envelope_to_json(unsigned),
        "by no gateway key": signed(SigningKey.generate()),
        "for something else": enveloped(encode_canonical({}), dsse.payload_type("receipt")),
        "has not the form": enveloped(b"{}"),
        "version this release": signed(v=2),
        "not in canonical form": enveloped(loose),
        "a log that the trust file does not know": signed(gateway="audit.example.net/log/other"),
        "not signed by the log's key": signed(
            checkpoint=sign_checkpoint(Checkpoint(ORIGIN, COUNT, root), stranger)
        ),
        "of another size": signed(tree_size=COUNT - 1),
        "longer than": signed(bytes=len(text) - 1),
        "shorter than": signed(bytes=len(text) + 1),
        "was changed": signed(sha256="0" * 64),
        "another number of entries": signed(entries=written.entries + 1),
    }
    told = {refusal(text, changed, trust, what) for what, changed in cases.items()}
    broken = b'"a\n'
    digest = hashlib.sha256(broken).hexdigest()
    told.add(
        refusal(broken, signed(kind=ReportFormat.CSV, bytes=len(broken), sha256=digest), trust, "is not CSV")
    )
    assert len(told) == len(cases) + 1


def refusal(report, manifest, trust, what):
    """Return the message with which the report is refused."""
    with pytest.raises(GatewayError, match=what) as raised:
        verify_export(io.BytesIO(report), manifest, trust)
    assert raised.value.reason in {
        Reason.SIGNATURE_INVALID,
        Reason.SIGNATURE_MISSING,
        Reason.SIGNATURE_FOREIGN,
        Reason.PROOF_INVALID,
    }
    return raised.value.message
