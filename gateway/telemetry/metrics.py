"""Metrics for operators, in Prometheus' form.

Label values come from closed sets: operations, outcomes, reasons and steps from our own types, and
datasets, providers and identifier kinds from what the deployment has made known. Anything else is
counted as `unknown`, so that a caller can neither write into a metric nor multiply the series.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from itertools import accumulate
from time import perf_counter
from typing import Final, Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from gateway.errors import Reason
from gateway.model.duties import DUTY_NAMES
from gateway.model.query import Operation
from gateway.telemetry.logs import LogLosses
from gateway.telemetry.merging import MergeRule

Step = Literal[
    "identity",
    "envelope",
    "resolve",
    "policy",
    "log_requested",
    "provider",
    "transform",
    "recipients",
    "log_released",
    "witnesses",
    "receipt",
    "total",
]
"""The steps of one exchange, in their order; `total` is the whole."""

Outcome = Literal["released", "denied", "failed", "cancelled"]
"""How an exchange ends."""

UNKNOWN: Final = "unknown"
"""The label value that stands for everything outside the known sets."""

NO_REASON: Final = "none"
"""The `reason` label of an exchange that was not refused."""

_STEP_BUCKETS_S: Final = (
    *(0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5),
    *(0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)
_WAIT_BUCKETS_S: Final = _STEP_BUCKETS_S[3:]
_BATCH_BUCKETS: Final = tuple(float(2**power) for power in range(10))

_OUTCOMES: Final = frozenset(get_args(Outcome))
_OPERATIONS: Final = frozenset(operation.value for operation in Operation)
_REASONS: Final = frozenset(reason.value for reason in Reason)

_PROCESS_GAUGES: Final[Mapping[str, MergeRule]] = {
    "process_virtual_memory_bytes": "sum",
    "process_resident_memory_bytes": "sum",
    "process_open_fds": "sum",
    "process_max_fds": "sum",
    # Since when all have run: it changes whenever one is started anew.
    "process_start_time_seconds": "max",
}
"""The rules of the gauges that `ProcessCollector` makes."""

_DAY_S: Final = 86400


class Metrics:
    """The instruments of one process."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        """Register every instrument with `registry`, or with a fresh one.

        A registry takes one `Metrics`; a second raises `ValueError`.
        """
        self.registry = registry if registry is not None else CollectorRegistry()
        self.gauge_rules: dict[str, MergeRule] = dict(_PROCESS_GAUGES)
        """How the gauges of several workers make one, by name."""
        self._make_exchange_instruments()
        self._make_log_instruments()
        self._make_deployment_instruments()
        self._exchange_children: dict[tuple[str, str, str], Counter] = {}
        self._identifier_children: dict[tuple[str, str], Counter] = {}
        self._duty_children = {name: self._duties.labels(name) for name in DUTY_NAMES}
        self._newest_seen: dict[str, float] = {}
        self._withheld_children = {UNKNOWN: self._withheld.labels(UNKNOWN)}
        self._provider_children = {UNKNOWN: self._provider_seconds.labels(UNKNOWN)}
        self._record_children = {UNKNOWN: self._records.labels(UNKNOWN)}
        self._unknown_field_children = {UNKNOWN: self._unknown_fields.labels(UNKNOWN)}
        self._witness_failure_children: dict[str, Counter] = {}
        self._identifier_kinds: frozenset[str] = frozenset()
        ProcessCollector(registry=self.registry)

    def _make_exchange_instruments(self) -> None:
        self._exchanges = Counter(
            "sluicegate_exchanges",
            "Exchanges that ended, by operation, outcome and reason.",
            ["operation", "outcome", "reason"],
            registry=self.registry,
        )
        self._steps = StepTimes()
        self.registry.register(self._steps)
        self._provider_seconds = Histogram(
            "sluicegate_provider_seconds",
            "Time from calling a provider to its last byte.",
            ["provider"],
            buckets=_WAIT_BUCKETS_S,
            registry=self.registry,
        )
        self._records = Counter(
            "sluicegate_records_released", "Records released.", ["dataset"], registry=self.registry
        )
        self._unknown_fields = Counter(
            "sluicegate_unknown_fields",
            "Field values from providers that the dataset's schema does not know; all were dropped.",
            ["dataset"],
            registry=self.registry,
        )
        self._identifiers = Counter(
            "sluicegate_invalid_identifiers",
            "Identifiers that failed their check and were refused or withheld.",
            ["dataset", "kind"],
            registry=self.registry,
        )
        self._shadow = Counter(
            "sluicegate_policy_shadow",
            "Decisions held against those of the candidate policy, by result.",
            ["result"],
            registry=self.registry,
        )
        self._shadow_divergences = Counter(
            "sluicegate_policy_shadow_divergences",
            "Decisions that the candidate policy would change, by kind and by each rule concerned.",
            ["kind", "rule"],
            registry=self.registry,
        )
        self._open_streams = self._gauge(
            "sluicegate_open_streams", "StreamQuery calls now open.", merge="sum"
        )

        self._duties = Counter(
            "sluicegate_duties", "Duties carried out in releases, by duty.", ["duty"], registry=self.registry
        )
        self._withheld = Counter(
            "sluicegate_records_withheld",
            "Records withheld because their time of retention is over, or cannot be told.",
            ["dataset"],
            registry=self.registry,
        )
        self._newest = self._gauge(
            "sluicegate_dataset_newest_record_timestamp_seconds",
            "The latest day (00:00 UTC) of any record seen, of datasets with a promise of freshness.",
            ["dataset"],
            merge="max",
        )
        self._promised = self._gauge(
            "sluicegate_dataset_freshness_promise_seconds",
            "How old the newest record of a dataset may be, as its holder has promised.",
            ["dataset"],
            merge="max",
        )
        self._held = self._gauge("sluicegate_answers_held", "Answers that a delay holds now.", merge="sum")
        self._overdue_acknowledgements = self._gauge(
            "sluicegate_acknowledgements_overdue",
            "Releases that policy wanted acknowledged and that were not in time.",
            merge="max",
        )
        self._overdue_notices = self._gauge(
            "sluicegate_notices_overdue", "Releases whose subjects were not told in time.", merge="max"
        )

        self._quotas = _QuotaCollector()
        self.gauge_rules[_QuotaCollector.NAME] = "max"
        self.registry.register(self._quotas)

        self._corrections_open = self._gauge(
            "sluicegate_corrections_open",
            "Notices of corrected or withdrawn records that their recipients have not answered.",
            merge="max",
        )
        self._corrections_overdue = self._gauge(
            "sluicegate_corrections_overdue",
            "Of these, those announced longer ago than `corrections.overdue_days`.",
            merge="max",
        )

    def _make_log_instruments(self) -> None:
        self._append_seconds = Histogram(
            "sluicegate_log_append_seconds",
            "Time from handing an entry to the audit log to its commit.",
            buckets=_WAIT_BUCKETS_S,
            registry=self.registry,
        )
        self._batch_entries = Histogram(
            "sluicegate_log_batch_entries",
            "Entries committed in one transaction.",
            buckets=_BATCH_BUCKETS,
            registry=self.registry,
        )
        self._queue_depth = self._gauge(
            "sluicegate_log_queue_depth", "Entries that wait for a commit.", merge="sum"
        )
        self._log_entries = self._gauge("sluicegate_log_entries", "Tree size of the audit log.", merge="max")
        self._log_disk = self._gauge(
            "sluicegate_log_disk_used_ratio",
            "How much of the audit log's disk is used; NaN if it is in PostgreSQL.",
            merge="max",
        )
        self._timestamp_age = self._gauge(
            "sluicegate_log_timestamp_age_seconds",
            "Time since a checkpoint was last stamped; infinite if none was, NaN without an authority.",
            merge="max",
        )
        self._timestamp_age.set(math.nan)
        self._policy_age = self._gauge(
            "sluicegate_policy_age_seconds",
            "Time since two people approved or confirmed the policy in force; NaN without activation.",
            merge="max",
        )
        self._policy_age.set(math.nan)
        self._log_healthy = self._gauge(
            "sluicegate_log_healthy",
            "1 while the audit log can append, otherwise 0 (then every exchange is refused).",
            merge="min",
        )

        self._witnessed_age = self._gauge(
            "sluicegate_log_witnessed_age_seconds",
            "Time since a quorum last cosigned the log; infinite if none ever did, NaN without witnesses.",
            merge="max",
        )
        self._witnessed_age.set(math.nan)
        self._witness_failures = Counter(
            "sluicegate_witness_failures",
            "Times a witness of the policy gave no cosignature.",
            ["witness"],
            registry=self.registry,
        )

    def _make_deployment_instruments(self) -> None:
        self._certificate_days = self._gauge(
            "sluicegate_certificate_days_left",
            "Days until a certificate in use ends; negative when it has ended.",
            ["certificate"],
            merge="min",
        )
        self._members_contradicted = self._gauge(
            "sluicegate_members_contradicted",
            "Members whom the audit log contradicts; they are not served.",
            merge="max",
        )
        self._build = self._gauge(
            "sluicegate_build_info", "1; the label names the version.", ["version"], merge="max"
        )
        self._gauge("sluicegate_workers", "Worker processes that answered.", merge="sum").set(1)

    def _gauge(self, name: str, documentation: str, labels: Sequence[str] = (), *, merge: MergeRule) -> Gauge:
        self.gauge_rules[name] = merge
        return Gauge(name, documentation, labels, registry=self.registry)

    # What is known

    def know(
        self,
        *,
        datasets: Iterable[str] = (),
        providers: Iterable[str] = (),
        identifier_kinds: Iterable[str] = (),
    ) -> None:
        """Add names that may stand as label values from now on; at start and when the catalogue grows."""
        for dataset in datasets:
            self._record_children[dataset] = self._records.labels(dataset)
            self._unknown_field_children[dataset] = self._unknown_fields.labels(dataset)
            self._withheld_children[dataset] = self._withheld.labels(dataset)
        for provider in providers:
            self._provider_children[provider] = self._provider_seconds.labels(provider)
        self._identifier_kinds |= frozenset(identifier_kinds)

    # One exchange

    def stopwatch(self) -> Stopwatch:
        """Return a running stopwatch for the steps of one exchange."""
        return Stopwatch(self._steps)

    def count_exchange(self, operation: str, outcome: Outcome, reason: str = NO_REASON) -> None:
        """Count an exchange that has ended; `reason` is its first reason code unless it was released."""
        key = (
            operation if operation in _OPERATIONS else UNKNOWN,
            outcome if outcome in _OUTCOMES else UNKNOWN,
            reason if reason in _REASONS or reason == NO_REASON else UNKNOWN,
        )
        child = self._exchange_children.get(key)
        if child is None:
            child = self._exchange_children[key] = self._exchanges.labels(*key)
        child.inc()

    def time_provider(self, provider: str, seconds: float) -> None:
        """Record how long `provider` took, whatever it answered."""
        self._provider_children.get(provider, self._provider_children[UNKNOWN]).observe(seconds)

    def count_records(self, dataset: str, number: int) -> None:
        """Count records that left."""
        self._record_children.get(dataset, self._record_children[UNKNOWN]).inc(number)

    def count_duties(self, names: Iterable[str]) -> None:
        """Count the duties of a release."""
        for name in names:
            self._duty_children[name].inc()

    def count_withheld(self, dataset: str, number: int) -> None:
        """Count records that were too old to leave."""
        self._withheld_children.get(dataset, self._withheld_children[UNKNOWN]).inc(number)

    def note_promise(self, dataset: str, days: int) -> None:
        """Take note of a dataset's promise of freshness."""
        self._promised.labels(dataset).set(days * _DAY_S)

    def note_newest(self, dataset: str, day: date) -> None:
        """Take note of the latest day seen in the records of a dataset with a promise of freshness."""
        seen = datetime.combine(day, datetime.min.time(), UTC).timestamp()
        if seen > self._newest_seen.get(dataset, -math.inf):
            self._newest_seen[dataset] = seen
            self._newest.labels(dataset).set(seen)

    def watch_duties(
        self,
        *,
        held: Callable[[], float],
        overdue_acknowledgements: Callable[[], float],
        overdue_notices: Callable[[], float],
    ) -> None:
        """Ask for the answers held, and for what is overdue, whenever the metrics are read."""
        self._held.set_function(held)
        self._overdue_acknowledgements.set_function(overdue_acknowledgements)
        self._overdue_notices.set_function(overdue_notices)

    def watch_quotas(self, ratios: Callable[[], Mapping[tuple[str, str, str], float]]) -> None:
        """Ask `ratios` for the used part of each quota, by contract, period and whose, at every reading."""
        self._quotas.ratios = ratios

    def watch_corrections(self, open_notices: Callable[[], float], overdue: Callable[[], float]) -> None:
        """Ask for the corrections that are open, and overdue, whenever the metrics are read."""
        self._corrections_open.set_function(open_notices)
        self._corrections_overdue.set_function(overdue)

    def count_unknown_fields(self, dataset: str, number: int) -> None:
        """Count values that were dropped because the schema does not know their field."""
        self._unknown_field_children.get(dataset, self._unknown_field_children[UNKNOWN]).inc(number)

    def count_invalid_identifiers(self, dataset: str, kind: str, number: int = 1) -> None:
        """Count identifiers of `kind` that failed their check."""
        key = (
            dataset if dataset in self._record_children else UNKNOWN,
            kind if kind in self._identifier_kinds else UNKNOWN,
        )
        child = self._identifier_children.get(key)
        if child is None:
            child = self._identifier_children[key] = self._identifiers.labels(*key)
        child.inc(number)

    def watch_policy_cache(self, lookups: Callable[[], tuple[int, int]]) -> None:
        """Ask `lookups` for (hits, misses) of the decision cache whenever the metrics are read."""
        self.registry.register(_CacheCollector(lookups))

    def watch_policy_age(self, age_s: Callable[[], float]) -> None:
        """Ask `age_s` for the seconds since the policy's approval whenever the metrics are read."""
        self._policy_age.set_function(age_s)

    def count_shadow(self, result: str) -> None:
        """Count a question to the candidate policy; from any thread. `result` is a name of ours."""
        self._shadow.labels(result).inc()

    def count_divergence(self, kind: str, rules: Iterable[str]) -> None:
        """Count what the candidate would change; from any thread. `rules` are ids of the two bundles."""
        for rule in rules:
            self._shadow_divergences.labels(kind, rule).inc()

    def open_stream(self) -> None:
        """Count a StreamQuery call as open."""
        self._open_streams.inc()

    def close_stream(self) -> None:
        """Count an open StreamQuery call as ended."""
        self._open_streams.dec()

    # The audit log

    def time_append(self, seconds: float) -> None:
        """Record how long one entry waited for its commit."""
        self._append_seconds.observe(seconds)

    def record_batch(self, entries: int) -> None:
        """Record how many entries one transaction committed."""
        self._batch_entries.observe(entries)

    def watch_log_entries(self, tree_size: Callable[[], float]) -> None:
        """Ask `tree_size` for the number of entries in the log whenever the metrics are read."""
        self._log_entries.set_function(tree_size)

    def watch_log_disk(self, used_ratio: Callable[[], float]) -> None:
        """Ask `used_ratio` how much of the log's disk is used whenever the metrics are read."""
        self._log_disk.set_function(used_ratio)

    def watch_timestamps(self, age_s: Callable[[], float]) -> None:
        """Ask `age_s` for the seconds since the newest time-stamp whenever the metrics are read."""
        self._timestamp_age.set_function(age_s)

    def set_log_healthy(self, healthy: bool) -> None:
        """Say whether the audit log can append."""
        self._log_healthy.set(1 if healthy else 0)

    def watch_queue(self, depth: Callable[[], float]) -> None:
        """Ask `depth` for the number of waiting entries whenever the metrics are read."""
        self._queue_depth.set_function(depth)

    def watch_witnesses(self, witnesses: Iterable[str], age_s: Callable[[], float]) -> None:
        """Make the policy's witnesses known; ask `age_s` for the age of the evidence at every reading."""
        for witness in witnesses:
            self._witness_failure_children[witness] = self._witness_failures.labels(witness)
        self._witnessed_age.set_function(age_s)

    def count_witness_failure(self, witness: str) -> None:
        """Count that `witness` gave no cosignature."""
        child = self._witness_failure_children.get(witness)
        (child or self._witness_failures.labels(UNKNOWN)).inc()

    # The deployment

    def watch_certificate(self, certificate: str, days_left: Callable[[], float]) -> None:
        """Ask `days_left` for `certificate` (a name of ours, such as `server`) at every reading."""
        self._certificate_days.labels(certificate).set_function(days_left)

    def set_members_contradicted(self, number: int) -> None:
        """Say how many members the log contradicts."""
        self._members_contradicted.set(number)

    def watch_losses(self, losses: LogLosses) -> None:
        """Show what the operators' log leaves out."""
        self.registry.register(_LossCollector(losses))

    def set_version(self, version: str) -> None:
        """Show the version that runs."""
        self._build.labels(version).set(1)


class _QuotaCollector(Collector):
    """How far quotas are used up; those whose period is over are not told any more."""

    NAME: Final = "sluicegate_quota_used_ratio"

    def __init__(self) -> None:
        self.ratios: Callable[[], Mapping[tuple[str, str, str], float]] = dict

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Return the used part of each quota."""
        family = GaugeMetricFamily(
            self.NAME,
            "How much of a contract's quota is used in the period, 0 to 1; of each consumer's, the greatest.",
            labels=["contract", "per", "each"],
        )
        for labels, ratio in self.ratios().items():
            family.add_metric(labels, ratio)
        yield family


class StepTimes(Collector):
    """The histogram of the steps, for one writing thread: the event loop.

    An exchange observes ten times. Prometheus' own histogram locks two values each time, which
    together would cost a tenth of the exchange; these are plain lists, made into its form when read.
    """

    def __init__(self) -> None:
        self._counts: dict[Step, list[int]] = {
            step: [0] * (len(_STEP_BUCKETS_S) + 1) for step in get_args(Step)
        }
        self._sums: dict[Step, float] = dict.fromkeys(get_args(Step), 0.0)

    def observe(self, step: Step, seconds: float) -> None:
        """Count one observation."""
        self._counts[step][bisect_left(_STEP_BUCKETS_S, seconds)] += 1
        self._sums[step] += seconds

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Return the histogram of every step, as it stands."""
        family = HistogramMetricFamily(
            "sluicegate_step_seconds", "Time that each step of an exchange took.", labels=["step"]
        )
        bounds = [*map(str, _STEP_BUCKETS_S), "+Inf"]
        for step, counts in self._counts.items():
            cumulative = list(zip(bounds, map(float, accumulate(counts)), strict=True))
            family.add_metric([step], cumulative, self._sums[step])
        yield family


class Stopwatch:
    """Measures the steps of one exchange, each from the last mark."""

    __slots__ = ("_last", "_start", "_times")

    def __init__(self, times: StepTimes) -> None:
        self._times = times
        self._start = self._last = perf_counter()

    def mark(self, step: Step) -> None:
        """Record the time since the last mark as that of `step`."""
        now = perf_counter()
        self._times.observe(step, now - self._last)
        self._last = now

    def skip(self) -> None:
        """Leave the time since the last mark to no step (waiting for the caller between pages)."""
        self._last = perf_counter()

    def finish(self) -> float:
        """Record the whole as `total`; return it in seconds."""
        total = perf_counter() - self._start
        self._times.observe("total", total)
        return total


class _CacheCollector(Collector):
    def __init__(self, lookups: Callable[[], tuple[int, int]]) -> None:
        self._lookups = lookups

    def collect(self) -> Iterator[CounterMetricFamily]:
        family = CounterMetricFamily(
            "sluicegate_policy_cache",
            "Policy decisions looked for in the cache, by result (hit, miss).",
            labels=["result"],
        )
        for result, number in zip(("hit", "miss"), self._lookups(), strict=True):
            family.add_metric([result], number)
        yield family


class _LossCollector(Collector):
    def __init__(self, losses: LogLosses) -> None:
        self._losses = losses

    def collect(self) -> Iterator[CounterMetricFamily]:
        yield CounterMetricFamily(
            "sluicegate_telemetry_fields_dropped",
            "Log fields left out: not on the allow-list, or not plain.",
            value=self._losses.fields_dropped,
        )
        yield CounterMetricFamily(
            "sluicegate_telemetry_lines_lost",
            "Log lines that the stream did not take.",
            value=self._losses.lines_lost,
        )
