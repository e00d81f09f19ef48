"""`gateway receipt`: what a receipt proves, found out with no network and no gateway."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from gateway.audit.contribution import MAX_RECEIPT_BYTES as MAX_CONTRIBUTION_RECEIPT_BYTES
from gateway.audit.contribution import MEDIA_TYPE as CONTRIBUTION_MEDIA_TYPE
from gateway.audit.contribution import (
    ContributionReceipt,
    VerifiedContribution,
    verify_contribution_receipt,
)
from gateway.audit.proof import MAX_PROOF_CHARACTERS
from gateway.audit.receipt import (
    MAX_RECEIPT_BYTES,
    Receipt,
    ReceiptError,
    ReceiptStatement,
    VerifiedReceipt,
    verify_receipt,
)
from gateway.audit.witness_policy import WitnessPolicy
from gateway.cli.exits import Exit
from gateway.cli.failures import CommandError
from gateway.cli.options import require_file, require_new_file
from gateway.cli.output import counted, output_of, shown
from gateway.cli.seeds import read_seeds, seeds_path, verify_records
from gateway.cli.settings import CLIENT_CONFIG, ClientConfigOption
from gateway.clock import rfc3339
from gateway.errors import GatewayError
from gateway.evidence.canonical import DECODE_ERRORS
from gateway.evidence.trust import Trust
from gateway.model import Entry

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Verify and show receipts, with no network and no gateway; sign for them.",
)

TRUST_FILE: Final = Path("trust.json")

_ORIGIN = "`gateway query --receipt FILE` keeps receipts"


@app.command("verify")
def verify(
    context: typer.Context,
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Receipts.")],
    trust: Annotated[
        Path,
        typer.Option(
            metavar="FILE", help="The gateway's trust file, got by a way you trust (`gateway keys trust`)."
        ),
    ] = TRUST_FILE,
    witness_policy: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Also ask for the cosignatures that this policy (c2sp.org/tlog-policy) asks for.",
        ),
    ] = None,
    records: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also prove these records, as `gateway query --out` kept them."),
    ] = None,
    seeds: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The seeds of the records.  [default: the first receipt's FILE.seeds]"
        ),
    ] = None,
) -> None:
    """Verify receipts offline, and say what they prove.

    Exit code 3 if one does not verify.
    """
    require_file(trust, "The trust file", "the gateway's operator hands it out (`gateway keys trust`)")
    keys = Trust.load(trust)
    policy = None if witness_policy is None else WitnessPolicy.load(witness_policy)
    if seeds is not None and records is None:
        raise CommandError("--seeds goes with --records, the file that the seeds are for.")
    rows: list[dict[str, Any]] = []
    lines: list[str] = []
    verified: dict[str, VerifiedReceipt] = {}
    for file in files:
        require_file(file, "The receipt", _ORIGIN)
        try:
            receipt = _read_any(file)
            if isinstance(receipt, ContributionReceipt):
                contributed = verify_contribution_receipt(receipt, keys)
                rows.append({"file": str(file), "verified": True, **_contribution_facts(contributed)})
                lines += [f"{file} verifies:", "", *_told(_contribution_facts(contributed)), ""]
                continue
            found = verify_receipt(receipt, keys, policy)
        except GatewayError as error:
            rows.append(_refused(file, error))
            lines.append(f"{file} does NOT verify: {error.message}")
            continue
        verified[found.entry.exchange] = found
        checks = _checks(found)
        if policy is not None:
            checks.append(_witnessed(found))
        rows.append({"file": str(file), "verified": True, "checks": checks, **_facts(found)})
        lines += [f"{file} verifies:", *_numbered(checks), "", *_told(_facts(found)), ""]
    if records is not None and verified and len(verified) == len(files):
        row, told = _prove_records(records, seeds or seeds_path(files[0]), verified)
        rows.append(row)
        lines += told
    output_of(context).report(rows, lines)
    if not all(row["verified"] for row in rows):
        raise typer.Exit(Exit.UNVERIFIED)


@app.command("renew")
def renew(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A receipt.")],
    proof: Annotated[
        Path,
        typer.Argument(
            metavar="PROOF",
            help="A newer .tlog-proof of its entry, as `gateway audit prove --witnessed` makes.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where to write the renewed receipt.")],
    trust: Annotated[
        Path,
        typer.Option(
            metavar="FILE", help="The gateway's trust file, got by a way you trust (`gateway keys trust`)."
        ),
    ] = TRUST_FILE,
    witness_policy: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write it only if the proof satisfies this policy."),
    ] = None,
) -> None:
    """Put a newer proof into a receipt, once the receipt is found to verify with it.

    So a receipt gets the cosignatures of witnesses that came after it.
    """
    require_file(file, "The receipt", _ORIGIN)
    require_file(proof, "The proof", "`gateway audit prove INDEX --witnessed --out FILE` writes one")
    require_file(trust, "The trust file", "the gateway's operator hands it out (`gateway keys trust`)")
    require_new_file(out)
    policy = None if witness_policy is None else WitnessPolicy.load(witness_policy)
    renewed = msgspec.structs.replace(_read(file), tlog_proof=_read_proof(proof))
    found = verify_receipt(renewed, Trust.load(trust), policy)
    out.write_bytes(renewed.to_json())
    output_of(context).facts(
        {"file": str(out), **_facts(found), "witnesses": [item.witness for item in found.witnessed]},
        [f"Wrote {out}: entry {found.index}, under the checkpoint over {found.checkpoint.size} entries."],
    )


@app.command("acknowledge")
def acknowledge(
    context: typer.Context,
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Receipts.")],
    config: ClientConfigOption = CLIENT_CONFIG,
) -> None:
    """Sign for receipts, over the network: the gateway's log then holds that the records arrived.

    Once for each receipt, within seven days of it. One that does not verify is not signed for.
    """
    receipts = {}
    for file in files:
        require_file(file, "The receipt", _ORIGIN)
        receipts[file] = _read(file)
    rows: list[dict[str, Any]] = []
    # Only here: everything else in this module needs no network.
    from gateway.cli.calls import calling  # noqa: PLC0415

    with calling(config) as client:
        for file, receipt in receipts.items():
            found = client.acknowledge(receipt)
            rows.append({"file": str(file), "exchange": found.entry.exchange, "acknowledged": found.index})
    output_of(context).list(rows, ("file", "exchange", "acknowledged"))


@app.command("show")
def show(
    context: typer.Context, file: Annotated[Path, typer.Argument(metavar="FILE", help="A receipt.")]
) -> None:
    """Show what stands in a receipt, without verifying anything."""
    require_file(file, "The receipt", _ORIGIN)
    receipt = _read(file)
    try:
        statement = msgspec.json.decode(receipt.statement.payload, type=ReceiptStatement)
        entry = msgspec.json.decode(statement.entry, type=Entry)
    except DECODE_ERRORS as error:
        raise ReceiptError("The receipt's statement has not the form of one.") from error
    output = output_of(context)
    output.remark("Nothing of this has been verified; `gateway receipt verify` does.")
    output.facts(
        {
            "verified": False,
            "log": statement.gateway,
            "signed_by": [signature.keyid for signature in receipt.statement.signatures],
            "deliveries": len(receipt.deliveries),
            **_entry_facts(statement.index, entry),
        }
    )


def _read_any(path: Path) -> Receipt | ContributionReceipt:
    """Return the receipt in a file, be it of a release or of a contribution."""
    with path.open("rb") as file:
        is_contribution = CONTRIBUTION_MEDIA_TYPE.encode() in file.read(MAX_CONTRIBUTION_RECEIPT_BYTES)
    return ContributionReceipt.from_json(path.read_bytes()) if is_contribution else _read(path)


def _contribution_facts(found: VerifiedContribution) -> dict[str, Any]:
    entry, report = found.entry, found.report
    return {
        "log": found.checkpoint.origin,
        "tree_size": found.checkpoint.size,
        "entry": found.index,
        "time": entry.time,
        "accepted": found.accepted,
        "contributor": entry.provider,
        "contract": entry.contract,
        "dataset": entry.dataset,
        "batch": found.statement.batch,
        "root": found.statement.root,
        "rows": report.rows,
        "records": entry.records,
        "rejected": report.rejected,
        "duplicates": report.duplicates,
    }


def _read(path: Path) -> Receipt:
    if path.stat().st_size > MAX_RECEIPT_BYTES:
        raise ReceiptError("The file is too large to be a receipt.")
    return Receipt.from_json(path.read_bytes())


def _read_proof(path: Path) -> str:
    if path.stat().st_size > MAX_PROOF_CHARACTERS * 4:
        raise ReceiptError("The file is too large to be a proof.")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ReceiptError("The file is no proof: it is not UTF-8 text.") from error


def _checks(found: VerifiedReceipt) -> list[str]:
    """Return what `verify_receipt` has established, in its order."""
    entry, checkpoint = found.entry, found.checkpoint
    deliveries = counted(len(found.deliveries), "delivery", "deliveries")
    delivered = f"{entry.provider} signed {deliveries} for this exchange, in order, to the last."
    if found.from_vault:
        delivered = (
            f"The gateway's vault, where {entry.provider} has put its records, signed {deliveries} for this "
            "exchange, in order, to the last."
        )
    if not found.deliveries:
        delivered = f"The entry says by which duty what {entry.provider} signed is kept back."
    covered = counted(checkpoint.size, "entry", "entries")
    pages = counted(len(found.page_digests), "page")
    return [
        f"A gateway key of the trust file signed the statement, for the log {checkpoint.origin}.",
        "The entry in it is in canonical form and records a release.",
        f"A log key of the trust file signed the checkpoint over {covered}.",
        f"The inclusion proof leads from entry {found.index} to that checkpoint's root.",
        f"The digests of {pages} make up the root to which the entry commits.",
        delivered,
        *(["The entry's commitment to its members is to the members it has."] if entry.fields else []),
    ]


def _witnessed(found: VerifiedReceipt) -> str:
    if not found.witnessed:
        return "The witness policy asks for no cosignature."
    names = ", ".join(f"{item.witness} ({rfc3339(item.moment)[:19]}Z)" for item in found.witnessed)
    return f"A quorum of the witness policy cosigned that checkpoint: {names}."


def _prove_records(
    records: Path, seeds: Path, verified: dict[str, VerifiedReceipt]
) -> tuple[dict[str, Any], list[str]]:
    require_file(records, "The records file", "`gateway query --out FILE` keeps records")
    require_file(
        seeds, "The seeds file", "`gateway query --receipt FILE` writes FILE.seeds; name it with --seeds"
    )
    try:
        proven, others = verify_records(records, read_seeds(seeds), verified)
    except ReceiptError as error:
        return _refused(records, error), [f"{records} does NOT verify: {error.message}"]
    told = [f"{records} verifies: {counted(proven, 'record')} as released, unchanged and complete."]
    if others:
        told.append(f"{counted(others, 'further record')} of exchanges whose receipts were not given.")
    return {"file": str(records), "verified": True, "records": proven, "not_covered": others}, told


def _refused(file: Path, error: GatewayError) -> dict[str, Any]:
    return {"file": str(file), "verified": False, "message": error.message, "reason": error.reason.value}


def _facts(found: VerifiedReceipt) -> dict[str, Any]:
    return {
        "log": found.checkpoint.origin,
        "tree_size": found.checkpoint.size,
        **_entry_facts(found.index, found.entry),
    }


def _entry_facts(index: int, entry: Entry) -> dict[str, Any]:
    return {
        "entry": index,
        "time": entry.time,
        "exchange": entry.exchange,
        "operation": entry.operation,
        "consumer": entry.consumer,
        "provider": entry.provider,
        "dataset": entry.dataset,
        "purpose": entry.purpose,
        "legal_basis": entry.legal_basis,
        "memorandum": entry.memorandum,
        "contract": entry.contract,
        "tier": entry.tier,
        "records": entry.records,
        "pages": entry.pages,
        "released": list(entry.released),
        "withheld": list(entry.withheld),
        "obligations": dict(entry.obligations),
        "decision": entry.decision,
        "bundle": entry.bundle,
    }


def _numbered(checks: list[str]) -> list[str]:
    return [f"  {number}. {check}" for number, check in enumerate(checks, start=1)]


def _told(facts: dict[str, Any]) -> list[str]:
    width = max(map(len, facts))
    return [
        f"  {name.replace('_', ' '):<{width}}  {shown(value)}"
        for name, value in facts.items()
        if value not in ("", [], {})
    ]
