"""The load generator: a closed loop of workers that send requests sealed before the clock starts."""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import dataclass

import grpc


@dataclass(frozen=True)
class Round:
    """What one round of requests took."""

    requests: int
    seconds: float
    latencies_s: tuple[float, ...]

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds


async def run_round(
    channels: list[grpc.aio.Channel], method: str, requests: list[bytes], workers: int
) -> Round:
    """Send `requests` with `workers` in flight; raise at the first that fails."""
    calls = [channel.unary_unary(method) for channel in channels]
    pending = iter(requests)
    latencies: list[float] = []

    async def work(number: int) -> None:
        call = calls[number % len(calls)]
        for request in pending:
            started = time.perf_counter()
            await call(request, timeout=30)
            latencies.append(time.perf_counter() - started)

    started = time.perf_counter()
    await asyncio.gather(*(work(number) for number in range(workers)))
    return Round(len(requests), time.perf_counter() - started, tuple(latencies))


def percentile_ms(latencies_s: tuple[float, ...] | list[float], percent: int) -> float:
    """Return a percentile in milliseconds."""
    return statistics.quantiles(latencies_s, n=100)[percent - 1] * 1000
