"""Transactions: committed, rolled back, nested, cancelled at any point, and with a lost reply."""

from typing import Any

import psycopg
import pytest
import trio
import trio.testing

from jobrt._trio_psycopg import TrioConnection
from tests.support.postgres import Server
from tests.support.tcp_proxy import TcpProxy
from tests.trio_psycopg.conftest import Until


@pytest.fixture(autouse=True)
def table(postgres_server: Server, postgres_url: str) -> None:
    """An empty table."""
    postgres_server.execute("create table t (n int)", url=postgres_url)


async def _rows(watcher: TrioConnection[Any]) -> list[int]:
    return [n for (n,) in await (await watcher.execute("select n from t order by n")).fetchall()]


async def test_commit(conn: TrioConnection[Any], watcher: TrioConnection[Any]) -> None:
    """Others see the writes of the block after its end, and not before."""
    async with conn.transaction():
        await conn.execute("insert into t values (1)")
        assert await _rows(watcher) == []
    assert await _rows(watcher) == [1]
    assert conn.reusable


async def test_rollback(conn: TrioConnection[Any], watcher: TrioConnection[Any]) -> None:
    """After an exception in the block its writes are rolled back."""
    with pytest.raises(ZeroDivisionError):  # raised by the block
        async with conn.transaction():
            await conn.execute("insert into t values (1)")
            raise ZeroDivisionError
    assert await _rows(watcher) == []
    assert conn.reusable


async def test_nested(conn: TrioConnection[Any], watcher: TrioConnection[Any]) -> None:
    """An inner transaction that fails rolls back only its own writes."""
    async with conn.transaction():
        await conn.execute("insert into t values (1)")
        with pytest.raises(psycopg.errors.DivisionByZero):  # raised by the block
            async with conn.transaction():
                await conn.execute("insert into t values (2)")
                await conn.execute("select 1 / 0")
        async with conn.transaction(force_rollback=True):
            await conn.execute("insert into t values (3)")
        async with conn.transaction():
            await conn.execute("insert into t values (4)")
    assert await _rows(watcher) == [1, 4]


async def test_implicit_transaction(postgres_url: str, watcher: TrioConnection[Any]) -> None:
    """Without autocommit, the end of the connection's block commits, and an exception rolls back."""
    async with await TrioConnection.connect(postgres_url) as conn:
        await conn.execute("insert into t values (1)")
        await conn.commit()
        await conn.execute("insert into t values (2)")
        await conn.rollback()
        await conn.execute("insert into t values (3)")
    with pytest.raises(ZeroDivisionError):  # raised by the block
        async with await TrioConnection.connect(postgres_url) as conn:
            await conn.execute("insert into t values (4)")
            raise ZeroDivisionError
    assert await _rows(watcher) == [1, 3]


async def test_settings_of_transactions(conn: TrioConnection[Any]) -> None:
    """Isolation level and read-only are set as in psycopg."""
    await conn.set_isolation_level(psycopg.IsolationLevel.SERIALIZABLE)
    await conn.set_read_only(True)
    async with conn.transaction():
        cursor = await conn.execute("select current_setting('transaction_isolation')")
        assert await cursor.fetchone() == ("serializable",)
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            async with conn.transaction():
                await conn.execute("insert into t values (1)")


async def test_two_phase_commit(postgres_url: str) -> None:
    """A two-phase transaction can be started and rolled back."""
    async with await TrioConnection.connect(postgres_url) as conn:
        await conn.tpc_begin("jobrt-test")
        await conn.execute("insert into t values (1)")
        await conn.tpc_rollback()
        assert conn.reusable


async def test_cancelled_in_a_query(
    conn: TrioConnection[Any], watcher: TrioConnection[Any], until: Until
) -> None:
    """A transaction whose query is cancelled is rolled back, and the connection is usable."""

    async def run() -> None:
        async with conn.transaction():
            await conn.execute("insert into t values (1)")
            await conn.execute("select pg_sleep(100)")

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await until(
                "select wait_event = 'PgSleep' from pg_stat_activity where pid = %s", conn.info.backend_pid
            )
            nursery.cancel_scope.cancel()
    assert conn.reusable
    assert await _rows(watcher) == []


async def test_cancelled_between_queries(conn: TrioConnection[Any], watcher: TrioConnection[Any]) -> None:
    """A transaction that is cancelled between queries is rolled back, and so are nested ones."""
    with trio.CancelScope() as scope:
        async with conn.transaction(), conn.transaction():
            await conn.execute("insert into t values (1)")
            scope.cancel()
            await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    assert conn.reusable
    assert await _rows(watcher) == []


@pytest.mark.parametrize("outer", ["transaction", "commit"])
async def test_cancelled_during_commit(
    proxied_url: str, proxy: TcpProxy, *, watcher: TrioConnection[Any], outer: str
) -> None:
    """A commit that has started is not cancelled: the block ends as without a cancellation."""
    conn = await TrioConnection.connect(proxied_url, autocommit=outer == "transaction")
    committing = trio.Event()
    done = []

    async def run() -> None:
        async with conn.transaction() if outer == "transaction" else _Committing(conn):
            await conn.execute("insert into t values (1)")
            proxy.silence()
            committing.set()
        done.append(True)

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()
            nursery.start_soon(_within, scope, run)
            await committing.wait()
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
            await trio.testing.wait_all_tasks_blocked()
            proxy.speak()
    assert done
    assert not scope.cancelled_caught
    assert proxy.accepted == 1  # no cancel request was sent for the COMMIT
    assert conn.reusable
    assert await _rows(watcher) == [1]
    await conn.close()


class _Committing:
    """Context manager that commits at its end."""

    def __init__(self, conn: TrioConnection[Any]) -> None:
        self._conn = conn

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, *error: object) -> None:
        await self._conn.commit()


async def _within(scope: trio.CancelScope, run: Any) -> None:
    with scope:
        await run()


async def test_cancelled_during_commit_with_a_silent_server(
    proxied: TrioConnection[Any], proxy: TcpProxy
) -> None:
    """If a commit is cancelled and the server does not respond, the connection is closed."""
    committing = trio.Event()

    async def run() -> None:
        async with proxied.transaction():
            await proxied.execute("insert into t values (1)")
            proxy.silence()
            committing.set()

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()
            nursery.start_soon(_within, scope, run)
            await committing.wait()
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
    assert scope.cancelled_caught
    assert proxied.closed


async def test_cancelled_while_another_task_uses_the_connection(
    conn: TrioConnection[Any], until: Until
) -> None:
    """If the end of a transaction cannot be sent because of another task, the connection is closed."""

    async def run() -> None:
        async with conn.transaction():
            await entered()
            await trio.lowlevel.checkpoint()

    async def entered() -> None:
        nursery.start_soon(_expect_lost, conn)
        await trio.testing.wait_all_tasks_blocked()

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()
            nursery.start_soon(_within, scope, run)
            await until(
                "select wait_event = 'PgSleep' from pg_stat_activity where pid = %s", conn.info.backend_pid
            )
            scope.cancel()
    assert conn.closed


async def _expect_lost(conn: TrioConnection[Any]) -> None:
    with pytest.raises(psycopg.OperationalError):
        await conn.execute("select pg_sleep(100)")


async def test_transaction_in_a_cancelled_scope(proxied: TrioConnection[Any], proxy: TcpProxy) -> None:
    """A transaction does not start in a cancelled scope."""
    with trio.CancelScope() as scope:
        scope.cancel()
        async with proxied.transaction():
            pytest.fail("entered")
    assert scope.cancelled_caught
    async with proxied.transaction():
        pass
    assert proxied.reusable
    assert proxy.seen.count(b"BEGIN") == 1


async def test_transaction_that_is_cancelled_when_it_gets_the_lock(conn: TrioConnection[Any]) -> None:
    """A transaction that is cancelled when it gets the lock does not start."""
    scope = trio.CancelScope()

    async def run() -> None:
        async with conn.transaction():
            pytest.fail("entered")

    async with trio.open_nursery() as nursery:
        async with conn.lock:
            nursery.start_soon(_within, scope, run)
            await trio.testing.wait_all_tasks_blocked()
        scope.cancel()  # it has the lock, but has not run yet
    assert scope.cancelled_caught
    async with conn.transaction():
        await conn.execute("insert into t values (1)")
    assert conn.reusable


async def test_lost_reply_to_commit(
    proxied: TrioConnection[Any], proxy: TcpProxy, watcher: TrioConnection[Any]
) -> None:
    """A COMMIT whose reply is lost raises an error, although the server has committed."""
    proxy.lose_reply_to(b"COMMIT")
    with trio.fail_after(30), pytest.raises(psycopg.Error):
        async with proxied.transaction():
            await proxied.execute("insert into t values (1)")
    assert proxied.closed
    assert await _rows(watcher) == [1]


async def test_pipeline_in_a_transaction(conn: TrioConnection[Any], watcher: TrioConnection[Any]) -> None:
    """A transaction in a pipeline and a pipeline in a transaction commit."""
    async with conn.pipeline(), conn.transaction():
        await conn.execute("insert into t values (1)")
    async with conn.transaction(), conn.pipeline():
        await conn.execute("insert into t values (2)")
    assert await _rows(watcher) == [1, 2]
