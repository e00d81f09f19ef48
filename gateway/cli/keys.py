"""`gateway keys`: which keys there are, and how they change. No command ever prints a secret."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from cryptography import x509

from gateway.cli.failures import CommandError
from gateway.cli.member import MemberArgument, read_public_key
from gateway.cli.options import parse_member, require_file, require_new_file
from gateway.cli.output import output_of
from gateway.cli.settings import GATEWAY_CONFIG, GatewayConfigOption, load_gateway_config
from gateway.cli.trust_file import renew_trust_file, replace_file
from gateway.clock import rfc3339, system_clock
from gateway.config import GatewayConfig
from gateway.deployment import export_trust, record_change, register_key, revoke_key
from gateway.evidence.keys import SigningKey, write_secret
from gateway.members import MemberStore
from gateway.model import EntryKind
from gateway.pki.certificates import certificate_days_left, key_fingerprint, load_certificate
from gateway.pki.example_keys import keyring_fingerprint
from gateway.pseudonym import Keyring
from gateway.recorded.deployment import keyring_digest

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Show, rotate, generate, register and revoke keys. No command prints a secret.",
)

_COLUMNS: Final = ("key", "state", "days_left", "id")
_DEFAULT_OVERLAP_DAYS: Final = 30
_DEFAULT_LIFETIME_DAYS: Final = 365


@app.command("show")
def show(context: typer.Context, config: GatewayConfigOption = GATEWAY_CONFIG) -> None:
    """Show ids, fingerprints and ends of the deployment's keys, key epochs and certificates."""
    settings = load_gateway_config(config)
    now = system_clock()
    rows = [
        _signing_row("gateway signing key", settings.keys.signing),
        {**_signing_row("audit log key", settings.log.key), "vkey": export_trust(settings).log_keys[0]},
        _certificate_row("TLS certificate", settings.tls.certificate, now),
        _certificate_row("members' authority", settings.tls.client_ca, now),
        *_epoch_rows(settings, now),
    ]
    output_of(context).list(rows, _COLUMNS)


@app.command("rotate")
def rotate(
    context: typer.Context,
    overlap_days: Annotated[
        int,
        typer.Option(
            min=0, max=3650, metavar="DAYS", help="How long answers begun under the old epoch may go on."
        ),
    ] = _DEFAULT_OVERLAP_DAYS,
    lifetime_days: Annotated[
        int, typer.Option(min=1, max=3650, metavar="DAYS", help="How long the new epoch lasts.")
    ] = _DEFAULT_LIFETIME_DAYS,
    config: GatewayConfigOption = GATEWAY_CONFIG,
) -> None:
    """Begin a new key epoch: from now on the same person gets other pseudonyms.

    The change stands in the audit log first. Running gateways take it up when they are started again.
    """
    settings = load_gateway_config(config)
    now = system_clock()
    rotated = Keyring.load(settings.keys.keyring).rotate(
        now, timedelta(days=overlap_days), lifetime=timedelta(days=lifetime_days)
    )
    epoch = rotated.current(now)
    record_change(
        settings,
        EntryKind.KEYRING_ROTATED,
        f"epochs/{epoch.id}",
        {"overlap_days": str(overlap_days), "keyring": keyring_digest(rotated)},
        key_epoch=epoch.id,
    )
    rotated.save(settings.keys.keyring, replace_existing=True)
    output_of(context).facts(
        {
            "epoch": epoch.id,
            "not_before": rfc3339(epoch.not_before),
            "not_after": rfc3339(epoch.not_after),
            "overlap_days": overlap_days,
        },
        [
            f"Key epoch {epoch.id} has begun and ends on {epoch.not_after:%Y-%m-%d}.",
            "Restart the gateway so that it uses it, and make a copy of the keyring.",
        ],
    )


@app.command("generate")
def generate(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Where the private key goes; FILE.pub gets the public one.")
    ],
) -> None:
    """Make an Ed25519 signing key pair, as members sign queries and deliveries with."""
    public = file.with_name(file.name + ".pub")
    for path in (file, public):
        require_new_file(path)
    key = SigningKey.generate()
    write_secret(file, key.to_pem())
    public.write_bytes(key.verify_key.to_pem())
    output_of(context).facts(
        {"key_id": key.key_id, "private": str(file), "public": str(public)},
        [
            f"Made the key {key.key_id}.",
            f"Keep {file} to yourself (mode 0600); hand {public} to the gateway's operator.",
        ],
    )


@app.command("register")
def register(
    context: typer.Context,
    member: MemberArgument,
    public_key: Annotated[Path, typer.Argument(metavar="PUBLIC.pem", help="Its new public signing key.")],
    config: GatewayConfigOption = GATEWAY_CONFIG,
) -> None:
    """Register one more signing key of a member; the old one stays valid."""
    settings = load_gateway_config(config)
    member = parse_member(member)
    key = read_public_key(public_key)
    register_key(settings, member, key)
    trust = renew_trust_file(settings, config)
    output_of(context).facts(
        {"member": member, "key_id": key.key_id, "trust": str(trust)},
        [
            f"{member} may sign with {key.key_id}.",
            f"The trust file {trust} is renewed; give it to everybody who verifies receipts of {member}.",
        ],
    )


@app.command("revoke")
def revoke(
    context: typer.Context,
    member: MemberArgument,
    key_id: Annotated[
        str, typer.Argument(metavar="KEY-ID", help="The key's id, or the first 16 or more of its hex digits.")
    ],
    config: GatewayConfigOption = GATEWAY_CONFIG,
) -> None:
    """Take a signing key from a member: what it signs is refused from now on, within a second.

    The trust file loses it too. To verify receipts of deliveries that it has signed, keep the old trust file.
    """
    settings = load_gateway_config(config)
    member = parse_member(member)
    key_id = _whole_key_id(settings, member, key_id)
    revoke_key(settings, member, key_id)
    trust = renew_trust_file(settings, config)
    output_of(context).facts(
        {"member": member, "key_id": key_id, "trust": str(trust)},
        [
            f"{member} may no longer sign with {key_id}.",
            f"The trust file {trust} is renewed; give it to everybody who verifies receipts of {member}.",
        ],
    )


@app.command("trust")
def trust_command(
    context: typer.Context,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to write it.  [default: standard output]")
    ] = None,
    config: GatewayConfigOption = GATEWAY_CONFIG,
) -> None:
    """Write the trust file: the public keys with which anybody verifies receipts and the log.

    An existing file is replaced. It holds no secret; hand it out by a way that recipients trust.
    """
    content = export_trust(load_gateway_config(config)).to_json()
    output = output_of(context)
    if out is None:
        output.document(content.decode())
        return
    if out.is_dir() or not out.absolute().parent.is_dir():
        raise CommandError(
            f"{out} cannot be written: name a file in a folder that exists, such as trust.json."
        )
    replace_file(out, content)
    output.facts({"trust": str(out)}, [f"Wrote the trust file {out}."])


def _whole_key_id(settings: GatewayConfig, member: str, beginning: str) -> str:
    if re.fullmatch(r"[0-9a-f]{16,64}", beginning) is None:
        raise CommandError(
            "KEY-ID is 64 hex digits, of which 16 or more are given; see `gateway member list`."
        )
    members = MemberStore(settings.members.database).members()[1]
    keys = [key for each in members if each.id == member for key in each.signing_keys]
    found = [key for key in keys if key.startswith(beginning)]
    # With none or several the member's store says what is wrong.
    return found[0] if len(found) == 1 else beginning


def _signing_row(name: str, path: Path) -> dict[str, Any]:
    return {"key": name, "state": "in use", "id": SigningKey.load(path).key_id, "file": str(path)}


def _certificate_row(name: str, path: Path, now: datetime) -> dict[str, Any]:
    require_file(path, "The certificate", "renew it, or correct the path in the configuration")
    certificate: x509.Certificate = load_certificate(path.read_bytes())
    days_left = certificate_days_left(certificate, now)
    return {
        "key": name,
        "state": "in force" if days_left >= 0 else "expired",
        "id": key_fingerprint(certificate),
        "not_after": rfc3339(certificate.not_valid_after_utc),
        "days_left": int(days_left),
        "file": str(path),
    }


def _epoch_rows(settings: GatewayConfig, now: datetime) -> list[dict[str, Any]]:
    keyring = Keyring.load(settings.keys.keyring)
    active = keyring.epochs_at(now)
    rows = []
    for epoch in keyring.epochs:
        state = "over" if epoch.not_after <= now else "to come"
        if epoch in active:
            state = "in use" if epoch is active[-1] else "running out"
        rows.append(
            {
                "key": f"key epoch {epoch.id}",
                "state": state,
                "id": keyring_fingerprint(epoch.key),
                "not_before": rfc3339(epoch.not_before),
                "not_after": rfc3339(epoch.not_after),
                "days_left": (epoch.not_after - now).days,
                "file": str(settings.keys.keyring),
            }
        )
    return rows
