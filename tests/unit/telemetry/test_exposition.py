import io
import json
import socket
import threading
import urllib.error
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.errors import ConfigError
from gateway.telemetry.exposition import MetricsServer
from gateway.telemetry.logs import configure_logging
from gateway.telemetry.metrics import Metrics


def read(server, path="/metrics", method="GET", host="127.0.0.1"):
    request = urllib.request.Request(f"http://{host}:{server.port}{path}", method=method)
    with urllib.request.urlopen(request, timeout=5) as answer:
        return answer.headers, answer.read().decode()


def test_prometheus_can_read_the_metrics():
    metrics = Metrics()
    metrics.watch_log_entries(lambda: 42)
    with MetricsServer(metrics.registry, port=0) as server:
        headers, text = read(server)
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert families["sluicegate_log_entries"].samples[0].value == 42
    assert headers["Content-Type"].startswith("text/plain")
    assert "Python" not in headers["Server"]


@pytest.mark.parametrize(("path", "method", "status"), [("/", "GET", 404), ("/metrics", "POST", 501)])
def test_nothing_else_is_answered(path, method, status):
    with (
        MetricsServer(Metrics().registry, port=0) as server,
        pytest.raises(urllib.error.HTTPError) as refused,
    ):
        read(server, path, method)
    refused.value.close()
    assert refused.value.code == status


def test_it_listens_over_ipv6():
    with MetricsServer(Metrics().registry, host="::1", port=0) as server:
        assert "sluicegate_log_entries" in read(server, host="[::1]")[1]


def test_closing_frees_the_port_and_ends_the_thread():
    server = MetricsServer(Metrics().registry, port=0)
    server.close()
    server.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "metrics"]
    with MetricsServer(Metrics().registry, port=server.port):
        pass


def test_a_silent_reader_does_not_hold_up_the_next_nor_the_end():
    server = MetricsServer(Metrics().registry, port=0)
    with socket.create_connection(("127.0.0.1", server.port)) as silent:
        silent.sendall(b"GET /metrics")
        read(server)
        server.close()


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", None), ("192.0.2.1", 0), ("127.0.0.1", 70_000)])
def test_an_address_that_is_not_to_be_had_is_a_configuration_error(host, port):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1] if port is None else port
        with pytest.raises(ConfigError, match="metrics endpoint"):
            MetricsServer(Metrics().registry, host, port)


def test_a_metric_that_fails_is_logged():
    logged = threading.Event()

    class Stream(io.StringIO):
        def flush(self):
            logged.set()

    stream = Stream()
    configure_logging(stream)
    metrics = Metrics()
    metrics.watch_queue(lambda: int("CANARY"))
    with MetricsServer(metrics.registry, port=0) as server:
        with pytest.raises(OSError, match="closed"):
            read(server)
        assert logged.wait(5)
    line = json.loads(stream.getvalue())
    assert (line["event"], line["error_type"]) == ("metrics.failed", "ValueError")
