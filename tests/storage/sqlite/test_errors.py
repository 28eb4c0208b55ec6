"""Files that cannot be used: the error is one line that names the file and the reason."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
import trio

from jobrt._storage.sqlite import connection, open_blocking, open_sqlite
from jobrt._storage.sqlite.connection import refusal
from jobrt.errors import SchemaError, StorageError, StorageUnavailable
from tests.conformance.build import job
from tests.storage.sqlite.files import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROOT = getattr(os, "geteuid", lambda: 1)() == 0


async def _refused(path: Path) -> str:
    """Return the message with which opening the file fails."""
    with trio.fail_after(PATIENCE), pytest.raises(StorageError) as caught:
        async with open_sqlite(path):
            pytest.fail("it was opened")
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


async def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    """A file of another kind is not changed."""
    path = tmp_path / "notes.txt"
    path.write_text("nothing but text\n" * 1000)
    assert "not a SQLite database" in await _refused(path)
    assert path.read_text().startswith("nothing but text\n")


async def test_a_folder(tmp_path: Path) -> None:
    """A folder is rejected."""
    assert "is a folder" in await _refused(tmp_path)


async def test_a_missing_folder(tmp_path: Path) -> None:
    """Folders are not created; the error names the missing one."""
    assert f"no folder {tmp_path / 'missing'}" in await _refused(tmp_path / "missing" / "jobs.db")


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A folder in which no file can be made."""
    tmp_path.chmod(0o500)
    yield tmp_path
    tmp_path.chmod(0o700)


@pytest.mark.skipif(ROOT, reason="root may write everywhere")
async def test_a_folder_that_cannot_be_written(read_only: Path) -> None:
    """SQLite needs to make files beside the database."""
    await _refused(read_only / "jobs.db")


async def test_a_newer_schema(tmp_path: Path) -> None:
    """Which migration is unknown, where the known ones end, and what to do."""
    path = tmp_path / "jobs.db"
    with open_blocking(path):
        pass
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("insert into jobrt_migration values ('9999_future', 0)")
    message = await _refused(path)
    assert "9999_future" in message
    assert "upgrade jobrt" in message


async def test_tables_that_are_missing(tmp_path: Path) -> None:
    """Opened without migrating, an empty file says what to run."""
    async with open_sqlite(tmp_path / "jobs.db", migrate=False) as storage:
        with pytest.raises(SchemaError, match=r"--url sqlite:.* migrate`"):
            await storage.jobs.insert([job()])
        with pytest.raises(SchemaError, match="0001_first"):
            await storage.schema.check()
        await storage.schema.migrate()
        await storage.schema.check()


async def test_a_damaged_file(tmp_path: Path) -> None:
    """The error says that the file is damaged."""
    path = tmp_path / "jobs.db"
    with open_blocking(path) as storage:
        storage.insert([job() for _ in range(100)])
    content = bytearray(path.read_bytes())
    content[4096 : len(content)] = b"\x55" * (len(content) - 4096)
    path.write_bytes(content)
    assert "damaged" in await _refused(path)


async def test_a_full_disk(tmp_path: Path) -> None:
    """It is transient: nothing was done, and once there is room the same call works."""
    with trio.fail_after(PATIENCE):
        async with open_sqlite(tmp_path / "jobs.db") as storage:
            writer: sqlite3.Connection = storage.jobs._database._writer
            (pages,) = writer.execute("pragma page_count").fetchone()
            writer.execute(f"pragma max_page_count = {pages}").fetchone()
            jobs = [job(args={"large": "x" * 4000})] * 10
            with pytest.raises(StorageUnavailable, match="disk is full"):
                await storage.jobs.insert(jobs)
            writer.execute("pragma max_page_count = 1000000").fetchone()
            assert len(await storage.jobs.insert(jobs)) == 10
            assert [one.available for one in await storage.queues.all()] == [10]


def test_an_old_sqlite(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The version found and the version needed are named."""
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 31, 1))
    monkeypatch.setattr(sqlite3, "sqlite_version", "3.31.1")
    with pytest.raises(StorageError, match=r"3\.31\.1, jobrt needs 3\.37\.0"):
        connection.connect(str(tmp_path / "jobs.db"))


@pytest.mark.parametrize(
    ("code", "transient"),
    [
        (sqlite3.SQLITE_BUSY, True),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, True),
        (sqlite3.SQLITE_FULL, True),
        (sqlite3.SQLITE_IOERR_WRITE, True),
        (sqlite3.SQLITE_READONLY, False),
        (sqlite3.SQLITE_CORRUPT, False),
        (sqlite3.SQLITE_CONSTRAINT_UNIQUE, False),
    ],
)
def test_what_may_pass_by_itself(code: int, transient: bool) -> None:
    """Extended codes are treated as the plain ones; only transient errors are `StorageUnavailable`."""
    error = sqlite3.OperationalError("some words of SQLite's")
    error.sqlite_errorcode = code
    assert isinstance(refusal(error, "jobs.db", file="jobs.db"), StorageUnavailable) is transient


async def test_a_fork_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A storage that was opened in another process says so instead of damaging the file."""
    async with open_sqlite(tmp_path / "jobs.db") as storage:
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: -1)
            for call in (storage.jobs.insert([job()]), storage.jobs.get(1)):
                with pytest.raises(StorageError, match="before a fork"):
                    await call
        assert len(await storage.jobs.insert([job()])) == 1
