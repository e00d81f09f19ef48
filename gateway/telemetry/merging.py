"""The metrics of several workers as those of one gateway.

A reading is what one registry showed at one time, as plain values that travel. Counters and
histograms are summed; a gauge follows the rule declared where it is defined.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import fsum, isnan
from typing import Final, Literal

import msgspec
from prometheus_client.metrics_core import Metric

from gateway.errors import GatewayError

MergeRule = Literal["sum", "min", "max"]
"""How the gauges of several workers make one: what each has of its own, or the worst that any sees."""

Labels = tuple[tuple[str, str], ...]

_RULES: Final[Mapping[MergeRule, Callable[[Iterable[float]], float]]] = {
    # Rounded once and therefore independent of order: a sum that differed in its last bit with the
    # worker that is asked would go backwards, which Prometheus takes for a restart from zero.
    "sum": fsum,
    "min": min,
    "max": max,
}

_COUNTS: Final = frozenset({"counter", "histogram"})


class MergeRuleError(GatewayError):
    """A metric says nowhere how the values of several workers make one."""


class ReadingError(GatewayError):
    """Bytes are not a whole reading."""


class Sample(msgspec.Struct, array_like=True, frozen=True):
    """One value, as in Prometheus' text form: histograms have several names."""

    name: str
    labels: Labels
    value: float


class Family(msgspec.Struct, array_like=True, frozen=True):
    """One metric with the values of all its labels."""

    name: str
    documentation: str
    type: str
    samples: tuple[Sample, ...]


Reading = tuple[Family, ...]

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Reading)


def read_metrics(metrics: Iterable[Metric]) -> Reading:
    """Return what `metrics` (as a registry collects them) show now."""
    return tuple(
        Family(
            metric.name,
            metric.documentation,
            metric.type,
            tuple(
                Sample(item.name, tuple(item.labels.items()), float(item.value)) for item in metric.samples
            ),
        )
        for metric in metrics
    )


def show_metrics(reading: Reading) -> Iterator[Metric]:
    """Yield `reading` as a registry would collect it."""
    for family in reading:
        metric = Metric(family.name, family.documentation, family.type)
        for sample in family.samples:
            metric.add_sample(sample.name, dict(sample.labels), sample.value)
        yield metric


def encode_reading(reading: Reading) -> bytes:
    """Return `reading` as it travels between processes of one release (MessagePack)."""
    return _encoder.encode(reading)


def decode_reading(data: bytes) -> Reading:
    """Return the reading that `encode_reading` made into `data`; raise `ReadingError` if it is none."""
    try:
        return _decoder.decode(data)
    except msgspec.DecodeError as error:
        raise ReadingError("A worker's metrics are cut short or malformed; ask it again.") from error


def only_counts(reading: Reading) -> Reading:
    """Return the families of `reading` that never fall: counters and histograms."""
    return tuple(family for family in reading if family.type in _COUNTS)


def merge(readings: Sequence[Reading], gauge_rules: Mapping[str, MergeRule]) -> Reading:
    """Return the reading of all workers together.

    A gauge is merged by its rule in `gauge_rules`, by name, over the workers that know its value: NaN
    says that one does not, and stays only if it is said by all. Counters and histograms are summed,
    except for the time at which they began (`_created`, OpenMetrics 1.0): that is the earliest.
    Raises `MergeRuleError` for a gauge without a rule and for any other type of metric.
    """
    families: dict[str, Family] = {}
    values: dict[str, dict[tuple[str, Labels], list[float]]] = {}
    for reading in readings:
        for family in reading:
            families.setdefault(family.name, family)
            of_family = values.setdefault(family.name, {})
            for sample in family.samples:
                of_family.setdefault((sample.name, sample.labels), []).append(sample.value)
    return tuple(
        Family(
            name,
            family.documentation,
            family.type,
            tuple(
                Sample(sample, labels, _RULES[_rule(family, sample, gauge_rules)](_known(several)))
                for (sample, labels), several in values[name].items()
            ),
        )
        for name, family in families.items()
    )


def _known(values: list[float]) -> list[float]:
    return [value for value in values if not isnan(value)] or values


def _rule(family: Family, sample: str, gauge_rules: Mapping[str, MergeRule]) -> MergeRule:
    if family.type in _COUNTS:
        return "min" if sample == f"{family.name}_created" else "sum"
    if family.type != "gauge" or family.name not in gauge_rules:
        raise MergeRuleError(
            f"The metric {family.name} declares no rule for several workers; give it one where it is defined."
        )
    return gauge_rules[family.name]
