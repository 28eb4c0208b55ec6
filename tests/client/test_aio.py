"""Tests of the asyncio client: an asyncio program in a thread, beside a worker on Trio."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing, suppress
from typing import TYPE_CHECKING, Any, LiteralString

import aiosqlite
import psycopg
import pytest
import sqlalchemy
import trio
import trio_asyncio
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.pool import NullPool

import jobrt
from jobrt import aio, where
from jobrt._client import asyncio_waiting
from jobrt._storage.postgres.asyncio_jobs import AsyncioPostgres
from tests.support.in_asyncio import LOOPS, in_asyncio, run_asyncio

if TYPE_CHECKING:
    from tests.support.postgres import Cluster

Program = Callable[[aio.Client], Awaitable[None]]


class Say(jobrt.Job):
    """Job that returns a value, fails, cancels itself, or waits until it is cancelled."""

    MAX_ATTEMPTS = 1

    what: str

    async def run(self, ctx: jobrt.Context) -> object:
        if self.what == "fail":
            raise LookupError("no such address")
        if self.what == "wait":
            await trio.sleep_forever()
        return jobrt.Cancel("not needed") if self.what == "cancel" else {"text": self.what}


async def beside_a_worker(url: str, program: Program, loop: str = "asyncio") -> None:
    """Run a program with its own client, while a worker serves the database."""

    async def run() -> None:
        async with aio.Client(url, jobs=[Say]) as client:
            await program(client)

    with trio.fail_after(50):
        async with trio.open_nursery() as nursery:
            worker = await nursery.start(jobrt.App(url, jobs=[Say], migrate=True).run_worker)
            await in_asyncio(run, loop)
            await worker.stop(grace=0)


@pytest.mark.parametrize("loop", LOOPS)
async def test_a_handle_returns_the_result(database_url: str, loop: str) -> None:
    """A handle returns the result and the record. A handle can be created from a job id."""

    async def program(jobs: aio.Client) -> None:
        first = await jobs.enqueue(Say("hello"))
        many = await jobs.enqueue_many([Say("a"), Say("b")])
        assert await first.result() == {"text": "hello"}
        assert await asyncio.gather(*(handle.result() for handle in many)) == [{"text": "a"}, {"text": "b"}]
        record = await jobs.handle(first.id).wait()
        assert (record, record.state) == (await jobs.get(first.id), jobrt.State.COMPLETED)
        assert await jobs.enqueue_many([]) == []

    await beside_a_worker(database_url, program, loop)


async def test_an_unsuccessful_job_raises(database_url: str) -> None:
    """The exceptions are those of the Trio client's handle, with the record."""

    async def program(jobs: aio.Client) -> None:
        with pytest.raises(jobrt.JobFailed, match="LookupError: no such address") as failed:
            await (await jobs.enqueue(Say("fail"))).result()
        assert failed.value.record.state is jobrt.State.DISCARDED
        with pytest.raises(jobrt.JobCancelled, match="not needed"):
            await (await jobs.enqueue(Say("cancel"))).result()
        with pytest.raises(jobrt.JobNotFound, match="there is no job 12345"):
            await jobs.wait(12345)

    await beside_a_worker(database_url, program)


async def test_a_running_job_is_cancelled(database_url: str) -> None:
    """The worker is told, and the wait ends with the operator's reason."""

    async def program(jobs: aio.Client) -> None:
        handle = await jobs.enqueue(Say("wait"))
        while (await jobs.get(handle.id)).state is not jobrt.State.EXECUTING:
            await asyncio.sleep(0.01)
        assert await jobs.cancel(handle.id, "enough") == 1
        with pytest.raises(jobrt.JobCancelled, match="enough"):
            await handle.result()
        with pytest.raises(jobrt.JobStateError, match="nothing to cancel"):
            await jobs.cancel(handle.id)

    await beside_a_worker(database_url, program)


async def test_jobs_are_managed(database_url: str) -> None:
    """Queries, counts, changes, reruns and deletions mean what they do in the Trio client."""
    await jobrt.App(database_url).migrate()

    async def program() -> None:
        async with aio.Client(database_url) as jobs:
            first, second = await jobs.enqueue_many([Say("a"), Say("b")])
            assert [found.id for found in await jobs.query(order_by="id")] == [first.id, second.id]
            assert await jobs.update(where.name("Say"), priority=3) == 2
            assert await jobs.cancel(first.id) == 1
            assert await jobs.rerun(first.id) == 1
            assert (await jobs.get(first.id)).state is jobrt.State.AVAILABLE
            assert await jobs.count(where.state("available")) == 2
            assert await jobs.delete(where.everything()) == 2
            unique = Say("u").with_options(unique=jobrt.Unique())
            made = await jobs.enqueue_many([unique, unique])
            assert [handle.duplicate for handle in made] == [False, True]
            big = await jobs.enqueue_many([Say("x")] * 1500)
            assert await jobs.count() == len({handle.id for handle in big}) + 1

    await in_asyncio(program)


async def test_a_query_by_a_tag_is_complete(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On PostgreSQL it looks at a few jobs at a time. The Trio client and the blocking one have the same answer."""
    for engine in ("sqlite", "postgres"):
        monkeypatch.setattr(f"jobrt._storage.{engine}.query.BATCH", 3)
    rare = where.tagged_any(["rare"])
    found: list[int] = []

    async def ask() -> None:
        async with aio.Client(database_url, jobs=[Say]) as client:
            found.extend(record.id for record in await client.query(rare, limit=2))

    async with jobrt.App(database_url, jobs=[Say], migrate=True).open_client() as jobs:
        tagged = [Say("x").with_options(tags=("rare",) if n % 4 == 0 else ()) for n in range(10)]
        ids = [handle.id for handle in await jobs.enqueue_many(tagged)]
        wanted = [ids[8], ids[4]]
        assert [record.id for record in await jobs.query(rare, limit=2)] == wanted
        await in_asyncio(ask, "asyncio")
        with jobrt.blocking.Client(database_url, jobs=[Say]) as client:
            assert [record.id for record in client.query(rare, limit=2)] == wanted
    assert found == wanted


async def test_the_end_of_a_job_wakes_the_task(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On PostgreSQL nothing is polled: with pauses of an hour, the result still comes."""
    monkeypatch.setattr(asyncio_waiting, "_SHORTEST", 3600.0)
    monkeypatch.setattr(AsyncioPostgres, "longest_pause", 3600.0)

    async def program(jobs: aio.Client) -> None:
        for _ in range(3):
            handle = await jobs.enqueue(Say("wait"))
            waiting = asyncio.create_task(handle.wait())
            while (await jobs.get(handle.id)).state is not jobrt.State.EXECUTING:
                await asyncio.sleep(0.01)
            await jobs.cancel(handle.id, "enough")
            assert (await waiting).state is jobrt.State.CANCELLED

    await beside_a_worker(postgres_url, program)


async def test_a_job_that_refuses_changes_disturbs_no_other_wait(postgres_url: str) -> None:
    """Nothing notes that somebody waits for it, so its end is found by polling."""

    def execute(*statements: LiteralString) -> None:
        with psycopg.connect(postgres_url) as conn:
            for statement in statements:
                conn.execute(statement)

    async def program(jobs: aio.Client) -> None:
        refuses = await jobs.enqueue(Say("wait"), schedule_in=3600)
        await asyncio.to_thread(
            execute,
            "create function no() returns trigger language plpgsql as $$begin raise 'no'; end$$",
            "create trigger no before update on jobrt.job for each row when (old.id = 1) execute function no()",
        )
        waiting = asyncio.create_task(refuses.wait())
        assert await (await jobs.enqueue(Say("hello"))).result() == {"text": "hello"}
        await asyncio.to_thread(execute, "drop trigger no on jobrt.job")
        await jobs.cancel(refuses.id, "enough")
        assert (await waiting).state is jobrt.State.CANCELLED

    await beside_a_worker(postgres_url, program)


async def test_waiting_survives_a_restart_of_the_server(private_postgres: Cluster) -> None:
    """While the database is away, a task waits on, and gets the result when it is back."""

    async def program(jobs: aio.Client) -> None:
        handle = await jobs.enqueue(Say("hello"), schedule_in=1)
        waiting = asyncio.create_task(handle.result())
        while not (jobs._open and jobs._open.waiting._watcher):
            await asyncio.sleep(0)
        await asyncio.to_thread(private_postgres.stop)
        with pytest.raises(jobrt.StorageUnavailable):
            await jobs.get(handle.id)
        await asyncio.to_thread(private_postgres.start)
        assert await waiting == {"text": "hello"}

    await beside_a_worker(private_postgres.server.url("postgres"), program)


async def test_a_closed_client_says_so(database_url: str) -> None:
    """Later calls and tasks that wait raise; a new block opens the client again."""
    await jobrt.App(database_url).migrate()

    async def program() -> None:
        jobs = aio.Client(database_url)
        async with jobs:
            handle = await jobs.enqueue(Say("hello"))
            waiting = asyncio.create_task(handle.wait())
            await asyncio.sleep(0)
        for call in (waiting, handle.wait(), jobs.get(handle.id)):
            with pytest.raises(jobrt.StorageError, match="the client is closed"):
                await call
        async with jobs:
            assert (await jobs.get(handle.id)).name == "Say"
        await jobs.close()
        assert [task for task in asyncio.all_tasks() if task.get_name().startswith("jobrt")] == []

    await in_asyncio(program)


async def test_a_permanent_error_ends_a_wait(sqlite_url: str) -> None:
    """A task that waits gets the error of the database; it does not wait for ever."""

    async def program() -> None:
        async with aio.Client(sqlite_url) as jobs:
            with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as conn:
                conn.execute("DROP TABLE jobrt_job")
            with pytest.raises(jobrt.SchemaError, match="migrate"):
                await jobs.wait(1)

    await in_asyncio(program)


async def test_a_cancelled_call_has_no_effect(sqlite_url: str) -> None:
    """A call that waits for SQLite's lock is abandoned at once, and rolled back when it gets the lock."""
    await jobrt.App(sqlite_url).migrate()

    async def program() -> None:
        async with aio.Client(sqlite_url) as jobs:
            with closing(
                sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
            ) as lock:
                lock.execute("BEGIN IMMEDIATE")
                calls = [asyncio.create_task(jobs.enqueue(Say("x"))) for _ in range(6)]
                done, _ = await asyncio.wait(calls, timeout=0.05)
                assert not done
                for call in calls:
                    call.cancel()
                results = await asyncio.gather(*calls, return_exceptions=True)
                assert {type(result) for result in results} == {asyncio.CancelledError}
                lock.execute("COMMIT")
            await jobs.enqueue(Say("kept"))
            assert [record.args for record in await jobs.query()] == [{"what": "kept"}]

    await in_asyncio(program)


async def test_a_cancelled_call_gives_its_connection_back(postgres_url: str) -> None:
    """However many calls are cancelled in the middle, later ones get a connection that works."""
    await jobrt.App(postgres_url).migrate()

    async def program() -> None:
        async with aio.Client(postgres_url) as jobs:
            for turns in range(40):
                call = asyncio.create_task(jobs.enqueue_many([Say("x"), Say("y")]))
                for _ in range(turns):
                    await asyncio.sleep(0)
                call.cancel()
                with suppress(asyncio.CancelledError):
                    await call
            before = await jobs.count()
            assert before % 2 == 0
            await asyncio.gather(*(jobs.enqueue(Say("z")) for _ in range(30)))
            assert await jobs.count() == before + 30

    await in_asyncio(program)


# ---------------------------------------------------------------------- conn=


def engine_of(url: str) -> Any:
    """Return SQLAlchemy's asyncio engine for a database of jobrt."""
    url = url.replace("postgresql://", "postgresql+psycopg://", 1).replace(
        "sqlite://", "sqlite+aiosqlite://", 1
    )
    return create_async_engine(url, poolclass=NullPool)


@asynccontextmanager
async def of_sqlalchemy(url: str) -> AsyncIterator[Any]:
    """SQLAlchemy's AsyncConnection."""
    async with engine_of(url).connect() as conn:
        yield conn


@asynccontextmanager
async def of_a_session(url: str) -> AsyncIterator[Any]:
    """SQLAlchemy's AsyncSession."""
    async with AsyncSession(engine_of(url)) as session:
        yield session


@asynccontextmanager
async def of_the_driver(url: str) -> AsyncIterator[Any]:
    """The connection of psycopg or aiosqlite."""
    if url.startswith("sqlite"):
        async with aiosqlite.connect(url.removeprefix("sqlite:///")) as conn:
            yield conn
    else:
        async with await psycopg.AsyncConnection.connect(url) as conn:
            yield conn


@pytest.mark.parametrize("kind", [of_sqlalchemy, of_a_session, of_the_driver])
@pytest.mark.parametrize("loop", LOOPS)
async def test_the_callers_commit_decides(kind: Any, loop: str, database_url: str) -> None:
    """A rollback removes the jobs, and a commit keeps them, unique ones included."""
    await jobrt.App(database_url).migrate()
    unique = Say("unique").with_options(unique=jobrt.Unique())

    async def program() -> None:
        async with aio.Client(database_url) as jobs, kind(database_url) as conn:
            await jobs.enqueue(Say("rolled back"), conn=conn)
            await conn.rollback()
            made = await jobs.enqueue_many([unique, unique], conn=conn)
            assert await jobs.count() == 0
            await conn.commit()
            assert [handle.duplicate for handle in made] == [False, True]
            assert [record.args for record in await jobs.query()] == [{"what": "unique"}]

    await in_asyncio(program, loop)


async def test_the_sessions_rows_are_in_the_same_transaction(database_url: str) -> None:
    """What a session writes and what it enqueues are committed together, or not at all."""
    await jobrt.App(database_url).migrate()

    async def program() -> None:
        async with aio.Client(database_url) as jobs, AsyncSession(engine_of(database_url)) as session:
            async with session.begin():
                await session.execute(sqlalchemy.text("CREATE TABLE orders (id integer)"))
            for fails in (True, False):
                with suppress(ZeroDivisionError):
                    async with session.begin():
                        await session.execute(sqlalchemy.text("INSERT INTO orders VALUES (1)"))
                        await jobs.enqueue(Say("order"), conn=session)
                        if fails:
                            raise ZeroDivisionError
            assert await jobs.count() == 1
            counted = await session.execute(sqlalchemy.text("SELECT count(*) FROM orders"))
            assert counted.scalar() == 1

    await in_asyncio(program)


async def test_blocking_connections_work_too(database_url: str) -> None:
    """A connection of sqlite3 or plain psycopg that a program already has can be passed."""
    await jobrt.App(database_url).migrate()

    async def program() -> None:
        plain: Any = (
            sqlite3.connect(database_url.removeprefix("sqlite:///"))
            if database_url.startswith("sqlite")
            else psycopg.connect(database_url)
        )
        async with aio.Client(database_url) as jobs:
            with closing(plain):
                await jobs.enqueue(Say("rolled back"), conn=plain)
                plain.rollback()
                await jobs.enqueue(Say("committed"), conn=plain)
                plain.commit()
            assert [record.args for record in await jobs.query()] == [{"what": "committed"}]
            kinds = "AsyncConnection.*AsyncSession"
            with pytest.raises(jobrt.StorageError, match=rf"^conn is of type object: pass a .*{kinds}"):
                await jobs.enqueue(Say("x"), conn=object())

    await in_asyncio(program)


async def test_a_connection_of_the_other_library_is_refused(postgres_url: str) -> None:
    """A psycopg connection that asyncio drives is refused in Trio, and one that Trio drives in asyncio."""
    app = jobrt.App(postgres_url, migrate=True)
    async with app.open_client() as jobs, jobs.transaction() as of_trio:

        async def program() -> None:
            async with aio.Client(postgres_url) as client:
                with pytest.raises(
                    jobrt.StorageError, match=r"^conn is of type .*TrioConnection: pass a psycopg\.Async"
                ):
                    await client.enqueue(Say("x"), conn=of_trio)

        await in_asyncio(program)
        of_asyncio = psycopg.AsyncConnection(of_trio.pgconn)
        with pytest.raises(
            jobrt.StorageError, match=r"^conn is of type psycopg\.AsyncConnection: pass the connection of"
        ):
            await jobs.enqueue(Say("x"), conn=of_asyncio)


# ---------------------------------------------------------------------- the wrong event loop


async def test_it_is_refused_in_trio(database_url: str) -> None:
    """Each call says what to use instead."""
    jobs = aio.Client(database_url)
    with pytest.raises(jobrt.WrongEventLoop, match=r"needs asyncio.*app\.open_client\(\)"):
        await jobs.enqueue(Say("x"))
    with pytest.raises(jobrt.WrongEventLoop, match="needs asyncio"):
        async with jobs:
            pass


class Inside(jobrt.Job):
    """Job on asyncio that enqueues another one: with the client for asyncio, then as the error says."""

    RUN_IN = "asyncio"

    url: str

    async def run(self, ctx: jobrt.Context) -> list[object]:
        try:
            await aio.Client(self.url).enqueue(Say("hello"))
        except jobrt.WrongEventLoop as error:
            handle: Any = await trio_asyncio.trio_as_aio(ctx.enqueue)(Say("hello"))
            return [str(error), handle.id]
        raise AssertionError


async def test_it_is_refused_in_a_job_on_asyncio(database_url: str) -> None:
    """That loop is trio-asyncio's. What the error names works there."""
    app = jobrt.App(database_url, jobs=[Say, Inside], migrate=True)
    with trio.fail_after(50):
        async with app.open_client() as jobs:
            inside = await jobs.enqueue(Inside(database_url))
            await app.drain()
            message, job_id = await inside.result()
            assert "this is trio-asyncio: use trio_asyncio.trio_as_aio(ctx.enqueue)" in message
            assert await jobs.handle(job_id).result() == {"text": "hello"}


def test_an_app_is_refused_in_asyncio(sqlite_url: str) -> None:
    """So are the clients and workers of an app in asyncio."""
    app = jobrt.App(sqlite_url, jobs=[Say])

    async def client() -> None:
        async with app.open_client():
            pass

    for call in (client, app.run_worker, app.migrate):
        with pytest.raises(jobrt.WrongEventLoop, match=r"need Trio.*jobrt\.aio\.Client"):
            run_asyncio(call)


CALLS: dict[str, Callable[[jobrt.Client], Awaitable[Any]]] = {
    "count": lambda jobs: jobs.count(),
    "enqueue": lambda jobs: jobs.enqueue(Say("x")),
    "get": lambda jobs: jobs.get(1),
    "pause": lambda jobs: jobs.pause("default"),
    "query": lambda jobs: jobs.query(),
    "transaction": lambda jobs: jobs.transaction().__aenter__(),
    "wait": lambda jobs: jobs.wait(1),
}


async def refusals(jobs: jobrt.Client) -> dict[str, str]:
    """Return what each call raises in asyncio."""
    found = {}
    for name, call in CALLS.items():
        with pytest.raises(jobrt.WrongEventLoop) as raised:
            await call(jobs)
        found[name] = str(raised.value)
    return found


async def test_an_open_client_of_an_app_is_refused_in_asyncio(database_url: str) -> None:
    """Its calls refuse themselves: asyncio would throw an error about a bad yield into them."""
    app = jobrt.App(database_url, jobs=[Say], migrate=True)
    async with app.open_client() as jobs:

        async def program() -> None:
            found = await refusals(jobs)
            assert all("need Trio" in message for message in found.values())

        await in_asyncio(program)
        assert await jobs.count() == 0


class Mistaken(jobrt.Job):
    """Job on asyncio that awaits a client of Trio."""

    RUN_IN = "asyncio"

    async def run(self, ctx: jobrt.Context) -> dict[str, str]:
        return await refusals(ctx.client)


async def test_a_client_of_trio_is_refused_in_a_job_on_asyncio(database_url: str) -> None:
    """The error says how to await it there."""
    app = jobrt.App(database_url, jobs=[Say, Mistaken], migrate=True)
    with trio.fail_after(50):
        async with app.open_client() as jobs:
            mistaken = await jobs.enqueue(Mistaken())
            await app.drain()
            found: Any = await mistaken.result()
    assert set(found) == set(CALLS)
    assert all("trio_asyncio.trio_as_aio(FUNCTION)" in message for message in found.values())


async def test_it_belongs_to_one_loop(database_url: str) -> None:
    """In another loop it refuses to work; closed, it can be opened there."""
    await jobrt.App(database_url).migrate()
    jobs = aio.Client(database_url)

    async def first() -> None:
        await jobs.count()

    async def second() -> None:
        with pytest.raises(jobrt.WrongEventLoop, match="another event loop"):
            await jobs.count()
        await jobs.close()
        async with jobs:
            assert await jobs.count() == 0

    await in_asyncio(first)
    await in_asyncio(second)


def test_an_in_memory_database_is_refused() -> None:
    """No worker could find its jobs."""
    with pytest.raises(jobrt.StorageError, match="name a file"):
        aio.Client("sqlite:///:memory:")
