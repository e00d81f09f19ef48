"""The policy of a running gateway: which engine decides by which bundle, and what follows its changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog

from gateway.activation.active import ActivePolicy
from gateway.activation.fitting import verify_fits
from gateway.activation.following import Hooks, PolicyFollower
from gateway.activation.history import RecordedActivations
from gateway.activation.shelves import open_shelf
from gateway.activation.signers import Signers
from gateway.clock import Clock
from gateway.config import GatewayConfig, PolicyConfig
from gateway.exchange.shadowing import ShadowTelling
from gateway.policy.bundle import Bundle
from gateway.policy.bundle_file import open_bundle
from gateway.policy.cache import CachedEngine
from gateway.policy.embedded import EmbeddedEngine
from gateway.policy.engine import PolicyEngine
from gateway.policy.shadow import Shadow, ShadowedEngine
from gateway.recorded.entries import RecordedEntries
from gateway.telemetry.metrics import Metrics

_log: Final = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ServingPolicy:
    """The policy that a node decides by."""

    engine: PolicyEngine
    bundles: Mapping[str, Bundle]
    """Every bundle that has decided in this process, by digest."""


class PolicyOpener:
    """Starts the policy of one process, which `stack` ends with it."""

    def __init__(
        self,
        config: GatewayConfig,
        clock: Clock,
        metrics: Metrics,
        stack: AsyncExitStack,
        watch: Callable[[asyncio.Task[None]], None],
    ) -> None:
        """Take what it works with; `watch` has a task cancelled at the stop and its failure told."""
        self._config = config
        self._clock = clock
        self._metrics = metrics
        self._stack = stack
        self._watch = watch

    async def from_directory(self, make: Callable[[Bundle], PolicyEngine]) -> ServingPolicy:
        """Start the engine that `make` makes of the configured bundle; it ends with the process."""
        bundle = open_bundle(self._config.policy.directory)
        engine = self._shadowed(make(bundle))
        await engine.start()
        self._stack.push_async_callback(engine.close)
        return ServingPolicy(engine, {bundle.digest: bundle})

    async def activated(self, recorded: RecordedEntries) -> ServingPolicy:
        """Start the engine on the bundle that two people have activated, and follow when they change it."""
        config, activation = self._config, self._config.policy.activation
        assert activation is not None, "asked for only where policies are activated"
        shelf = open_shelf(config.log.database, activation.database)
        self._stack.callback(shelf.close)
        active = ActivePolicy(self._clock)
        self._stack.push_async_callback(active.close)
        follower = PolicyFollower(
            active,
            shelf,
            RecordedActivations(recorded),
            Signers.of(activation),
            origin=config.log.origin,
            make_engine=lambda bundle: make_engine(bundle, config.policy, self._clock, None),
            fits=partial(verify_fits, config),
            clock=self._clock,
            hooks=Hooks(
                activated=lambda it: _log.info(
                    "policy.activated", bundle=it.bundle, message=f"{it.action}, revision {it.revision}"
                ),
                failed=lambda error: _log.critical(
                    "policy.unloadable", reason=error.reason.value, message=error.message
                ),
                rejected=lambda error: _log.error(
                    "policy.proposal_unloadable", reason=error.reason.value, message=error.message
                ),
            ),
        )
        await follower.join()
        self._metrics.watch_policy_cache(lambda: active.lookups)
        self._metrics.watch_policy_age(lambda: active.age_s)
        self._watch(asyncio.create_task(follower.keep_current()))
        engine = self._shadowed(active)
        await engine.start()
        self._stack.push_async_callback(engine.close)
        return ServingPolicy(engine, active.known)

    def _shadowed(self, engine: PolicyEngine) -> PolicyEngine:
        """Return `engine` with the candidate beside it, if the configuration names one."""
        config = self._config.policy
        if config.shadow is None:
            return engine
        candidate = open_bundle(config.shadow)
        _log.info("policy.shadowed", bundle=candidate.digest)
        telling = ShadowTelling(self._metrics, candidate.digest)
        return ShadowedEngine(engine, Shadow(candidate, telling, config.shadow_queue))


def make_engine(bundle: Bundle, config: PolicyConfig, clock: Clock, metrics: Metrics | None) -> PolicyEngine:
    """Return the engine that `config` names, with a decision cache unless its size is 0."""
    engine: PolicyEngine
    if config.engine == "opa":
        # Only here: its HTTP client costs half a second and 12 MiB.
        from gateway.policy.opa import OpaEngine  # noqa: PLC0415

        engine = OpaEngine(
            bundle, config.opa_url, timeout_s=config.timeout_s, token_file=config.opa_token_file
        )
    else:
        engine = EmbeddedEngine(bundle)
    if not config.cache_entries or not config.cache_max_age_s:
        return engine
    cached = CachedEngine(
        engine, clock=clock, max_entries=config.cache_entries, max_age_s=config.cache_max_age_s
    )
    if metrics is not None:
        metrics.watch_policy_cache(lambda: (cached.hits, cached.misses))
    return cached


def tier_names(bundle: Bundle) -> list[str]:
    """Return the names of the sharing tiers, from the most open to the most closed."""
    return list(bundle.data["tiers"])


def known_names(bundle: Bundle) -> frozenset[str]:
    """Return the purposes, legal bases and memoranda that policy knows."""
    return frozenset(
        name for section in ("purposes", "legal_bases", "memoranda") for name in bundle.data[section]
    )
