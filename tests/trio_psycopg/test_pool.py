"""The pool: each connection is used by one task at a time, in order, and is never broken or busy."""

import math
from typing import Any

import psycopg
import pytest
import trio
import trio.testing
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from jobrt._trio_psycopg import TrioConnection
from jobrt._trio_psycopg.pool import Pool, storage_errors
from jobrt.errors import StorageError, StorageUnavailable
from tests.support.tcp_proxy import TcpProxy
from tests.trio_psycopg.conftest import Until


async def _pid(conn: TrioConnection[Any]) -> int:
    (pid,) = await (await conn.execute("select pg_backend_pid()")).fetchone() or (0,)
    return int(pid)


@pytest.fixture
def cold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections are checked again immediately after their release."""
    monkeypatch.setattr("jobrt._trio_psycopg.pool._WARM_SECONDS", 0)


async def test_lazy_and_warm(postgres_url: str) -> None:
    """Connections are opened at first need, and used again."""
    async with Pool(postgres_url, max_size=2) as pool:
        assert pool.statistics().opened == 0
        pids = set()
        for _ in range(5):
            async with pool.acquire() as conn:
                pids.add(await _pid(conn))
        assert len(pids) == 1
        async with pool.acquire() as first, pool.acquire() as second:
            assert await _pid(first) != await _pid(second)
            assert pool.statistics().in_use == 2
        statistics = pool.statistics()
        assert (statistics.opened, statistics.idle, statistics.in_use) == (2, 2, 0)
        assert (statistics.max_size, statistics.waiting, statistics.dropped) == (2, 0, 0)
        with pytest.raises(AttributeError):
            statistics.idle = 7  # type: ignore[misc]


async def test_tasks_are_served_in_order(postgres_url: str) -> None:
    """Waiting tasks are served in the order of requests; a later task does not overtake them."""
    order: list[int] = []

    async def use(number: int) -> None:
        async with pool.acquire() as conn:
            order.append(number)
            await _pid(conn)

    with trio.fail_after(30):
        async with Pool(postgres_url, max_size=1) as pool, trio.open_nursery() as nursery:
            async with pool.acquire():
                for number in range(5):
                    nursery.start_soon(use, number)
                    await trio.testing.wait_all_tasks_blocked()
                assert pool.statistics().waiting == 5
            await use(5)
    assert order == [0, 1, 2, 3, 4, 5]


async def test_never_more_than_max_size(postgres_url: str) -> None:
    """At most `max_size` connections are in use, and at most so many were ever opened."""
    async with Pool(postgres_url, max_size=2) as pool:

        async def use() -> None:
            for _ in range(5):
                async with pool.acquire() as conn:
                    assert pool.statistics().in_use <= 2
                    await _pid(conn)

        with trio.fail_after(30):
            for _ in range(3):
                async with trio.open_nursery() as nursery:
                    for _ in range(6):
                        nursery.start_soon(use)
        assert pool.statistics().opened == 2


async def test_warmest_first(postgres_url: str) -> None:
    """The connection that was released last is used first, so that the others can stay idle."""
    async with Pool(postgres_url) as pool:
        async with pool.acquire() as last, pool.acquire():
            pass
        async with pool.acquire() as conn:
            assert conn is last


async def test_acquire_has_a_deadline(postgres_url: str) -> None:
    """Waiting for a connection ends after `acquire_timeout`, and the task leaves the queue."""
    with trio.fail_after(30):
        async with Pool(postgres_url, max_size=1, acquire_timeout=0.05) as pool, pool.acquire() as conn:
            await _pid(conn)
            with pytest.raises(StorageUnavailable, match=r"all 1 connections were in use for 0\.05 s$"):
                async with pool.acquire():
                    pytest.fail("acquired twice")
            assert pool.statistics().waiting == 0


async def test_opening_has_a_deadline(proxied_url: str, proxy: TcpProxy) -> None:
    """Opening a connection ends after `acquire_timeout`, and the slot is free again."""
    proxy.silence()
    with trio.fail_after(30):
        async with Pool(proxied_url, max_size=1, acquire_timeout=0.05) as pool:
            for _ in range(3):
                with pytest.raises(StorageUnavailable, match="cannot connect"):
                    async with pool.acquire():
                        pytest.fail("opened")
            proxy.speak()
            pool.acquire_timeout = 10
            async with pool.acquire() as conn:
                assert await _pid(conn)


async def test_opening_has_a_time_limit_of_its_own(
    proxied_url: str, proxy: TcpProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A silent server is reported soon, even with a long `acquire_timeout`."""
    monkeypatch.setattr("jobrt._trio_psycopg.pool._CONNECT_SECONDS", 0.05)
    proxy.silence()
    with trio.fail_after(30):
        async with Pool(proxied_url, acquire_timeout=600) as pool:
            with pytest.raises(StorageUnavailable, match=r"no answer within 0\.05 s"):
                async with pool.acquire():
                    pytest.fail("opened")


async def test_silent_host_leaves_time_for_the_next(
    postgres_url: str, proxied_url: str, proxy: TcpProxy
) -> None:
    """If the first host is silent, the second is tried within `acquire_timeout`."""
    port = conninfo_to_dict(postgres_url)["port"]
    hosts = make_conninfo(proxied_url, host="127.0.0.1,127.0.0.1", port=f"{proxy.port},{port}")
    proxy.silence()
    with trio.fail_after(30):
        async with Pool(hosts, acquire_timeout=2) as pool, pool.acquire() as conn:
            assert await _pid(conn)


async def test_primary_that_became_a_standby(postgres_url: str) -> None:
    """A connection that has become read-only is closed, because there is a new primary."""

    async def configure(conn: TrioConnection[Any]) -> None:
        if pool.statistics().opened == 0:
            await conn.execute("set default_transaction_read_only = on")

    with trio.fail_after(30):
        async with Pool(postgres_url, max_size=1, configure=configure) as pool:
            with pytest.raises(StorageUnavailable, match="read-only transaction"):
                async with pool.call(10) as conn:
                    await conn.execute("create table t (n int)")
            async with pool.call(10) as conn:
                await conn.execute("create table t (n int)")


async def test_a_stale_connection_takes_all_others_of_its_age_along(postgres_url: str) -> None:
    """They have prepared the same statements before the same change. Calls that use one meanwhile end normally."""
    with trio.fail_after(30):
        async with Pool(postgres_url, max_size=4) as pool:
            async with pool.acquire() as busy:
                async with pool.acquire() as stale, pool.acquire() as idle:
                    old = {await _pid(one) for one in (busy, stale, idle)}
                    with pytest.raises(StorageUnavailable), storage_errors(stale):
                        await stale.execute("deallocate nothing")
                    await _pid(idle)  # in use until the end of the block
                async with pool.acquire() as fresh:
                    assert await _pid(fresh) not in old
                await _pid(busy)
            async with pool.acquire() as one, pool.acquire() as other:
                assert old.isdisjoint({await _pid(one), await _pid(other)})
            assert (pool.statistics().opened, pool.statistics().dropped) == (5, 3)


async def test_terminated_while_idle(postgres_url: str, watcher: TrioConnection[Any], cold: None) -> None:
    """A connection that the server closed while it was idle is not used."""
    with trio.fail_after(30):
        async with Pool(postgres_url) as pool:
            async with pool.acquire() as conn:
                pid = await _pid(conn)
            await watcher.execute("select pg_terminate_backend(%s, 5000)", (pid,))
            async with pool.acquire() as conn:
                assert await _pid(conn) != pid
            assert pool.statistics().dropped == 1


async def test_terminated_while_in_use(postgres_url: str, watcher: TrioConnection[Any]) -> None:
    """A call whose connection breaks fails, and the next call succeeds."""
    with trio.fail_after(30):
        async with Pool(postgres_url, max_size=1) as pool:
            with pytest.raises(StorageUnavailable):  # raised by the block
                async with pool.call(10) as conn:
                    await watcher.execute("select pg_terminate_backend(%s, 5000)", (await _pid(conn),))
                    await _pid(conn)
            async with pool.call(10) as conn:
                assert await _pid(conn)


async def test_restarted_server(proxied_url: str, proxy: TcpProxy, cold: None) -> None:
    """If all idle connections have died, the next call drops them and opens a new one."""
    with trio.fail_after(30):
        async with Pool(proxied_url, max_size=3) as pool:
            async with pool.acquire(), pool.acquire(), pool.acquire():
                pass
            proxy.reset()
            await proxy.until_idle()
            async with pool.call(10) as conn:
                assert await _pid(conn)
            assert pool.statistics().dropped == 3
            assert pool.statistics().opened == 4


async def _open_transaction(conn: TrioConnection[Any]) -> None:
    await conn.execute("begin")


async def _failed_transaction(conn: TrioConnection[Any]) -> None:
    await conn.execute("begin")
    with pytest.raises(psycopg.errors.DivisionByZero):
        await conn.execute("select 1 / 0")


async def _half_read_copy(conn: TrioConnection[Any]) -> None:
    async with conn.cursor().copy("copy (select generate_series(1, 1000)) to stdout") as copy:
        await copy.read()


@pytest.mark.parametrize("leave", [_open_transaction, _failed_transaction, _half_read_copy])
async def test_released_during_an_operation(postgres_url: str, leave: Any) -> None:
    """A connection that is released with an unfinished operation is closed."""
    with trio.fail_after(30):
        async with Pool(postgres_url) as pool:
            async with pool.acquire() as conn:
                await leave(conn)
            assert conn.closed
            async with pool.acquire() as conn:
                assert await _pid(conn)


async def test_error_in_the_block(postgres_url: str) -> None:
    """An unrelated error leaves the connection in the pool."""
    async with Pool(postgres_url) as pool:
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                async with pool.acquire():
                    raise ZeroDivisionError
        assert pool.statistics().opened == 1


async def test_cancelled_tasks(postgres_url: str) -> None:
    """Wherever tasks are cancelled, no slot is lost and no connection stays busy."""
    with trio.fail_after(60):
        async with Pool(postgres_url, max_size=2) as pool:

            async def use() -> None:
                while True:
                    async with pool.acquire() as conn:
                        await conn.execute("select pg_sleep(0.0005)")

            for number in range(40):
                with trio.move_on_after(number / 5_000):
                    async with trio.open_nursery() as nursery:
                        for _ in range(4):
                            nursery.start_soon(use)
                assert pool.statistics().in_use == 0
                assert pool.statistics().waiting == 0
            async with pool.acquire() as first, pool.acquire() as second:
                assert await _pid(first) != await _pid(second)


async def test_cancelled_when_a_slot_is_handed_over(postgres_url: str) -> None:
    """A task that is cancelled when it gets a slot releases the slot."""
    with trio.fail_after(30):
        async with Pool(postgres_url, max_size=1) as pool:
            scope = trio.CancelScope()

            async def use() -> None:
                with scope:
                    async with pool.acquire() as conn:
                        await _pid(conn)

            async with trio.open_nursery() as nursery:
                async with pool.acquire():
                    nursery.start_soon(use)
                    await trio.testing.wait_all_tasks_blocked()
                scope.cancel()  # the task has the slot, but has not run yet
            async with pool.acquire() as conn:
                assert await _pid(conn)


async def test_configure(postgres_url: str) -> None:
    """Each new connection is configured once; if that fails it is closed, and the error is raised."""
    configured: list[TrioConnection[Any]] = []

    async def configure(conn: TrioConnection[Any]) -> None:
        configured.append(conn)
        if len(configured) == 1:
            await conn.execute("select * from nosuch")

    async with Pool(postgres_url, max_size=1, configure=configure) as pool:
        with pytest.raises(StorageError, match="nosuch"):
            async with pool.acquire():
                pytest.fail("acquired")
        assert configured[0].closed
        for _ in range(3):
            async with pool.acquire() as conn:
                assert conn is configured[1]


async def test_prepare_threshold(postgres_url: str) -> None:
    """The connections have the `prepare_threshold` of the pool."""
    async with Pool(postgres_url, prepare_threshold=None) as pool, pool.acquire() as conn:
        assert conn.prepare_threshold is None


@pytest.fixture
def watchful(monkeypatch: pytest.MonkeyPatch) -> None:
    """`Pool.watch` checks every millisecond."""
    monkeypatch.setattr("jobrt._trio_psycopg.pool._WATCH_EVERY", 0.001)


async def test_deadline_of_a_call(postgres_url: str, until: Until, watchful: None) -> None:
    """A call that takes too long is cancelled, in the server too, and the pool stays usable."""
    async with Pool(postgres_url, max_size=1) as pool, trio.open_nursery() as nursery:
        nursery.start_soon(pool.watch)
        with trio.fail_after(30):
            with pytest.raises(StorageUnavailable, match=r"no answer within 0\.05 s"):
                async with pool.call(0.05) as conn:
                    pid = conn.info.backend_pid  # a query for it might take too long itself
                    await conn.execute("select pg_sleep(100)")
            assert conn.closed
            await until("select not exists (select from pg_stat_activity where pid = %s)", pid)
            async with pool.call(10) as conn:
                assert await _pid(conn) != pid
        nursery.cancel_scope.cancel()


async def test_deadline_with_a_silent_server(proxied_url: str, proxy: TcpProxy, watchful: None) -> None:
    """If the server does not answer the cancel request, the call takes ``cancel_timeout`` longer."""
    async with Pool(proxied_url, max_size=1) as pool, trio.open_nursery() as nursery:
        nursery.start_soon(pool.watch)
        with trio.fail_after(30), pytest.raises(StorageUnavailable, match="no answer within"):
            async with pool.call(0.05) as conn:
                conn.cancel_timeout = 0.2
                proxy.silence()
                async with conn.transaction():
                    pytest.fail("begun")
        assert conn.closed
        nursery.cancel_scope.cancel()


async def test_call_that_succeeds_late(postgres_url: str, watchful: None) -> None:
    """A call that succeeds after its deadline raises no error, but its connection is closed."""
    async with Pool(postgres_url, max_size=1) as pool, trio.open_nursery() as nursery:
        nursery.start_soon(pool.watch)
        with trio.fail_after(30):
            async with pool.call(0.05) as conn:
                pid = conn.info.backend_pid  # a query for it might take too long itself
                while not conn.closed:
                    await trio.lowlevel.checkpoint()
            async with pool.call(10) as conn:
                assert await _pid(conn) != pid
        assert pool.statistics().dropped == 1
        nursery.cancel_scope.cancel()


async def test_acquired_connections_have_no_deadline(postgres_url: str, watchful: None) -> None:
    """An acquired connection stays open while an overdue call is cancelled."""
    async with Pool(postgres_url, max_size=2) as pool, trio.open_nursery() as nursery:
        nursery.start_soon(pool.watch)
        with trio.fail_after(30):
            async with pool.acquire() as kept:
                pid = await _pid(kept)
                with pytest.raises(StorageUnavailable):
                    async with pool.call(0.05) as conn:
                        await conn.execute("select pg_sleep(100)")
                assert await _pid(kept) == pid
        nursery.cancel_scope.cancel()


async def test_a_connection_just_used_is_not_checked(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between consecutive calls the socket is not checked; after a pause it is."""
    checked = []
    alive = TrioConnection.check_alive

    def check_alive(conn: TrioConnection[Any]) -> bool:
        checked.append(conn)
        return alive(conn)

    monkeypatch.setattr(TrioConnection, "check_alive", check_alive)
    monkeypatch.setattr("jobrt._trio_psycopg.pool._WARM_SECONDS", 3600)
    async with Pool(postgres_url) as pool:
        for _ in range(3):
            async with pool.acquire() as conn:
                await _pid(conn)
        assert not checked
        monkeypatch.setattr("jobrt._trio_psycopg.pool._WARM_SECONDS", 0)
        for _ in range(3):
            async with pool.acquire() as conn:
                await _pid(conn)
        assert checked == [conn, conn]  # the first of the three was still warm


async def test_closing(postgres_url: str, until: Until) -> None:
    """A closed pool has no connections, and refuses new and waiting tasks."""
    refused = []

    async def use() -> None:
        with pytest.raises(StorageUnavailable, match="the connection pool is closed"):
            async with pool.acquire():
                pytest.fail("acquired")
        refused.append(True)

    pool = Pool(postgres_url, max_size=1)
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery, pool.acquire() as conn:
            pid = await _pid(conn)
            nursery.start_soon(use)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(pool.aclose, math.inf)
            await trio.testing.wait_all_tasks_blocked()
            assert refused == [True]
            assert await _pid(conn) == pid  # a connection in use stays open
        await use()
    assert conn.closed
    assert len(refused) == 2
    await until("select not exists (select from pg_stat_activity where pid = %s)", pid)
    await pool.aclose()


async def test_closing_does_not_wait_for_ever(postgres_url: str, until: Until) -> None:
    """A connection that is not released in time is closed, and its task gets StorageUnavailable."""
    pool = Pool(postgres_url)
    pids: list[int] = []
    acquired = trio.Event()

    async def use() -> None:
        with pytest.raises(StorageUnavailable):
            async with pool.call(100) as conn:
                pids.append(await _pid(conn))
                acquired.set()
                await conn.execute("select pg_sleep(100)")

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(use)
            await acquired.wait()
            await until("select wait_event = 'PgSleep' from pg_stat_activity where pid = %s", *pids)
            await pool.aclose(0.05)
    assert pool.statistics().in_use == 0


async def test_closed_while_opening(proxied_url: str, proxy: TcpProxy) -> None:
    """A connection that is being opened while the pool closes is closed too."""
    pool = Pool(proxied_url)
    proxy.silence()

    async def use() -> None:
        with pytest.raises(StorageUnavailable, match="the connection pool is closed"):
            async with pool.acquire():
                pytest.fail("acquired")

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(use)
            await proxy.until_accepted(1)
            await pool.aclose()
            proxy.speak()
        await proxy.until_idle()


async def test_password_is_not_shown(postgres_url: str) -> None:
    """The repr of the pool and its errors do not show the password."""
    pool = Pool("postgresql://me:secret@127.0.0.1:1/jobs", acquire_timeout=5)
    assert "secret" not in repr(pool)
    with pytest.raises(StorageUnavailable, match="Connection refused") as caught:
        async with pool.acquire():
            pytest.fail("acquired")
    assert "secret" not in str(caught.value)


def test_size_must_be_positive() -> None:
    """A pool without connections is refused."""
    with pytest.raises(ValueError, match="max_size"):
        Pool("postgresql://", max_size=0)
