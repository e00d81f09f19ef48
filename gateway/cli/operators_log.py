"""Where a serving process writes its log."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.config import LoggingConfig
from gateway.telemetry.faults import capture_uncaught
from gateway.telemetry.lines import LineWriter, PolledLines
from gateway.telemetry.logs import Level, LogLosses, configure_logging


@contextmanager
def operators_log(config: LoggingConfig) -> Iterator[LogLosses]:
    """Send the operators' log to standard output, as `config` says, from a thread of its own."""
    with LineWriter(sys.stdout) as lines:
        losses = configure_logging(lines, Level[config.level.upper()], json=config.format == "json")
        capture_uncaught()
        yield losses


def supervisors_log(config: LoggingConfig) -> None:
    """Send this process's few events there too, without a thread: it is yet to fork."""
    configure_logging(PolledLines(sys.stdout), Level[config.level.upper()], json=config.format == "json")
