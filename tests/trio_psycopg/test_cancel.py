"""Cancelling what a connection is doing: the server stops too, and whatever happens it takes a bounded time."""

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
    """Cancel `query` when the server is seen to be in the middle of it."""
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(conn.execute, query, *args)
            await until(_ACTIVE, conn.info.backend_pid, "%pg_sleep%")
            nursery.cancel_scope.cancel()


async def test_cancelled_query_is_stopped_in_the_server(conn: TrioConnection[Any], until: Until) -> None:
    """A query that is cancelled ends in the server, and the connection can be used again."""
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
    """The same holds for the extended protocol, prepared or not, and the statement can be run again."""
    conn.prepare_threshold = 0 if prepare else None
    await _run_and_cancel(conn, until, "select pg_sleep(%s), 7", (100,))
    assert conn.reusable
    cursor = await conn.execute("select pg_sleep(%s), 7", (0,))
    assert (await cursor.fetchall())[0][1] == 7


async def test_cancelled_query_does_not_go_on_to_its_next_step(proxied_url: str, proxy: TcpProxy) -> None:
    """Cancelled while BEGIN is under way, the query that was to follow is not sent."""
    conn = await TrioConnection.connect(proxied_url)
    with trio.fail_after(30):
        proxy.silence()
        async with trio.open_nursery() as outer, trio.open_nursery() as nursery:
            nursery.start_soon(conn.execute, "select 'the query'")
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
            outer.start_soon(_speak_when_called, proxy, proxy.accepted + 1)
    assert b"the query" not in proxy.seen
    assert not conn.closed
    await conn.rollback()
    assert conn.reusable
    await conn.close()


async def test_nothing_is_sent_from_a_cancelled_scope(proxied: TrioConnection[Any], proxy: TcpProxy) -> None:
    """A query that begins in a cancelled scope costs no round trip and no cancel request."""
    before = proxy.accepted
    with trio.CancelScope() as scope:
        scope.cancel()
        await proxied.execute("select 'never sent'")
    assert scope.cancelled_caught
    await proxied.execute("select 'sent'")
    await proxy.until_sent(b"'sent'")
    assert b"never sent" not in proxy.seen
    assert proxy.accepted == before


async def test_silent_server_cannot_hold_a_cancelled_query(
    proxied: TrioConnection[Any], proxy: TcpProxy
) -> None:
    """When the server answers neither the query nor the cancel request, the connection is closed in the end."""
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
    """A server that answers the cancel request late, but in time, leaves the connection usable."""
    proxied.cancel_timeout = 30
    with trio.fail_after(30):
        async with trio.open_nursery() as outer, trio.open_nursery() as nursery:
            nursery.start_soon(proxied.execute, "select pg_sleep(100)")
            await until(_ACTIVE, proxied.info.backend_pid, "%pg_sleep%")
            proxy.silence()
            nursery.cancel_scope.cancel()
            outer.start_soon(_speak_when_called, proxy, proxy.accepted + 1)
    assert proxied.reusable


async def _speak_when_called(proxy: TcpProxy, connections: int) -> None:
    await proxy.until_accepted(connections)
    proxy.speak()


async def test_refused_cancel_request_closes(
    proxied: TrioConnection[Any], proxy: TcpProxy, until: Until
) -> None:
    """When the cancel request cannot even be made, the connection is closed at once."""
    proxied.cancel_timeout = 30
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(proxied.execute, "select pg_sleep(100)")
            await until(_ACTIVE, proxied.info.backend_pid, "%pg_sleep%")
            await proxy.refuse()
            nursery.cancel_scope.cancel()
    assert proxied.closed


async def test_query_that_is_only_half_sent_is_withdrawn(
    proxied: TrioConnection[Any], proxy: TcpProxy, conn: TrioConnection[Any]
) -> None:
    """A query too big for the sockets' buffers, cancelled before it is all sent, never runs."""
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
    """Whoever waits on a connection that another task closes is told so at once."""
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_expect_closed, conn)
            await until(_ACTIVE, conn.info.backend_pid, "%pg_sleep%")
            await conn.close()


async def _expect_closed(conn: TrioConnection[Any]) -> None:
    with pytest.raises(psycopg.OperationalError, match="closed while in use"):
        await conn.execute("select pg_sleep(100)")


async def test_close_is_prompt_with_a_full_buffer(proxied: TrioConnection[Any], proxy: TcpProxy) -> None:
    """Closing does not wait for room in the socket to say goodbye."""
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
    """`cancel_safe` stops another task's query, which then fails as any query does."""
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
    """`cancel_safe` gives up after its time limit."""
    proxy.silence()
    with trio.fail_after(30), pytest.raises(psycopg.errors.CancellationTimeout):
        await proxied.cancel_safe(timeout=0.1)


def test_keyboard_interrupt(postgres_url: str) -> None:
    """Ctrl-C in the middle of a query closes the connection: there is no time to ask what the server is doing."""
    closed: list[bool] = []

    @trio.lowlevel.enable_ki_protection  # so that it strikes the main task
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
    """With a libpq before 17, which can only block while it cancels, a thread does it."""
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


async def test_stream_left_and_cancelled(conn: TrioConnection[Any], until: Until) -> None:
    """A `stream()` that is cancelled while the server works leaves the connection usable."""

    async def read() -> None:
        async for _ in conn.cursor().stream("select n, pg_sleep(n) from (values (0), (0), (100)) v(n)"):
            pass

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await until(_ACTIVE, conn.info.backend_pid, "%pg_sleep%")
            nursery.cancel_scope.cancel()
    assert conn.reusable
