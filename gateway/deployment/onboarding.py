"""Members of a deployment: taking one in, suspending one, handing out the trust file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from gateway.audit.note import Ed25519Verifier
from gateway.audit.stores import open_reader
from gateway.clock import Clock, system_clock
from gateway.config import GatewayConfig
from gateway.deployment.changes import record_change
from gateway.errors import ConfigError
from gateway.evidence.keys import SigningKey, VerifyKey, write_secret
from gateway.evidence.trust import Trust, TrustedMember
from gateway.members import MemberError, MemberStore, Record, open_member_store
from gateway.model import (
    EntryKind,
    Member,
    MemberState,
    Role,
    member_host,
    member_name,
    parse_member_name,
)
from gateway.pki.authority import CertificateAuthority
from gateway.recorded.members import describe_member

MEMBER_DAYS: Final = 398


@dataclass(frozen=True, slots=True)
class MemberFiles:
    """What a new member is handed."""

    directory: Path

    @property
    def certificate(self) -> Path:
        """The TLS certificate that names the member."""
        return self.directory / "member.pem"

    @property
    def tls_key(self) -> Path:
        """Private key of the certificate."""
        return self.directory / "tls.key"

    @property
    def signing_key(self) -> Path:
        """Private key that the member signs its queries with."""
        return self.directory / "signing.key"

    @property
    def client_config(self) -> Path:
        """Settings that `gateway query` and the client library read."""
        return self.directory / "client.toml"


def add_member(
    config: GatewayConfig,
    member: Member,
    authority: CertificateAuthority,
    directory: Path,
    *,
    gateway_address: str,
    hosts: Sequence[str] = (),
    addresses: Sequence[str] = (),
    csr_pem: bytes | None = None,
    valid_days: int = MEMBER_DAYS,
    clock: Clock = system_clock,
) -> MemberFiles:
    """Register `member` and write what it needs to `directory`.

    With `csr_pem` the member keeps its TLS key, and with `member.signing_keys` its signing key; what
    it did not bring is made here. Raises `ConfigError` or `LogUnavailableError`; then nothing is
    registered and nothing is left in `directory`, so that it can be tried again.
    """
    _check_name(member.id)
    files = MemberFiles(directory)
    if directory.exists() and any(directory.iterdir()):
        raise ConfigError(f"{directory} is not empty; name a folder that is not there yet.")
    with ExitStack() as opened:
        store = opened.enter_context(closing(open_member_store(config.members.database)))
        _check_new(store, member)
        opened.enter_context(_nothing_left_of_a_failure(directory))
        keys = _write_keys(files, member, authority, hosts, addresses, csr_pem, valid_days)
        (directory / "ca.pem").write_bytes(authority.certificate_pem)
        files.client_config.write_text(_CLIENT_CONFIG.format(address=gateway_address, member=member.id))
        store.add(
            msgspec.structs.replace(member, signing_keys=keys),
            _recording(config, EntryKind.MEMBER_ADDED, clock),
        )
    (directory / "trust.json").write_bytes(export_trust(config).to_json())
    return files


def _check_name(member_id: str) -> None:
    try:
        parse_member_name(member_name(member_id))
    except ValueError as error:
        raise ConfigError(
            "A member's id has 1 to 40 lower-case letters, digits and hyphens, and begins with a letter, "
            "such as harbour-bank."
        ) from error


def _check_new(store: MemberStore, member: Member) -> None:
    for existing in store.members()[1]:
        if existing.id == member.id:
            raise MemberError(f"The member {member.id} is already registered.")
        if existing.uri == member.uri or not existing.signing_keys.keys().isdisjoint(member.signing_keys):
            raise MemberError(
                f"The URI or a signing key is registered already, for {existing.id}; each member has its own."
            )


@contextmanager
def _nothing_left_of_a_failure(directory: Path) -> Iterator[None]:
    """Make `directory`; if what follows fails, take back all that was written there."""
    is_new = not directory.exists()
    directory.mkdir(parents=True, mode=0o700, exist_ok=True)
    try:
        yield
    except BaseException:
        for path in directory.iterdir():
            path.unlink()
        if is_new:
            directory.rmdir()
        raise


def _write_keys(
    files: MemberFiles,
    member: Member,
    authority: CertificateAuthority,
    hosts: Sequence[str],
    addresses: Sequence[str],
    csr_pem: bytes | None,
    valid_days: int,
) -> dict[str, bytes]:
    """Write the certificate, and the keys that the member did not bring; return its public signing keys."""
    dns = [member_host(member.id), *hosts]
    if csr_pem is not None:
        files.certificate.write_bytes(
            authority.sign_request(
                csr_pem, member.title, uri=member.uri, dns=dns, ips=addresses, valid_days=valid_days
            )
        )
    else:
        authority.issue(member.title, uri=member.uri, dns=dns, ips=addresses, valid_days=valid_days).save(
            files.certificate, files.tls_key
        )
    keys = dict(member.signing_keys)
    if not keys:
        key = SigningKey.generate()
        write_secret(files.signing_key, key.to_pem())
        keys = {key.key_id: key.verify_key.public}
    return keys


def change_state(
    config: GatewayConfig, member_id: str, state: MemberState, *, clock: Clock = system_clock
) -> None:
    """Suspend or resume a member; running gateways follow within a second."""
    kind = EntryKind.MEMBER_SUSPENDED if state is MemberState.SUSPENDED else EntryKind.MEMBER_RESUMED
    _change(
        config,
        member_id,
        lambda member: msgspec.structs.replace(member, state=state),
        _recording(config, kind, clock),
    )


def change_endpoint(
    config: GatewayConfig, member_id: str, endpoint: str, *, clock: Clock = system_clock
) -> None:
    """Say where a provider listens now (`host:port`); raise `MemberError` if it is no provider."""

    def move(member: Member) -> Member:
        if Role.PROVIDER not in member.roles:
            raise MemberError(f"{member_id} is no provider; only providers have an endpoint.")
        return msgspec.structs.replace(member, endpoint=endpoint)

    _change(config, member_id, move, _recording(config, EntryKind.MEMBER_CHANGED, clock))


def confirm_member(
    config: GatewayConfig, member_id: str, reason: str, *, clock: Clock = system_clock
) -> Member:
    """Record a member as the store has it, whatever the log said of it before; return it.

    For a member whom the log contradicts and of whom a person has made sure: after a store was restored,
    or for one registered by a release that did not record states.
    """
    return _change(
        config,
        member_id,
        lambda member: member,
        _recording(config, EntryKind.MEMBER_CONFIRMED, clock, {"reason": reason}),
    )


def register_key(
    config: GatewayConfig, member_id: str, key: VerifyKey, *, clock: Clock = system_clock
) -> None:
    """Register one more signing key of a member, for a change of keys without a gap."""

    def extend(member: Member) -> Member:
        if key.key_id in member.signing_keys:
            raise MemberError(f"This key of {member_id} is registered already.")
        return msgspec.structs.replace(member, signing_keys={**member.signing_keys, key.key_id: key.public})

    _change(config, member_id, extend, _recording(config, EntryKind.KEY_ADDED, clock, {"key": key.key_id}))


def revoke_key(config: GatewayConfig, member_id: str, key_id: str, *, clock: Clock = system_clock) -> None:
    """Take a signing key from a member; running gateways follow within a second.

    Raises `MemberError` if the member does not have it, or has no other: who cannot sign is suspended.
    """

    def reduce(member: Member) -> Member:
        keys = {known: public for known, public in member.signing_keys.items() if known != key_id}
        if len(keys) == len(member.signing_keys):
            raise MemberError(f"{member_id} has no signing key of this id; see `gateway member list`.")
        if not keys:
            raise MemberError(
                f"This is the only signing key of {member_id}; register its new one first "
                "(`gateway keys register`), or suspend the member (`gateway member suspend`)."
            )
        return msgspec.structs.replace(member, signing_keys=keys)

    _change(config, member_id, reduce, _recording(config, EntryKind.KEY_REVOKED, clock, {"key": key_id}))


def _change(
    config: GatewayConfig, member_id: str, alter: Callable[[Member], Member], record: Record
) -> Member:
    with closing(open_member_store(config.members.database)) as store:
        return store.change(member_id, alter, record)


def _recording(
    config: GatewayConfig, kind: EntryKind, clock: Clock, more: Mapping[str, str] | None = None
) -> Record:
    """Return what records a member as it is about to be, in the entry that a gateway will compare it with."""

    def record(member: Member) -> None:
        detail = {**(more or {}), **describe_member(member)}
        record_change(config, kind, member_name(member.id), detail, clock=clock)

    return record


def export_trust(config: GatewayConfig) -> Trust:
    """Return the trust file of a deployment as it stands: public keys only."""
    log_key = SigningKey.load(config.log.key).verify_key
    gateway_key = SigningKey.load(config.keys.signing).verify_key
    vault_key = None if config.vault is None else SigningKey.load(config.vault.signing).verify_key
    with closing(open_member_store(config.members.database)) as store:
        members = store.members()[1]
    return Trust(
        v=1,
        origin=config.log.origin,
        log_keys=(Ed25519Verifier(config.log.origin, log_key.public).vkey(), *_closed_log_keys(config)),
        gateway_keys={gateway_key.key_id: gateway_key.public},
        members={
            member.id: TrustedMember(title=member.title, signing_keys=member.signing_keys)
            for member in members
        },
        vault_keys={} if vault_key is None else {vault_key.key_id: vault_key.public},
    )


def _closed_log_keys(config: GatewayConfig) -> Iterator[str]:
    """Yield the verifier keys of the logs that this one goes on from, newest first."""
    for database in reversed(config.log.previous):
        with open_reader(database) as reader:
            yield reader.identity()[1]


_CLIENT_CONFIG: Final = """\
# For `gateway query --config client.toml` and gateway.client.
address = "{address}"
member = "{member}"
signing_key = "signing.key"
trust = "trust.json"

[tls]
certificate = "member.pem"
key = "tls.key"
client_ca = "ca.pem"
"""
