"""Logs: one JSON line per event, and only fields that are known to be harmless.

An event is a constant name (`exchange.released`) with fields. A field that is not in
`ALLOWED_FIELDS`, or whose value is not plain text or a number, is dropped and counted: whoever
adds a field decides here, once, that it can never hold an identifier, a record value or a secret.
Lines are ASCII: every other character stands as a JSON escape, so that no line break, terminal
sequence or direction mark of a caller reaches whoever reads the log (CWE-117, ASVS 5.0 V16.4.1).
"""

from __future__ import annotations

import logging
import re
import sys
import threading
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import PurePath
from typing import Any, Final, Protocol

import msgspec
import structlog

from gateway.clock import Clock, rfc3339, system_clock
from gateway.telemetry.faults import describe_fault

ALLOWED_FIELDS: Final = frozenset(
    {
        # the line itself
        *("timestamp", "level", "event", "logger", "source", "message"),
        # the exchange
        *("exchange", "consumer", "provider", "operation", "dataset", "tier", "purpose"),
        *("decision", "reason", "reasons", "outcome", "records", "page", "pages", "bytes", "duration_ms"),
        *("entry", "kind", "engine", "bundle", "key_epoch", "user_agent", "rules"),
        *("unknown_fields", "invalid_identifiers"),
        # the deployment
        *("member", "role", "path", "host", "port", "origin", "version", "pid", "signal", "workers"),
        *("certificate", "certificate_days", "fingerprint", "key_id"),
        *("queue_depth", "batch_size", "log_entries", "healthy", "attempt", "delay_ms", "count", "witness"),
        *("jump_s", "used_ratio"),
        # faults
        *("reference", "error_type", "frames", "method", "status"),
    }
)
"""Every field a line may have; `docs/telemetry.md` says what each means."""

MAX_TEXT_LENGTH: Final = 200
"""Characters of a text kept in a field; longer ones are cut and end in an ellipsis."""

MAX_LIST_LENGTH: Final = 30
"""Members of a list kept in a field."""


class Level(IntEnum):
    """How loud; the numbers are those of the standard library."""

    DEBUG = logging.DEBUG
    INFO = logging.INFO
    WARNING = logging.WARNING
    ERROR = logging.ERROR
    CRITICAL = logging.CRITICAL


class LogLosses:
    """What the pipe has left out, for the metrics."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.fields_dropped = 0
        """Fields not on the allow-list, or with values that are not plain."""
        self.lines_lost = 0
        """Lines that the stream did not take (closed pipe, full disk)."""

    def count_fields(self, number: int) -> None:
        """Count fields that were left out."""
        with self._lock:
            self.fields_dropped += number

    def count_line(self) -> None:
        """Count a line that was not written."""
        with self._lock:
            self.lines_lost += 1


def configure_logging(
    stream: LineStream | None = None,
    level: Level = Level.INFO,
    *,
    json: bool = True,
    clock: Clock = system_clock,
) -> LogLosses:
    """Send every log event of this process to `stream` (standard output by default).

    With `json`, one JSON object with sorted members a line; otherwise aligned text for people, in
    colours when `stream` is a terminal. Records of the standard library's `logging` (grpc,
    SQLAlchemy, asyncio) take the same way, see `_ForeignHandler`. May be called again: loggers
    made before follow. Returns the counters of what is left out.

    A stream that fails does not fail the work that logs; lost lines are counted. Promise P1 does
    not rest on this log.
    """
    losses = LogLosses()
    _pipe.settings = _Settings(sys.stdout if stream is None else stream, level, json, clock, losses)
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, _pipe.render],
        # Levels are compared in the pipe, so that cached loggers follow a later change of level.
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        logger_factory=lambda *_: _pipe,
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    root.handlers = [handler for handler in root.handlers if not isinstance(handler, _ForeignHandler)]
    root.addHandler(_ForeignHandler())
    # SQLAlchemy renders every statement once its logger is enabled for INFO.
    root.setLevel(level if level <= Level.DEBUG else max(level, Level.WARNING))
    return losses


class LineStream(Protocol):
    """What log lines are written to; every text stream is one."""

    def write(self, text: str, /) -> int:
        """Take `text` and return how many characters of it were taken."""
        ...

    def flush(self) -> None:
        """Hand on what was taken."""
        ...

    def isatty(self) -> bool:
        """Tell whether a person reads along at a terminal."""
        ...


@dataclass(frozen=True, slots=True)
class _Settings:
    stream: LineStream
    level: Level
    json: bool
    clock: Clock
    losses: LogLosses


class _Pipe:
    """Renders events and writes lines; the one end of every logger."""

    def __init__(self) -> None:
        self.settings = _Settings(sys.stdout, Level.INFO, json=True, clock=system_clock, losses=LogLosses())
        self._lock = threading.Lock()

    def render(self, _: object, method: str, event: MutableMapping[str, Any]) -> str:
        """Return the line of `event`; the last processor of the chain."""
        settings = self.settings
        if _LEVELS[method] < settings.level:
            raise structlog.DropEvent
        error = event.pop("exc_info", None)
        if error:
            event.update(describe_fault(error, with_frames=settings.level <= Level.DEBUG))
        event["timestamp"] = rfc3339(settings.clock())
        event["level"] = "error" if method == "exception" else method
        fields = _allowed(event, settings.losses)
        if settings.json:
            return escape_unprintable(_encoder.encode(fields).decode())
        colours = settings.stream.isatty()
        shown = {name: escape_unprintable(_shown(value)) for name, value in fields.items()}
        return str(_renderers[colours](None, method, shown))

    def write_line(self, line: str) -> None:
        """Write `line` whole, whichever thread asks."""
        settings = self.settings
        try:
            with self._lock:
                settings.stream.write(line + "\n")
                settings.stream.flush()
        except (OSError, ValueError):  # ValueError: the stream is closed
            settings.losses.count_line()

    # structlog looks up the level's name on the logger that it wraps.
    debug = info = warning = error = exception = critical = write_line


class _ForeignHandler(logging.Handler):
    """Takes records of the standard library's `logging` into the pipe, without their text.

    Libraries put statement parameters, peers' bytes and exception messages into their texts. The
    line says which logger spoke, how loud and from which line of code. At level DEBUG it also
    carries the message's template, and only where arguments are kept apart from it: a text without
    arguments may have been filled in already.
    """

    def emit(self, record: logging.LogRecord) -> None:
        fields: dict[str, Any] = {
            "logger": record.name,
            "source": f"{record.module}:{record.lineno}",
            "exc_info": record.exc_info,
        }
        if _pipe.settings.level <= Level.DEBUG and record.args and isinstance(record.msg, str):
            fields["message"] = record.msg
        method = "critical"
        for level in (Level.ERROR, Level.WARNING, Level.INFO, Level.DEBUG):
            if record.levelno <= level:
                method = level.name.lower()
        _foreign_log.log(_LEVELS[method], "library.message", **fields)


def escape_unprintable(text: str) -> str:
    r"""Return `text` with everything but printable ASCII as JSON escapes (`\u000a`, surrogate pairs).

    Inside a JSON string this changes the spelling and not the value.
    """
    return _UNPRINTABLE.sub(_escape, text)


_UNPRINTABLE: Final = re.compile(r"[^\x20-\x7e]")


def _escape(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


_encoder: Final = msgspec.json.Encoder(order="sorted")
_LEVELS: Final[Mapping[str, int]] = {
    "exception": Level.ERROR,
    **{level.name.lower(): level.value for level in Level},
}
_renderers: Final = {
    colours: structlog.dev.ConsoleRenderer(colors=colours, sort_keys=True) for colours in (False, True)
}
_pipe: Final = _Pipe()
_foreign_log: Final = structlog.get_logger()


def _allowed(event: Mapping[str, Any], losses: LogLosses) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in event.items():
        if name in ALLOWED_FIELDS:
            kept = _plain(value)
            if kept is not _NOT_PLAIN:
                fields[name] = kept
    if len(fields) < len(event):
        losses.count_fields(len(event) - len(fields))
    return fields


_NOT_PLAIN: Final = object()
_MAX_INTEGER: Final = 2**63 - 1


def _plain(value: Any) -> Any:
    """Return `value` as the line may hold it, or `_NOT_PLAIN`: the text form of an object is unknown."""
    if isinstance(value, str):
        if type(value) is not str:
            value = str.__str__(value)
        if len(value) > MAX_TEXT_LENGTH:
            value = value[: MAX_TEXT_LENGTH - 1] + "…"
        # A lone surrogate (from a file name, or from hostile JSON) has no UTF-8 form.
        return value if value.isascii() else value.encode("utf-8", "replace").decode()
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return int(value) if abs(value) <= _MAX_INTEGER else _NOT_PLAIN
    if isinstance(value, PurePath):
        return _plain(str(value))
    if isinstance(value, list | tuple | set | frozenset):
        items = sorted(value, key=str) if isinstance(value, set | frozenset) else value
        kept = [_plain(item) for item in items[:MAX_LIST_LENGTH]]
        return _NOT_PLAIN if any(not isinstance(item, str | int) for item in kept) else kept
    return _NOT_PLAIN


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
