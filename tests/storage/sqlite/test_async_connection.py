"""The connection of a block: which thread it runs in, when it ends, and what its block must leave alone."""

from __future__ import annotations

import re
import sqlite3
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from jobrt._storage.sqlite import open_sqlite
from jobrt._storage.sqlite.placeholders import native
from jobrt.errors import StorageError
from tests.conformance.build import job
from tests.storage.sqlite.files import PATIENCE
from tests.support.worker_info import worker_info

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from jobrt._storage.contract import Storage

ENDLESS = "with recursive n (n) as (select 1 union all select n from n) select count(*) from n"


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncGenerator[Storage]:
    """A database in a file."""
    with trio.fail_after(PATIENCE):
        async with open_sqlite(tmp_path / "jobs.db") as opened:
            yield opened


async def test_statements_run_in_the_storages_thread(storage: Storage) -> None:
    """The event loop goes on meanwhile."""
    async with storage.jobs.transaction() as conn:
        conn.raw.create_function("thread", 0, threading.get_ident)
        (ident,) = await (await conn.execute("select thread()")).fetchone()
    assert ident != threading.get_ident()


async def test_a_statement_is_stopped_with_its_block(storage: Storage) -> None:
    """At the end of the block's time, or of its caller's, it does not run on; others write at once."""
    await storage.workers.register("w1", lease=0.4, info=worker_info())
    with pytest.raises(StorageError, match=r"more than 0\.1 seconds"):
        async with storage.jobs.transaction() as conn:
            await conn.execute(ENDLESS)
    with trio.move_on_after(0.05) as scope:
        async with storage.jobs.transaction() as conn:
            await conn.execute(ENDLESS)
    assert scope.cancelled_caught
    assert len(await storage.jobs.insert([job()])) == 1


async def test_calls_of_a_block_take_turns(storage: Storage) -> None:
    """Several tasks of a block may use its connection."""
    async with storage.jobs.transaction() as conn:
        await conn.execute("create table mine (n)")
        async with trio.open_nursery() as nursery:
            for n in range(20):
                nursery.start_soon(conn.execute, "insert into mine values (?)", (n,))
        assert (await (await conn.execute("select count(*) from mine")).fetchone()) == (20,)


async def test_the_connection_is_for_the_block_only(storage: Storage) -> None:
    """Used after it, or used to end it, the connection says what to do instead."""
    async with storage.jobs.transaction() as conn:
        with pytest.raises(StorageError, match="the block's end commits"):
            await conn.commit()
        with pytest.raises(StorageError, match="raise an exception instead"):
            await conn.rollback()
    with pytest.raises(StorageError, match="inside the block only"):
        await conn.execute("select 1")


async def test_a_second_block_of_a_task_is_refused(storage: Storage) -> None:
    """It would wait for the first one, which waits for it."""
    async with storage.jobs.transaction():
        with pytest.raises(StorageError, match="this task has a transaction open"):
            async with storage.jobs.transaction():
                pytest.fail("it was opened")


async def test_the_raw_connection_carries_jobs_too(storage: Storage) -> None:
    """As ``conn=``, it stands for the block's connection."""
    async with storage.jobs.transaction() as conn:
        conn.raw.execute("create table mine (n)")
        await storage.jobs.insert([job()], conn=conn.raw)
    assert await storage.jobs.get(1) is not None


async def test_a_connection_of_another_storage_on_the_file(storage: Storage, tmp_path: Path) -> None:
    """Two apps of one program may share a file; the transaction of one can carry jobs of the other."""
    async with open_sqlite(tmp_path / "jobs.db") as other:
        async with other.jobs.transaction() as conn:
            (made,) = await storage.jobs.insert([job()], conn=conn)
            assert await storage.jobs.get(made.id) is None
        assert await storage.jobs.get(made.id) is not None


PARTS = {
    "%s": "?",
    "%(name)s": ":name",
    "%%": "%",
    "'it''s %s'": "'it''s ?'",
    "'100%%'": "'100%'",
    " select x": " select x",
    " a % size ": " a % size ",
}


@given(st.lists(st.sampled_from(sorted(PARTS)), max_size=8))
def test_placeholders_of_psycopg_become_those_of_sqlite(parts: list[str]) -> None:
    """As psycopg reads them, in a statement that has any outside of quotes; another one stays as it is."""
    sql = " ".join(parts)
    if {"%s", "%(name)s"}.isdisjoint(parts):
        assert native(sql) == sql
    else:
        assert native(sql) == " ".join(PARTS[part] for part in parts)


@pytest.mark.parametrize(
    "sql",
    [
        "select 1 where 'a%s' like ?",
        "select 5 %size from (select 3 as size) where ?",
        "select ? -- %s",
        'select ? as "%s"',
        "select ? /* %(name)s\n */",
    ],
)
def test_sqlites_own_statements_stay_as_they_are(sql: str) -> None:
    """Percent signs in quotes, comments and sums are none of our business."""
    assert native(sql) == sql
    with closing(sqlite3.connect(":memory:")) as conn:
        assert conn.execute(sql, ("x",)).fetchall() is not None
    assert re.search("%", sql)
