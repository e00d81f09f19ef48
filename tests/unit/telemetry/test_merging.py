import math

import pytest
from prometheus_client import CollectorRegistry, Counter, Enum, Gauge, Histogram, generate_latest

from gateway.telemetry.logs import LogLosses
from gateway.telemetry.merging import (
    MergeRuleError,
    ReadingError,
    decode_reading,
    encode_reading,
    merge,
    only_counts,
    read_metrics,
    show_metrics,
)
from gateway.telemetry.metrics import Metrics

RULES = {"added": "sum", "lowest": "min", "highest": "max"}


class Worker:
    """A registry with one instrument of each sort."""

    def __init__(self):
        self.registry = CollectorRegistry()
        self.counter = Counter("counted", "Counted.", ["label"], registry=self.registry)
        self.histogram = Histogram("timed", "Timed.", buckets=(1, 2), registry=self.registry)
        self.gauges = {name: Gauge(name, "Gauge.", registry=self.registry) for name in RULES}

    def read(self):
        return read_metrics(self.registry.collect())


def samples(reading):
    return {
        (item.name, item.labels): item.value
        for family in reading
        for item in family.samples
        if not item.name.endswith("_created")
    }


def full_metrics():
    metrics = Metrics()
    metrics.watch_losses(LogLosses())
    metrics.watch_policy_cache(lambda: (0, 0))
    return metrics


def test_counters_are_summed_label_by_label():
    one, other = Worker(), Worker()
    one.counter.labels("a").inc(2)
    other.counter.labels("a").inc(3)
    other.counter.labels("b").inc(5)
    merged = samples(merge([one.read(), other.read()], RULES))
    assert merged["counted_total", (("label", "a"),)] == 5
    assert merged["counted_total", (("label", "b"),)] == 5


def test_histograms_are_summed_bucket_by_bucket():
    one, other = Worker(), Worker()
    one.histogram.observe(0.5)
    other.histogram.observe(1.5)
    other.histogram.observe(9)
    merged = samples(merge([one.read(), other.read()], RULES))
    buckets = [merged["timed_bucket", (("le", bound),)] for bound in ("1.0", "2.0", "+Inf")]
    assert (buckets, merged["timed_count", ()], merged["timed_sum", ()]) == ([1, 2, 3], 3, 11)


def test_gauges_follow_their_rules():
    readings = []
    for value in (3, 7, 5):
        worker = Worker()
        for gauge in worker.gauges.values():
            gauge.set(value)
        readings.append(worker.read())
    merged = samples(merge(readings, RULES))
    assert [merged[name, ()] for name in ("added", "lowest", "highest")] == [15, 3, 7]


@pytest.mark.parametrize("values", [(math.nan, 3, 5), (3, math.nan, 5), (3, 5, math.nan)])
def test_a_worker_that_does_not_know_a_value_spoils_it_for_nobody(values):
    readings = []
    for value in values:
        worker = Worker()
        for gauge in worker.gauges.values():
            gauge.set(value)
        readings.append(worker.read())
    merged = samples(merge(readings, RULES))
    assert [merged[name, ()] for name in ("added", "lowest", "highest")] == [8, 3, 5]


def test_what_no_worker_knows_stays_unknown():
    worker = Worker()
    worker.gauges["highest"].set(math.nan)
    assert math.isnan(samples(merge([worker.read(), worker.read()], RULES))["highest", ()])


def test_a_count_began_when_the_first_worker_began_it():
    one, other = Worker().read(), Worker().read()
    created = [
        item.value
        for reading in (one, other, merge([other, one], RULES))
        for family in reading
        for item in family.samples
        if item.name == "timed_created"
    ]
    assert created[2] == min(created[:2])


@pytest.mark.parametrize("make", [lambda registry: Gauge("odd", "Odd.", registry=registry), None])
def test_a_metric_without_a_rule_is_refused(make):
    worker = Worker()
    if make is None:
        Enum("odd", "Odd.", states=["even"], registry=worker.registry)
    else:
        make(worker.registry)
    with pytest.raises(MergeRuleError, match="odd"):
        merge([worker.read()], RULES)


def test_every_instrument_of_the_gateway_has_a_rule():
    metrics = full_metrics()
    reading = read_metrics(metrics.registry.collect())
    merged = merge([reading, reading], metrics.gauge_rules)
    gauges = {family.name for family in reading if family.type == "gauge"}
    assert gauges == metrics.gauge_rules.keys()
    assert [family.name for family in merged] == [family.name for family in reading]


def test_one_reading_is_shown_as_its_registry_shows_it():
    metrics = full_metrics()
    metrics.count_exchange("query", "released")
    metrics.set_version("0.1.0")
    before = list(metrics.registry.collect())
    merged = merge([read_metrics(before)], metrics.gauge_rules)
    shown = CollectorRegistry()
    shown.register(Fixed(show_metrics(merged)))
    expected = CollectorRegistry()
    expected.register(Fixed(before))
    assert generate_latest(shown) == generate_latest(expected)


class Fixed:
    def __init__(self, metrics):
        self._metrics = metrics

    def collect(self):
        return self._metrics


def test_only_what_never_falls_is_kept():
    kept = only_counts(full_metrics_reading())
    assert {family.type for family in kept} == {"counter", "histogram"}


def full_metrics_reading():
    return read_metrics(full_metrics().registry.collect())


def test_a_reading_survives_its_way():
    reading = full_metrics_reading()

    def values(families):
        # One gauge is NaN, which equals nothing, itself neither.
        return {
            (item.name, item.labels): "NaN" if math.isnan(item.value) else item.value
            for family in families
            for item in family.samples
        }

    back = decode_reading(encode_reading(reading))
    assert values(back) == values(reading)
    assert [(each.name, each.documentation, each.type) for each in back] == [
        (each.name, each.documentation, each.type) for each in reading
    ]


@pytest.mark.parametrize("cut", [0, 1, -1])
def test_what_is_no_whole_reading_is_refused(cut):
    with pytest.raises(ReadingError):
        decode_reading(encode_reading(full_metrics_reading())[:cut])
