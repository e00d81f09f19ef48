"""The details of a deployment, as its configuration names them."""

from __future__ import annotations

from gateway.config import DetailsConfig, DisclosureConfig
from gateway.details.blind_index import BlindIndex
from gateway.details.custodians import CustodianCard, Custodians
from gateway.details.keeper import DetailsKeeper, KeeperHooks
from gateway.details.stores import open_details_store
from gateway.errors import ConfigError
from gateway.evidence.fields import KEY_BYTES
from gateway.evidence.keys import read_secret


def load_custodians(config: DetailsConfig) -> Custodians:
    """Return who can open what is written from now on; raise `ConfigError`."""
    return Custodians([CustodianCard.load(path) for path in config.custodians], config.threshold)


def known_cards(config: DetailsConfig) -> dict[str, CustodianCard]:
    """Return the cards of all whose approvals count, former custodians too, by id; raise `ConfigError`."""
    cards = (CustodianCard.load(path) for path in (*config.custodians, *config.former_custodians))
    return {card.id: card for card in cards}


def open_keeper(config: DetailsConfig, origin: str, hooks: KeeperHooks) -> DetailsKeeper:
    """Return what keeps the details of the log `origin`; raise `ConfigError`, `DetailsUnavailableError`."""
    custodians, index = load_custodians(config), BlindIndex.load(config.index_key)
    store = open_details_store(config.database, origin)
    return DetailsKeeper(store, custodians, index, origin=origin, hooks=hooks, queue_limit=config.queue)


def read_fields_key(config: DisclosureConfig) -> bytes:
    """Return the key of the salts of entries' members; raise `ConfigError`."""
    key = read_secret(config.key)
    if len(key) != KEY_BYTES:
        raise ConfigError(f"{config.key} must hold exactly {KEY_BYTES} random bytes.")
    return key
