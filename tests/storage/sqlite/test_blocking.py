"""The same file from programs without Trio, and from callers' own transactions."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from jobrt._storage.sqlite import BlockingSqlite, blocking, open_blocking
from jobrt.errors import SchemaError, StorageError, StorageUnavailable
from tests.conformance.build import job
from tests.conformance.test_unique import unique
from tests.storage.sqlite.files import locked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOW = datetime(2031, 5, 14, 9, 26, 53, 589_793, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of a file that does not exist yet."""
    return tmp_path / "jobs.db"


@pytest.fixture
def storage(path: Path) -> Iterator[BlockingSqlite]:
    """The file, opened in a separate thread."""
    with open_blocking(path, clock=lambda: NOW) as storage:
        yield storage


def _count(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        (number,) = connection.execute("select count(*) from jobrt_job").fetchone()
    return int(number)


def test_insert_and_look(storage: BlockingSqlite) -> None:
    """Jobs can be inserted and read without an event loop."""
    first, second = storage.insert([job(args={"n": 1}), job()])
    record = storage.get(first.id)
    assert record is not None
    assert (record.args, record.created_at, storage.now()) == ({"n": 1}, NOW, NOW)
    assert storage.get(second.id + 1) is None


@pytest.mark.parametrize("isolation", ["", "IMMEDIATE", "EXCLUSIVE"])
def test_a_connection_that_begins_by_itself(storage: BlockingSqlite, path: Path, isolation: str) -> None:
    """With sqlite3's default settings the caller need not begin a transaction, only commit it."""
    with closing(sqlite3.connect(path, isolation_level=isolation)) as connection:
        storage.insert([job()], conn=connection)
        assert _count(path) == 0
        connection.rollback()
        storage.insert([job()], conn=connection)
        connection.commit()
    assert _count(path) == 1


def test_a_connection_without_a_transaction(storage: BlockingSqlite, path: Path) -> None:
    """In autocommit mode a job could not be rolled back, so it is refused with an error that names the remedy."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        with pytest.raises(StorageError, match="BEGIN IMMEDIATE"):
            storage.insert([job()], conn=connection)
        connection.execute("begin")
        storage.insert([job()], conn=connection)
        connection.execute("commit")
    assert _count(path) == 1


def test_other_connections_are_refused(storage: BlockingSqlite) -> None:
    """The error names the given type; for a file without jobrt's tables it says what to run."""
    with pytest.raises(StorageError, match=r"conn is of type object: pass a sqlite3\.Connection"):
        storage.insert([job()], conn=object())
    with closing(sqlite3.connect(":memory:")) as connection, pytest.raises(SchemaError, match="migrate"):
        storage.insert([job()], conn=connection)


def test_the_callers_rows_are_the_callers(storage: BlockingSqlite, path: Path) -> None:
    """A connection with another row factory works for inserts, including unique jobs."""
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = lambda cursor, row: dict(
            zip((one[0] for one in cursor.description), row, strict=True)
        )
        first = storage.insert([unique(job())], conn=connection)
        again = storage.insert([unique(job())], conn=connection)
        connection.commit()
    assert (first[0].id, again[0].duplicate) == (again[0].id, True)


def test_a_job_that_is_refused_takes_only_itself_along(storage: BlockingSqlite, path: Path) -> None:
    """All of a batch is inserted or none; the caller's earlier writes are kept."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("create table mine (n)")
        connection.execute(
            "create trigger no before insert on jobrt_job when new.name = 'no' begin select raise(abort, 'no'); end"
        )
        connection.execute("begin")
        connection.execute("insert into mine values (1)")
        storage.insert([job()], conn=connection)
        with pytest.raises(StorageError, match="no"):
            storage.insert([job(), job("no")], conn=connection)
        connection.commit()
        assert connection.execute("select count(*) from mine").fetchone() == (1,)
    assert _count(path) == 1


def test_a_snapshot_that_is_old_is_refused(storage: BlockingSqlite, path: Path) -> None:
    """A transaction that read before another connection wrote can no longer write; SQLite's error is passed on."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("begin")
        connection.execute("select count(*) from jobrt_job").fetchone()
        storage.insert([job()])
        with pytest.raises(StorageUnavailable):
            storage.insert([job()], conn=connection)
        connection.execute("rollback")
    assert _count(path) == 1


def test_a_lock_is_waited_for(storage: BlockingSqlite, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits until the other one releases the lock."""
    with locked(path) as lock:
        monkeypatch.setattr(blocking.time, "sleep", lambda _seconds: lock.release())
        storage.insert([job()])
    assert _count(path) == 1


def test_patience_ends(storage: BlockingSqlite, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not wait forever."""
    monkeypatch.setattr(blocking, "PATIENCE", 0.0)
    with locked(path), pytest.raises(StorageUnavailable, match="locked"):
        storage.insert([job()])
