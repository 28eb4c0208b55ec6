"""Cancellation of every psycopg operation at any point: the connection is then usable or closed."""

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

import psycopg
import pytest
import trio

from jobrt._trio_psycopg import TrioConnection
from tests.support.postgres import Server

_TIMES = 60

Work = Callable[[TrioConnection[Any]], Awaitable[None]]


async def _query(conn: TrioConnection[Any]) -> None:
    for number in range(5):
        await conn.execute("select %s::int, pg_sleep(0.0005)", (-number,))


async def _copy_in(conn: TrioConnection[Any]) -> None:
    async with conn.cursor().copy("copy t from stdin") as copy:
        for n in range(300):
            await copy.write_row((n, "x" * 2000))


async def _copy_out(conn: TrioConnection[Any]) -> None:
    async with conn.cursor().copy(
        "copy (select repeat('x', 2000) from generate_series(1, 500)) to stdout"
    ) as copy:
        while await copy.read_row():
            pass


async def _stream(conn: TrioConnection[Any]) -> None:
    rows = conn.cursor().stream("select repeat('x', 1000) from generate_series(1, 200)")
    async with aclosing(rows):  # type: ignore[type-var]  # psycopg calls its async generator an iterator
        async for _ in rows:
            pass


async def _executemany(conn: TrioConnection[Any]) -> None:
    await conn.cursor().executemany("insert into t values (%s)", [(n,) for n in range(100)])


async def _executemany_returning(conn: TrioConnection[Any]) -> None:
    await conn.cursor().executemany(
        "insert into t values (%s) returning n", [(n,) for n in range(100)], returning=True
    )


async def _server_cursor(conn: TrioConnection[Any]) -> None:
    async with conn.transaction(), conn.cursor("named") as cursor:
        await cursor.execute("select generate_series(1, 1000)")
        await cursor.fetchmany(10)
        await cursor.fetchall()


async def _nested_transactions(conn: TrioConnection[Any]) -> None:
    async with conn.transaction():
        await conn.execute("insert into t values (1)")
        async with conn.transaction():
            await conn.execute("insert into t values (1)")


async def _pipeline(conn: TrioConnection[Any]) -> None:
    async with conn.pipeline(), conn.transaction():
        for n in range(5):
            await conn.execute("insert into t values (%s)", (n,))
        await conn.cursor().executemany("insert into t values (%s)", [(n,) for n in range(20)])


async def _pipeline_in_a_transaction(conn: TrioConnection[Any]) -> None:
    async with conn.transaction(), conn.pipeline() as pipeline:
        for n in range(5):
            await conn.execute("insert into t values (%s)", (n,))
        await pipeline.sync()


@pytest.mark.parametrize(
    "work",
    [
        _query,
        _copy_in,
        _copy_out,
        _stream,
        _executemany,
        _executemany_returning,
        _server_cursor,
        _nested_transactions,
        _pipeline,
        _pipeline_in_a_transaction,
    ],
)
async def test_cancelled_anywhere(work: Work, postgres_server: Server, postgres_url: str) -> None:
    """Wherever the work is cancelled, the next query gets its own result."""
    postgres_server.execute("create table t (n int, s text)", url=postgres_url)
    conn = await TrioConnection.connect(postgres_url, autocommit=True)
    started = trio.current_time()
    await work(conn)
    took = trio.current_time() - started
    with trio.fail_after(60):
        for number in range(_TIMES):
            with trio.move_on_after(took * number / _TIMES):
                await work(conn)
            if conn.closed:
                conn = await TrioConnection.connect(postgres_url, autocommit=True)
            assert conn.reusable
            assert await (await conn.execute("select %s::int", (number,))).fetchone() == (number,)
    await conn.close()


async def test_transaction_is_whole_wherever_it_is_cancelled(conn: TrioConnection[Any]) -> None:
    """A transaction that raises Cancelled writes nothing, and any other writes everything."""
    await conn.execute("create table t (n int)")
    written: list[int] = []
    with trio.fail_after(60):
        for number in range(150):
            with trio.move_on_after(number / 50_000):
                async with conn.transaction():
                    await conn.execute("insert into t values (%s)", (number,))
                    async with conn.transaction():
                        await conn.execute("insert into t values (%s)", (number,))
                written.append(number)
            assert conn.reusable
    found = await (await conn.execute("select n from t order by n")).fetchall()
    assert found == [(number,) for number in written for _ in range(2)]
    assert written


async def test_implicit_transaction_is_usable_after_rollback(postgres_url: str) -> None:
    """A connection without autocommit can be rolled back and used after a cancellation at any point."""
    async with await TrioConnection.connect(postgres_url) as conn:
        for number in range(100):
            with trio.move_on_after(number / 50_000):
                await conn.execute("select 1")
                await conn.execute("select 2")
                await conn.commit()
            await conn.rollback()
            assert conn.reusable
        with pytest.raises(psycopg.errors.UndefinedTable):
            await conn.execute("select * from nosuch")
        await conn.rollback()
