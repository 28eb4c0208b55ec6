"""Cancellation of a query: the server cancels it too, in a limited time."""

import signal
from typing import Any

import psycopg
import pytest
import trio
import trio.testing

from jobrt._trio_psycopg import TrioConnection
from tests.support.tcp_proxy import TcpProxy
from tests.trio_psycopg.conftest import Until

_ACTIVE = "select count(*) = 1 from pg_stat_activity where pid = %s and state = 'active' and query like %s"
_IDLE = "select state = 'idle' from pg_stat_activity where pid = %s"


async def _run_and_cancel(conn: TrioConnection[Any], until: Until, query: str, *args: Any) -> None:
    """Cancel `query` while the server runs it."""
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(conn.execute, query, *args)
            await until(_ACTIVE, conn.info.backend_pid, "%pg_sleep%")
            nursery.cancel_scope.cancel()


async def test_cancelled_query_is_stopped_in_the_server(conn: TrioConnection[Any], until: Until) -> None:
    """A cancelled query ends in the server, and the connection can be used again."""
    pid = conn.info.backend_pid
    await _run_and_cancel(conn, until, "select pg_sleep(100)")
    assert conn.reusable
    await until(_IDLE, pid)
    cursor = await conn.execute("select pg_backend_pid()")
    assert await cursor.fetchone() == (pid,)


@pytest.mark.parametrize("prepare", [True, False])
async def test_cancelled_query_with_parameters(
    conn: TrioConnection[Any], until: Until, prepare: bool
) -> None:
    """The same holds for the extended protocol, and the statement can run again."""
    conn.prepare_threshold = 0 if prepare else None
    await _run_and_cancel(conn, until, "select pg_sleep(%s), 7", (100,))
    assert conn.reusable
    cursor = await conn.execute("select pg_sleep(%s), 7", (0,))
    assert (await cursor.fetchall())[0][1] == 7


async def test_cancelled_query_does_not_start_its_next_step(proxied_url: str, proxy: TcpProxy) -> None:
    """If BEGIN is cancelled, the query that would follow is not sent."""
    conn = await TrioConnection.connect(proxied_url)
    with trio.fail_after(30):
        proxy.silence()
        async with trio.open_nursery() as outer, trio.open_nursery() as nursery:
            nursery.start_soon(conn.execute, "select 'the query'")
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
            outer.start_soon(_speak_after_connections, proxy, proxy.accepted + 1)
    assert b"the query" not in proxy.seen
    assert not conn.closed
    await conn.rollback()
    assert conn.reusable
    await conn.close()


async def test_nothing_is_sent_from_a_cancelled_scope(proxied: TrioConnection[Any], proxy: TcpProxy) -> None:
    """In a cancelled scope a query sends nothing, and no cancel request."""
    before = proxy.accepted
    with trio.CancelScope() as scope:
        scope.cancel()
        await proxied.execute("select 'never sent'")
    assert scope.cancelled_caught
    await proxied.execute("select 'sent'")
    await proxy.until_sent(b"'sent'")
    assert b"never sent" not in proxy.seen
    assert proxy.accepted == before


async def test_cancelled_query_of_a_silent_server(proxied: TrioConnection[Any], proxy: TcpProxy) -> None:
    """If the server answers neither the query nor the cancel request, the connection is closed."""
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(proxied.execute, "select pg_sleep(100)")
            await proxy.until_sent(b"pg_sleep")
            proxy.silence()
            nursery.cancel_scope.cancel()
    assert proxied.closed
    assert proxy.accepted == 2  # the second is the cancel request


async def test_late_answer_to_the_cancel_request(
    proxied: TrioConnection[Any], proxy: TcpProxy, until: Until
) -> None:
    """If the server answers the cancel request within `cancel_timeout`, the connection is usable."""
    proxied.cancel_timeout = 30
    with trio.fail_after(30):
        async with trio.open_nursery() as outer, trio.open_nursery() as nursery:
            nursery.start_soon(proxied.execute, "select pg_sleep(100)")
            await until(_ACTIVE, proxied.info.backend_pid, "%pg_sleep%")
            proxy.silence()
            nursery.cancel_scope.cancel()
            outer.start_soon(_speak_after_connections, proxy, proxy.accepted + 1)
    assert proxied.reusable


async def _speak_after_connections(proxy: TcpProxy, connections: int) -> None:
    await proxy.until_accepted(connections)
    proxy.speak()


async def test_refused_cancel_request_closes(
    proxied: TrioConnection[Any], proxy: TcpProxy, until: Until
) -> None:
    """If the cancel request cannot be sent, the connection is closed immediately."""
    proxied.cancel_timeout = 30
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(proxied.execute, "select pg_sleep(100)")
            await until(_ACTIVE, proxied.info.backend_pid, "%pg_sleep%")
            await proxy.refuse()
            nursery.cancel_scope.cancel()
    assert proxied.closed


async def test_partly_sent_query_never_runs(
    proxied: TrioConnection[Any], proxy: TcpProxy, conn: TrioConnection[Any]
) -> None:
    """A query that is cancelled before it is completely sent never runs."""
    await conn.execute("create table t (n text)")
    proxied.cancel_timeout = 30
    proxy.silence()
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(proxied.execute, "insert into t values (%s)", ("x" * 50_000_000,))
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    assert proxied.closed
    proxy.speak()
    cursor = await conn.execute("select count(*) from t")
    assert await cursor.fetchone() == (0,)


async def test_close_from_another_task(conn: TrioConnection[Any], until: Until) -> None:
    """A task that waits for a connection gets an error immediately when another task closes it."""
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_expect_closed, conn)
            await until(_ACTIVE, conn.info.backend_pid, "%pg_sleep%")
            await conn.close()


async def _expect_closed(conn: TrioConnection[Any]) -> None:
    with pytest.raises(psycopg.OperationalError, match="closed while in use"):
        await conn.execute("select pg_sleep(100)")


async def test_close_is_prompt_with_a_full_buffer(proxied: TrioConnection[Any], proxy: TcpProxy) -> None:
    """Closing does not wait until the socket is writable."""
    proxy.silence()
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_expect_lost, proxied, "select length(%s)", ("x" * 50_000_000,))
            await trio.testing.wait_all_tasks_blocked()
            await proxied.close()
    assert proxied.closed


async def _expect_lost(conn: TrioConnection[Any], query: str, args: Any = None) -> None:
    with pytest.raises(psycopg.OperationalError):
        await conn.execute(query, args)  # type: ignore[arg-type]


async def test_cancel_request_from_another_task(conn: TrioConnection[Any], until: Until) -> None:
    """`cancel_safe` cancels the query of another task, which then raises QueryCanceled."""
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_expect_cancelled, conn)
            await until(_ACTIVE, conn.info.backend_pid, "%pg_sleep%")
            await conn.cancel_safe()
    assert conn.reusable


async def _expect_cancelled(conn: TrioConnection[Any]) -> None:
    with pytest.raises(psycopg.errors.QueryCanceled):
        await conn.execute("select pg_sleep(100)")


async def test_cancel_request_to_a_silent_server(proxied: TrioConnection[Any], proxy: TcpProxy) -> None:
    """`cancel_safe` raises CancellationTimeout after its time limit."""
    proxy.silence()
    with trio.fail_after(30), pytest.raises(psycopg.errors.CancellationTimeout):
        await proxied.cancel_safe(timeout=0.1)


def test_keyboard_interrupt(postgres_url: str) -> None:
    """Ctrl-C during a query closes the connection, without asking the server."""
    closed: list[bool] = []

    @trio.lowlevel.enable_ki_protection  # so that the main task gets it
    async def interrupt() -> None:
        await trio.testing.wait_all_tasks_blocked(0.01)
        signal.raise_signal(signal.SIGINT)

    async def main() -> None:
        conn = await TrioConnection.connect(postgres_url)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(interrupt)
            try:
                await conn.execute("select pg_sleep(100)")
            finally:
                closed.append(conn.closed)
                conn.abort()

    with pytest.RaisesGroup(KeyboardInterrupt):
        trio.run(main)
    assert closed == [True]


async def test_old_libpq(conn: TrioConnection[Any], until: Until, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a libpq before 17, whose cancel call blocks, the request is sent in a thread."""
    in_threads: list[Any] = []
    run_sync = trio.to_thread.run_sync

    async def spy(function: Any, **options: Any) -> Any:
        in_threads.append(function)
        return await run_sync(function, **options)

    monkeypatch.setattr(trio.to_thread, "run_sync", spy)
    monkeypatch.setattr(psycopg.capabilities, "has_cancel_safe", lambda: False)
    await _run_and_cancel(conn, until, "select pg_sleep(100)")
    assert conn.reusable
    assert len(in_threads) == 1


async def test_cancelled_stream(conn: TrioConnection[Any], until: Until) -> None:
    """A `stream()` that is cancelled leaves the connection usable."""

    async def read() -> None:
        async for _ in conn.cursor().stream("select n, pg_sleep(n) from (values (0), (0), (100)) v(n)"):
            pass

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await until(_ACTIVE, conn.info.backend_pid, "%pg_sleep%")
            nursery.cancel_scope.cancel()
    assert conn.reusable
