"""The `/metrics` endpoint, on a thread of its own beside the event loop."""

from __future__ import annotations

import socket
import sys
import threading
from http.server import ThreadingHTTPServer
from typing import Final, Self

import structlog
from prometheus_client import CollectorRegistry, MetricsHandler

from gateway.errors import ConfigError

_log: Final = structlog.get_logger()

_CLIENT_TIMEOUT_S: Final = 5.0
"""A reader that neither asks nor reads for so long is cut; each one holds a thread."""


class MetricsServer:
    """Serves one registry over HTTP. It has no access control: bind it where only Prometheus is."""

    def __init__(
        self,
        registry: CollectorRegistry,
        host: str = "127.0.0.1",
        port: int = 9464,
        *,
        shares_port: bool = False,
    ) -> None:
        """Bind and serve at once; port 0 takes a free one. Raise `ConfigError` if the address is taken.

        With `shares_port` other processes of this user may listen there too (SO_REUSEPORT).
        """
        server_class = _ServerOverIPv6 if ":" in host else _Server
        try:
            self._server = server_class((host, port), _handler_class(registry), shares_port=shares_port)
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"The metrics endpoint cannot listen on {host} port {port}; "
                "choose a free port and an address of this machine.",
            ) from error
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name="metrics", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop serving and free the port; returns when both are done. May be called again."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _handler_class(for_registry: CollectorRegistry) -> type[MetricsHandler]:
    class Handler(MetricsHandler):
        registry = for_registry
        timeout = _CLIENT_TIMEOUT_S
        server_version = "metrics"
        sys_version = ""

        def do_GET(self) -> None:  # noqa: N802
            if self.path.partition("?")[0] != "/metrics":
                self.send_error(404)
                return
            super().do_GET()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing: a scrape is no event."""

    return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # Open readers are cut with the process instead of holding up its end.
    block_on_close = False

    def __init__(self, address: tuple[str, int], handler: type[MetricsHandler], *, shares_port: bool) -> None:
        self.allow_reuse_port = shares_port
        super().__init__(address, handler)

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002
        """Log a fault of ours; a reader that hangs up or stalls is no event."""
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError | TimeoutError):
            _log.error("metrics.failed", exc_info=error)


class _ServerOverIPv6(_Server):
    address_family = socket.AF_INET6
