"""Programs that nobody here wrote, and a log of 10,000 entries for them to check."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.audit.checkpoint import Checkpoint, sign_checkpoint
from gateway.audit.export import export_tiles
from gateway.audit.note import Ed25519Signer
from gateway.audit.sqlite import SqliteStore
from gateway.audit.sqlite_reader import SqliteReader
from gateway.audit.store import LogIdentity, prepare_entry
from gateway.clock import rfc3339
from gateway.model.entry import Entry, EntryKind

ORIGIN = "audit.example.org/log/2026"
COUNT = 10_000
BATCH = 97
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
TOOLS = Path(__file__).parents[2] / ".tools" / "bin"


@pytest.fixture(scope="session")
def program():
    """Return a function that finds a program which `make foreign` has built, or skips the test."""

    def program(name):
        if not (TOOLS / name).exists():
            pytest.skip(f"{name} is not built: run `make foreign` (needs Go 1.26 or later)")
        return TOOLS / name

    return program


@pytest.fixture(scope="session")
def system_program():
    """Return a function that finds a program of the system, or skips the test."""

    def system_program(name, package):
        found = shutil.which(name)
        if found is None:
            pytest.skip(f"{name} is not installed: install the package {package}")
        return found

    return system_program


@pytest.fixture(scope="session")
def signer():
    return Ed25519Signer.from_seed(ORIGIN, bytes(range(32)))


@pytest.fixture(scope="session")
def log(tmp_path_factory, signer):
    """The log's database."""
    path = tmp_path_factory.mktemp("log") / "audit.db"

    def sign(size, root):
        return sign_checkpoint(Checkpoint(ORIGIN, size, root), signer)

    def entry(number):
        return prepare_entry(
            Entry(
                v=1,
                kind=EntryKind.EXCHANGE_RELEASED,
                time=rfc3339(NOON + timedelta(milliseconds=number)),
                exchange=f"0195512e-0000-7000-8000-{number:012x}",
                consumer=f"bank-{number % 3}",
                provider="registry",
                records=number,
            )
        )

    with SqliteStore(path) as store:
        store.open(LogIdentity(ORIGIN, signer.verifier), sign)
        for first in range(0, COUNT, BATCH):
            store.append([entry(number) for number in range(first, min(first + BATCH, COUNT))], sign, NOON)
    return path


@pytest.fixture(scope="session")
def exported(log, signer, tmp_path_factory):
    """The log as a directory; not to be changed."""
    directory = tmp_path_factory.mktemp("exported") / "log"
    with SqliteReader(log) as reader:
        export_tiles(reader, directory, [signer.verifier])
    return directory


@pytest.fixture
def directory(exported, tmp_path):
    """A copy of the directory, to be changed."""
    return Path(shutil.copytree(exported, tmp_path / "log"))
