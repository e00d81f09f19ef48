"""One worker's share in the metrics of all: it answers its siblings, and collects from them when asked.

Every worker listens on the metrics port, and the kernel chooses who is asked. The sums must not depend
on that, nor fall when a worker dies: Prometheus takes a fall for a restart from zero. So a worker keeps
what it is about to tell in memory that outlives it; its successor counts on from there, and its
siblings take it from there while it is silent.
"""

from __future__ import annotations

import socket
import socketserver
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final, Self

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from gateway.local_socket import StrangerError, verify_own_user
from gateway.telemetry.merging import (
    Reading,
    ReadingError,
    decode_reading,
    encode_reading,
    merge,
    only_counts,
    read_metrics,
    show_metrics,
)
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.siblings import ANSWER_TIMEOUT_S, Siblings

_log: Final = structlog.get_logger()

_POLL_S: Final = 0.2
"""How often the answering thread looks whether it is to end."""


class WorkerMetrics(Collector):
    """Answers siblings from a thread; `registry` holds the metrics of all workers, for `MetricsServer`."""

    def __init__(self, metrics: Metrics, siblings: Siblings) -> None:
        """Answer at once. Counts go on from what the predecessor in this place has last told."""
        self._metrics = metrics
        self._siblings = siblings
        self._own_memory = siblings.last_told[siblings.own]
        self._before = _recall(self._own_memory.read())
        self._telling = threading.Lock()
        # Collectors without names are asked whenever a reader wants certain metrics only (`name[]`).
        self.registry = CollectorRegistry(support_collectors_without_names=True)
        self.registry.register(self)
        self._server = _AnswerServer(siblings.listener, lambda: encode_reading(self._tell()))
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": _POLL_S},
            name="sibling-metrics",
            daemon=True,
        )
        self._thread.start()

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of all workers, after `siblings.ANSWER_TIMEOUT_S` at the latest.

        Of a worker that does not answer the counts it has last told are in, its gauges are not.
        """
        answers = self._siblings.ask()
        readings = [self._tell()]
        for number, memory in enumerate(self._siblings.last_told):
            if number != self._siblings.own:
                reading = _understand(answers.get(number, b""))
                readings.append(_recall(memory.read()) if reading is None else reading)
        yield from show_metrics(merge(readings, self._metrics.gauge_rules))

    def close(self) -> None:
        """Stop answering and close the listening socket; returns when both are done. May be called again."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _tell(self) -> Reading:
        """Return what this place has counted and what this worker is like, once that is kept."""
        # One after the other: what is kept last must be the highest.
        with self._telling:
            own = read_metrics(self._metrics.registry.collect())
            reading = merge([self._before, own], self._metrics.gauge_rules)
            self._own_memory.keep(encode_reading(only_counts(reading)))
        return reading


class _AnswerServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Tells everybody of our own user who connects, then hangs up."""

    daemon_threads = True
    # A sibling that does not read is cut with the process instead of holding up its end.
    block_on_close = False

    def __init__(self, listener: socket.socket, tell: Callable[[], bytes]) -> None:
        class Handler(socketserver.BaseRequestHandler):
            request: socket.socket

            def handle(self) -> None:
                self.request.settimeout(ANSWER_TIMEOUT_S)
                self.request.sendall(tell())

        super().__init__(b"", Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener

    def verify_request(self, request: Any, client_address: object) -> bool:  # noqa: ARG002
        """Refuse processes of other users."""
        try:
            verify_own_user(request)
        except StrangerError as error:
            _log.error("metrics.stranger", pid=error.pid)
            return False
        return True

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002
        """Log a fault of ours; a sibling that hangs up or stalls is no event."""
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError | TimeoutError):
            _log.error("metrics.failed", exc_info=error)


def _understand(answer: bytes) -> Reading | None:
    """Return the reading in a sibling's answer, None if it gave none."""
    if not answer:
        return None
    try:
        return decode_reading(answer)
    except ReadingError:
        # It died, or was out of time, while it wrote.
        return None


def _recall(kept: bytes) -> Reading:
    return decode_reading(kept) if kept else ()
