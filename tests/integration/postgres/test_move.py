"""Moving to PostgreSQL what contributors gave, what they see of its use, and open corrections."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import pytest_asyncio

from gateway.activation.shelves import open_shelf
from gateway.activation.transfer import carried_shelf
from gateway.client import error_class
from gateway.corrections.database import corrections_file
from gateway.corrections.sqlite import SqliteTables
from gateway.database import PostgresAddress
from gateway.database.carrying import CarriedFile
from gateway.database.errors import CopyMismatchError, DatabaseUnavailableError
from gateway.database.session import connect
from gateway.deployment import move
from gateway.deployment.move import Moved, move_to_postgres
from gateway.errors import ConfigError, Reason
from gateway.evidence.correction import AnswerOutcome
from gateway.evidence.keys import SigningKey
from gateway.ledger.accounts import Account, AccountKind
from gateway.ledger.store import Debt, DebtKind
from gateway.ledger.stores import ledger_file, open_ledger
from gateway.model import EntryKind
from gateway.model.contract import Per
from gateway.usage.period import today
from gateway.usage.setting import sign_webhook
from gateway.usage.stores import open_usage_store, usage_file
from gateway.usage.transfer import carried_usage
from gateway.vault.postgres import PostgresEngine
from gateway.vault.sqlite import SqliteEngine
from gateway.vault.transfer import carried_vault
from tests.behaviour.test_contributed import GIVER, agree, give, served, shops, with_bad_rows
from tests.simulators.correcting import announce, ask, describe, recipients, waiting
from tests.simulators.postgres import PostgresServer, name_database
from tests.simulators.two_nodes import SharedLog
from tests.simulators.usage_store import NOW, finding
from tests.simulators.waiting import until
from tests.simulators.world import SimulatedWorld

pytestmark = pytest.mark.postgres

NEXT_MONTH = timedelta(days=33)
URL = "https://hooks.example.org/x"
ACCOUNT = Account(AccountKind.GIVEN, "tradeplatform/shops", "", Per.TERM, NOW.date())
DEBT = Debt(
    kind=DebtKind.NOTICE,
    exchange="0195512e-0000-7000-8000-000000000001",
    consumer="harbour-bank",
    provider="registry",
    dataset="members/registry/datasets/companies",
    until=NOW,
    subject="",
)


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> Any:
    world = SimulatedWorld(tmp_path / "world")
    describe(world)
    await world.start()
    try:
        yield world
        world.log.verify()
    finally:
        await world.stop()


async def moved_to(world: SimulatedWorld, address: PostgresAddress) -> Moved:
    """Do what an operator does: stop, move, name the database, start."""
    await world.stop_node()
    done = await asyncio.to_thread(move_to_postgres, world.deployment.load(), address)
    name_database(world.deployment.config, address)
    world.config = world.deployment.load()
    world.log = SharedLog(address, world.trust)
    await world.start_node()
    return done


def files_of(world: SimulatedWorld) -> tuple[Path, Path, Path]:
    """Return the files of the vault, of usage and of corrections."""
    assert world.config.vault is not None
    log = world.config.log.database
    return world.config.vault.database, usage_file(log), corrections_file(log)


def counts(path: Path) -> dict[str, int]:
    with closing(sqlite3.connect(path)) as connection:
        tables = connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        ).fetchall()
        return {name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for (name,) in tables}


async def notices_of(world: SimulatedWorld, member: str) -> list[Any]:
    return [notice async for notice in world.client(member).notices()]


@pytest.mark.asyncio
async def test_what_companies_gave_is_served_after_the_move_as_before(
    world: SimulatedWorld, server: PostgresServer
) -> None:
    rows = shops(world)
    await agree(world)
    done = await give(world, with_bad_rows(rows), "march")
    changed = {**rows[8], "name": "Another name"}
    assert (await give(world, [changed], "april")).accepted
    await served(world, changed)
    await world.stop_node()
    vault, *_ = files_of(world)
    before = counts(vault)
    assert (before["vault_batch"], before["vault_live"]) == (2, len(rows))

    moved = await moved_to(world, server.database())

    assert {name: moved.rows[name] for name in before} == before
    assert isinstance(world.config.vault.database, PostgresAddress)
    assert not vault.exists(), "data keys that are destroyed later must not be left in a file"
    for row in (rows[7], changed):
        assert (await served(world, row)).verified.from_vault
    again = await give(world, with_bad_rows(rows), "march")
    assert again.receipt == done.receipt, "the batch is known"
    newest = {**rows[9], "name": "The newest name"}
    assert (await give(world, [newest], "may")).accepted
    for row in (newest, changed):
        assert (await served(world, row)).verified.from_vault


@pytest.mark.asyncio
async def test_corrections_that_are_open_are_answered_after_the_move(
    world: SimulatedWorld, server: PostgresServer
) -> None:
    for member in ("harbour-bank", "northern-bank"):
        await ask(world, member, 1)
    first = await announce(world, 1)
    [answered] = await waiting(world.client("northern-bank"))
    await world.client("northern-bank").corrections.answer(answered, AnswerOutcome.DELETED)
    [open_notice] = await waiting(world.client())
    *_, corrections = files_of(world)

    moved = await moved_to(world, server.database())

    assert [moved.rows[name] for name in ("recipient", "correction", "correction_notice")] == [2, 1, 2]
    assert not corrections.exists(), "what is forgotten later must not be left in a file"
    assert await waiting(world.client("northern-bank")) == []
    [still_open] = await waiting(world.client())
    assert still_open.payload == open_notice.payload
    await world.client().corrections.answer(still_open, AnswerOutcome.DONE)
    for client, received in ((world.client(), still_open), (world.client("northern-bank"), answered)):
        with pytest.raises(error_class(Reason.REPLAYED)):
            await client.corrections.answer(received, AnswerOutcome.DONE)
    second = await announce(world, 1)
    assert recipients(second) == recipients(first) == ["members/harbour-bank", "members/northern-bank"]
    [told] = await waiting(world.client())
    assert told.notice.correction in second.name


@pytest.mark.asyncio
async def test_statements_notices_and_webhooks_are_there_after_the_move(
    world: SimulatedWorld, server: PostgresServer
) -> None:
    rows = shops(world)
    await agree(world)
    await give(world, rows, "march")
    await served(world, rows[0])
    month = today(world.clock())[:7]
    world.clock.advance(NEXT_MONTH)
    statement = await world.client("registry").statement_of_use(month)
    key = SigningKey.load(world.members["registry"].signing_key)
    setting = sign_webhook(world.trust.origin, "registry", URL, key, world.clock())
    assert await world.client("registry").set_webhook(setting) == URL

    async def are_given() -> bool:
        return bool(await notices_of(world, GIVER))

    await until(are_given)
    given = await notices_of(world, GIVER)
    await world.stop_node()
    _, usage, _ = files_of(world)
    before = counts(usage)

    moved = await moved_to(world, server.database())

    assert {name: moved.rows[name] for name in before} == before
    assert (before["usage_statement"], before["usage_webhook"]) == (1, 1)
    assert usage.with_name(usage.name + ".moved") in moved.files
    assert await world.client("registry").statement_of_use(month) == statement
    issued = [entry for entry in world.log.entries() if entry.kind is EntryKind.STATEMENT_ISSUED]
    assert len(issued) == 1, "it is not issued anew"
    with pytest.raises(error_class(Reason.REPLAYED)):
        await world.client("registry").set_webhook(setting)
    assert (await notices_of(world, GIVER))[: len(given)] == given != []


@pytest.fixture
def stopped(tmp_path: Path) -> SimulatedWorld:
    """A deployment that has never served, with something in every store."""
    world = SimulatedWorld(tmp_path / "world")
    fill_vault(world)
    with closing(open_usage_store(world.config.log.database)) as store:
        store.add("tradeplatform", [finding("a"), finding("b")], NOW)
    fill_corrections(corrections_file(world.config.log.database))
    with closing(open_ledger(world.config.log.database)) as ledger:
        ledger.credit(ACCOUNT, 7)
        ledger.owe(DEBT)
    return world


def fill_vault(world: SimulatedWorld) -> None:
    assert world.config.vault is not None
    with closing(SqliteEngine(world.config.vault.database)) as engine, engine.writing() as session:
        session.insert(
            "vault_holding",
            ("number", "contract", "dataset", "version", "alive", "retention", "time"),
            [(3, "shops", "members/tradeplatform/datasets/shops", 1, 2, "", "")],
        )
        session.insert(
            "vault_key", ("holding", "number", "kek", "wrapped", "made"), [(3, 1, "kek", WRAPPED, "now")]
        )
        columns = (
            *("number", "holding", "name", "identity", "key", "layout", "records", "pages", "resume"),
            *("evidence", "touched", "version", "bound", "discarded"),
        )
        session.insert(
            "vault_batch",
            columns,
            [(5, 3, "march", "sha256:1", 1, "{}", 2, 1, b"", b"\x00", "now", 1, b"b", 0)],
        )
        session.insert("vault_run", ("number", "batch", "first", "digests"), [(7, 5, 0, b"\xff\x00")])
        page = ("number", "run", "batch", "place", "records", "content")
        session.insert("vault_page", page, [(7, 7, 5, 0, 2, b"\x00sealed\n\\\xff"), (11, 7, 5, 1, 2, b"")])
        session.insert("vault_token", ("run", "token", "place"), [(7, -(2**63), 7 * 65_536)])
        session.insert("vault_keyed", ("run", "token", "place"), [(7, b"\x00" * 16, 7 * 65_536)])
        session.insert("vault_live", ("holding", "token", "place"), [(3, b"\x00" * 16, 7 * 65_536)])
        session.insert("vault_dead", ("place", "holding", "version"), [(7 * 65_536 + 1, 3, 1)])


WRAPPED = b"a wrapped data key, forty bytes of it...\x00"


def fill_corrections(path: Path) -> None:
    with closing(SqliteTables(path)) as tables, tables.transaction() as statements:
        for number in (9, 4):
            statements.execute(
                "INSERT INTO recipient VALUES"
                " (:id, :exchange, 0, 'bank', 'registry', 'd', 'p', '', 'raw', 't', 1, :tokens)",
                {"id": number, "exchange": f"exchange-{number}", "tokens": bytes([number]) * 16},
            )
        statements.execute(
            "INSERT INTO correction VALUES ('c', 'registry', 'd', 'k', 'r', 't', 't', 1, NULL)"
        )
        statements.execute(
            "INSERT INTO correction_notice (correction, recipient, digest, position, content)"
            " VALUES ('c', 'bank', 'x', 7, :content)",
            {"content": b"\x00sealed"},
        )
        statements.execute("UPDATE correction_head SET position = 7")


def rows_in(address: PostgresAddress, statement: str) -> list[tuple[Any, ...]]:
    with connect(address, "test") as connection:
        return connection.execute(statement, binary=True).fetchall()


def test_rows_are_carried_as_they_are_and_their_numbers_go_on(
    stopped: SimulatedWorld, server: PostgresServer
) -> None:
    address = server.database()
    vault, usage, _ = files_of(stopped)
    with closing(sqlite3.connect(usage)) as connection, connection:
        # The number of a notice that is gone is not given again.
        connection.execute("DELETE FROM usage_notice WHERE key = 'b'")
        connection.execute("INSERT INTO usage_delivery VALUES (2, 'tradeplatform', 0, '')")
    with closing(sqlite3.connect(vault)) as connection:
        columns = "number, run, batch, place, records, content"
        pages = connection.execute(f"SELECT {columns} FROM vault_page ORDER BY number").fetchall()
    move_to_postgres(stopped.config, address)
    assert rows_in(address, f"SELECT {columns} FROM vault_page ORDER BY number") == pages
    assert rows_in(address, "SELECT wrapped FROM vault_key") == [(WRAPPED,)]
    assert rows_in(address, "SELECT token FROM vault_token") == [(-(2**63),)]
    assert rows_in(address, "SELECT destroyed, time FROM vault_holding") == [(None, "")]
    assert rows_in(address, "SELECT exchange FROM recipient ORDER BY id") == [
        ("exchange-4",),
        ("exchange-9",),
    ]
    assert rows_in(address, "SELECT position FROM correction_head") == [(7,)]
    assert rows_in(address, "SELECT count(*) FROM usage_delivery") == [(0,)], "of a notice that is gone"
    with closing(open_usage_store(address)) as store:
        (kept,) = store.add("tradeplatform", [finding("c")], NOW)
        assert [notice.finding.key for notice in store.notices("tradeplatform", 0, 9)] == ["a", "c"]
    assert kept.id == 3
    with closing(PostgresEngine(address)) as engine, engine.writing() as session:
        values = {"run": 1, "batch": 5}
        [(page,)] = session.rows(
            "INSERT INTO vault_page (run, batch, place, records, content) VALUES (:run, :batch, 0, 0, '')"
            " RETURNING number",
            values,
        )
        [(holding,)] = session.rows(
            "INSERT INTO vault_holding (contract, dataset, version, alive, retention, time)"
            " VALUES ('c', 'd', 0, 0, '', '') RETURNING number",
            {},
        )
    assert (page, holding) == (12, 4)


def test_what_is_counted_and_owed_is_so_after_the_move(
    stopped: SimulatedWorld, server: PostgresServer
) -> None:
    address = server.database()
    file = ledger_file(stopped.config.log.database)
    moved = move_to_postgres(stopped.config, address)
    assert file.with_name(file.name + ".moved") in moved.files
    assert (moved.rows["account"], moved.rows["debt"]) == (1, 1)
    with closing(open_ledger(address)) as ledger:
        assert ledger.balances([ACCOUNT]) == {ACCOUNT: 7}
        assert ledger.debts(DebtKind.NOTICE) == [DEBT]


def test_bundles_and_approvals_are_there_after_the_move(tmp_path: Path, server: PostgresServer) -> None:
    address, path = server.database(), tmp_path / "policy.db"
    shelf = open_shelf(path, path)
    for number in (1, 2, 1):
        shelf.put(f"statement-{number}", b"{}", "bundle", f"file-{number}", b"\x1f\x8b" + bytes([number]))
    file = carried_shelf(path)
    with connect(address, "test") as connection:
        with connection.transaction():
            file.copy(connection)
        assert file.verify(connection) == {"policy_file": 2, "policy_proposal": 3}
    with closing(open_shelf(address, path)) as there:
        assert there.latest() == shelf.latest() == (3, "statement-1")
        assert there.find("statement-2") == shelf.find("statement-2")
        there.put("statement-3", b"{}", "bundle", "file-1", b"\x1f\x8b\x01")
        assert there.latest()[1] == "statement-3"
    shelf.close()


TAKEN = {
    "ledger": "INSERT INTO sluicegate.debt VALUES ('', '', '', '', '', '', '')",
    "vault": "INSERT INTO sluicegate.vault_dead VALUES (1, 1, 1)",
    "usage": "INSERT INTO sluicegate.usage_webhook VALUES ('registry', '', '')",
    "corrections": "UPDATE sluicegate.correction_head SET position = 1",
}
EMPTY = {
    "ledger": "DELETE FROM sluicegate.debt",
    "vault": "DELETE FROM sluicegate.vault_dead",
    "usage": "DELETE FROM sluicegate.usage_webhook",
    "corrections": "UPDATE sluicegate.correction_head SET position = 0",
}


@pytest.mark.parametrize("what", TAKEN)
def test_nothing_is_moved_into_a_database_that_holds_such_rows(
    stopped: SimulatedWorld, server: PostgresServer, what: str
) -> None:
    address = server.database()
    with server.owner(address) as connection:
        connection.execute(TAKEN[what])
    with pytest.raises(ConfigError, match="already; name an empty one"):
        move_to_postgres(stopped.config, address)
    assert rows_in(address, "SELECT 1 FROM log UNION ALL SELECT 1 FROM usage_notice") == []
    assert all(file.exists() for file in (stopped.config.log.database, *files_of(stopped)))
    with server.owner(address) as connection:
        connection.execute(EMPTY[what])
    assert move_to_postgres(stopped.config, address).rows["vault_page"] == 2, "the control"


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE vault_key SET wrapped = '\\x00'",
        "DELETE FROM vault_page WHERE number = 11",
        "UPDATE usage_notice SET body = '' WHERE id = 2",
        "UPDATE recipient SET tokens = '' WHERE exchange = 'exchange-9'",
        "UPDATE correction_notice SET position = NULL",
        "UPDATE correction_head SET position = 8",
        "UPDATE account SET records = 8",
        "SELECT 1",
    ],
)
def test_a_copy_that_is_not_the_same_is_found_and_no_file_is_retired(
    stopped: SimulatedWorld, server: PostgresServer, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    """The last changes nothing: the control."""
    address = server.database()
    copied = move._copy

    def damaged(*arguments: Any) -> None:
        copied(*arguments)
        with server.owner(address) as connection:
            connection.execute("SET search_path = sluicegate")
            connection.execute(damage)

    monkeypatch.setattr(move, "_copy", damaged)
    if damage == "SELECT 1":
        assert move_to_postgres(stopped.config, address).rows["correction_notice"] == 1
        return
    with pytest.raises(CopyMismatchError, match="Nothing was retired"):
        move_to_postgres(stopped.config, address)
    assert all(file.exists() for file in (stopped.config.log.database, *files_of(stopped)))


def test_a_move_that_could_not_remove_a_file_is_taken_up_again(
    stopped: SimulatedWorld, server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was in the file is gone by then: the rows in the database are those that count."""
    address = server.database()
    vault, *_ = files_of(stopped)
    unlink = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path == vault:
            raise PermissionError(13, "no")
        unlink(path, missing_ok=missing_ok)

    assert any(WRAPPED in file.read_bytes() for file in with_companions(vault)), "the control"
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        with pytest.raises(DatabaseUnavailableError, match="cannot be removed"):
            move_to_postgres(stopped.config, address)
    assert not any(WRAPPED in file.read_bytes() for file in with_companions(vault))
    assert move_to_postgres(stopped.config, address).rows["vault_key"] == 1
    assert not vault.exists()


def with_companions(path: Path) -> Iterator[Path]:
    yield from path.parent.glob(f"{path.name}*")


@pytest.mark.parametrize("carried", [carried_vault, carried_usage])
def test_another_file_than_the_right_one_is_refused(
    tmp_path: Path, server: PostgresServer, carried: Any
) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE notes (text)")
    file: CarriedFile = carried(path)
    with (
        connect(server.database(), "test") as connection,
        pytest.raises(ConfigError, match="correct the path"),
    ):
        file.copy(connection)
    path.write_bytes(b"no database" * 1000)
    with (
        connect(server.database(), "test") as connection,
        pytest.raises(DatabaseUnavailableError, match="cannot be read"),
    ):
        file.copy(connection)


def test_the_role_of_the_gateway_suffices_and_gets_nothing_more(server: PostgresServer) -> None:
    """Control of how numbers go on: the role may not set a sequence."""
    address = server.database()
    with connect(address, "test") as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("SELECT setval('vault_page_number_seq', 5)")
