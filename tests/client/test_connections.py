"""Enqueueing inside a transaction of the caller, and from programs without Trio."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing, suppress
from typing import TYPE_CHECKING

import psycopg
import trio

import jobrt
from jobrt.blocking import enqueue_async, enqueue_many_async
from tests.parity.jobs import JOBS, Echo

if TYPE_CHECKING:
    from jobrt._client import Client


def app_of(url: str) -> jobrt.App:
    """Return an app on a migrated database."""
    return jobrt.App(url, jobs=JOBS, migrate=True)


async def args_of(client: Client) -> list[object]:
    """Return the stored payloads, oldest first."""
    return [one.args["value"] for one in await client.query(order_by="id")]


async def test_a_sqlite3_transaction_decides(sqlite_url: str) -> None:
    """After a rollback there is no job. After a commit the job is stored with the caller's own rows."""
    with trio.fail_after(20):
        async with app_of(sqlite_url).open_client() as jobs:
            path = sqlite_url.removeprefix("sqlite:///")
            with closing(sqlite3.connect(path, isolation_level=None)) as conn:
                conn.execute("CREATE TABLE orders (id INTEGER)")
                for value, end in (("rolled back", "ROLLBACK"), ("committed", "COMMIT")):
                    conn.execute("BEGIN IMMEDIATE")
                    conn.execute("INSERT INTO orders VALUES (1)")
                    await jobs.enqueue(Echo(value), conn=conn)
                    conn.execute(end)
                assert conn.execute("SELECT count(*) FROM orders").fetchone() == (1,)
            assert await args_of(jobs) == ["committed"]


async def test_a_clients_transaction_decides(database_url: str) -> None:
    """`Client.transaction`: the same program keeps its rows and its jobs together on both engines."""
    with trio.fail_after(20):
        async with app_of(database_url).open_client() as jobs:
            async with jobs.transaction() as conn:
                await conn.execute("CREATE TABLE orders (id integer)")
            for value in ("rolled back", "committed"):
                with suppress(ZeroDivisionError):
                    async with jobs.transaction() as conn:
                        await conn.execute("INSERT INTO orders VALUES (%s)", (1,))
                        await jobs.enqueue(Echo(value), conn=conn)
                        if value == "rolled back":
                            raise ZeroDivisionError
            async with jobs.transaction() as conn:
                cursor = await conn.execute("SELECT count(*) FROM orders")
                assert await cursor.fetchone() == (1,)
            assert await args_of(jobs) == ["committed"]


async def test_a_plain_program_enqueues(database_url: str) -> None:
    """`jobrt.blocking` needs no Trio. The app's workers run its jobs, and duplicates are marked."""
    app = app_of(database_url)

    def enqueue() -> list[jobrt.blocking.Enqueued]:
        with jobrt.blocking.Client(database_url, jobs=JOBS) as client:
            unique = jobrt.Unique(key=1)
            first = client.enqueue(Echo("one"), unique=unique, tags=["t"])
            again = client.enqueue(Echo("two"), unique=unique)
            return [first, again, *client.enqueue_many([Echo("three"), Echo("four")])]

    with trio.fail_after(30):
        async with app.open_client() as jobs:
            made = await trio.to_thread.run_sync(enqueue)
            assert [one.duplicate for one in made] == [False, True, False, False]
            assert made[1].id == made[0].id
            await app.drain()
            assert await jobs.handle(made[0].id).result() == "one"
            assert await args_of(jobs) == ["one", "three", "four"]
            assert (await jobs.get(made[0].id)).tags == ("t",)


async def test_a_plain_transaction_of_psycopg_decides(postgres_url: str) -> None:
    """With `conn=` of the blocking client, a rollback removes the job and a commit keeps it."""

    def enqueue() -> None:
        with jobrt.blocking.Client(postgres_url, jobs=JOBS) as client, psycopg.connect(postgres_url) as conn:
            client.enqueue(Echo("rolled back"), conn=conn)
            conn.rollback()
            client.enqueue(Echo("committed"), conn=conn)
            conn.commit()

    with trio.fail_after(30):
        async with app_of(postgres_url).open_client() as jobs:
            await trio.to_thread.run_sync(enqueue)
            assert await args_of(jobs) == ["committed"]


async def test_an_asyncio_program_enqueues(postgres_url: str) -> None:
    """`enqueue_async` uses psycopg's `AsyncConnection`, in its open transaction or in a new one."""

    async def enqueue() -> jobrt.blocking.Enqueued:
        async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as conn:
            first = await enqueue_async(conn, Echo("alone"), priority=3)
            async with conn.transaction():
                await enqueue_async(conn, Echo("together"))
            async with conn.transaction(force_rollback=True):
                await enqueue_async(conn, Echo("rolled back"))
        return first

    with trio.fail_after(30):
        async with app_of(postgres_url).open_client() as jobs:
            first = await trio.to_thread.run_sync(lambda: asyncio.run(enqueue()))
            assert await args_of(jobs) == ["alone", "together"]
            assert (await jobs.get(first.id)).priority == 3


async def test_an_asyncio_program_enqueues_many(postgres_url: str) -> None:
    """`enqueue_many_async` returns ids in input order and marks duplicates, in the open transaction."""

    async def enqueue() -> list[list[jobrt.blocking.Enqueued]]:
        async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as conn:
            unique = [Echo("same").with_options(unique=jobrt.Unique(key=1)) for _ in range(2)]
            made = [
                await enqueue_many_async(conn, [Echo(str(n)) for n in range(90)]),
                await enqueue_many_async(conn, unique),
                await enqueue_many_async(conn, []),
            ]
            async with conn.transaction(force_rollback=True):
                await enqueue_many_async(conn, [Echo("rolled"), Echo("back")])
            return made

    with trio.fail_after(30):
        async with app_of(postgres_url).open_client() as jobs:
            many, same, none = await trio.to_thread.run_sync(lambda: asyncio.run(enqueue()))
            assert none == []
            assert [one.duplicate for one in same] == [False, True]
            assert [one.id for one in many] == sorted(one.id for one in many)
            assert await args_of(jobs) == [*(str(n) for n in range(90)), "same"]
