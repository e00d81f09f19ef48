"""The shelf in a SQLite file."""

from __future__ import annotations

import sqlite3
import stat
from contextlib import closing

import pytest

from gateway.activation.errors import ShelfError
from gateway.activation.sqlite import SqliteShelf


def test_a_shelf_that_is_not_there_is_empty(tmp_path):
    shelf = SqliteShelf(tmp_path / "policy.db")
    assert shelf.latest() == (0, "")
    assert shelf.find("sha256:0") is None
    assert shelf.file_of("sha256:0") is None
    assert not (tmp_path / "policy.db").exists()


def test_what_is_put_there_is_found(tmp_path):
    path = tmp_path / "policy.db"
    SqliteShelf(path).put("s1", b"envelope 1", "b1", "f1", b"file 1")
    shelf = SqliteShelf(path)
    shelf.put("s2", b"envelope 2", "b1", "f1", b"file 1, another time")
    assert shelf.latest() == (2, "s2")
    found = shelf.find("s1")
    assert found is not None
    assert (found.sequence, found.envelope, found.file) == (1, b"envelope 1", b"file 1")
    assert shelf.file_of("b1") == b"file 1", "what lies there stays as it is"
    shelf.put("s1", b"envelope 1", "b1", "f1", b"file 1")
    assert shelf.latest() == (3, "s1")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_that_is_no_shelf_is_refused(tmp_path):
    path = tmp_path / "policy.db"
    path.write_bytes(b"no database" * 100)
    with pytest.raises(ShelfError):
        SqliteShelf(path).latest()
    with closing(sqlite3.connect(tmp_path / "other.db")) as connection:
        connection.execute("PRAGMA user_version = 7")
        connection.execute("CREATE TABLE other (id)")
    with pytest.raises(ShelfError, match="version 7"):
        SqliteShelf(tmp_path / "other.db").latest()
    with pytest.raises(ShelfError):
        SqliteShelf(tmp_path / "nowhere" / "policy.db").put("s", b"", "b", "f", b"")
