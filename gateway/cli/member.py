"""`gateway member`: who meets at this gateway."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from gateway.cli.failures import CommandError
from gateway.cli.options import parse_member, require_file
from gateway.cli.output import output_of
from gateway.cli.settings import GATEWAY_CONFIG, GatewayConfigOption, load_gateway_config
from gateway.cli.trust_file import renew_trust_file
from gateway.config import GatewayConfig
from gateway.deployment import (
    Deployment,
    MemberFiles,
    add_member,
    change_endpoint,
    change_state,
    confirm_member,
)
from gateway.deployment.layout import gateway_uri, member_uri
from gateway.deployment.onboarding import MEMBER_DAYS
from gateway.evidence.keys import VerifyKey
from gateway.members import MemberStore
from gateway.model import Member, MemberState, Role
from gateway.pki.authority import MAX_REQUEST_BYTES, CertificateAuthority
from gateway.policy.documents import MemberClassesFile
from gateway.policy.strict_yaml import read_yaml

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Add, suspend, resume, change and list members. The audit log tells of every change.",
)

_COLUMNS: Final = ("id", "title", "class", "roles", "state", "endpoint", "keys")
_ENDPOINT: Final = re.compile(r"(\[[0-9a-fA-F:]+\]|[^\s:/]+):[0-9]{1,5}")
_MAX_REASON_CHARACTERS: Final = 500
_EVERYWHERE: Final = ("0.0.0.0", "[::]")  # noqa: S104 - recognised, not listened on

MemberArgument = Annotated[
    str, typer.Argument(metavar="ID", help="Lower-case letters, digits and hyphens, such as harbour-bank.")
]


@app.command("add")
def add(
    context: typer.Context,
    member: MemberArgument,
    title: Annotated[str, typer.Option(help="The name people use.")],
    member_class: Annotated[
        str,
        typer.Option("--class", metavar="NAME", help="A class that policy knows, such as agency or bank."),
    ],
    role: Annotated[list[Role], typer.Option(help="What it may do; may be repeated.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="New folder for what the member is handed.")],
    endpoint: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where its provider listens (providers only).")
    ] = None,
    csr: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Its certificate request, if it keeps its TLS key.")
    ] = None,
    signing_key: Annotated[
        Path | None,
        typer.Option(metavar="PUBLIC.pem", help="Its public signing key, if it keeps the private one."),
    ] = None,
    host: Annotated[
        list[str] | None, typer.Option(help="A further host name for its certificate; may be repeated.")
    ] = None,
    address: Annotated[
        list[str] | None, typer.Option(help="An IP address for its certificate; may be repeated.")
    ] = None,
    gateway_address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT", help="How it reaches the gateway.  [default: where the gateway listens]"
        ),
    ] = None,
    valid_days: Annotated[
        int, typer.Option(min=1, metavar="DAYS", help="How long its certificate is valid.")
    ] = MEMBER_DAYS,
    config: GatewayConfigOption = GATEWAY_CONFIG,
) -> None:
    """Take a member in, and write what it needs into a new folder.

    Keys that it does not bring (--csr, --signing-key) are made, and then have to be handed over safely.
    """
    settings = load_gateway_config(config)
    member = parse_member(member)
    _check_endpoint(endpoint, role)
    _check_class(member_class, settings)
    keys = {}
    if signing_key is not None:
        key = read_public_key(signing_key)
        keys[key.key_id] = key.public
    files = add_member(
        settings,
        Member(
            id=member,
            title=title,
            member_class=member_class,
            roles=frozenset(role),
            uri=member_uri(member),
            signing_keys=keys,
            endpoint=endpoint,
        ),
        CertificateAuthority.load(*Deployment(config.parent).authority),
        out,
        gateway_address=gateway_address or _own_address(settings),
        hosts=host or [],
        addresses=address or [],
        csr_pem=_read_request(csr) if csr is not None else None,
        valid_days=valid_days,
    )
    trust = renew_trust_file(settings, config)
    _complete_client_config(files, csr, signing_key)
    output_of(context).facts(
        {"member": member, "directory": str(out), "uri": member_uri(member), "trust": str(trust)},
        [
            f"{member} is a member. Hand it the folder {out} by a safe way: it holds "
            + ("no secret." if csr is not None and signing_key is not None else "private keys."),
            f"The trust file {trust} is renewed; give it to everybody who verifies receipts of {member}.",
            *_provider_hint(role, settings),
        ],
    )


@app.command("suspend")
def suspend(
    context: typer.Context, member: MemberArgument, config: GatewayConfigOption = GATEWAY_CONFIG
) -> None:
    """Refuse a member's calls from now on; running gateways follow within a second."""
    _change(context, member, MemberState.SUSPENDED, config)


@app.command("resume")
def resume(
    context: typer.Context, member: MemberArgument, config: GatewayConfigOption = GATEWAY_CONFIG
) -> None:
    """Serve a suspended member again."""
    _change(context, member, MemberState.ACTIVE, config)


@app.command("move")
def move(
    context: typer.Context,
    member: MemberArgument,
    endpoint: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where its provider listens now.")],
    config: GatewayConfigOption = GATEWAY_CONFIG,
) -> None:
    """Say where a provider listens from now on; running gateways follow within a second."""
    member = parse_member(member)
    if _ENDPOINT.fullmatch(endpoint) is None:
        raise CommandError("--endpoint takes host:port, such as registry.example.org:7500.")
    change_endpoint(load_gateway_config(config), member, endpoint)
    output_of(context).facts(
        {"member": member, "endpoint": endpoint}, [f"{member} is asked for records at {endpoint}."]
    )


@app.command("confirm")
def confirm(
    context: typer.Context,
    member: MemberArgument,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why the log may say so; it is recorded.")],
    config: GatewayConfigOption = GATEWAY_CONFIG,
) -> None:
    """Record a member as the member store has it, where the log contradicts the store.

    `gateway doctor` tells what differs. Make sure first, with the member itself, that the store is right:
    whoever could write to it may have put a key of his own there.
    """
    member = parse_member(member)
    if not 1 <= len(reason.strip()) <= _MAX_REASON_CHARACTERS:
        raise CommandError(f"--reason takes 1 to {_MAX_REASON_CHARACTERS} characters.")
    confirmed = confirm_member(load_gateway_config(config), member, reason.strip())
    output_of(context).facts(
        _row(confirmed),
        [f"The log now tells of {member} as the store has it; it is {confirmed.state.value}."],
    )


@app.command("list")
def list_members(context: typer.Context, config: GatewayConfigOption = GATEWAY_CONFIG) -> None:
    """List the members with their state and the ids of their signing keys."""
    settings = load_gateway_config(config)
    require_file(
        settings.members.database, "The member store", "restore it, or make a deployment with `gateway init`"
    )
    store = MemberStore(settings.members.database)
    members = store.members()[1]
    output_of(context).list(
        [_row(member) for member in members],
        _COLUMNS,
        nothing="Nobody is a member yet; `gateway member add` takes one in.",
        shorten=lambda row: {**row, "keys": [f"{key[:16]}…" for key in row["keys"]]},
    )


def read_public_key(path: Path) -> VerifyKey:
    """Return the Ed25519 public key in the PEM file at `path`; raise `ConfigError`."""
    require_file(
        path, "The public key", "`gateway keys generate` and `openssl pkey -pubout` write such files"
    )
    return VerifyKey.from_pem(path.read_bytes())


def _change(context: typer.Context, member: str, state: MemberState, config: Path) -> None:
    member = parse_member(member)
    change_state(load_gateway_config(config), member, state)
    output_of(context).facts({"member": member, "state": state.value}, [f"{member} is {state.value}."])


def _check_endpoint(endpoint: str | None, roles: list[Role]) -> None:
    if endpoint is not None and _ENDPOINT.fullmatch(endpoint) is None:
        raise CommandError("--endpoint takes host:port, such as registry.example.org:7500.")
    if (endpoint is not None) != (Role.PROVIDER in roles):
        raise CommandError(
            "A provider needs --endpoint host:port, where the gateway reaches it; nobody else has one."
        )


def _check_class(member_class: str, settings: GatewayConfig) -> None:
    """Refuse a class that policy does not know: it would be denied for ever, and look like a fault."""
    path = settings.policy.directory / "data" / "member_classes.yaml"
    try:
        known = msgspec.convert(read_yaml(path), MemberClassesFile).member_classes
    except msgspec.ValidationError as error:
        raise CommandError(f"{path} does not fit its schema; see `gateway config check`.") from error
    if member_class not in known:
        raise CommandError(f"--class is one of {', '.join(sorted(known))}: those that policy knows.")


def _own_address(settings: GatewayConfig) -> str:
    host, _, port = settings.server.listen.rpartition(":")
    if host in _EVERYWHERE or port == "0":
        raise CommandError(
            f"The gateway listens on {settings.server.listen}, which is no address to reach it by; "
            "name one with --gateway-address, such as gateway.example.org:7443."
        )
    return settings.server.listen


def _read_request(path: Path) -> bytes:
    require_file(path, "The certificate request", "`openssl req -new` writes such files")
    if path.stat().st_size > MAX_REQUEST_BYTES:
        raise CommandError(f"{path} is larger than {MAX_REQUEST_BYTES} bytes; it is no certificate request.")
    return path.read_bytes()


def _complete_client_config(files: MemberFiles, csr: Path | None, signing_key: Path | None) -> None:
    """Say in the member's settings which files it has to put there itself."""
    own = [
        f"# Put your own {what} here as {name} (mode 0600)."
        for what, name, brought in (("TLS key", "tls.key", csr), ("signing key", "signing.key", signing_key))
        if brought is not None
    ]
    if own:
        files.client_config.write_text("\n".join([*own, files.client_config.read_text()]))


def _provider_hint(roles: list[Role], settings: GatewayConfig) -> list[str]:
    if Role.PROVIDER not in roles:
        return []
    return [
        f'It needs a provider.toml too (docs/providers.md), with gateway_uri = "{gateway_uri()}".',
        f"Its datasets are described in {settings.catalogue}.",
    ]


def _row(member: Member) -> dict[str, Any]:
    return {
        "id": member.id,
        "title": member.title,
        "class": member.member_class,
        "roles": sorted(role.value for role in member.roles),
        "state": member.state.value,
        "endpoint": member.endpoint,
        "uri": member.uri,
        "keys": sorted(member.signing_keys),
    }
