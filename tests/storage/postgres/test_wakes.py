"""NOTIFY: how often, in whose transaction, and on a connection that may be dead."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import psycopg
import pytest
import trio
import trio.testing

from jobrt._core import where
from jobrt._core.job import NewJob
from jobrt._core.unique import Unique, unique_key
from jobrt._storage.contract import Storage, Wake
from jobrt._storage.postgres import open_postgres, wakes
from jobrt._storage.postgres import waker as waker_module
from jobrt._trio_psycopg import TrioConnection
from jobrt.errors import StorageError, StorageUnavailable
from tests.storage.postgres.build import add, ask, end, job
from tests.storage.postgres.conftest import PATIENCE
from tests.support.tcp_proxy import TcpProxy, open_proxy


class Ear:
    """A separate connection that listens; it receives everything that the server sends, without rate limit."""

    def __init__(self, conn: TrioConnection[Any]) -> None:
        self.conn = conn

    async def heard(self) -> Counter[str]:
        """Return the notifications so far: the server delivers in order, so read until a marker sent here."""
        async with await TrioConnection.connect(self.conn.info.dsn, autocommit=True) as other:
            await other.execute("notify \"jobrt.jobrt\", 'end'")
        found: Counter[str] = Counter()
        async for one in self.conn.notifies():
            if one.payload == "end":
                return found
            found[one.payload] += 1
        raise AssertionError


@pytest.fixture
async def ear(storage: Storage, postgres_url: str) -> AsyncIterator[Ear]:
    """A separate listener on the database."""
    conn = await TrioConnection.connect(postgres_url, autocommit=True)
    await conn.execute('listen "jobrt.jobrt"')
    yield Ear(conn)
    conn.abort()


async def test_one_per_queue_however_many_jobs(storage: Storage, ear: Ear) -> None:
    """A batch notifies each of its queues once, whichever way it is stored."""
    await add(storage, *(job(queue=f"q{n % 2}") for n in range(20)))
    assert await ear.heard() == {"j:q0": 1, "j:q1": 1}
    await add(storage, *(job(queue=f"r{n % 2}") for n in range(2000)))
    assert await ear.heard() == {"j:r0": 1, "j:r1": 1}


async def test_a_burst_is_told_twice(storage: Storage, ear: Ear, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first job of a burst notifies immediately; later ones within the interval notify once, together."""
    sleeping, wake = trio.Event(), trio.Event()

    async def sleep(_seconds: float) -> None:
        sleeping.set()
        await wake.wait()
        monkeypatch.setattr(waker_module, "_INTERVAL", -1e9)

    monkeypatch.setattr(waker_module, "_INTERVAL", 1e9)
    monkeypatch.setattr(trio, "sleep", sleep)
    for _ in range(50):
        await add(storage, job())
    assert await ear.heard() == {"j:default": 1}
    with trio.fail_after(PATIENCE):
        await sleeping.wait()
        wake.set()
        while not (heard := await ear.heard()):
            await trio.lowlevel.checkpoint()
    assert heard == {"j:default": 1}


async def test_a_callers_transaction_wakes_when_it_commits(
    storage: Storage, ear: Ear, postgres_url: str
) -> None:
    """Once for all its inserts; not before, and not at all when it rolls back."""
    async with await TrioConnection.connect(postgres_url) as conn:
        for _ in range(5):
            await storage.jobs.insert([job()], conn=conn)
        await storage.jobs.insert([job(), job()], conn=conn)
        assert await ear.heard() == {}
        await conn.commit()
        assert await ear.heard() == {"j:default": 1}
        await storage.jobs.insert([job()], conn=conn)
        await conn.rollback()
        assert await ear.heard() == {}


async def test_a_duplicate_wakes_nobody(storage: Storage, ear: Ear) -> None:
    """There is nothing new to do."""
    key = unique_key(Unique(), name="a", queue="default", args="{}", metadata={})
    await add(storage, job(unique=key))
    await ear.heard()
    await add(storage, job(unique=key))
    assert await ear.heard() == {}


async def test_clean_ends_wake_nobody(storage: Storage, ear: Ear) -> None:
    """The end of a job that is not awaited is not notified."""
    await add(storage, *(job() for _ in range(5)))
    claimed = (await storage.attempts.exchange((), ask())).jobs
    await ear.heard()
    await storage.attempts.finish([end(one) for one in claimed])
    assert await ear.heard() == {}


async def test_an_awaited_end_is_told_once(storage: Storage, ear: Ear) -> None:
    """However many awaited jobs end in a batch, and whatever ends them."""
    ids = await add(storage, *(job() for _ in range(6)))
    assert set((await storage.jobs.await_final(ids)).values()) == {"available"}
    claimed = (await storage.attempts.exchange((), ask(limit=3))).jobs
    assert (await ear.heard())["f"] == 0
    await storage.attempts.exchange([end(one) for one in claimed], ask("nothing"))
    assert (await ear.heard())["f"] == 1
    await storage.jobs.cancel(where.id(ids[3]), "x")
    assert (await ear.heard())["f"] == 1
    await storage.jobs.delete(where.id(ids[4]))
    assert (await ear.heard())["f"] == 1


async def test_without_listen_nobody_is_notified(
    storage: Storage, ear: Ear, another: Callable[..., Any], postgres_url: str
) -> None:
    """Behind a pooler LISTEN does not work, so nothing is notified."""
    async with another(listen=False) as quiet:
        await add(quiet, job())
        await add(quiet, *(job() for _ in range(600)))
        claimed = (await quiet.attempts.exchange((), ask())).jobs
        await quiet.attempts.finish([end(one) for one in claimed])
        await quiet.queues.set("default", paused=True)
        async with await TrioConnection.connect(postgres_url) as conn:
            await quiet.jobs.insert([job()], conn=conn)
            await conn.commit()
    assert await ear.heard() == {}


async def test_without_listen_listening_waits(another: Callable[..., Any]) -> None:
    """It is started at once, delivers nothing, and ends when it is cancelled."""
    async with another(listen=False) as quiet, trio.open_nursery() as nursery:
        await nursery.start(quiet.wakes.listen, pytest.fail)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


async def test_who_listens_never_holds_back_vacuum(storage: Storage) -> None:
    """However many notifications come: it has no open transaction or snapshot, and the server queues nothing for it."""
    own = "select count(*), count(backend_xid), count(backend_xmin), count(xact_start) from pg_stat_activity"
    listening = (
        f"{own} where datname = current_database() and pid <> pg_backend_pid() and query ilike '%listen%'"
    )
    heard = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(storage.wakes.listen, lambda wake: heard.set() if wake.queue == "last" else None)
        with trio.fail_after(PATIENCE):
            async with storage.jobs._database.plain.acquire() as conn:
                for number in range(2000):  # more than a hundred pages of 8 kB
                    await conn.execute("select pg_notify('jobrt.jobrt', %s)", [f"qother{number:0500}"])
                assert await (await conn.execute(listening)).fetchone() == (1, 0, 0, 0)
                await add(storage, job(queue="last"))
                await heard.wait()
                # In parts of a million pages. Four may be left, and those that other tests of this server have sent.
                cursor = await conn.execute("select pg_notification_queue_usage() * 1048576")
                (pages,) = await cursor.fetchall()
                assert pages[0] < 20
        nursery.cancel_scope.cancel()


async def test_without_listen_nothing_is_left_in_the_session(
    storage: Storage, another: Callable[..., Any]
) -> None:
    """Behind a pooler the next transaction is another client's: no settings, prepared statements or session locks."""
    async with another(listen=False, pool_size=1) as quiet:
        await add(quiet, job(), job())
        for _ in range(10):
            await quiet.attempts.exchange((), ask(limit=1))
        await quiet.jobs.query(where.everything())
        for pool in (quiet.jobs._database.hot, quiet.jobs._database.plain):
            async with pool.acquire() as conn:
                cursor = await conn.execute(
                    "select (select count(*) from pg_prepared_statements),"
                    " (select count(*) from pg_settings where source = 'session'),"
                    " (select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()),"
                    " (select count(*) from pg_listening_channels())"
                )
                assert await cursor.fetchone() == (0, 0, 0, 0)


async def test_unlisten_behind_our_back_is_noticed(
    storage: Storage, admin: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that no longer listens, as after a pooler's reset, is found by the next ping."""
    conns: list[TrioConnection[Any]] = []
    original = wakes.open_connection

    async def opened(*arguments: Any, **options: Any) -> TrioConnection[Any]:
        conns.append(await original(*arguments, **options))
        return conns[-1]

    monkeypatch.setattr(wakes, "open_connection", opened)
    monkeypatch.setattr(wakes, "_PING_EVERY", 0.01)
    with trio.fail_after(PATIENCE), pytest.raises(StorageUnavailable, match="no longer listens"):
        async with PlainNursery() as nursery:
            await nursery.start(storage.wakes.listen, lambda _wake: None)
            await conns[0].execute("unlisten *")


async def test_a_killed_connection_is_noticed_at_once(
    storage: Storage, admin: psycopg.Connection[Any]
) -> None:
    """A connection that the server closes is noticed without a ping; listening again works."""
    heard: list[Wake] = []
    for _ in range(3):
        with trio.fail_after(PATIENCE), pytest.raises(StorageUnavailable):
            async with PlainNursery() as nursery:
                await nursery.start(storage.wakes.listen, heard.append)
                admin.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity"
                    " where query like 'listen%' and pid <> pg_backend_pid()"
                )


@pytest.fixture
async def proxy(postgres_url: str) -> AsyncIterator[TcpProxy]:
    """A proxy between a storage and the server."""
    address = psycopg.conninfo.conninfo_to_dict(postgres_url)
    async with open_proxy(str(address["host"]), int(address["port"] or 5432)) as found:
        yield found


def through(proxy: TcpProxy, url: str) -> str:
    """Return the address of the same database behind the proxy."""
    return psycopg.conninfo.make_conninfo(url, host="127.0.0.1", port=str(proxy.port))


async def test_a_connection_whose_other_end_is_silent_is_noticed(
    storage: Storage, proxy: TcpProxy, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half-open: nothing is refused and nothing arrives. Only a ping shows it, and the ping has a limit."""
    monkeypatch.setattr(wakes, "_PING_EVERY", 0.01)
    async with open_postgres(through(proxy, postgres_url)) as half_open:
        with trio.fail_after(PATIENCE), pytest.raises(StorageUnavailable, match="no answer within"):
            async with PlainNursery() as nursery:
                await nursery.start(half_open.wakes.listen, pytest.fail)
                monkeypatch.setattr(wakes, "_PING_SECONDS", 0.2)
                proxy.silence()


async def test_who_does_not_read_is_cut_off_and_vacuum_goes_on(
    storage: Storage,
    proxy: TcpProxy,
    postgres_url: str,
    admin: psycopg.Connection[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The server sends in a transaction: a stopped process would hold its horizon back for as long as it is stopped."""
    monkeypatch.setattr(wakes, "_UNREAD_SECONDS", 0.5)
    async with open_postgres(through(proxy, postgres_url)) as stopped:
        with trio.fail_after(PATIENCE), pytest.raises(StorageUnavailable):
            async with PlainNursery() as nursery:
                await nursery.start(stopped.wakes.listen, lambda _wake: None)
                proxy.silence()
                look = "select backend_xmin from pg_stat_activity where query like 'listen%'"
                flood = (
                    "select pg_notify('jobrt.jobrt', repeat('x', 7900) || n) from generate_series(1, 1000) n"
                )
                while admin.execute(look).fetchall() == [(None,)]:
                    admin.execute(flood)
                    await trio.lowlevel.checkpoint()
                while admin.execute(look).fetchall():
                    await trio.lowlevel.checkpoint()
                proxy.speak()


class PlainNursery:
    """Open a nursery that raises what its one failing task raised, and no group of it."""

    async def __aenter__(self) -> trio.Nursery:
        """Open it."""
        self._manager = trio.open_nursery()
        return await self._manager.__aenter__()

    async def __aexit__(self, *exc: object) -> bool | None:
        """Close it."""
        try:
            return await self._manager.__aexit__(*exc)
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None


async def test_a_server_that_cannot_be_reached(postgres_url: str) -> None:
    """Listening at an address without a server raises a clear error."""
    async with open_postgres("postgresql://postgres@127.0.0.1:1/nothing") as storage:
        with trio.fail_after(PATIENCE), pytest.raises(StorageUnavailable):
            await storage.wakes.listen(lambda _wake: None)


async def test_the_next_insert_tells_of_those_before(
    storage: Storage, ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A delayed hint needs no message of its own if another insert is due to notify its queue."""
    now = 0.0
    monkeypatch.setattr(waker_module, "monotonic", lambda: now)
    monkeypatch.setattr(waker_module, "_INTERVAL", 3.5)
    waker = storage.jobs._waker
    with waker.insert() as first:
        assert first("default") is not None
    now = 1.0
    with waker.insert() as second:
        assert second("default") is None
    assert waker._pending == {"j:default"}
    now = 4.0
    with waker.insert() as third:
        assert third("other") is not None
        assert third("default") is not None
        assert not waker._pending
    assert not waker._pending


async def test_an_insert_that_fails_tells_of_those_before(storage: Storage) -> None:
    """Its message may be lost, and the pending ones with it; and it may have been committed after all."""
    waker = storage.jobs._waker
    with pytest.raises(StorageUnavailable), waker.insert() as insert:
        assert insert("default") is not None
        raise StorageUnavailable("the reply is lost")
    assert waker._pending == {"j:default"}


async def test_a_single_insert_that_fails_tells_of_those_before(storage: Storage) -> None:
    """It is stored without a batch, and its wakes follow the same rule, whatever ends it."""
    waker = storage.jobs._waker
    with pytest.raises(StorageError, match="out of range"):
        await storage.jobs.insert([job(queue="refused", priority=1 << 40)])
    assert waker._pending == {"j:refused"}
    with trio.CancelScope() as scope:
        scope.cancel()
        await storage.jobs.insert([job(queue="cancelled")])
    assert scope.cancelled_caught
    assert "j:cancelled" in waker._pending


async def test_a_call_that_takes_too_long_is_ended(
    storage: Storage, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The storage enforces the time limit of its calls: the server ends the statement, and the next call works."""
    monkeypatch.setattr("jobrt._trio_psycopg.pool._WATCH_EVERY", 0.001)
    async with open_postgres(postgres_url) as watched:
        with trio.fail_after(PATIENCE):
            with pytest.raises(StorageUnavailable, match=r"no answer within 0\.05 s"):
                async with watched.jobs._database.session(seconds=0.05) as session:
                    await session.conn.execute("select pg_sleep(3600)")
            while await _sleeping(storage):
                pass
            assert await watched.jobs.insert([NewJob("one", "{}")])


async def _sleeping(storage: Storage) -> bool:
    async with storage.jobs._database.session() as session:
        cursor = await session.conn.execute(
            "select exists (select from pg_stat_activity where wait_event = 'PgSleep'"
            " and datname = current_database())"
        )
        return bool((await cursor.fetchone() or (True,))[0])
