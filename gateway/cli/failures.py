"""What went wrong, told once and in one form: what, why, where the log tells of it, what to do next."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import Final

from rich.console import Console
from rich.text import Text

from gateway.cli.exits import Exit, exit_of
from gateway.cli.output import Format, to_json, visible
from gateway.errors import ConfigError, GatewayError, Reason

DEBUG_VARIABLE: Final = "SLUICEGATE_DEBUG"


@dataclass(frozen=True, slots=True)
class Failure:
    """A command's failure as people and programs see it."""

    message: str
    code: Exit
    reason: str = ""
    reasons: tuple[str, ...] = ()
    """All reasons policy gave, where there are several."""
    exchange: str = ""
    entry: int | None = None
    """Index of the log entry that tells of it."""
    advice: str = ""
    """What to do next, where the message does not say it."""
    reference: str = ""
    frames: tuple[str, ...] = ()
    """Where an unexpected fault arose; only in debug mode."""


class CommandError(ConfigError):
    """What the command line asks for cannot be done as it stands."""


class CommandFailed(Exception):  # noqa: N818 - it carries a failure, and may be no error of ours
    """Ends a command with a failure that has been described already."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def describe_failure(error: Exception) -> Failure:
    """Return what to tell of `error`; whatever is not expected becomes a reference without detail."""
    if isinstance(error, CommandFailed):
        return error.failure
    if isinstance(error, GatewayError):
        known = "" if error.reason is Reason.INTERNAL else error.reason.value
        return Failure(error.message, exit_of(error), reason=known)
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return Failure(
            f"{os.fsdecode(error.filename)}: {error.strerror}.",
            Exit.USAGE,
            advice="Check the path, and that this user may use it.",
        )
    return _unexpected(error)


def tell_failure(failure: Failure, form: Format, *, no_colour: bool) -> None:
    """Write `failure` to standard error: text for people, or one JSON object."""
    if form is not Format.TABLE:
        sys.stderr.write(to_json({"error": _document(failure)}) + "\n")
        return
    console = Console(stderr=True, no_color=no_colour, highlight=False, soft_wrap=True)
    console.print(Text("error: ", "bold red") + Text(visible(failure.message, keep_lines=True)))
    facts = {
        "reason": ", ".join(failure.reasons) or failure.reason,
        "exchange": failure.exchange,
        "log entry": "" if failure.entry is None else str(failure.entry),
        "reference": failure.reference,
        "next": failure.advice,
    }
    for name, value in facts.items():
        if value:
            console.print(Text(f"  {name:<10}", "dim") + Text(visible(value)))
    for frame in failure.frames:
        console.print(Text(f"  {visible(frame)}", "dim"))


def _unexpected(error: Exception) -> Failure:
    # Foreign messages may quote a value, so that even in debug mode only places are told.
    from gateway.telemetry.faults import describe_fault, new_reference  # noqa: PLC0415 - seldom needed

    debugging = bool(os.environ.get(DEBUG_VARIABLE))
    told = describe_fault(error, with_frames=debugging)
    return Failure(
        f"Something unexpected happened ({told['error_type']}).",
        Exit.INTERNAL,
        reason=Reason.INTERNAL.value,
        reference=new_reference(),
        frames=tuple(told.get("frames", ())),
        advice="Report this to the maintainers with the lines above."
        if debugging
        else f"Run it again with {DEBUG_VARIABLE}=1 to see where, and report it with the reference.",
    )


def _document(failure: Failure) -> dict[str, object]:
    facts: dict[str, object] = {
        "message": failure.message,
        "exit": int(failure.code),
        "reason": failure.reason,
        "reasons": list(failure.reasons),
        "exchange": failure.exchange,
        "entry": failure.entry,
        "next": failure.advice,
        "reference": failure.reference,
        "frames": list(failure.frames),
    }
    return {name: value for name, value in facts.items() if value not in ("", [], None)}
