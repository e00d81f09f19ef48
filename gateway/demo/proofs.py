"""The chapters of proof: receipts, the whole log, and a log that somebody has changed."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec

from gateway.audit.filter import EVERYTHING
from gateway.audit.fsck import FsckReport, fsck
from gateway.audit.note import Ed25519Verifier
from gateway.audit.receipt import Receipt, verify_receipt
from gateway.audit.sqlite_reader import SqliteReader
from gateway.audit.store import MAX_PAGE_SIZE
from gateway.demo.narrator import Narrator
from gateway.demo.stage import Evidence, StoryError, expect
from gateway.evidence.trust import Trust
from gateway.model import Entry, EntryKind

_FLIPPED_BIT: Final = 0x02
"""Makes a 3 of the digit 1."""


def write_receipts(evidence: Sequence[Evidence], directory: Path) -> list[Path]:
    """Write each receipt to a file of its own; return the files in the order of `evidence`."""
    directory.mkdir()
    files = []
    for item in evidence:
        path = directory / f"{item.index:04d}-{item.name}.receipt.json"
        path.write_bytes(item.receipt.to_json())
        files.append(path)
    return files


def verify_receipts(
    narrator: Narrator, evidence: Sequence[Evidence], files: Sequence[Path], trust_file: Path
) -> None:
    """Verify every receipt from its file and the trust file alone, and the records against it."""
    trust = Trust.load(trust_file)
    rows = []
    from_vault = 0
    for item, path in zip(evidence, files, strict=True):
        verified = verify_receipt(Receipt.from_json(path.read_bytes()), trust)
        if item.query is not None:
            verified.verify_query(item.query)
        for number, (records, seed) in enumerate(item.pages):
            verified.verify_page(number, records, seed)
        from_vault += verified.from_vault
        entry = verified.entry
        rows.append(
            (path.name, str(verified.index), str(entry.records), str(verified.checkpoint.size), "verified")
        )
    narrator.table(["receipt", "entry", "records", "proven under tree size", ""], rows)
    narrator.verified(
        f"{len(rows)} receipts: the gateway's signature, the entry's place in the signed log, the signature "
        f"of who delivered ({len(rows) - from_vault} by a provider, {from_vault} from the vault), the bytes "
        "of the records."
    )


def verify_log(narrator: Narrator, database: Path, trust_file: Path, released: int, denied: int) -> int:
    """Examine the whole log; return its number of entries.

    Raises `StoryError` if anything is wrong with it, or if it tells of other exchanges than took place.
    """
    report = _examine(database, trust_file)
    if report.findings:
        raise StoryError(f"fsck found a fault in the log: {report.findings[0].what}.")
    kinds = _count_kinds(database, report.entries)
    narrator.table(
        ["kind of entry", "how many"], [(kind, str(kinds[kind])) for kind in EntryKind if kinds[kind]]
    )
    refused = kinds[EntryKind.EXCHANGE_DENIED] + kinds[EntryKind.EXCHANGE_FAILED]
    expect(
        (kinds[EntryKind.EXCHANGE_RELEASED], refused) == (released, denied),
        "The log tells of other exchanges than those that took place.",
    )
    narrator.verified(
        f"{report.entries} entries under {report.checkpoints} signed checkpoints: every hash computed anew."
    )
    return report.entries


def tamper(narrator: Narrator, database: Path, index: int, trust_file: Path, copy: Path) -> None:
    """Flip one bit in a copy of the log, in the count of records of entry `index`; fsck must find it."""
    with closing(sqlite3.connect(database)) as original, closing(sqlite3.connect(copy)) as target:
        original.backup(target)
        (data,) = target.execute("SELECT data FROM entry WHERE idx = ?", (index,)).fetchone()
    sound = _examine(copy, trust_file)
    expect(not sound.findings, "The copy of the log was not sound before it was changed.")

    content = bytearray(copy.read_bytes())
    place = content.find(data) + bytes(data).find(b'"records":1,') + len('"records":')
    before = chr(content[place])
    content[place] ^= _FLIPPED_BIT
    copy.write_bytes(content)
    narrator.say(
        f"One bit in a copy of the log: entry {index} said that {before} record left, and now says "
        f"{chr(content[place])}."
    )
    report = _examine(copy, trust_file)
    expect(
        any(finding.place == "entry" and finding.index == index for finding in report.findings),
        "fsck did not find the changed entry.",
    )
    for finding in report.findings:
        where = finding.place if finding.index is None else f"{finding.place} {finding.index}"
        narrator.found(f"{where}: {finding.what}")


def _count_kinds(database: Path, size: int) -> Counter[EntryKind]:
    kinds: Counter[EntryKind] = Counter()
    with closing(SqliteReader(database)) as reader:
        while page := reader.find(EVERYTHING, MAX_PAGE_SIZE, before=size):
            kinds.update(msgspec.json.decode(item.data, type=Entry).kind for item in page)
            size = page[-1].index
    return kinds


def _examine(database: Path, trust_file: Path) -> FsckReport:
    trust = Trust.load(trust_file)
    return fsck(database, Ed25519Verifier.from_vkey(trust.log_keys[0]))
