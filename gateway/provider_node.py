"""A running provider: everything `gateway provider` puts together, starts and stops."""

from __future__ import annotations

import asyncio
import os
from typing import Final

import structlog

from gateway import __version__
from gateway.api.v1 import provider_service_pb2
from gateway.clock import Clock, system_clock
from gateway.config import ProviderConfig
from gateway.errors import ConfigError
from gateway.evidence.keys import SigningKey
from gateway.evidence.trust import Trust
from gateway.pki.example_keys import refuse_example_keys
from gateway.pki.reload import ReloadingCredentials
from gateway.pki.tls13 import require_tls13, verify_only_tls13
from gateway.process import ServingProcess
from gateway.rpc.provider import ProviderIdentity, ProviderServicer
from gateway.rpc.server import RpcServer
from gateway.sources.deliveries import DeliveryFile
from gateway.sources.mapping import ProviderMapping, load_mapping
from gateway.sources.opening import open_sources

_log: Final = structlog.get_logger()


class ProviderNode(ServingProcess):
    """One provider process. `start`, then `port` tells where it listens, then `stop`."""

    def __init__(self, config: ProviderConfig, *, clock: Clock = system_clock) -> None:
        super().__init__()
        self.config = config
        self._clock = clock

    async def _start(self) -> None:
        config = self.config
        require_tls13()
        credentials = ReloadingCredentials(
            config.tls.certificate,
            config.tls.key,
            config.tls.client_ca,
            demo=config.demo,
            clock=self._clock,
        )
        signing_key = SigningKey.load(config.signing_key)
        refuse_example_keys([signing_key.key_id], demo=config.demo)
        trust = Trust.load(config.trust)
        if not trust.gateway_keys:
            raise ConfigError(f"The trust file {config.trust} names no key of the gateway; ask its operator.")
        mapping = load_mapping(config.mapping)
        _compare_with_trust(trust, mapping, signing_key)

        # Files are read into memory here; a health check must not be left waiting meanwhile.
        opened = await asyncio.to_thread(open_sources, mapping)
        for name, entry in opened.items():
            self._stack.callback(entry.source.close)
            if entry.report.skipped_rows:
                _log.warning("rows.skipped", dataset=name, count=entry.report.skipped_rows)
            if entry.report.lookups_without_index:
                _log.warning("lookups.unindexed", dataset=name, count=len(entry.report.lookups_without_index))
        deliveries = None
        if config.deliveries is not None:
            deliveries = self._stack.enter_context(DeliveryFile(config.deliveries))
        servicer = ProviderServicer(
            ProviderIdentity(
                gateway=trust.origin,
                gateway_uri=config.gateway_uri,
                gateway_keys=trust.gateway_verify_keys,
                signing_key=signing_key,
            ),
            mapping,
            {name: entry.source for name, entry in opened.items()},
            self._clock,
            deliveries,
        )
        service = provider_service_pb2.DESCRIPTOR.services_by_name["ProviderService"]
        server = RpcServer({service: servicer}, with_reflection=False)
        self._stack.callback(_log.info, "provider.stopped", member=mapping.member)
        self.port = await server.start(config.listen, credentials.server_credentials())
        self._stack.push_async_callback(server.stop, config.shutdown_grace_s)
        await verify_only_tls13(config.listen.rpartition(":")[0].strip("[]"), self.port)
        await server.set_serving(True)
        _log.info(
            "provider.started",
            member=mapping.member,
            port=self.port,
            pid=os.getpid(),
            version=__version__,
            count=len(opened),
            certificate_days=round(credentials.days_left(), 1),
        )


def _compare_with_trust(trust: Trust, mapping: ProviderMapping, signing_key: SigningKey) -> None:
    """Warn if the trust file does not know this provider's key: the gateway may refuse what it signs.

    Only a warning: the file at the provider may be older than the key's registration.
    """
    member = trust.members.get(mapping.member)
    if member is None or signing_key.key_id not in member.signing_keys:
        _log.warning("signing_key.unregistered", member=mapping.member, key_id=signing_key.key_id)
