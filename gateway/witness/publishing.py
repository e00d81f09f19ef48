"""Having a gateway's log witnessed: the publisher of a configuration, with its witnesses and its metrics."""

from __future__ import annotations

import math
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

import aiohttp
import structlog

from gateway.audit.note import Verifier
from gateway.audit.publication import LogHistory, LogReader, Publication, PublicationHooks, Publisher
from gateway.audit.sqlite_publications import SqlitePublications
from gateway.audit.witness_policy import NO_QUORUM, WitnessPolicy
from gateway.clock import Clock
from gateway.config import WitnessesConfig
from gateway.errors import ConfigError, GatewayError
from gateway.telemetry.metrics import Metrics
from gateway.witness.client import WitnessClient

_log: Final = structlog.get_logger()


@asynccontextmanager
async def publishing(
    config: WitnessesConfig,
    database: Path,
    reader: LogReader,
    verifier: Verifier,
    clock: Clock,
    metrics: Metrics,
) -> AsyncIterator[Publisher]:
    """Yield the publisher of the log in `database`, whose checkpoints `verifier` must have signed.

    Raises `WitnessPolicyError`, or `ConfigError` if the policy's quorum is `none` (nobody would vouch), lists
    other logs but not this one, or a witness has no URL.
    """
    policy = _policy(config, verifier)
    connector = aiohttp.TCPConnector(ssl=_tls(config.ca))
    timeout = aiohttp.ClientTimeout(total=config.timeout_s)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        witnesses = [WitnessClient(witness, session, clock=clock) for witness in policy.witnesses]
        with SqlitePublications(database) as publications:
            publisher = Publisher(
                LogHistory(reader, verifier),
                publications,
                policy,
                witnesses,
                clock=clock,
                timeout=timedelta(seconds=config.timeout_s),
                refresh=timedelta(seconds=config.refresh_s),
                hooks=_hooks(metrics),
            )
            metrics.watch_witnesses([witness.name for witness in witnesses], lambda: _age_s(publisher, clock))
            yield publisher


def _policy(config: WitnessesConfig, verifier: Verifier) -> WitnessPolicy:
    policy = WitnessPolicy.load(config.policy)
    if policy.quorum == NO_QUORUM:
        raise ConfigError(
            f"{config.policy}: the quorum is none, so that nobody would vouch for the log; name a witness or "
            "group, or remove the section [log.witnesses]."
        )
    if policy.logs and verifier.key_id not in {log.verifier.key_id for log in policy.logs}:
        raise ConfigError(
            f"{config.policy} lists logs, but not this one; add its line (`gateway keys trust` shows it)."
        )
    return policy


def _tls(authorities: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=authorities)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"The authorities of the witnesses' certificates {authorities} cannot be read; they are PEM."
        ) from error


def _hooks(metrics: Metrics) -> PublicationHooks:
    def published(publication: Publication) -> None:
        _log.info("log.published", log_entries=publication.size, outcome=publication.grade.value)

    def witness_failed(witness: str, error: GatewayError) -> None:
        metrics.count_witness_failure(witness)
        _log.warning("witness.failed", witness=witness, error_type=type(error).__name__)

    def failed(error: GatewayError) -> None:
        _log.error("publication.failed", error_type=type(error).__name__)

    return PublicationHooks(published=published, witness_failed=witness_failed, failed=failed)


def _age_s(publisher: Publisher, clock: Clock) -> float:
    cosignatures = publisher.last_witnessed()
    if not cosignatures:
        return math.inf
    return (clock() - max(item.moment for item in cosignatures)).total_seconds()
