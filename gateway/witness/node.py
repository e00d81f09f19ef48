"""A running witness: what `gateway witness serve` starts and stops."""

from __future__ import annotations

from typing import Final

import structlog

from gateway.clock import Clock, system_clock
from gateway.config import WitnessConfig
from gateway.evidence.keys import read_secret
from gateway.process import ServingProcess
from gateway.witness.deployment import open_witness
from gateway.witness.server import WitnessServer, make_app, server_tls

_log: Final = structlog.get_logger()


class WitnessNode(ServingProcess):
    """One witness process. `start`, then `port` tells where it listens, then `stop`."""

    def __init__(self, config: WitnessConfig, *, clock: Clock = system_clock) -> None:
        super().__init__()
        self.config = config
        self._clock = clock

    async def _start(self) -> None:
        config = self.config
        witness = self._stack.enter_context(open_witness(config, self._clock))
        tls = None
        if config.tls is not None:
            read_secret(config.tls.key)  # refuses a key that is open to others
            tls = server_tls(config.tls.certificate, config.tls.key)
        server = WitnessServer(make_app(witness), config.listen, tls=tls)
        await server.start()
        self._stack.push_async_callback(server.stop)
        self.port = server.port
        _log.info("witness.started", witness=witness.name, port=self.port)
