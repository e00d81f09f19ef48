"""Looking at a deployment as `gateway serve` would load it, part by part, without changing anything."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from gateway.activation.candidate import try_out
from gateway.audit.checkpoint import open_checkpoint
from gateway.audit.errors import LogMismatchError
from gateway.audit.note import Ed25519Verifier
from gateway.audit.stores import open_reader, require_log
from gateway.catalogue import Catalogue
from gateway.cli.failures import CommandError, describe_failure
from gateway.cli.options import require_file
from gateway.clock import system_clock
from gateway.config import GatewayConfig
from gateway.database import PostgresAddress
from gateway.deployment.policy import policy_place
from gateway.details import BlindIndex
from gateway.details.deployed import known_cards, load_custodians, read_fields_key
from gateway.errors import ConfigError, GatewayError
from gateway.evidence.keys import SigningKey, read_secret
from gateway.members import open_member_store
from gateway.model import Member, MemberState, Role
from gateway.node import PAGE_TOKEN_KEY_BYTES
from gateway.pki.certificates import certificate_days_left
from gateway.pki.example_keys import keyring_fingerprint, refuse_example_keys
from gateway.pki.reload import TlsIdentity
from gateway.policy.bundle import Bundle, load_bundle
from gateway.policy.bundle_file import read_bundle_file
from gateway.policy.embedded import EmbeddedEngine
from gateway.policy.errors import BundleError
from gateway.policy.golden import load_cases, run_cases
from gateway.policy_node import make_engine, tier_names
from gateway.pseudonym import Keyring

_MAX_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found out about one part of a deployment."""

    part: str
    sound: bool
    detail: str


def inspect_deployment(config: GatewayConfig) -> list[Finding]:
    """Return a finding for each part, sound or not; no part hides another."""
    inspection = _Inspection(config)
    parts: list[tuple[str, Callable[[], str]]] = [
        ("certificates", inspection.certificates),
        ("keys", inspection.keys),
        ("keyring", inspection.keyring),
        ("policy", inspection.policy),
        ("catalogue", inspection.catalogue),
        ("members", inspection.members),
        ("audit log", inspection.audit_log),
    ]
    if config.policy.engine == "opa":
        parts.insert(4, ("OPA server", inspection.opa))
    if config.details is not None:
        parts.append(("details", inspection.details))
    if config.disclosure is not None:
        parts.append(("disclosure key", inspection.disclosure_key))
    return [_inspect(name, action) for name, action in parts]


def _inspect(part: str, action: Callable[[], str]) -> Finding:
    try:
        return Finding(part, True, action())
    except (GatewayError, OSError) as error:
        return Finding(part, False, describe_failure(error).message)


class _Inspection:
    """The parts; each method returns what is worth telling of a sound one, or raises."""

    def __init__(self, config: GatewayConfig) -> None:
        self._config = config
        self._bundle: Bundle | None = None
        self._datasets: Catalogue | None = None

    def certificates(self) -> str:
        tls = self._config.tls
        identity = TlsIdentity.read(
            tls.certificate, tls.key, tls.client_ca, demo=self._config.demo, clock=system_clock
        )
        days = certificate_days_left(identity.certificate, system_clock())
        return f"{tls.certificate} is in force for {int(days)} days"

    def keys(self) -> str:
        keys = self._config.keys
        ids = [SigningKey.load(path).key_id for path in (keys.signing, self._config.log.key)]
        refuse_example_keys(ids, demo=self._config.demo)
        if len(read_secret(keys.page_tokens)) != PAGE_TOKEN_KEY_BYTES:
            raise ConfigError(f"{keys.page_tokens} must hold exactly {PAGE_TOKEN_KEY_BYTES} random bytes.")
        return f"gateway {ids[0][:16]}…, log {ids[1][:16]}…, page tokens"

    def keyring(self) -> str:
        keyring = Keyring.load(self._config.keys.keyring)
        refuse_example_keys(
            [keyring_fingerprint(epoch.key) for epoch in keyring.epochs], demo=self._config.demo
        )
        now = system_clock()
        epoch = keyring.current(now)
        return f"key epoch {epoch.id}, for {(epoch.not_after - now).days} more days"

    def details(self) -> str:
        config = self._config.details
        assert config is not None
        BlindIndex.load(config.index_key)
        known_cards(config)
        place = config.database.url if isinstance(config.database, PostgresAddress) else config.database
        return f"kept in {place}; to be opened by {load_custodians(config).described()}"

    def disclosure_key(self) -> str:
        config = self._config.disclosure
        assert config is not None
        read_fields_key(config)
        return f"{config.key}: fields of entries can be shown one by one"

    def policy(self) -> str:
        directory = self._config.policy.directory
        if self._config.policy.activation is not None:
            with policy_place(self._config) as place:
                packed = place.verified().packed
            self._bundle = packed.bundle
            return f"revision {packed.bundle.revision}, {packed.bundle.digest[:23]}…, activated by two people"
        if not directory.exists():
            raise CommandError(f"There is no policy folder {directory}; correct policy.directory.")
        if directory.is_file():
            packed = read_bundle_file(directory)
            asyncio.run(try_out(packed))
            self._bundle = packed.bundle
            return f"revision {packed.bundle.revision}, {packed.bundle.digest[:23]}…, from a bundle file"
        bundle = self._bundle = load_bundle(directory)
        cases = asyncio.run(_verify_cases(bundle, self._config))
        return f"revision {bundle.revision}, {bundle.digest[:23]}…, {cases} golden cases agree"

    def opa(self) -> str:
        if self._bundle is None:
            raise CommandError("Not looked at, because the policy is not sound.")
        return asyncio.run(_start_engine(self._bundle, self._config))

    def catalogue(self) -> str:
        if self._bundle is None:
            raise CommandError("Not looked at, because the policy, which names the tiers, is not sound.")
        found = self._datasets = Catalogue.read(self._config.catalogue, tier_names(self._bundle))
        return f"{len(found)} datasets: {', '.join(dataset.name for dataset in found)}"

    def members(self) -> str:
        path = self._config.members.database
        if isinstance(path, Path):
            require_file(path, "The member store", "restore it, or make a deployment with `gateway init`")
        with closing(open_member_store(path)) as store:
            store.revision()
            members = store.members()[1]
        suspended = sum(member.state is MemberState.SUSPENDED for member in members)
        told = f"{len(members)} members, {suspended} of them suspended"
        missing = self._missing_providers(members)
        return f"{told}; not connected yet: {', '.join(missing)}" if missing else told

    def _missing_providers(self, members: list[Member]) -> list[str]:
        connected = {member.id for member in members if Role.PROVIDER in member.roles and member.endpoint}
        return sorted({dataset.provider for dataset in self._datasets or ()} - connected)

    def audit_log(self) -> str:
        log = self._config.log
        require_log(log.database)
        verifier = Ed25519Verifier(log.origin, SigningKey.load(log.key).verify_key.public)
        with closing(open_reader(log.database)) as reader:
            checkpoint = open_checkpoint(reader.checkpoint(), [verifier], origin=log.origin)
            # A gateway may append between the two reads, so that the log may have grown past it.
            if reader.size() < checkpoint.size:
                raise LogMismatchError(
                    "The audit log has fewer entries than its checkpoint covers; run `gateway audit fsck`."
                )
        return f"{log.origin}, checkpoint over {checkpoint.size} entries; `gateway audit fsck` examines them"


async def _verify_cases(bundle: Bundle, config: GatewayConfig) -> int:
    """Ask the embedded engine every golden case; return how many, or raise `BundleError`."""
    cases = load_cases(bundle, config.policy.directory / "cases")
    engine = EmbeddedEngine(bundle)
    await engine.start()
    try:
        mismatches = await run_cases(engine, cases)
    finally:
        await engine.close()
    if mismatches:
        told = "; ".join(
            f"'{found.case.title}' ({', '.join(found.differences)})" for found in mismatches[:_MAX_SHOWN]
        )
        raise BundleError(f"{len(mismatches)} of {len(cases)} golden cases are answered differently: {told}.")
    return len(cases)


async def _start_engine(bundle: Bundle, config: GatewayConfig) -> str:
    engine = make_engine(bundle, config.policy, system_clock, None)
    await engine.start()
    try:
        return f"{engine.name} at {config.policy.opa_url} holds this policy"
    finally:
        await engine.close()
