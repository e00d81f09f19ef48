"""Several workers in one process, each with its registry, over real sockets."""

import io
import json
import os
import socket
import threading
import time
import urllib.request
from contextlib import ExitStack
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.local_socket import StrangerError
from gateway.telemetry.exposition import MetricsServer
from gateway.telemetry.last_told import LastTold
from gateway.telemetry.logs import configure_logging
from gateway.telemetry.merging import encode_reading, read_metrics
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.siblings import ANSWER_TIMEOUT_S, close_all, make_siblings
from gateway.telemetry.workers import WorkerMetrics

RELEASED = {"operation": "query", "outcome": "released", "reason": "none"}


class Forgetful(LastTold):
    """The control: what is told is kept nowhere."""

    def keep(self, data):
        pass


class Gateway:
    """Places of workers; in each a worker can be begun, and can die."""

    def __init__(self, count, memory=None):
        self.places = make_siblings(count)
        if memory is not None:
            for place in self.places:
                place.last_told[place.own].close()
            told = tuple(memory() for _ in range(count))
            self.places = tuple(replace(place, last_told=told) for place in self.places)
        self.workers = {}
        self.metrics = {}

    def begin(self, number):
        metrics = self.metrics[number] = Metrics()
        self.workers[number] = WorkerMetrics(metrics, self.places[number])
        return metrics

    def end(self, number):
        """Let a worker die. Who asks it is refused at once; how long silence may last is tested by itself."""
        self.workers.pop(number).close()

    def stand_in(self, number):
        """Listen anew in the place of a worker that has ended."""
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.places[number].addresses[number])
        listener.listen()
        places = list(self.places)
        places[number] = replace(places[number], listener=listener)
        self.places = tuple(places)
        return listener

    def replace(self, number):
        self.stand_in(number)
        return self.begin(number)

    def ask(self, number, name, **labels):
        return self.workers[number].registry.get_sample_value(name, labels)

    def released(self, number):
        return self.ask(number, "sluicegate_exchanges_total", **RELEASED)

    def close(self):
        for number in list(self.workers):
            self.end(number)
        close_all(self.places)


@pytest.fixture
def make_gateway():
    with ExitStack() as stack:

        def make(count, **options):
            gateway = Gateway(count, **options)
            stack.callback(gateway.close)
            return gateway

        yield make


@pytest.fixture
def three(make_gateway):
    gateway = make_gateway(3)
    for number in range(3):
        metrics = gateway.begin(number)
        for _ in range(number + 1):
            metrics.count_exchange("query", "released")
        metrics.watch_log_entries(lambda number=number: 100 + number)
        metrics.set_log_healthy(number != 1)
        metrics.watch_certificate("server", lambda number=number: 30 - number)
        metrics.open_stream()
    return gateway


def test_whichever_worker_is_asked_tells_of_all(three):
    for number in range(3):
        assert three.released(number) == 6
        assert three.ask(number, "sluicegate_workers") == 3
        assert three.ask(number, "sluicegate_open_streams") == 3
        assert three.ask(number, "sluicegate_log_entries") == 102
        assert three.ask(number, "sluicegate_log_healthy") == 0
        assert three.ask(number, "sluicegate_certificate_days_left", certificate="server") == 28


def test_prometheus_reads_all_workers_on_one_port(three):
    with ExitStack() as stack:
        port = 0
        for number in range(3):
            server = MetricsServer(three.workers[number].registry, port=port, shares_port=True)
            port = stack.enter_context(server).port
        for query in ("", "?name[]=sluicegate_exchanges_total"):
            for _ in range(6):
                address = f"http://127.0.0.1:{port}/metrics{query}"
                with urllib.request.urlopen(address, timeout=5) as answer:
                    text = answer.read().decode()
                families = {family.name: family for family in text_string_to_metric_families(text)}
                totals = [item for item in families["sluicegate_exchanges"].samples if "_total" in item.name]
                assert [item.value for item in totals] == [6]
                assert ("sluicegate_workers" in families) == (not query)


def test_prometheus_client_asks_for_openmetrics_and_gets_them(three):
    with MetricsServer(three.workers[0].registry, port=0) as server:
        request = urllib.request.Request(
            f"http://127.0.0.1:{server.port}/metrics",
            headers={"Accept": "application/openmetrics-text; version=1.0.0"},
        )
        with urllib.request.urlopen(request, timeout=5) as answer:
            assert answer.read().endswith(b"# EOF\n")


def test_of_a_dead_worker_the_counts_stay_and_the_gauges_go(three):
    assert three.released(0) == 6
    three.end(2)
    for number in (0, 1):
        assert three.released(number) == 6
        assert three.ask(number, "sluicegate_workers") == 2
        assert three.ask(number, "sluicegate_open_streams") == 2
        assert three.ask(number, "sluicegate_log_entries") == 101


def test_a_successor_counts_on(three):
    assert three.released(0) == 6
    for expected in (7, 8):
        three.end(2)
        three.replace(2).count_exchange("query", "released")
        assert three.released(0) == three.released(2) == expected
    assert three.ask(1, "sluicegate_step_seconds_count", step="total") == 0
    assert three.ask(0, "sluicegate_workers") == 3


def test_what_a_worker_counted_after_it_was_last_asked_dies_with_it(three):
    three.released(0)
    three.metrics[2].count_exchange("query", "released")
    three.end(2)
    assert three.released(0) == 6


def test_no_count_ever_falls_whoever_is_asked_and_whoever_dies(three):
    seen = [three.released(0)]
    for number in (2, 1, 0):
        three.metrics[number].count_exchange("query", "released")
        asked = (number + 1) % 3
        seen.append(three.released(asked))
        three.end(number)
        seen.append(three.released(asked))
        three.replace(number)
        seen.append(three.released(number))
    assert seen == [6, 7, 7, 7, 8, 8, 8, 9, 9, 9]


def test_the_control_a_worker_without_memory_takes_its_counts_with_it(make_gateway):
    gateway = make_gateway(2, memory=Forgetful)
    for number in range(2):
        gateway.begin(number).count_exchange("query", "released")
    assert gateway.released(0) == 2
    gateway.end(1)
    assert gateway.released(0) == 1


@pytest.mark.timed
def test_siblings_that_hang_cost_one_second_together(make_gateway):
    """Nobody accepts at the other places, as while a worker is started anew."""
    gateway = make_gateway(4)
    gateway.begin(0).count_exchange("query", "released")
    started = time.monotonic()
    assert gateway.released(0) == 1
    assert ANSWER_TIMEOUT_S <= time.monotonic() - started < 2 * ANSWER_TIMEOUT_S
    assert ANSWER_TIMEOUT_S == 1


@pytest.mark.timed
def test_siblings_that_answer_cost_no_such_wait(three):
    started = time.monotonic()
    three.released(0)
    assert time.monotonic() - started < ANSWER_TIMEOUT_S


@pytest.mark.parametrize("closes", [True, False], ids=["cut short", "stalls half-way"])
@pytest.mark.parametrize("length", [0, -1])
def test_half_an_answer_is_none(make_gateway, closes, length):
    gateway = make_gateway(2)
    gateway.begin(1).count_exchange("query", "released")
    gateway.begin(0)
    assert gateway.released(0) == 1
    answer = encode_reading(read_metrics(gateway.metrics[1].registry.collect()))
    gateway.end(1)
    listener = gateway.stand_in(1)
    done = threading.Event()

    def answer_half():
        connection, _ = listener.accept()
        with connection:
            connection.sendall(answer[:length])
            if not closes:
                done.wait(5)

    half = threading.Thread(target=answer_half)
    half.start()
    registry = gateway.workers[0].registry
    told = {item.name: item.value for family in registry.collect() for item in family.samples}
    done.set()
    half.join()
    assert told["sluicegate_exchanges_total"] == 1
    assert told["sluicegate_workers"] == 1


@pytest.mark.timed
def test_an_answer_without_end_is_cut_off(make_gateway, monkeypatch):
    monkeypatch.setattr("gateway.telemetry.siblings.MAX_ANSWER_BYTES", 100_000)
    gateway = make_gateway(2)
    gateway.begin(0).count_exchange("query", "released")
    cut = threading.Event()

    def answer_for_ever():
        connection, _ = gateway.places[1].listener.accept()
        with connection:
            try:
                while True:
                    connection.sendall(bytes(65536))
            except OSError:
                cut.set()

    endless = threading.Thread(target=answer_for_ever)
    endless.start()
    started = time.monotonic()
    assert gateway.released(0) == 1
    assert time.monotonic() - started < ANSWER_TIMEOUT_S
    endless.join()
    assert cut.is_set()


def test_a_crowd_before_a_sibling_does_not_hold_up_the_others(make_gateway):
    """A full backlog: a worker that hangs, and has been asked ever again."""
    gateway = make_gateway(3)
    for number in (0, 2):
        gateway.begin(number).count_exchange("query", "released")
    with ExitStack() as crowd:
        while True:
            caller = crowd.enter_context(socket.socket(socket.AF_UNIX))
            caller.setblocking(False)
            if caller.connect_ex(gateway.places[1].addresses[1]):
                break
        assert gateway.released(0) == 2


class Lines(io.StringIO):
    def __init__(self):
        super().__init__()
        self.written = threading.Event()

    def flush(self):
        self.written.set()

    def events(self):
        assert self.written.wait(5)
        return {json.loads(line)["event"]: json.loads(line) for line in self.getvalue().splitlines()}


@pytest.mark.timed
def test_a_sibling_whose_metrics_fail_says_so_and_is_not_waited_for(three):
    lines = Lines()
    configure_logging(lines)
    three.released(0)
    three.metrics[1].watch_queue(lambda: int("CANARY"))
    started = time.monotonic()
    assert three.released(0) == 6
    assert three.ask(0, "sluicegate_workers") == 2
    assert time.monotonic() - started < ANSWER_TIMEOUT_S
    assert lines.events()["metrics.failed"]["error_type"] == "ValueError"
    assert "CANARY" not in lines.getvalue()


def raw_answer(place):
    with socket.socket(socket.AF_UNIX) as caller:
        caller.settimeout(5)
        caller.connect(place.addresses[place.own])
        return caller.recv(100)


def test_a_process_of_another_user_is_told_nothing(make_gateway, monkeypatch):
    lines = Lines()
    configure_logging(lines)
    gateway = make_gateway(1)
    gateway.begin(0)
    assert raw_answer(gateway.places[0])  # the control: our own user is answered
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    assert raw_answer(gateway.places[0]) == b""
    assert lines.events()["metrics.stranger"]["pid"] == os.getpid()


def test_a_process_of_another_user_is_not_believed(three, monkeypatch):
    lines = Lines()
    configure_logging(lines)

    def refuse(connection):
        raise StrangerError(os.getpid())

    monkeypatch.setattr("gateway.telemetry.siblings.verify_own_user", refuse)
    assert three.ask(0, "sluicegate_workers") == 1
    assert "metrics.stranger" in lines.events()


def test_closing_twice_ends_the_thread():
    places = make_siblings(1)
    with WorkerMetrics(Metrics(), places[0]) as worker:
        worker.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "sibling-metrics"]
    close_all(places)
