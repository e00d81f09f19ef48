"""The configuration after a rotation: the sections that name places, changed, and nothing else."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Any

from gateway.audit.stores import Place
from gateway.config import GatewayConfig
from gateway.database import PostgresAddress
from gateway.deployment.rotation import Rotation
from gateway.errors import ConfigError


def settings_of_next(text: str, config: GatewayConfig, rotation: Rotation, folder: Path) -> str:
    """Return the text of the configuration changed to go on in the next log.

    That is `[log]`, `[details]`, and `[members]` and `[contracts]` where a database takes all. Everything
    else, comments too, stays as it is. `folder` is that of the file: paths within it are written relative
    to it. Raises `ConfigError` if the file's form is not one that can be changed safely.
    """
    database = _relative(rotation.database, folder)
    previous = [_relative(place, folder) for place in (*config.log.previous, config.log.database)]
    changes: dict[str, dict[str, Any]] = {
        "log": {"origin": rotation.opened, "database": database, "previous": previous}
    }
    if isinstance(rotation.database, PostgresAddress):
        changes["members"] = {"database": database}
        if config.contracts.database is not None:
            changes["contracts"] = {"database": database}
    if config.details is not None:
        # Details are sealed for their log, and stay with it.
        place = _next_details(config.details.database, rotation)
        changes["details"] = {"database": _relative(place, folder)}
    changed = text
    for section, settings in changes.items():
        changed = _with_settings(changed, section, settings, rotation)
    try:
        before, after = tomllib.loads(text), tomllib.loads(changed)
    except tomllib.TOMLDecodeError as error:
        raise _edit_by_hand(rotation) from error
    expected = {section: {**before[section], **settings} for section, settings in changes.items()}
    if after != {**before, **expected}:
        raise _edit_by_hand(rotation)
    return changed


def _next_details(place: Place, rotation: Rotation) -> Place:
    if isinstance(place, Path):
        return place.with_name(f"details-{rotation.opened.rpartition('/')[2]}{place.suffix}")
    return rotation.database


def _with_settings(text: str, section: str, settings: dict[str, Any], rotation: Rotation) -> str:
    pattern = rf"^\[{section}\][ \t]*(?:#.*)?\n(?P<body>(?:(?!\[).*\n?)*)"
    found = re.search(pattern, text, re.MULTILINE)
    if found is None:
        raise _edit_by_hand(rotation)
    body = found["body"]
    for name, value in settings.items():
        body = _with_setting(body, name, _toml(value))
    return text[: found.start("body")] + body + text[found.end("body") :]


def _with_setting(body: str, name: str, value: str) -> str:
    line = re.compile(rf"^{name}[ \t]*=.*$", re.MULTILINE)
    if line.search(body):
        return line.sub(lambda _: f"{name} = {value}", body, count=1)
    return f"{name} = {value}\n{body}"


def _relative(place: Place, folder: Path) -> str:
    if isinstance(place, PostgresAddress):
        return place.url
    resolved, base = place.resolve(), folder.resolve()
    return os.path.relpath(resolved, base) if resolved.is_relative_to(base) else str(resolved)


def _toml(value: str | list[str]) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _edit_by_hand(rotation: Rotation) -> ConfigError:
    others = " In [details] name a new file."
    if isinstance(rotation.database, PostgresAddress):
        others = " Set database in [members] and [details] to that one, too."
    return ConfigError(
        f"The log is closed, and {rotation.database} is begun, but the configuration is not of a form that "
        f"can be changed safely. In its section [log], set origin to {rotation.opened} and database to "
        f"{rotation.database}, and add where the closed log is to the list `previous`.{others}"
    )
