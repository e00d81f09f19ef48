"""`gateway policy build | sign | activate | rollback | status | history | fetch`."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from gateway.activation.errors import ActivationError
from gateway.activation.history import Activation, verify_bundle
from gateway.activation.statement import (
    Action,
    ActivationStatement,
    countersign,
    make_statement,
    parse_statement,
    read_envelope,
    sign_statement,
)
from gateway.cli.audit_privacy import read_bounded
from gateway.cli.exits import Exit
from gateway.cli.failures import CommandError
from gateway.cli.options import parse_time, require_file, require_new_file
from gateway.cli.output import output_of
from gateway.cli.settings import GATEWAY_CONFIG, GatewayConfigOption, load_gateway_config
from gateway.clock import rfc3339, system_clock
from gateway.config import GatewayConfig
from gateway.deployment.policy import activate, policy_place
from gateway.errors import ConfigError
from gateway.evidence import dsse
from gateway.evidence.keys import SigningKey
from gateway.policy.bundle_file import (
    PackedBundle,
    file_digest,
    open_bundle,
    pack_bundle,
    read_bundle_file,
    unpack_bundle,
)

_APPROVAL_SUFFIX: Final = ".approval.json"
_DEFAULT_DAYS: Final = 365
_COLUMNS: Final = ("revision", "action", "time", "persons", "entry", "bundle", "reason")

FileArgument = Annotated[
    Path, typer.Argument(metavar="FILE", help="The bundle file of `gateway policy build`.")
]
ApprovalOption = Annotated[
    Path | None,
    typer.Option("--approval", metavar="FILE", help="The approval.  [default: FILE.approval.json]"),
]


class SignerRole(StrEnum):
    """On whose behalf a key signs."""

    AUTHOR = "author"
    APPROVER = "approver"


def register(app: typer.Typer) -> None:
    """Add the commands to the group."""
    app.command("build")(build)
    app.command("sign")(sign)
    app.command("activate")(activate_command)
    app.command("rollback")(rollback)
    app.command("status")(status)
    app.command("history")(history)
    app.command("fetch")(fetch)


def build(
    context: typer.Context,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The folder with the policy.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Where to write the bundle file.")],
    opa_key: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Ed25519 private key to sign for OPA with; `opa run --verification-key` verifies it.",
        ),
    ] = None,
) -> None:
    """Make one bundle file of a policy, for the gateway and for OPA servers.

    The policy is checked as at a start. The same folder gives the same bytes.
    """
    require_new_file(out)
    if not directory.is_dir():
        raise CommandError(f"There is no folder {directory}; name the folder with the policy's bundle.yaml.")
    content = pack_bundle(directory, None if opa_key is None else SigningKey.load(opa_key))
    packed = unpack_bundle(content)
    out.write_bytes(content)
    bundle = packed.bundle
    output_of(context).facts(
        {
            "title": bundle.title,
            "revision": bundle.revision,
            "bundle": bundle.digest,
            "file_digest": packed.file_digest,
            "cases": len(packed.cases),
            "file": str(out),
        },
        [
            f"Wrote {out}: {bundle.title}, revision {bundle.revision}, {len(packed.cases)} golden cases.",
            f"  bundle  {bundle.digest}",
            f"  file    {packed.file_digest}",
            "Next: `gateway policy sign`, by an author and then by an approver.",
        ],
    )


def sign(
    context: typer.Context,
    file: FileArgument,
    key: Annotated[Path, typer.Option(metavar="FILE", help="Your private key, of `gateway keys generate`.")],
    role: Annotated[SignerRole, typer.Option(help="An author makes the approval, an approver signs it too.")],
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="Author: why; the log shows it.")] = None,
    action: Annotated[Action | None, typer.Option(help="Author: what to do.  [default: activate]")] = None,
    not_before: Annotated[
        str | None, typer.Option(metavar="TIME", help="Author: from when on it holds.  [default: now]")
    ] = None,
    not_after: Annotated[
        str | None, typer.Option(metavar="TIME", help="Author: when it ends.  [default: 365 days later]")
    ] = None,
    origin: Annotated[
        str | None, typer.Option(metavar="NAME", help="Author: the log.  [default: the configuration's]")
    ] = None,
    previous: Annotated[
        str | None,
        typer.Option(
            metavar="DIGEST",
            help="Author: the bundle in force now, or none.  [default: what the log says]",
        ),
    ] = None,
    approval: ApprovalOption = None,
    config: GatewayConfigOption = GATEWAY_CONFIG,
) -> None:
    """Sign that a bundle is to be put into force, as its author or as an approver.

    The author's signature makes FILE.approval.json; an approver reads it, and signs the same. With --origin
    and --previous an author needs no configuration, an approver never does.
    """
    packed = read_bundle_file(require_file(file, "The bundle file", "build it with `gateway policy build`"))
    signing_key = SigningKey.load(key)
    place = approval or Path(f"{file}{_APPROVAL_SUFFIX}")
    of_author = (reason, action, not_before, not_after, origin, previous)
    if role is SignerRole.AUTHOR:
        require_new_file(place)
        if reason is None:
            raise CommandError("Say with --reason why; the log will show it.")
        if origin is None or previous is None:
            known_origin, known_previous = _in_force(load_gateway_config(config))
            origin = known_origin if origin is None else origin
            previous = known_previous if previous is None else previous
        statement = _statement(
            packed, action or Action.ACTIVATE, reason, not_before, not_after, origin, previous
        )
        envelope = sign_statement(statement, signing_key)
    else:
        if any(value is not None for value in of_author):
            raise CommandError(
                "An approver signs what the author has stated; leave out the author's options."
            )
        require_file(place, "The approval", "the author makes it with `gateway policy sign --role author`")
        before = read_envelope(read_bounded(place))
        statement = parse_statement(before.payload)
        verify_bundle(statement, packed)
        envelope = countersign(before, signing_key)
    place.write_bytes(dsse.envelope_to_json(envelope) + b"\n")
    output_of(context).facts(
        {
            **_facts(statement),
            "key": signing_key.key_id,
            "signatures": len(envelope.signatures),
            "file": str(place),
        },
        [
            f"Signed with the key {signing_key.key_id[:16]}…, {len(envelope.signatures)} signatures so far:",
            *(f"  {name:<10}  {value}" for name, value in _facts(statement).items()),
            f"Wrote {place}.",
        ],
    )


def activate_command(
    context: typer.Context,
    file: FileArgument,
    approval: ApprovalOption = None,
    config: GatewayConfigOption = GATEWAY_CONFIG,
) -> None:
    """Put a bundle into force that an author and an approver have signed, on every running process.

    Checked first: signatures, revision, sources, probe, golden cases. It is in force with its entry in the
    audit log; running gateways follow within a second. Confirmations are carried out in the same way.
    """
    packed = read_bundle_file(require_file(file, "The bundle file", "build it with `gateway policy build`"))
    envelope = _read_approval(approval or Path(f"{file}{_APPROVAL_SUFFIX}"))
    if _statement_of(envelope).action is Action.ROLLBACK:
        raise CommandError("This approval is of a rollback; use `gateway policy rollback`.")
    _put_into_force(context, load_gateway_config(config), envelope, packed)


def rollback(
    context: typer.Context,
    to: Annotated[int, typer.Option(min=1, metavar="REVISION", help="A revision that was in force before.")],
    approval: Annotated[
        Path,
        typer.Option(
            "--approval", metavar="FILE", help="The approval, signed by two with --action rollback."
        ),
    ],
    config: GatewayConfigOption = GATEWAY_CONFIG,
) -> None:
    """Put a bundle into force again that was before, from the deployment's own store.

    Signed by two like every activation: `gateway policy fetch` gets the file to sign.
    """
    settings = load_gateway_config(config)
    envelope = _read_approval(approval)
    statement = _statement_of(envelope)
    if statement.action is not Action.ROLLBACK or statement.revision != to:
        raise CommandError(f"The approval is not of a rollback to revision {to}.")
    packed = unpack_bundle(_kept_file(settings, to))
    _put_into_force(context, settings, envelope, packed)


def status(context: typer.Context, config: GatewayConfigOption = GATEWAY_CONFIG) -> None:
    """Tell which policy is in force, who approved it, and when it becomes stale.

    Exit code 1 if none is in force, or it is stale: then gateways deny everything.
    """
    settings = load_gateway_config(config)
    output = output_of(context)
    if settings.policy.activation is None:
        bundle = open_bundle(settings.policy.directory)
        output.facts(
            {
                "activation": "none: the operator alone puts the policy directory into force",
                "title": bundle.title,
                "revision": bundle.revision,
                "bundle": bundle.digest,
            }
        )
        return
    now = system_clock()
    with policy_place(settings) as place:
        newest = place.recorded.newest()
        if newest is None:
            output.facts({"activation": "by two people", "bundle": None})
            output.remark("No policy was ever activated; see `gateway policy activate`.")
            raise typer.Exit(Exit.NO)
        candidate = place.verified()
    stale = not candidate.standing.starts <= now < candidate.standing.ends
    output.facts(
        {
            "activation": "by two people",
            "title": candidate.packed.bundle.title,
            **_row(newest),
            "approved": newest.not_before,
            "ends": rfc3339(candidate.standing.ends),
            "age_h": round((now - candidate.standing.starts).total_seconds() / 3600, 1),
            "stale": stale,
        }
    )
    if stale:
        raise typer.Exit(Exit.NO)


def history(context: typer.Context, config: GatewayConfigOption = GATEWAY_CONFIG) -> None:
    """List every activation, rollback and confirmation that the log tells of, newest first."""
    with policy_place(load_gateway_config(config)) as place:
        rows = [_row(each) for each in reversed(place.recorded.all())]
    output_of(context).list(
        rows,
        _COLUMNS,
        nothing="No policy was ever activated.",
        shorten=lambda row: {**row, "bundle": f"{row['bundle'][:19]}…", "time": row["time"][:19]},
    )


def fetch(
    context: typer.Context,
    revision: Annotated[int, typer.Argument(min=1, metavar="REVISION", help="A revision that was in force.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Where to write the bundle file.")],
    config: GatewayConfigOption = GATEWAY_CONFIG,
) -> None:
    """Get the bundle file of a revision that was in force, for a rollback or to look into.

    It is the newest of that revision; what was signed of it stands in the log.
    """
    require_new_file(out)
    content = _kept_file(load_gateway_config(config), revision)
    bundle = unpack_bundle(content).bundle
    out.write_bytes(content)
    output_of(context).facts(
        {
            "revision": revision,
            "bundle": bundle.digest,
            "file_digest": file_digest(content),
            "file": str(out),
        },
        [f"Wrote {out}: {bundle.title}, revision {revision}, {bundle.digest}."],
    )


def _put_into_force(
    context: typer.Context, settings: GatewayConfig, envelope: bytes, packed: PackedBundle
) -> None:
    approval, index = activate(settings, envelope, packed)
    statement = approval.statement
    output_of(context).facts(
        {**_facts(statement), "persons": list(approval.persons), "entry": index},
        [
            f"Revision {statement.revision} is in force ({statement.action.value}); entry {index} of the log",
            f"says so, and that {' and '.join(approval.persons)} approved it.",
        ],
    )


def _statement(
    packed: PackedBundle,
    action: Action,
    reason: str,
    not_before: str | None,
    not_after: str | None,
    origin: str,
    previous: str,
) -> ActivationStatement:
    starts: datetime = parse_time("--not-before", not_before) or system_clock()
    ends = parse_time("--not-after", not_after) or starts + timedelta(days=_DEFAULT_DAYS)
    return make_statement(
        origin=origin,
        action=action,
        bundle=packed.bundle.digest,
        file=packed.file_digest,
        revision=packed.bundle.revision,
        previous="" if previous == "none" else previous,
        not_before=starts,
        not_after=ends,
        reason=reason,
    )


def _in_force(settings: GatewayConfig) -> tuple[str, str]:
    """Return the log's origin and the digest of the bundle in force, `none` without one."""
    with policy_place(settings) as place:
        newest = place.recorded.newest()
    return settings.log.origin, newest.bundle if newest else "none"


def _read_approval(path: Path) -> bytes:
    require_file(path, "The approval", "an author makes it with `gateway policy sign --role author`")
    return read_bounded(path)


def _statement_of(envelope: bytes) -> ActivationStatement:
    return parse_statement(read_envelope(envelope).payload)


def _kept_file(settings: GatewayConfig, revision: int) -> bytes:
    """Return the bundle file of a revision that was in force, by the log; raise `ConfigError` if not kept."""
    with policy_place(settings) as place:
        found = [each for each in place.recorded.all() if each.revision == revision]
        if not found:
            raise CommandError(f"Revision {revision} was never in force here; see `gateway policy history`.")
        content = place.shelf.file_of(found[-1].bundle)
    if content is None:
        raise ConfigError(f"The policy store does not hold revision {revision}; restore the store.")
    if file_digest(content) != found[-1].file:
        raise ActivationError("The policy store gives another file than was activated; restore the store.")
    return content


def _facts(statement: ActivationStatement) -> dict[str, Any]:
    return {
        "action": statement.action.value,
        "revision": statement.revision,
        "bundle": statement.bundle,
        "file_digest": statement.file,
        "previous": statement.previous or "none",
        "not_before": statement.not_before,
        "not_after": statement.not_after,
        "reason": statement.reason,
        "origin": statement.origin,
    }


def _row(activation: Activation) -> dict[str, Any]:
    return {
        "revision": activation.revision,
        "bundle": activation.bundle,
        "action": activation.action,
        "time": activation.time,
        "persons": activation.persons,
        "keys": activation.keys,
        "previous": activation.previous,
        "entry": activation.entry,
        "reason": activation.reason,
    }
