import math
import timeit
from typing import get_args

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from gateway.errors import Reason
from gateway.telemetry.logs import LogLosses
from gateway.telemetry.metrics import Metrics, Step

DATASET = "members/registry/datasets/companies"


@pytest.fixture
def metrics():
    made = Metrics()
    made.know(datasets=[DATASET], providers=["registry"], identifier_kinds=["uscc"])
    return made


def value(metrics, name, **labels):
    return metrics.registry.get_sample_value(name, labels)


def test_a_stopwatch_records_each_step_and_the_whole(metrics):
    steps = metrics.stopwatch()
    for step in get_args(Step):
        if step != "total":
            steps.mark(step)
    total = steps.finish()
    parts = [value(metrics, "sluicegate_step_seconds_sum", step=step) for step in get_args(Step)]
    assert [value(metrics, "sluicegate_step_seconds_count", step=step) for step in get_args(Step)] == [1] * 12
    assert parts[-1] == total
    assert sum(parts[:-1]) <= total


def test_a_skipped_wait_belongs_to_no_step(metrics, monkeypatch):
    times = iter([0.0, 1.0, 5.0, 6.0, 7.0])
    monkeypatch.setattr("gateway.telemetry.metrics.perf_counter", lambda: next(times))
    steps = metrics.stopwatch()
    steps.mark("provider")
    steps.skip()
    steps.mark("transform")
    assert steps.finish() == 7.0
    assert value(metrics, "sluicegate_step_seconds_sum", step="provider") == 1.0
    assert value(metrics, "sluicegate_step_seconds_sum", step="transform") == 1.0


def test_exchanges_are_counted_by_operation_outcome_and_reason(metrics):
    metrics.count_exchange("query", "released")
    metrics.count_exchange("query", "denied", Reason.REPLAYED)
    metrics.count_exchange("query", "denied", "REPLAYED")
    name = "sluicegate_exchanges_total"
    assert value(metrics, name, operation="query", outcome="released", reason="none") == 1
    assert value(metrics, name, operation="query", outcome="denied", reason="REPLAYED") == 2


def test_texts_of_a_caller_never_become_labels(metrics):
    for number in range(300):
        text = f"CANARY{number}"
        metrics.count_exchange(text, text, text)
        metrics.count_records(text, 1)
        metrics.count_unknown_fields(text, 1)
        metrics.count_invalid_identifiers(text, text)
        metrics.time_provider(text, 0.1)
    exposed = generate_latest(metrics.registry).decode()
    assert "CANARY" not in exposed
    unknown = {"operation": "unknown", "outcome": "unknown", "reason": "unknown"}
    assert value(metrics, "sluicegate_exchanges_total", **unknown) == 300
    assert value(metrics, "sluicegate_records_released_total", dataset="unknown") == 300
    assert value(metrics, "sluicegate_unknown_fields_total", dataset="unknown") == 300
    name = "sluicegate_invalid_identifiers_total"
    assert value(metrics, name, dataset="unknown", kind="unknown") == 300
    assert value(metrics, "sluicegate_provider_seconds_count", provider="unknown") == 300


def test_known_names_are_labels(metrics):
    metrics.count_records(DATASET, 7)
    metrics.count_unknown_fields(DATASET, 2)
    metrics.count_invalid_identifiers(DATASET, "uscc", 3)
    metrics.time_provider("registry", 0.2)
    assert value(metrics, "sluicegate_records_released_total", dataset=DATASET) == 7
    assert value(metrics, "sluicegate_unknown_fields_total", dataset=DATASET) == 2
    assert value(metrics, "sluicegate_invalid_identifiers_total", dataset=DATASET, kind="uscc") == 3
    assert value(metrics, "sluicegate_provider_seconds_sum", provider="registry") == 0.2


def test_knowing_a_name_again_keeps_its_count(metrics):
    metrics.count_records(DATASET, 7)
    metrics.know(datasets=[DATASET])
    metrics.count_records(DATASET, 1)
    assert value(metrics, "sluicegate_records_released_total", dataset=DATASET) == 8


def test_the_audit_log_is_told(metrics):
    metrics.watch_log_entries(lambda: 8)
    metrics.time_append(0.002)
    metrics.record_batch(3)
    metrics.set_log_healthy(True)
    metrics.watch_queue(lambda: 4)
    assert value(metrics, "sluicegate_log_entries") == 8
    assert value(metrics, "sluicegate_log_append_seconds_count") == 1
    assert value(metrics, "sluicegate_log_batch_entries_sum") == 3
    assert value(metrics, "sluicegate_log_healthy") == 1
    assert value(metrics, "sluicegate_log_queue_depth") == 4
    metrics.set_log_healthy(False)
    assert value(metrics, "sluicegate_log_healthy") == 0


def test_the_deployment_is_told(metrics):
    days, losses = [30.0], LogLosses()
    metrics.watch_certificate("server", lambda: days[0])
    metrics.watch_losses(losses)
    metrics.set_version("0.1.0")
    metrics.open_stream()
    metrics.open_stream()
    metrics.close_stream()
    metrics.watch_policy_cache(lambda: (1, 1))
    losses.count_fields(2)
    losses.count_line()
    days[0] = 29.0
    assert value(metrics, "sluicegate_certificate_days_left", certificate="server") == 29.0
    assert value(metrics, "sluicegate_telemetry_fields_dropped_total") == 2
    assert value(metrics, "sluicegate_telemetry_lines_lost_total") == 1
    assert value(metrics, "sluicegate_build_info", version="0.1.0") == 1
    assert value(metrics, "sluicegate_open_streams") == 1
    assert value(metrics, "sluicegate_policy_cache_total", result="hit") == 1
    assert value(metrics, "sluicegate_policy_cache_total", result="miss") == 1


def test_the_process_is_told(metrics):
    assert value(metrics, "process_resident_memory_bytes") > 0


def test_each_metrics_has_a_registry_of_its_own():
    one, other = Metrics(), Metrics()
    one.watch_log_entries(lambda: 1)
    assert value(other, "sluicegate_log_entries") == 0


def test_a_registry_takes_one_metrics():
    registry = CollectorRegistry()
    Metrics(registry)
    with pytest.raises(ValueError, match="Duplicated"):
        Metrics(registry)


def test_a_mark_costs_about_a_microsecond(metrics):
    """Budget 1.5 µs on an idle machine; the bound leaves room for a busy one."""
    steps = metrics.stopwatch()
    assert min(timeit.repeat(lambda: steps.mark("policy"), number=5000, repeat=5)) / 5000 < 6e-6


def test_the_age_of_the_policy_is_unknown_without_activation_and_asked_for_with_it(metrics):
    assert math.isnan(value(metrics, "sluicegate_policy_age_seconds"))
    metrics.watch_policy_age(lambda: 3600.0)
    assert value(metrics, "sluicegate_policy_age_seconds") == 3600.0
