"""The manifest of a report: what was asked of which log, what the file holds, signed by the gateway.

It stands beside the report as `FILE.manifest.json`, a DSSE envelope. Whoever has the gateway's trust
file can verify both, with no network and no gateway. See docs/formats/export.md.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import msgspec

from gateway.audit.checkpoint import Checkpoint, open_checkpoint
from gateway.audit.errors import NoteError
from gateway.audit.note import Ed25519Verifier
from gateway.audit.report.formats import ReportFormat, form_of
from gateway.errors import GatewayError, Reason
from gateway.evidence import dsse
from gateway.evidence.canonical import DECODE_ERRORS, encode_canonical
from gateway.evidence.keys import SignatureError, SigningKey
from gateway.evidence.trust import Trust

EXPORT_TYPE: Final = dsse.payload_type("export")
MAX_MANIFEST_BYTES: Final = 64 * 1024
_CHUNK_BYTES: Final = 1024 * 1024
_SIGNATURE_FAULTS: Final = {
    Reason.SIGNATURE_MISSING: "The manifest carries no signature.",
    Reason.SIGNATURE_FOREIGN: "The manifest is signed by no gateway key of the trust file.",
    Reason.SIGNATURE_INVALID: "The signature of the manifest does not verify: it was changed.",
}

Progress = Callable[[int, int], None]
"""Takes bytes read and bytes in all."""


class ExportError(GatewayError):
    """The report is not what its manifest says, or the manifest does not hold."""

    reason = Reason.SIGNATURE_INVALID


class ExportStatement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the gateway signs of a report."""

    v: int
    gateway: str
    """The log's origin."""
    time: str
    """When, RFC 3339 in UTC."""
    format: ReportFormat
    filter: str
    """Canonical text of the filter; empty for everything."""
    tree_size: int
    """The entries below this index were searched, every one of them."""
    entries: int
    """How many were found, and stand in the report."""
    first: int | None
    """Index of the first; None if there is none."""
    last: int | None
    bytes: int
    sha256: str
    """Of the report, hexadecimal."""
    checkpoint: str
    """The log's checkpoint of `tree_size`, a signed note."""


@dataclass(frozen=True, slots=True)
class VerifiedExport:
    """What a manifest proves of a report."""

    statement: ExportStatement
    checkpoint: Checkpoint


def manifest_path(report: Path) -> Path:
    """Return where the manifest of `report` stands."""
    return report.with_name(f"{report.name}.manifest.json")


def sign_manifest(statement: ExportStatement, signer: SigningKey) -> bytes:
    """Return the text of the manifest."""
    envelope = dsse.sign(encode_canonical(statement), EXPORT_TYPE, [signer])
    return msgspec.json.format(dsse.envelope_to_json(envelope), indent=2) + b"\n"


def verify_export(
    report: IO[bytes], manifest: bytes, trust: Trust, progress: Progress = lambda _done, _total: None
) -> VerifiedExport:
    """Return what `manifest` proves of `report` (read from its beginning), or raise `GatewayError`.

    1. The manifest is an envelope with a signature by a gateway key of the trust file.
    2. Its statement has the form of one and names a log of the trust file.
    3. The checkpoint in it is signed by that log's key, and covers what was searched.
    4. The report has the length and the digest that the statement names.
    5. It holds as many entries as the statement says.
    """
    if len(manifest) > MAX_MANIFEST_BYTES:
        raise ExportError("The manifest is too large to be one.")
    payload = _open_envelope(manifest, trust)  # 1
    statement = _parse_statement(payload)  # 2
    verifiers = [Ed25519Verifier.from_vkey(text) for text in trust.log_keys]
    if not {statement.gateway, trust.origin} <= {verifier.name for verifier in verifiers}:
        raise ExportError("The report is of a log that the trust file does not know.")
    checkpoint = _open_checkpoint(statement, verifiers)  # 3
    _verify_content(report, statement, progress)  # 4
    report.seek(0)
    if form_of(statement.format, statement.gateway).count(report) != statement.entries:  # 5
        raise ExportError("The report holds another number of entries than its manifest says.")
    return VerifiedExport(statement, checkpoint)


def _open_envelope(manifest: bytes, trust: Trust) -> bytes:
    try:
        envelope = dsse.envelope_from_json(manifest)
    except SignatureError as error:
        raise ExportError("The manifest is not a DSSE envelope.") from error
    if envelope.payload_type != EXPORT_TYPE:
        raise ExportError("The envelope is signed for something else than a report.")
    try:
        payload, _ = dsse.verify(envelope, EXPORT_TYPE, trust.gateway_verify_keys)
    except SignatureError as error:
        raise ExportError(_SIGNATURE_FAULTS[error.reason], reason=error.reason) from error
    return payload


def _parse_statement(payload: bytes) -> ExportStatement:
    try:
        statement = msgspec.json.decode(payload, type=ExportStatement)
    except DECODE_ERRORS as error:
        raise ExportError("The manifest's statement has not the form of one.") from error
    if statement.v != 1:
        raise ExportError("The manifest's statement is of a version this release does not know.")
    if encode_canonical(statement) != payload:
        raise ExportError("The manifest's statement is not in canonical form.")
    return statement


def _open_checkpoint(statement: ExportStatement, verifiers: list[Ed25519Verifier]) -> Checkpoint:
    try:
        checkpoint = open_checkpoint(statement.checkpoint, verifiers, origin=statement.gateway)
    except NoteError as error:
        raise ExportError("The checkpoint in the manifest is not signed by the log's key.") from error
    if checkpoint.size != statement.tree_size:
        raise ExportError("The checkpoint in the manifest is of another size than what was searched.")
    return checkpoint


def _verify_content(report: IO[bytes], statement: ExportStatement, progress: Progress) -> None:
    digest, length = hashlib.sha256(), 0
    while chunk := report.read(_CHUNK_BYTES):
        digest.update(chunk)
        length += len(chunk)
        progress(length, statement.bytes)
        if length > statement.bytes:
            break
    if length != statement.bytes:
        longer = "longer" if length > statement.bytes else "shorter"
        raise ExportError(f"The report is {longer} than its manifest says.")
    if digest.hexdigest() != statement.sha256:
        raise ExportError("The report was changed: its digest is not the one in its manifest.")
