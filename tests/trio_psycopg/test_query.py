"""Queries, errors, pipelines and COPY, as in psycopg, and their behaviour on a faulty connection."""

import itertools
from contextlib import suppress
from typing import Any

import psycopg
import pytest
import trio
import trio.testing

from jobrt._trio_psycopg import TrioConnection, connection
from tests.support.tcp_proxy import TcpProxy
from tests.trio_psycopg.conftest import Until

_ROWS = 100_000


async def test_query(conn: TrioConnection[Any]) -> None:
    """Parameters and rows are converted, with execute, with a cursor, and in a loop."""
    cursor = await conn.execute("select %s::int, %s::text", (1, "å"))
    assert await cursor.fetchall() == [(1, "å")]
    async with conn.cursor() as cursor:
        await cursor.execute("select generate_series(1, 3)")
        assert [row async for row in cursor] == [(1,), (2,), (3,)]


async def test_error_then_reuse(conn: TrioConnection[Any]) -> None:
    """After an error the connection can run the next query."""
    with pytest.raises(psycopg.errors.UndefinedTable):
        await conn.execute("select * from nosuch")
    assert conn.reusable
    assert await (await conn.execute("select 2")).fetchone() == (2,)


@pytest.mark.parametrize(("threshold", "prepared"), [(0, 1), (None, 0)])
async def test_prepared_statements(conn: TrioConnection[Any], threshold: int | None, prepared: int) -> None:
    """`prepare_threshold` decides when a statement is prepared; None means never."""
    conn.prepare_threshold = threshold
    for number in range(10):
        await conn.execute("select %s::int", (number,))
    cursor = await conn.execute(
        "select count(*) from pg_prepared_statements where statement like '%::int'", prepare=False
    )
    assert await cursor.fetchone() == (prepared,)


async def test_executemany(conn: TrioConnection[Any]) -> None:
    """`executemany` sends all rows in one pipeline, and can return the result of each."""
    await conn.execute("create table t (n int)")
    async with conn.cursor() as cursor:
        await cursor.executemany("insert into t values (%s)", [(n,) for n in range(5000)])
        assert cursor.rowcount == 5000
        await cursor.executemany(
            "insert into t values (%s) returning n", [(n,) for n in (7, 8)], returning=True
        )
        assert [await result.fetchall() async for result in cursor.results()] == [[(7,)], [(8,)]]


async def test_pipeline(conn: TrioConnection[Any]) -> None:
    """In a pipeline queries are sent without waiting for the results of earlier ones."""
    async with conn.pipeline() as pipeline:
        cursors = [await conn.execute("select %s::int", (n,)) for n in range(100)]
        await pipeline.sync()
        assert [await cursor.fetchone() for cursor in cursors] == [(n,) for n in range(100)]
    assert conn.reusable


async def test_error_in_a_pipeline(conn: TrioConnection[Any]) -> None:
    """An error in a pipeline is raised at its end, and the connection can be used again."""
    with pytest.raises(psycopg.errors.UndefinedTable):  # raised by the block
        async with conn.pipeline():
            await conn.execute("select 1")
            await conn.execute("select * from nosuch")
            await conn.execute("select 2")
    assert conn.reusable


async def test_cancelled_pipeline(conn: TrioConnection[Any], until: Until) -> None:
    """A pipeline that is cancelled while the server works on it leaves the connection usable."""

    async def run() -> None:
        async with conn.pipeline():
            for seconds in (0, 100, 100):
                await conn.execute("select pg_sleep(%s)", (seconds,))

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await until(
                "select count(*) = 1 from pg_stat_activity where pid = %s and wait_event = 'PgSleep'",
                conn.info.backend_pid,
            )
            nursery.cancel_scope.cancel()
    assert conn.reusable
    assert await (await conn.execute("select 3")).fetchone() == (3,)


async def test_cancelled_pipeline_with_a_transaction(conn: TrioConnection[Any], until: Until) -> None:
    """A pipeline that is cancelled before its COMMIT was reached leaves no transaction open."""

    async def run() -> None:
        async with conn.pipeline(), conn.transaction():
            await conn.execute("select pg_sleep(100)")

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await until(
                "select wait_event = 'PgSleep' from pg_stat_activity where pid = %s", conn.info.backend_pid
            )
            nursery.cancel_scope.cancel()
    assert conn.reusable


@pytest.mark.parametrize("size", [1, 50_000_000])
async def test_cancelled_pipeline_with_a_silent_server(
    proxied: TrioConnection[Any], proxy: TcpProxy, size: int
) -> None:
    """If the server does not answer the cancel request, the connection is closed."""

    async def run() -> None:
        async with proxied.pipeline():
            await proxied.execute("select %s::text", ("x" * size,))

    proxy.silence()
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await trio.testing.wait_all_tasks_blocked(0.05)
            nursery.cancel_scope.cancel()
    assert proxied.closed


async def test_pipeline_in_a_cancelled_scope(conn: TrioConnection[Any]) -> None:
    """A pipeline whose scope is cancelled leaves the connection usable."""
    with trio.CancelScope() as scope:
        async with conn.pipeline():
            await conn.execute("select 1")
            scope.cancel()
            await conn.execute("select 2")
    assert scope.cancelled_caught
    assert conn.reusable
    assert await (await conn.execute("select 3")).fetchone() == (3,)


async def test_cancelled_executemany(
    conn: TrioConnection[Any], watcher: TrioConnection[Any], until: Until
) -> None:
    """An `executemany` that is cancelled while the server works leaves the connection usable."""
    await conn.execute("create table t (n int)")

    async def insert() -> None:
        await conn.cursor().executemany("insert into t values (%s)", [(n,) for n in range(1000)])

    async with watcher.transaction():
        await watcher.execute("lock table t")
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(insert)
                await until(
                    "select wait_event_type = 'Lock' from pg_stat_activity where pid = %s",
                    conn.info.backend_pid,
                )
                nursery.cancel_scope.cancel()
    assert conn.reusable
    assert await (await conn.execute("select count(*) from t")).fetchone() == (0,)


async def test_copy_in_and_out(conn: TrioConnection[Any]) -> None:
    """COPY writes and reads a hundred thousand rows."""
    await conn.execute("create table t (n int, s text)")
    with trio.fail_after(60):
        async with conn.cursor() as cursor:
            async with cursor.copy("copy t from stdin") as copy:
                for n in range(_ROWS):
                    await copy.write_row((n, f"row {n}"))
            assert cursor.rowcount == _ROWS
            async with cursor.copy("copy (select * from t order by n) to stdout") as copy:
                copy.set_types(["int4", "text"])
                count = 0
                async for row in copy.rows():
                    assert row == (count, f"row {count}")
                    count += 1
    assert count == _ROWS
    assert conn.reusable


@pytest.mark.parametrize("seconds", [0.0, 0.002])
async def test_other_tasks_run_during_a_copy(
    conn: TrioConnection[Any], monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    """A COPY that never waits for the server lets other tasks run about once a millisecond."""
    await conn.execute("create table t (s text)")
    clock = itertools.count(step=seconds)
    monkeypatch.setattr(connection, "monotonic", lambda: next(clock))
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        async with conn.cursor().copy("copy t from stdin") as copy:
            nursery.start_soon(count)
            for _ in range(20):
                await copy.write("x" * 500 + "\n")
            assert turns >= 19 if seconds else turns == 0  # the last turn may come later
        nursery.cancel_scope.cancel()


async def test_error_ends_copy_in(conn: TrioConnection[Any]) -> None:
    """After an exception in the block no row is written."""
    await conn.execute("create table t (n int)")
    with pytest.raises(ZeroDivisionError):  # raised by the block
        async with conn.cursor().copy("copy t from stdin") as copy:
            await copy.write_row((1,))
            raise ZeroDivisionError
    assert conn.reusable
    assert await (await conn.execute("select count(*) from t")).fetchone() == (0,)


async def test_cancelled_copy_in(conn: TrioConnection[Any]) -> None:
    """A COPY that is cancelled writes no row, and the connection is usable."""
    await conn.execute("create table t (n text)")
    with trio.fail_after(30), trio.CancelScope() as scope:
        async with conn.cursor().copy("copy t from stdin") as copy:
            for n in range(10_000):
                if n == 5000:
                    scope.cancel()
                await copy.write_row((f"{n}" * 100,))
    assert scope.cancelled_caught
    assert conn.reusable
    assert await (await conn.execute("select count(*) from t")).fetchone() == (0,)


async def test_copy_in_cancelled_at_its_end(conn: TrioConnection[Any], watcher: TrioConnection[Any]) -> None:
    """A COPY that is cancelled before its last rows are sent writes no row, and the connection is closed."""
    await conn.execute("create table t (n int)")
    with trio.CancelScope() as scope:
        async with conn.cursor().copy("copy t from stdin") as copy:
            await copy.write_row((1,))
            scope.cancel()
    assert scope.cancelled_caught
    assert conn.closed
    assert await (await watcher.execute("select count(*) from t")).fetchone() == (0,)


async def test_cancelled_copy_in_with_full_buffers(
    conn: TrioConnection[Any], watcher: TrioConnection[Any]
) -> None:
    """The same holds if the server waits for a lock and reads no more rows."""
    await conn.execute("create table t (n text)")
    await conn.execute("create table gate (n int)")
    await conn.execute(
        "create function pass() returns trigger language plpgsql as 'begin lock table gate; return new; end'"
    )
    await conn.execute("create trigger pass before insert on t for each row execute function pass()")

    async def write() -> None:
        async with conn.cursor().copy("copy t from stdin") as copy:
            while True:
                await copy.write_row(("x" * 100_000,))

    async with watcher.transaction():
        await watcher.execute("lock table gate")
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(write)
                await trio.testing.wait_all_tasks_blocked(0.05)
                nursery.cancel_scope.cancel()
    assert conn.reusable
    assert await (await conn.execute("select count(*) from t")).fetchone() == (0,)


@pytest.mark.parametrize("cancelled", [True, False])
async def test_copy_out_left_early(conn: TrioConnection[Any], cancelled: bool) -> None:
    """A COPY whose block ends with an error or a cancellation is cancelled in the server."""
    with trio.fail_after(30), trio.CancelScope() as scope, suppress(ZeroDivisionError):
        async with conn.cursor().copy("copy (select generate_series(1, 100000000)) to stdout") as copy:
            while await copy.read_row():
                if cancelled:
                    scope.cancel()
                else:
                    raise ZeroDivisionError
    assert conn.reusable
    assert await (await conn.execute("select 1")).fetchone() == (1,)


@pytest.mark.parametrize("piece", [1, 7])
async def test_byte_by_byte(proxied_url: str, proxy: TcpProxy, piece: int) -> None:
    """Messages that arrive in pieces are reassembled, in connecting, queries and COPY."""
    proxy.piece = piece
    with trio.fail_after(30):
        async with await TrioConnection.connect(proxied_url) as conn:
            cursor = await conn.execute("select n, repeat('x', n) from generate_series(1, 50) n")
            assert await cursor.fetchall() == [(n, "x" * n) for n in range(1, 51)]
            async with conn.cursor().copy("copy (select generate_series(1, 100)) to stdout") as copy:
                assert [row async for row in copy.rows()] == [(str(n),) for n in range(1, 101)]


async def test_big_query_and_big_answer(proxied: TrioConnection[Any]) -> None:
    """Twenty megabytes are sent both ways through much smaller socket buffers."""
    with trio.fail_after(30):
        cursor = await proxied.execute("select %s::text", ("x" * 20_000_000,))
        row = await cursor.fetchone()
    assert row is not None
    assert len(row[0]) == 20_000_000


async def test_big_pipeline_both_ways(conn: TrioConnection[Any]) -> None:
    """A pipeline does not deadlock when queries and results fill the buffers in both directions."""
    with trio.fail_after(30):
        async with conn.pipeline():
            cursors = [await conn.execute("select %s::text", ("x" * 1_000_000,)) for _ in range(30)]
        for cursor in cursors:
            assert len((await cursor.fetchone() or ("",))[0]) == 1_000_000


async def test_big_answer_while_a_big_query_is_sent(conn: TrioConnection[Any]) -> None:
    """A large result is read while the next large query is being sent."""
    with trio.fail_after(30):
        async with conn.pipeline():
            first = await conn.execute("select repeat('x', 30000000) from pg_sleep(0.05)")
            second = await conn.execute("select length(%s::text)", ("x" * 30_000_000,))
        assert len((await first.fetchone() or ("",))[0]) == 30_000_000
        assert await second.fetchone() == (30_000_000,)


@pytest.mark.parametrize("budget", [1, 30])
async def test_truncated_reply(proxied: TrioConnection[Any], proxy: TcpProxy, budget: int) -> None:
    """A connection that breaks during a reply raises an error, and is closed."""
    proxy.truncate_replies(budget)
    with trio.fail_after(30), pytest.raises(psycopg.Error):
        await proxied.execute("select repeat('x', 1000)")
    assert proxied.closed


async def test_reset(proxied: TrioConnection[Any], proxy: TcpProxy) -> None:
    """A connection that is reset during a query raises an error immediately, and is closed."""
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_expect_lost, proxied)
            await proxy.until_sent(b"pg_sleep")
            proxy.reset()
    assert proxied.closed


async def test_terminated_backend(
    conn: TrioConnection[Any], watcher: TrioConnection[Any], until: Until
) -> None:
    """A query whose backend is terminated raises an error immediately, and the connection is closed."""
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_expect_lost, conn)
            await until("select state = 'active' from pg_stat_activity where pid = %s", conn.info.backend_pid)
            await watcher.execute("select pg_terminate_backend(%s)", (conn.info.backend_pid,))
    assert conn.closed


async def _expect_lost(conn: TrioConnection[Any]) -> None:
    with pytest.raises(psycopg.Error):
        await conn.execute("select pg_sleep(100)")


async def test_delayed_reply(proxied: TrioConnection[Any], proxy: TcpProxy) -> None:
    """A late reply is awaited."""
    answers = []

    async def ask() -> None:
        answers.append(await (await proxied.execute("select 7")).fetchone())

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            proxy.silence()
            nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            assert answers == []
            proxy.speak()
    assert answers == [(7,)]


async def test_tasks_use_the_connection_in_order(conn: TrioConnection[Any]) -> None:
    """Tasks that share a connection use it in the order of requests; a cancelled task is skipped."""
    order: list[int] = []

    async def ask(number: int) -> None:
        await conn.execute("select %s::int", (number,))
        order.append(number)

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()

            async def cancelled() -> None:
                with scope:
                    await ask(-1)

            for number in range(3):
                nursery.start_soon(ask, number)
                await trio.lowlevel.checkpoint()
            nursery.start_soon(cancelled)
            nursery.start_soon(ask, 3)
            scope.cancel()
    assert order == [0, 1, 2, 3]
    assert conn.reusable


async def test_using_a_connection_twice_at_once(conn: TrioConnection[Any]) -> None:
    """A query during a COPY of the same task is refused instead of waiting for ever."""
    async with conn.cursor().copy("copy (select 1) to stdout") as copy:
        with pytest.raises(RuntimeError, match="already using the connection"):
            await conn.execute("select 1")
        await copy.read()
        await copy.read()


async def test_timeout_of_wait(proxied: TrioConnection[Any], proxy: TcpProxy) -> None:
    """`wait` supports psycopg's parameter for a time limit."""
    proxy.silence()
    proxied._autocommit = False
    with trio.fail_after(30), pytest.raises(trio.TooSlowError):
        await proxied.wait(proxied._start_query(), timeout=0.01)
    assert proxied.closed
