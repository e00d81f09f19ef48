"""The address of a PostgreSQL database: a libpq URL without a secret in it.

The password comes from a password file of mode 0600 (`passfile=` in the address, or libpq's own
`~/.pgpass`), from a service file, from a client certificate, or from nowhere (peer authentication).
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlencode, urlsplit, urlunsplit

from gateway.errors import ConfigError
from gateway.evidence.keys import read_secret

SCHEMES: Final = ("postgresql://", "postgres://")

_ALLOWED: Final = frozenset(
    {
        "host",
        "hostaddr",
        "port",
        "user",
        "dbname",
        "service",
        "passfile",
        "sslmode",
        "sslrootcert",
        "sslcert",
        "sslkey",
        "target_session_attrs",
    }
)
_FILES: Final = ("passfile", "sslrootcert", "sslcert", "sslkey")
_SECRET_FILES: Final = ("passfile", "sslkey")
_NO_FILE: Final = "system"
"""`sslrootcert=system` means the system's authorities, not a file."""


@dataclass(frozen=True, slots=True)
class PostgresAddress:
    """Where a database is, and as whom it is opened. Holds no secret, so it may be shown."""

    url: str

    def __str__(self) -> str:
        return self.url

    @classmethod
    def parse(cls, url: str) -> PostgresAddress:
        """Read a libpq URL; raise `ConfigError` if it is none, or says what must not stand in it."""
        parameters = _parse(url)
        if "password" in parameters:
            # Without the address: it is what must not be shown.
            raise ConfigError(
                "A database address holds a password; put that into a file of mode 0600 and name the file "
                "with passfile=."
            )
        unknown = sorted(parameters.keys() - _ALLOWED)
        if unknown:
            raise ConfigError(f"A database address may not set {', '.join(unknown)}.")
        if not _is_local(parameters) and parameters.get("sslmode", "verify-full") != "verify-full":
            raise ConfigError(
                "A database on another host is reached with sslmode=verify-full only; correct the address."
            )
        return cls(url)

    @property
    def user(self) -> str:
        """The role that the address names; empty if libpq is to choose."""
        return _parse(self.url).get("user", "")

    def resolved(self, base: Path) -> PostgresAddress:
        """Return the address with the files that it names made absolute from `base`."""
        parts = urlsplit(self.url)
        query = {name: value for name, value in _parse(self.url).items() if name in _query_names(parts.query)}
        changed = {
            name: str(base / value)
            for name, value in query.items()
            if name in _FILES and value != _NO_FILE and not Path(value).is_absolute()
        }
        if not changed:
            return self
        return PostgresAddress(urlunsplit(parts._replace(query=urlencode({**query, **changed}))))

    def parameters(self) -> dict[str, str]:
        """Return what libpq is to connect with; raise `ConfigError` if a secret file is open to others.

        Over a network the server must prove who it is, unless the address is of this host.
        """
        if "PGPASSWORD" in os.environ:
            raise ConfigError(
                "PGPASSWORD is set, and a process's environment is no place for a secret; unset it and name "
                "a password file of mode 0600 with passfile=."
            )
        parameters = _parse(self.url)
        for name in _SECRET_FILES:
            if name in parameters:
                read_secret(Path(parameters[name]))
        if "service" in parameters:
            _check_service_file()
        if not _is_local(parameters):
            parameters["sslmode"] = "verify-full"
        return parameters


def parse_place(value: object) -> object:
    """Return a `PostgresAddress` for a text that is one; anything else as it is (a path).

    For settings: raises `ValueError`.
    """
    if isinstance(value, str) and value.strip().startswith(SCHEMES):
        try:
            return PostgresAddress.parse(value.strip())
        except ConfigError as error:
            raise ValueError(error.message) from error
    return value


def _parse(url: str) -> dict[str, str]:
    # Only deployments with PostgreSQL pay for the driver.
    import psycopg.conninfo  # noqa: PLC0415

    if not url.startswith(SCHEMES):
        raise ConfigError("A database address begins with postgresql://.")
    try:
        return {name: str(value) for name, value in psycopg.conninfo.conninfo_to_dict(url).items()}
    except psycopg.Error:
        # Its text quotes the address, which may hold a secret.
        raise ConfigError(
            "This is no database address; it looks like "
            "postgresql://gateway@db.example.org/sluicegate?passfile=keys/pgpass."
        ) from None


def _query_names(query: str) -> frozenset[str]:
    return frozenset(part.partition("=")[0] for part in query.split("&"))


def _is_local(parameters: Mapping[str, str]) -> bool:
    """Whether every host is a socket's folder or of this machine, so that no network lies between."""
    hosts = parameters.get("hostaddr") or parameters.get("host") or ""
    if not hosts:
        return "service" not in parameters
    return all(_is_loopback(host) for host in hosts.split(","))


def _is_loopback(host: str) -> bool:
    if not host or host.startswith(("/", "@")) or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_service_file() -> None:
    path = Path(os.environ.get("PGSERVICEFILE") or Path.home() / ".pg_service.conf")
    if path.exists():
        read_secret(path)
