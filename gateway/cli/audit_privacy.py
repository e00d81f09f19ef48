"""`gateway audit open`, `erase`, `find-subject`, `disclose`, `verify-disclosure`: the log and privacy.

Each of them stands in the log before it shows or changes anything. Identifiers are read from standard
input or a prompt, never from an argument, which a process list would show.
"""

from __future__ import annotations

import base64
import getpass
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from gateway.audit.disclosure import MAX_DISCLOSURE_BYTES, Disclosure, DisclosureError, verify_disclosure
from gateway.cli.failures import CommandError
from gateway.cli.options import require_file, require_new_file
from gateway.cli.output import Output, counted, output_of
from gateway.cli.settings import GATEWAY_CONFIG, GatewayConfigOption, load_gateway_config
from gateway.config import GatewayConfig
from gateway.deployment.disclosures import disclose_entry
from gateway.deployment.erasures import erase_details
from gateway.deployment.openings import Opened, open_details, request_opening
from gateway.deployment.searches import find_subject
from gateway.details.hpke import PUBLIC_KEY_BYTES
from gateway.details.opening import MAX_FILE_BYTES, OpeningRequest
from gateway.evidence import dsse
from gateway.evidence.keys import read_secret, write_secret
from gateway.evidence.trust import Trust
from gateway.identifiers import KINDS
from gateway.model import Query

IndexArgument = Annotated[int, typer.Argument(min=0, metavar="INDEX", help="The entry's index, from 0.")]
ReasonOption = Annotated[
    str, typer.Option(metavar="TEXT", help="Why, without naming a person; it stands in the log.")
]
ByOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Who does it; it stands in the log.  [default: the account's name]"),
]

_FOUND_COLUMNS = ("index", "time", "kind", "consumer", "dataset", "purpose")


def open_command(
    context: typer.Context,
    index: IndexArgument,
    reason: ReasonOption,
    request: Annotated[
        Path,
        typer.Option(
            metavar="FILE", help="The request (FILE.key beside it): written without --approval, used with it."
        ),
    ],
    approval: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="A custodian's approval (`gateway custodian approve`); repeated."),
    ] = None,
    by: ByOption = None,
    config: GatewayConfigOption = GATEWAY_CONFIG,
) -> None:
    """Open the details of an entry: whom it concerned, who asked. It takes the approval of two custodians.

    Without --approval a request is written for them; with it the opening is recorded in the log, and
    then shown.
    """
    settings = load_gateway_config(config)
    output = output_of(context)
    if not approval:
        _request(output, settings, index, reason, request, _by(by))
        return
    require_file(request, "The request", "`gateway audit open` without --approval writes one")
    asked = OpeningRequest.from_json(read_bounded(request))
    if (asked.index, asked.reason) != (index, reason):
        raise CommandError("The request is for another entry or reason; give both as they were asked.")
    secret_path = _secret_beside(request)
    secret = _load_secret(secret_path)
    opened = open_details(settings, asked, secret, [_read_approval(path) for path in approval])
    secret_path.unlink()
    output.facts(_opened_facts(opened))


def erase(
    context: typer.Context,
    legal_basis: Annotated[
        str, typer.Option(metavar="TEXT", help="The law or decision it rests on; it stands in the log.")
    ],
    index: Annotated[
        int | None, typer.Argument(min=0, metavar="INDEX", help="The entry whose details are erased.")
    ] = None,
    before: Annotated[
        str | None, typer.Option(metavar="DATE", help="Erase the details of all entries before this day.")
    ] = None,
    subject: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help="Erase all that concerns an identifier of this kind, read from a prompt or standard input.",
        ),
    ] = None,
    by: ByOption = None,
    config: GatewayConfigOption = GATEWAY_CONFIG,
) -> None:
    """Erase details for good; the log says that it was done, and every proof and receipt stays valid."""
    if sum(choice is not None for choice in (index, before, subject)) != 1:
        raise CommandError("Name what to erase: an INDEX, --before DATE, or --subject KIND; one of them.")
    settings = load_gateway_config(config)
    day = None if before is None else _parse_day(before)
    person = None if subject is None else (_kind(subject), _read_identifier(subject))
    count, recorded = erase_details(
        settings, legal_basis=legal_basis, by=_by(by), index=index, before=day, subject=person
    )
    told = (
        [f"Erased the details of {counted(count, 'entry', 'entries')}; entry {recorded} says so."]
        if count
        else ["There was nothing to erase."]
    )
    output_of(context).facts({"erased": count, "entry": recorded}, told)


def find(
    context: typer.Context,
    kind: Annotated[
        str, typer.Argument(metavar="KIND", help="The kind of identifier, such as national-id or uscc.")
    ],
    reason: ReasonOption,
    by: ByOption = None,
    config: GatewayConfigOption = GATEWAY_CONFIG,
) -> None:
    """List the entries that were about an identifier, newest first; the search stands in the log first.

    The identifier is read from a prompt or standard input. Bulk answers, which name nobody in the
    question, are not found.
    """
    settings = load_gateway_config(config)
    found = find_subject(settings, _kind(kind), _read_identifier(kind), reason=reason, by=_by(by))
    rows = [
        {"index": entry.index, **msgspec.json.decode(entry.data, type=dict[str, Any])}
        for entry in found.entries
    ]
    output = output_of(context)
    output.list(rows, _FOUND_COLUMNS, nothing="No entry was about this identifier.")
    output.remark(f"The search stands in the log as entry {found.recorded}.")


def disclose(
    context: typer.Context,
    index: IndexArgument,
    field: Annotated[
        list[str], typer.Option(metavar="NAME", help="A field of the entry to show; may be repeated.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Where to write it.")],
    reason: ReasonOption,
    by: ByOption = None,
    config: GatewayConfigOption = GATEWAY_CONFIG,
) -> None:
    """Show chosen fields of one entry to an outsider, and nothing else of it.

    The log says so first. The outsider verifies the file with `gateway audit verify-disclosure`.
    """
    require_new_file(out)
    disclosure, recorded = disclose_entry(
        load_gateway_config(config), index, field, reason=reason, by=_by(by)
    )
    out.write_bytes(disclosure.to_json())
    names = [item.name for item in disclosure.fields]
    output_of(context).facts(
        {"entry": index, "fields": names, "file": str(out), "recorded": recorded},
        [f"Wrote {out}: {', '.join(names)} of entry {index}; entry {recorded} says so."],
    )


def verify_disclosure_command(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A disclosure.")],
    trust: Annotated[
        Path, typer.Option(metavar="FILE", help="The gateway's trust file, got by a way you trust.")
    ] = Path("trust.json"),
) -> None:
    """Verify a disclosure offline, and say what it shows.

    Exit code 3 if it does not verify.
    """
    require_file(file, "The disclosure", "`gateway audit disclose` writes one")
    require_file(trust, "The trust file", "the gateway's operator hands it out (`gateway keys trust`)")
    if file.stat().st_size > MAX_DISCLOSURE_BYTES:
        raise DisclosureError("The file is too large to be a disclosure.")
    found = verify_disclosure(Disclosure.from_json(file.read_bytes()), Trust.load(trust))
    facts = {
        "verified": True,
        "log": found.checkpoint.origin,
        "tree_size": found.checkpoint.size,
        "entry": found.index,
        "fields": dict(found.fields),
        "disclosed": {
            "entry": found.stated_index,
            "time": found.stated.time,
            "by": found.stated.detail.get("by", ""),
            "reason": found.stated.detail.get("reason", ""),
        },
    }
    output_of(context).facts(
        facts,
        [
            f"{file} verifies: entry {found.index} of {found.checkpoint.origin} says",
            *(f"  {name}: {_plain(value)}" for name, value in found.fields.items()),
            f"as the log itself states in entry {found.stated_index} of {found.stated.time[:10]}.",
        ],
    )


def register(app: typer.Typer) -> None:
    """Add the commands to `gateway audit`."""
    commands: dict[str, Callable[..., None]] = {
        "open": open_command,
        "erase": erase,
        "find-subject": find,
        "disclose": disclose,
        "verify-disclosure": verify_disclosure_command,
    }
    for name, command in commands.items():
        app.command(name)(command)


def _request(output: Output, settings: GatewayConfig, index: int, reason: str, path: Path, by: str) -> None:
    require_new_file(path)
    secret_path = _secret_beside(path)
    require_new_file(secret_path)
    request, secret = request_opening(settings, index, reason=reason, by=by)
    write_secret(secret_path, secret.private_bytes_raw())
    path.write_bytes(request.to_json())
    needed = request.keys.threshold
    output.facts(
        {"request": str(path), "key": str(secret_path), "approvals_needed": needed},
        [
            f"Wrote {path}. Have {needed} custodians run",
            f"  gateway custodian approve {path} --key THEIR.key --trust trust.json --out APPROVAL",
            "and within an hour run this command again with --approval for each.",
            f"Keep {secret_path} to yourself: the approvals can be used only with it.",
        ],
    )


def _opened_facts(opened: Opened) -> dict[str, Any]:
    details, entry = opened.details, opened.entry
    facts: dict[str, Any] = {
        "recorded": opened.recorded,
        "approved_by": list(opened.approved_by),
        "exchange": entry.exchange,
        "time": entry.time,
    }
    if details.subject is not None:
        facts["subject_field"] = details.subject.field
        facts["subjects"] = list(details.subject.subjects)
        facts["filters"] = dict(details.subject.filters)
    facts["signature"] = opened.signature
    if details.envelope is not None:
        query = msgspec.json.decode(details.envelope.payload, type=Query)
        facts["match"] = dict(query.match)
        facts["actor"] = "" if query.actor is None else query.actor.id
        facts["case"] = "" if query.actor is None else query.actor.case
        facts["signed_by"] = [signature.keyid for signature in details.envelope.signatures]
        facts["envelope"] = base64.b64encode(dsse.envelope_to_json(details.envelope)).decode()
    facts["verified"] = list(details.verify(entry))
    return facts


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _by(name: str | None) -> str:
    return name or getpass.getuser()


def _kind(name: str) -> str:
    if name not in KINDS:
        raise CommandError(f"A kind of identifier is one of {', '.join(KINDS)}.")
    return name


def _read_identifier(kind: str) -> str:
    if sys.stdin.isatty():
        return str(typer.prompt(f"Identifier of kind {kind}", hide_input=True, err=True))
    line = sys.stdin.readline().strip()
    if not line:
        raise CommandError("The identifier is read from standard input, which was empty.")
    return line


def _parse_day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise CommandError("--before takes a day such as 2026-11-21.") from error


def _secret_beside(request: Path) -> Path:
    return request.with_name(request.name + ".key")


def _load_secret(path: Path) -> X25519PrivateKey:
    raw = read_secret(path)
    if len(raw) != PUBLIC_KEY_BYTES:
        raise CommandError(f"{path} is not the key of a request.")
    return X25519PrivateKey.from_private_bytes(raw)


def _read_approval(path: Path) -> dsse.Envelope:
    require_file(path, "The approval", "`gateway custodian approve` writes one")
    return dsse.envelope_from_json(read_bounded(path))


def read_bounded(path: Path) -> bytes:
    """Return the content of a request or an approval; raise `CommandError` if it is too large for one."""
    with path.open("rb") as file:
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise CommandError(f"{path} is too large to be a request or an approval.")
    return content
