"""The vault of a deployment, as its operator sees and changes it; what changes stands in the log first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import msgspec

from gateway.audit.errors import EntryNotFoundError
from gateway.audit.store import AuditReader
from gateway.audit.stores import open_reader
from gateway.clock import Clock, rfc3339, system_clock
from gateway.config import GatewayConfig, VaultConfig
from gateway.contributions.deployed import open_register
from gateway.contributions.register import hold_undecided
from gateway.database import PostgresAddress
from gateway.deployment.changes import appending
from gateway.errors import ConfigError
from gateway.evidence.canonical import DECODE_ERRORS
from gateway.model import ENTRY_VERSION, Entry, EntryKind
from gateway.vault import ContractSource, Vault, open_vault
from gateway.vault.keys import rotate_kek
from gateway.vault.tables import Holding
from gateway.vault.upkeep import EndedContract, Kept, Purge


@dataclass(frozen=True, slots=True)
class HoldingStatus:
    """One dataset under one contract, as the vault and the log have it."""

    holding: Holding
    keys: int
    """Data keys that there are; none if they were destroyed."""
    staged: int
    """Records of uploads that have not ended."""
    borne_out: bool
    """Whether the log says so too, where keys were destroyed."""


@dataclass(frozen=True, slots=True)
class VaultStatus:
    """How the vault stands."""

    kek: str
    """Id of the key-encryption key."""
    rotating: bool
    """Whether a next key-encryption key is there, which is not in its place yet."""
    holdings: tuple[HoldingStatus, ...]


def vault_status(config: GatewayConfig) -> VaultStatus:
    """Return how the vault stands; raise `ConfigError`, `VaultUnavailableError`, `LogUnavailableError`."""
    with opened_vault(config) as vault, open_reader(config.log.database) as reader:
        staged: dict[int, int] = {}
        for holding, batch, _ in vault.store.staged():
            staged[holding.number] = staged.get(holding.number, 0) + batch.records
        return VaultStatus(
            vault.keys.key_file.current.id,
            vault.keys.key_file.next_path.exists(),
            tuple(
                HoldingStatus(
                    holding,
                    len(vault.store.keys(holding.number)),
                    staged.get(holding.number, 0),
                    holding.destroyed is None or _is_told(reader, holding),
                )
                for holding in vault.store.holdings()
            ),
        )


def prepare_rotation(config: GatewayConfig) -> str:
    """Make the next key-encryption key beside the current one, and return its id; nothing uses it yet."""
    with opened_vault(config) as vault:
        return vault.keys.key_file.prepare_next().id


def rotate_vault_key(config: GatewayConfig, *, clock: Clock = system_clock) -> tuple[str, int, int]:
    """Wrap all data keys under the next key-encryption key; return (its id, how many, the entry's index).

    Running gateways follow by themselves. Raises `ConfigError` if nodes share the vault and the next key
    was not prepared, and so cannot be on the others.
    """
    with opened_vault(config) as vault:
        key_file = vault.keys.key_file
        if isinstance(vault_config_of(config).database, PostgresAddress) and not key_file.next_path.exists():
            raise ConfigError(
                "Nodes share this vault: run `gateway vault rotate --prepare`, copy the file that it makes "
                "to every node (mode 0600), and run `gateway vault rotate` then."
            )
        before, after = key_file.current.id, key_file.prepare_next().id
        with appending(config, clock) as record:
            entry = record(_rotated("key-encryption key", clock, {"before": before, "after": after}))
        return after, rotate_kek(vault.store, vault.keys), entry


def rotate_data_keys(config: GatewayConfig, *, clock: Clock = system_clock) -> tuple[int, int]:
    """Give every holding a fresh data key for its next batches; return (how many, the entry's index)."""
    with opened_vault(config) as vault:
        holdings = [one for one in vault.store.holdings() if one.destroyed is None]
        with appending(config, clock) as record:
            entry = record(_rotated("data keys", clock, {"count": str(len(holdings))}))
        for holding in holdings:
            vault.store.add_key(holding.number, vault.keys.make, rfc3339(clock()))
    return len(holdings), entry


def look_after(
    config: GatewayConfig, contracts: ContractSource | None = None, *, clock: Clock = system_clock
) -> Kept:
    """Let go what is due, as a running gateway does once a day; see `Upkeep.run`."""
    staged_for = timedelta(hours=vault_config_of(config).staged_hours)
    with (
        opened_vault(config, clock) as vault,
        closing(open_register(config.log.database)) as register,
        appending(config, clock) as record,
    ):
        return vault.upkeep(record, contracts, partial(hold_undecided, register)).run(staged_for)


def what_is_due(
    config: GatewayConfig, contracts: ContractSource | None = None, *, clock: Clock = system_clock
) -> tuple[list[Purge], list[EndedContract]]:
    """Return what `look_after` would purge, and of which contracts it would destroy the keys."""

    def refuse(_: Entry) -> int:
        raise RuntimeError("a look at what is due records nothing")

    with opened_vault(config, clock) as vault:
        upkeep = vault.upkeep(refuse, contracts)
        held = [one for one in vault.store.holdings() if one.destroyed is None]
        purges = [upkeep.purge(one, only_look=True) for one in held if one.retention]
        names = {one.contract for one in held}
        return [one for one in purges if one.records], [one for one in upkeep.due() if one.name in names]


def vault_config_of(config: GatewayConfig) -> VaultConfig:
    """Return the section [vault]; raise `ConfigError` if there is none."""
    if config.vault is None:
        raise ConfigError("This deployment has no vault: the configuration has no section [vault].")
    return config.vault


@contextmanager
def opened_vault(config: GatewayConfig, clock: Clock = system_clock) -> Iterator[Vault]:
    """Hold the vault open; raise `ConfigError` or `VaultUnavailableError`."""
    with closing(open_vault(vault_config_of(config), demo=config.demo, clock=clock)) as vault:
        yield vault


def _rotated(what: str, clock: Clock, detail: dict[str, str]) -> Entry:
    return Entry(
        v=ENTRY_VERSION,
        kind=EntryKind.VAULT_KEY_ROTATED,
        time=rfc3339(clock()),
        subject="vault",
        detail={"what": what, **detail},
    )


def _is_told(reader: AuditReader, holding: Holding) -> bool:
    try:
        entry = msgspec.json.decode(reader.entry(holding.destroyed or 0).data, type=Entry)
    except (*DECODE_ERRORS, EntryNotFoundError):
        return False
    told = (entry.kind, entry.subject, entry.detail.get("contract"))
    return told == (EntryKind.VAULT_KEY_DESTROYED, holding.dataset, holding.contract)
