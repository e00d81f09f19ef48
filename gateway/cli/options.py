"""How the values of options are read: files, pairs, times."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from gateway.cli.failures import CommandError
from gateway.clock import parse_rfc3339
from gateway.model import NAME_PATTERN, dataset_name, parse_dataset_name


def require_file(path: Path, what: str, origin: str) -> Path:
    """Return `path` if it is a file; raise `CommandError` that says where it should come from."""
    if path.is_file():
        return path
    state = "is a folder" if path.is_dir() else "does not exist"
    raise CommandError(f"{what} {path} {state}; {origin}.")


def require_new_file(path: Path) -> Path:
    """Return `path` if a file can be made there; raise `CommandError` if there is something already."""
    if path.exists():
        raise CommandError(f"{path} exists already; name another file, or move it away.")
    if not path.absolute().parent.is_dir():
        raise CommandError(f"The folder {path.parent} does not exist; make it first.")
    return path


def parse_pairs(option: str, values: Sequence[str]) -> list[tuple[str, str]]:
    """Return (field, value) for each `field=value`; raise `CommandError` without quoting a value."""
    pairs = []
    for at, text in enumerate(values, start=1):
        field, equals, value = text.partition("=")
        if not equals or not field.strip() or not value:
            raise CommandError(
                f"{option} takes field=value, such as {option} name='Amber Trading Co.'; "
                f"number {at} is not of this form."
            )
        pairs.append((field.strip(), value))
    return pairs


def parse_mapping(option: str, values: Sequence[str]) -> dict[str, str]:
    """Return the pairs as a dictionary; raise `CommandError` if a field is named twice."""
    pairs = parse_pairs(option, values)
    found = dict(pairs)
    if len(found) != len(pairs):
        raise CommandError(f"{option} names a field twice; every field can have one value.")
    return found


def parse_time(option: str, text: str | None) -> datetime | None:
    """Return the time that `text` names: RFC 3339 with an offset, or a date, which begins at midnight UTC."""
    if text is None:
        return None
    try:
        return parse_rfc3339(text if "T" in text or " " in text else f"{text}T00:00:00+00:00")
    except ValueError as error:
        raise CommandError(
            f"{option} takes a date or a time with its offset, such as 2026-11-21 or 2026-11-21T08:30:00Z."
        ) from error


_DURATION: Final = re.compile(r"([0-9]{1,6})([smhd])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_duration(option: str, text: str) -> timedelta:
    """Return the time that `text` names: a number with s, m, h or d."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise CommandError(f"{option} takes a number with s, m, h or d, such as 90s, 15m, 1h or 7d.")
    return timedelta(seconds=int(match[1]) * _SECONDS[match[2]])


def parse_dataset(text: str) -> str:
    """Return the resource name of a dataset, also for the short form `member/dataset`."""
    for name in (text, dataset_name(*text.split("/")) if text.count("/") == 1 else ""):
        try:
            return dataset_name(*parse_dataset_name(name))
        except ValueError:
            continue
    raise CommandError(
        "A dataset is named members/MEMBER/datasets/DATASET, or for short MEMBER/DATASET, such as "
        "registry/companies; see `gateway catalog list`."
    )


def parse_member(text: str) -> str:
    """Return the id of a member, also when it is given as `members/ID`."""
    member = text.removeprefix("members/")
    if re.fullmatch(NAME_PATTERN, member) is None:
        raise CommandError(
            "A member's id begins with a lower-case letter and goes on with letters, digits and hyphens, at "
            "most 40 characters, such as harbour-bank."
        )
    return member
