"""LISTEN: notifications wake tasks immediately, are kept during queries, and other tasks can run queries."""

from typing import Any

import psycopg
import pytest
import trio
import trio.testing

from jobrt._trio_psycopg import TrioConnection
from tests.support.tcp_proxy import TcpProxy


@pytest.fixture
async def listener(conn: TrioConnection[Any]) -> TrioConnection[Any]:
    """A connection that listens to the channel `c`."""
    await conn.execute("listen c")
    return conn


async def _listening(conn: TrioConnection[Any]) -> list[Any]:
    return await (await conn.execute("select pg_listening_channels()")).fetchall()


async def test_notification_wakes(listener: TrioConnection[Any], watcher: TrioConnection[Any]) -> None:
    """A task that iterates over `notifies()` is woken by a notification."""
    received: list[psycopg.Notify] = []

    async def listen() -> None:
        received.extend([note async for note in listener.notifies(stop_after=2)])

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            await trio.testing.wait_all_tasks_blocked()
            await watcher.execute("select pg_notify('c', 'one'), pg_notify('c', 'two')")
    assert [(note.channel, note.payload) for note in received] == [("c", "one"), ("c", "two")]
    assert received[0].pid == watcher.info.backend_pid


async def test_notifications_during_queries_are_kept(
    listener: TrioConnection[Any], watcher: TrioConnection[Any]
) -> None:
    """Notifications that arrive during a query, or while the connection is not used, are kept."""
    with trio.fail_after(30):
        for number in range(100):
            await watcher.execute("select pg_notify('c', %s)", (str(number),))
            await listener.execute("select 1")
        await watcher.execute("notify c, 'last'")
        notes = [note.payload async for note in listener.notifies(stop_after=101)]
    assert notes == [*(str(number) for number in range(100)), "last"]


@pytest.mark.parametrize("checked", [True, False])
async def test_notification_that_libpq_has_read_already(
    listener: TrioConnection[Any], watcher: TrioConnection[Any], checked: bool
) -> None:
    """A notification that libpq has already read from the socket is found without waiting."""
    await watcher.execute("notify c, 'read'")
    with trio.fail_after(30):
        await trio.lowlevel.wait_readable(listener.fileno())
        if checked:
            assert listener.check_alive()
        else:
            listener.pgconn.consume_input()
        await listener.wait_notified()
    assert [note.payload for note in listener.inbox] == ["read"]


async def test_ping_from_the_loop(listener: TrioConnection[Any], watcher: TrioConnection[Any]) -> None:
    """A task can alternate between waiting for notifications and running queries."""
    received = pings = 0
    with trio.fail_after(30):
        while received < 3:
            with trio.move_on_after(0.001):
                async for _ in listener.notifies():
                    received += 1
            assert await _listening(listener) == [("c",)]
            pings += 1
            await watcher.execute("notify c")
    assert pings >= 3
    assert listener.reusable


async def test_ping_from_another_task(listener: TrioConnection[Any], watcher: TrioConnection[Any]) -> None:
    """Another task can run queries on the connection, and the listener continues."""
    received: list[str] = []

    async def listen() -> None:
        async for note in listener.notifies():
            received.append(note.payload)  # noqa: PERF401  # it is read meanwhile

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            for number in range(20):
                await trio.testing.wait_all_tasks_blocked()
                assert await _listening(listener) == [("c",)]
                await watcher.execute("select pg_notify('c', %s)", (str(number),))
            while len(received) < 20:
                await _listening(listener)
            nursery.cancel_scope.cancel()
    assert received == [str(number) for number in range(20)]


async def test_many_tasks_query_while_one_listens(
    listener: TrioConnection[Any], watcher: TrioConnection[Any]
) -> None:
    """Queries in the queue of the lock all run before the listener continues."""

    async def query() -> None:
        for _ in range(20):
            assert await _listening(listener) == [("c",)]

    async def listen() -> None:
        async for note in listener.notifies():
            assert note.payload == "end"
            return

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            async with trio.open_nursery() as queries:
                for _ in range(5):
                    queries.start_soon(query)
            await watcher.execute("notify c, 'end'")


async def test_timeout(listener: TrioConnection[Any], watcher: TrioConnection[Any]) -> None:
    """`timeout` ends the iteration after the notifications that have arrived."""
    await watcher.execute("notify c, 'x'")
    with trio.fail_after(30):
        assert [note.payload async for note in listener.notifies(timeout=0.05)] == ["x"]
        assert [note async for note in listener.notifies(timeout=0)] == []
        assert [note async for note in listener.notifies(stop_after=0)] == []


async def test_loop_left_early(listener: TrioConnection[Any], watcher: TrioConnection[Any]) -> None:
    """Leaving the loop loses no notification, and needs no `aclosing`."""
    await watcher.execute("select pg_notify('c', 'one'), pg_notify('c', 'two')")
    with trio.fail_after(30):
        for expected in ("one", "two"):
            async for note in listener.notifies():
                assert note.payload == expected
                break


async def test_notify_handlers(listener: TrioConnection[Any], watcher: TrioConnection[Any]) -> None:
    """Notify handlers of psycopg are called too."""
    received: list[psycopg.Notify] = []
    listener.add_notify_handler(received.append)
    await watcher.execute("notify c, 'x'")
    with trio.fail_after(30):
        await listener.wait_notified()
    assert [note.payload for note in received] == ["x"]


async def test_terminated_while_listening(
    listener: TrioConnection[Any], watcher: TrioConnection[Any]
) -> None:
    """A listener gets an error immediately when its backend is terminated."""
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_expect_lost, listener)
            await trio.testing.wait_all_tasks_blocked()
            await watcher.execute("select pg_terminate_backend(%s)", (listener.info.backend_pid,))
    assert listener.closed


async def test_reset_while_listening(proxied: TrioConnection[Any], proxy: TcpProxy) -> None:
    """A listener gets an error immediately when its connection is reset."""
    await proxied.execute("listen c")
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_expect_lost, proxied)
            await trio.testing.wait_all_tasks_blocked()
            proxy.reset()
    assert proxied.closed


async def test_closed_while_listening(listener: TrioConnection[Any]) -> None:
    """A listener gets an error immediately when another task closes the connection."""
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_expect_lost, listener)
            await trio.testing.wait_all_tasks_blocked()
            await listener.close()


async def test_cancelled_listener_sends_nothing(proxied: TrioConnection[Any], proxy: TcpProxy) -> None:
    """Cancelling a listener sends no cancel request, because the server is idle."""
    await proxied.execute("listen c")
    with trio.move_on_after(0.01):
        await proxied.wait_notified()
    assert proxied.reusable
    assert proxy.accepted == 1


async def _expect_lost(conn: TrioConnection[Any]) -> None:
    with pytest.raises(psycopg.OperationalError):  # raised by the block
        async for _ in conn.notifies():
            pytest.fail("nothing was sent")
