"""Two people who put policies into force: their keys, what they sign, and a deployment that asks for both."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from gateway.activation.statement import (
    Action,
    ActivationStatement,
    countersign,
    make_statement,
    sign_statement,
)
from gateway.clock import Clock, system_clock
from gateway.config import GatewayConfig
from gateway.deployment.policy import activate, policy_place
from gateway.evidence import dsse
from gateway.evidence.keys import SigningKey, write_secret
from gateway.policy.bundle_file import PackedBundle, pack_bundle, unpack_bundle


def public_line(key: SigningKey) -> str:
    """Return what stands in the configuration for a key."""
    return key.verify_key.to_pem().decode().splitlines()[1]


@dataclass(frozen=True)
class People:
    """Li writes policies, Wang and Zhao approve them; Li has a key for approving others' as well."""

    li: SigningKey
    wang: SigningKey
    zhao: SigningKey
    li_approving: SigningKey

    @classmethod
    def make(cls) -> People:
        return cls(*(SigningKey.generate() for _ in range(4)))

    def section(self, **settings: object) -> str:
        """Return the section of the configuration that names them."""
        more = "".join(f"{name} = {value}\n" for name, value in settings.items())
        return (
            "\n[policy.activation]\n"
            f'authors = [{{person = "li", key = "{public_line(self.li)}"}}]\n'
            f'approvers = [{{person = "wang", key = "{public_line(self.wang)}"}}, '
            f'{{person = "zhao", key = "{public_line(self.zhao)}"}}, '
            f'{{person = "li", key = "{public_line(self.li_approving)}"}}]\n{more}'
        )

    def save(self, directory: Path) -> dict[str, Path]:
        """Write the keys as files; return them by name."""
        paths = {}
        for name in ("li", "wang", "zhao", "li_approving"):
            paths[name] = directory / f"{name}.key"
            write_secret(paths[name], getattr(self, name).to_pem())
        return paths


def packed_policy(source: Path, directory: Path, revision: int, change: Callable[[Path], None] | None = None):
    """Return the bundle file of the policy in `source` with another revision, and changed by `change`."""
    copied = shutil.copytree(source, directory / f"policy-{revision}", dirs_exist_ok=True)
    bundle = copied / "bundle.yaml"
    kept = [line for line in bundle.read_text().splitlines() if not line.startswith("revision:")]
    bundle.write_text("\n".join([*kept, f"revision: {revision}", ""]))
    if change is not None:
        change(copied)
    return unpack_bundle(pack_bundle(copied))


def state(
    packed: PackedBundle,
    origin: str,
    previous: str = "",
    action: Action = Action.ACTIVATE,
    *,
    now: datetime | None = None,
    days: float = 30,
    reason: str = "new memorandum",
) -> ActivationStatement:
    """Return the statement on `packed`, in force from a moment ago on."""
    starts = (now or system_clock()) - timedelta(seconds=1)
    return make_statement(
        origin=origin,
        action=action,
        bundle=packed.bundle.digest,
        file=packed.file_digest,
        revision=packed.bundle.revision,
        previous=previous,
        not_before=starts,
        not_after=starts + timedelta(days=days),
        reason=reason,
    )


def signed(statement: ActivationStatement, *keys: SigningKey) -> bytes:
    """Return the approval with a signature of each of `keys`."""
    first, *others = keys
    envelope = sign_statement(statement, first)
    for key in others:
        envelope = countersign(envelope, key)
    return dsse.envelope_to_json(envelope)


def put_into_force(
    config: GatewayConfig,
    people: People,
    packed: PackedBundle,
    action: Action = Action.ACTIVATE,
    clock: Clock = system_clock,
) -> int:
    """Have Li and Wang sign `packed`, and activate it as the command does; return the entry's index."""
    with policy_place(config) as place:
        newest = place.recorded.newest()
    statement = state(packed, config.log.origin, newest.bundle if newest else "", action, now=clock())
    return activate(config, signed(statement, people.li, people.wang), packed, clock=clock)[1]
