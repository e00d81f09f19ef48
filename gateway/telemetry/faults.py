"""Faults: what may be said of an exception, and the reference that joins a caller's error to our log."""

from __future__ import annotations

import secrets
import sys
import threading
import traceback
from types import TracebackType
from typing import Any, Final

import structlog

from gateway.errors import ConfigError, GatewayError

_log: Final = structlog.get_logger()

MAX_FRAMES: Final = 30
"""Innermost frames told of one fault."""

_MAX_CAUSES: Final = 5

ExceptionInfo = BaseException | tuple[Any, Any, Any] | bool
"""What `exc_info` may be: an exception, a triple of `sys.exc_info`, or true for the one being handled."""


def new_reference() -> str:
    """Return a fresh reference (12 hex digits, 48 random bits) to show a caller and to write in the log."""
    return secrets.token_hex(6)


def record_fault(error: BaseException, *, method: str = "") -> str:
    """Log `error`, a fault of our own, as `fault.recorded`; return the reference to show outside."""
    reference = new_reference()
    _log.error("fault.recorded", reference=reference, method=method, exc_info=error)
    return reference


def describe_fault(error: ExceptionInfo, *, with_frames: bool) -> dict[str, Any]:
    """Return the log fields that tell of `error`: its type, its reason if it has one, its frames.

    Never its message, which may quote a value (only a `ConfigError`'s, which speaks of our own
    files), and never local variables. Frames are `file:line
    function`, outermost first, those of the exception's causes before its own.
    """
    fault = _exception(error)
    if fault is None:
        return {}
    fields: dict[str, Any] = {"error_type": type(fault).__qualname__}
    if isinstance(fault, GatewayError):
        fields["reason"] = fault.reason.value
    if isinstance(fault, ConfigError):
        fields["message"] = fault.message
    if with_frames:
        fields["frames"] = _frames(fault)
    return fields


def capture_uncaught() -> None:
    """Route exceptions that nobody caught (main thread, other threads, finalisers) into the log.

    Python's own hooks print the message, which may quote a value, to standard error.
    """

    def from_main(_: type[BaseException], error: BaseException, __: TracebackType | None) -> None:
        if isinstance(error, KeyboardInterrupt):
            return
        _log.critical("fault.uncaught", exc_info=error)

    def from_thread(arguments: threading.ExceptHookArgs) -> None:
        if arguments.exc_value is not None:
            _log.critical("fault.uncaught", exc_info=arguments.exc_value)

    def from_finaliser(arguments: sys.UnraisableHookArgs) -> None:
        if arguments.exc_value is not None:
            _log.error("fault.uncaught", exc_info=arguments.exc_value)

    sys.excepthook = from_main
    threading.excepthook = from_thread
    sys.unraisablehook = from_finaliser


def _exception(error: ExceptionInfo) -> BaseException | None:
    if isinstance(error, BaseException):
        return error
    if isinstance(error, tuple):
        return error[1] if isinstance(error[1], BaseException) else None
    return sys.exc_info()[1]


def _frames(error: BaseException) -> list[str]:
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and len(chain) < _MAX_CAUSES and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    told: list[str] = []
    for link in reversed(chain):
        summary = traceback.StackSummary.extract(
            traceback.walk_tb(link.__traceback__), limit=-MAX_FRAMES, lookup_lines=False, capture_locals=False
        )
        told += [f"{_short(frame.filename)}:{frame.lineno} {frame.name}" for frame in summary]
        told.append(f"raised {type(link).__qualname__}")
    return told[-MAX_FRAMES:]


def _short(filename: str) -> str:
    return "/".join(filename.split("/")[-3:])
