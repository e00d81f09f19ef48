"""Merged metrics against a naive sum, and against themselves while workers come and go."""

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from gateway.telemetry.merging import merge, only_counts, read_metrics

BOUNDS = (0.1, 1.0, 10.0)
RULES = {"gauge_sum": "sum", "gauge_min": "min", "gauge_max": "max"}
NAIVE = {"gauge_sum": sum, "gauge_min": min, "gauge_max": max}

amounts = st.floats(0, 1e6)
labels = st.sampled_from("abc")
workers = st.fixed_dictionaries(
    {
        "counts": st.lists(st.tuples(labels, amounts), max_size=8),
        "times": st.lists(st.tuples(labels, amounts), max_size=8),
        "gauge": st.floats(-1e6, 1e6),
    }
)


def registry_of(worker):
    registry = CollectorRegistry()
    counter = Counter("counter", "Counter.", ["label"], registry=registry)
    histogram = Histogram("histogram", "Histogram.", ["label"], buckets=BOUNDS, registry=registry)
    for label, amount in worker["counts"]:
        counter.labels(label).inc(amount)
    for label, amount in worker["times"]:
        histogram.labels(label).observe(amount)
    for name in RULES:
        Gauge(name, "Gauge.", registry=registry).set(worker["gauge"])
    return registry


def read(worker):
    return read_metrics(registry_of(worker).collect())


def samples(reading):
    return {
        (item.name, *(value for _, value in item.labels)): item.value
        for family in reading
        for item in family.samples
        if not item.name.endswith("_created")
    }


def naive(several):
    expected = defaultdict(float)
    for worker in several:
        for label, amount in worker["counts"]:
            expected["counter_total", label] += amount
        for label, amount in worker["times"]:
            for bound in (*BOUNDS, float("inf")):
                expected["histogram_bucket", label, str(bound).replace("inf", "+Inf")] += amount <= bound
            expected["histogram_count", label] += 1
            expected["histogram_sum", label] += amount
    for name, combine in NAIVE.items():
        expected[name,] = combine(worker["gauge"] for worker in several)
    return expected


@given(st.lists(workers, min_size=1, max_size=5))
def test_the_merged_metrics_are_those_of_one_worker_that_did_it_all(several):
    merged = samples(merge([read(worker) for worker in several], RULES))
    expected = naive(several)
    assert merged.keys() == expected.keys()
    for key, value in merged.items():
        assert abs(value - expected[key]) <= 1e-9 * max(
            1e6, abs(expected[key])
        )  # naive sums round at each step


@given(st.lists(workers, min_size=1, max_size=5), st.data())
def test_the_order_of_the_workers_changes_not_one_bit(several, data):
    readings = [read(worker) for worker in several]
    mixed = data.draw(st.permutations(readings))
    assert samples(merge(mixed, RULES)) == samples(merge(readings, RULES))


@given(st.lists(workers, min_size=1, max_size=4), workers, st.data())
def test_no_count_falls_when_a_worker_goes_on_or_is_replaced(several, more, data):
    """Not by one bit: Prometheus takes any fall for a restart from zero."""
    readings = [read(worker) for worker in several]
    before = samples(only_counts(merge(readings, RULES)))
    chosen = data.draw(st.integers(0, len(readings) - 1))
    readings[chosen] = merge([only_counts(readings[chosen]), read(more)], RULES)
    after = samples(merge(readings, RULES))
    assert all(after[key] >= value for key, value in before.items())
