"""Whether a deployment can serve by a bundle: its descriptions of datasets, and its witnesses."""

from __future__ import annotations

from gateway.catalogue import Catalogue
from gateway.config import GatewayConfig
from gateway.errors import ConfigError
from gateway.policy.bundle import Bundle


def verify_fits(config: GatewayConfig, bundle: Bundle) -> None:
    """Raise `ConfigError` if this deployment could not serve by `bundle`: its catalogue, its witnesses."""
    Catalogue.read(config.catalogue, list(bundle.data["tiers"]))
    if witnessed_tiers(bundle) and config.log.witnesses is None:
        raise ConfigError(
            f"Policy wants releases at the tiers {', '.join(sorted(witnessed_tiers(bundle)))} witnessed; "
            "name the witnesses in the section [log.witnesses]."
        )


def witnessed_tiers(bundle: Bundle) -> frozenset[str]:
    """Return the tiers at which nothing may leave before its entry is witnessed."""
    tiers = bundle.data["tiers"].items()
    return frozenset(name for name, tier in tiers if tier.get("evidence") == "witnessed")
