"""The same database from programs without Trio: over plain psycopg, and over psycopg on asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
import trio

from jobrt._core import where
from jobrt._core.unique import Unique, unique_key
from jobrt._storage.contract import Storage
from jobrt._storage.postgres.blocking import BlockingPostgres, insert_async, open_blocking
from jobrt.errors import SchemaError, StorageError, StorageUnavailable
from tests.storage.postgres.build import job

LATER = timedelta(hours=1)
MIXED = [job(priority=n % 3, delay=LATER if n % 2 else None, context="a\tb\n\\c") for n in range(600)]
"""Enough for COPY, with what a copied text must escape, half of it for later."""


@pytest.fixture
def blocking(storage: Storage, postgres_url: str) -> Iterator[BlockingPostgres]:
    """An inserter on the migrated database."""
    with open_blocking(postgres_url) as found:
        yield found


async def _check(storage: Storage, ids: list[int]) -> None:
    """Compare the stored jobs with the given ones."""
    records = await storage.jobs.query(where.everything(), order_by="id")
    assert [one.id for one in records] == ids
    assert {one.context for one in records} == {"a\tb\n\\c"}
    states = [one.state for one in records]
    assert (states.count("scheduled"), states.count("available")) == (300, 300)


async def test_many_at_once(blocking: BlockingPostgres, storage: Storage) -> None:
    """A large batch goes by COPY, every field as it was given."""
    made = blocking.insert(MIXED)
    await _check(storage, [one.id for one in made])


async def test_many_at_once_from_asyncio(storage: Storage, postgres_url: str) -> None:
    """The same, driven by an event loop that is not Trio's."""

    async def insert() -> list[int]:
        async with await psycopg.AsyncConnection.connect(postgres_url) as conn:
            return [one.id for one in await insert_async(conn, MIXED, schema="jobrt")]

    ids = await trio.to_thread.run_sync(asyncio.run, insert())
    await _check(storage, ids)


async def test_a_refusal_from_asyncio_is_an_error_of_ours(storage: Storage, postgres_url: str) -> None:
    """The error is jobrt's; psycopg's is its cause."""

    async def insert() -> None:
        async with await psycopg.AsyncConnection.connect(postgres_url) as conn:
            with pytest.raises(StorageError) as caught:
                await insert_async(conn, [job(priority=1 << 40)], schema="jobrt")
            assert isinstance(caught.value.__cause__, psycopg.Error)

    await trio.to_thread.run_sync(asyncio.run, insert())


async def test_only_a_connection_of_asyncio_is_taken(postgres_url: str) -> None:
    """Anything else is refused by its type."""
    for wrong in (None, "conn", 3):
        with pytest.raises(StorageError, match=r"pass a psycopg\.AsyncConnection"):
            await insert_async(wrong, [job()], schema="jobrt")  # type: ignore[arg-type]


async def test_a_connection_that_was_lost_is_opened_again(
    blocking: BlockingPostgres, storage: Storage, admin: psycopg.Connection[Any]
) -> None:
    """An idle one that was lost is noticed before the next call. A call that loses its connection fails."""
    (first,) = blocking.insert([job()])
    _terminate(admin, blocking)
    (second,) = blocking.insert([job()])
    with pytest.raises(StorageUnavailable), blocking._lent() as conn:
        _terminate(admin, conn)
        conn.execute("select 1")
    (third,) = blocking.insert([job()])
    assert first.id < second.id < third.id
    assert await storage.jobs.count(where.everything()) == 3


def _terminate(admin: psycopg.Connection[Any], of: BlockingPostgres | psycopg.Connection[Any]) -> None:
    """End the session of a connection, and return when it has ended."""
    (conn,) = [of] if isinstance(of, psycopg.Connection) else of._pool._idle
    pid = conn.info.backend_pid
    admin.execute("select pg_terminate_backend(%s, 30000)", [pid])


async def test_in_the_callers_transaction(
    blocking: BlockingPostgres, storage: Storage, postgres_url: str
) -> None:
    """Unique jobs too; rolled back with it, refused with its error, and nothing but a psycopg connection will do."""
    key = unique_key(Unique(), name="a", queue="default", args="{}", metadata={})
    with psycopg.connect(postgres_url) as conn:
        first, second = blocking.insert([job(unique=key), job(unique=key)], conn=conn)
        assert (second.id, second.duplicate) == (first.id, True)
        conn.rollback()
        with pytest.raises(StorageError) as caught:
            blocking.insert([job(priority=1 << 40)], conn=conn)
        assert not isinstance(caught.value, StorageUnavailable)
        conn.rollback()
        with pytest.raises(StorageError, match=r"conn is of type object: pass a psycopg\.Connection"):
            blocking.insert([job()], conn=object())
    assert await storage.jobs.count(where.everything()) == 0


async def test_a_server_that_is_not_there() -> None:
    """The error says what cannot be reached and where, in one line, without the password."""
    with (
        open_blocking("postgresql://me:secret@127.0.0.1:1/x") as nowhere,
        pytest.raises(
            StorageUnavailable, match=r"^cannot connect to PostgreSQL x at 127.0.0.1:1 as me: "
        ) as caught,
    ):
        nowhere.insert([job()])
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_an_address_that_makes_no_sense() -> None:
    """The error is raised immediately."""
    url = "postgresql://me:secret@localhost/x?nonsense=1"
    with pytest.raises(StorageError, match="cannot be understood"), open_blocking(url):
        pytest.fail("it was opened")


async def test_a_database_that_is_not_migrated(postgres_url: str) -> None:
    """The error names the remedy."""
    with (
        open_blocking(postgres_url, schema="elsewhere") as empty,
        pytest.raises(SchemaError, match=r"^PostgreSQL .*elsewhere.*; migrate this database$"),
    ):
        empty.insert([job()])
