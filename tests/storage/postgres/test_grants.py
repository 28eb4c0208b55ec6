"""Roles that do not own the schema: what each may do, and what it is told when it may not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, unquote, urlsplit
from uuid import uuid4

import psycopg
import pytest
import trio

import jobrt
from jobrt._core import where
from jobrt._core.job import Claimed, JobRef
from jobrt._core.states import State
from jobrt._core.unique import UniqueKey
from jobrt._core.walks import Look, walk_of
from jobrt._core.worker_info import WorkerInfo
from jobrt._storage.contract import CronRow, Storage
from jobrt._storage.postgres import KINDS, grants_sql, open_postgres
from jobrt._storage.postgres.blocking import open_blocking
from jobrt._trio_psycopg import TrioConnection
from jobrt.errors import StorageError, StorageUnavailable
from tests.storage.postgres.build import add, ask, end, job
from tests.storage.postgres.conftest import PATIENCE
from tests.support.postgres import Server

Grant = Callable[[str], str]

LOOKS = (
    where.everything(),
    where.state("available"),
    where.state("completed"),
    where.state("executing"),
    where.state("suspended"),
    where.parent(1),
    where.created_after(datetime(2020, 1, 1, tzinfo=UTC)) & where.name("a"),
)
"""Filters for each way of a list."""

UNIQUE = UniqueKey("0" * 32, None, frozenset(State), None)
INFO = WorkerInfo()


@pytest.fixture
def granted(postgres_server: Server, postgres_url: str, storage: Storage) -> Iterator[Grant]:
    """A function that creates a role of a kind, and returns its URL; the schema belongs to another role."""
    roles: list[str] = []

    def grant(kind: str) -> str:
        role = f'jobrt_test_{uuid4().hex[:8]} "{kind}"'
        quoted = role.replace('"', '""')
        postgres_server.execute(f"create role \"{quoted}\" login password 'secret'")
        roles.append(quoted)
        for statement in grants_sql(role, kind).split(";\n"):
            postgres_server.execute(statement, url=postgres_url)
        parts = urlsplit(postgres_url)
        address = f"{quote(role, safe='')}:secret@{parts.hostname}:{parts.port}"
        return parts._replace(netloc=address).geturl()

    yield grant
    for quoted in roles:
        postgres_server.execute(f'drop owned by "{quoted}"', url=postgres_url)
        postgres_server.execute(f'drop role "{quoted}"')


def refused(kind: str) -> Any:
    """Expect an error of one line that names the grants, is not transient, and has no password."""
    return pytest.raises(StorageError, match=rf"^[^\n]*permission denied[^\n]*{kind}`[^\n]*$")


async def _is_refused(call: Any, kind: str) -> None:
    with refused(kind) as caught:
        await call
    assert not isinstance(caught.value, StorageUnavailable)
    assert "secret" not in str(caught.value)


async def test_an_enqueuer_enqueues(storage: Storage, granted: Grant) -> None:
    """One job, several, many by COPY, unique ones, in its own transaction, and without an event loop."""
    url = granted("enqueuer")
    async with open_postgres(url) as own:
        await own.schema.check()
        await own.schema.now()
        for number in (1, 2, 600):
            await own.jobs.insert([job()] * number)
        await own.jobs.insert([job(priority=3, tags=("t",), context="why", metadata='{"a": 1}')])
        assert [one.duplicate for one in await own.jobs.insert([job(unique=UNIQUE)] * 2)] == [False, True]
        async with await TrioConnection.connect(url) as conn:
            await own.jobs.insert([job()], conn=conn)
    with open_blocking(url) as jobs, psycopg.connect(url) as connection:
        jobs.insert([job()])
        jobs.insert([job()] * 600)
        jobs.insert([job()], conn=connection)
    assert await storage.jobs.count(where.everything()) == 1 + 2 + 600 + 1 + 1 + 1 + 1 + 600 + 1


async def _look(storage: Storage, filter: where.Where) -> Look:
    return await storage.jobs.look(filter, walk_of(filter, newest=True), scan=9, limit=9)


async def test_an_enqueuer_does_nothing_else(storage: Storage, granted: Grant) -> None:
    """It cannot read payloads, change jobs, claim them, or pretend to be a worker."""
    (id,) = await add(storage, job())
    url = granted("enqueuer")
    async with open_postgres(url) as own:
        for call, kind in [
            (own.jobs.get(id), "reader"),
            (own.jobs.query(where.everything()), "reader"),
            (own.jobs.query(where.name("a")), "reader"),
            (own.jobs.count(where.name("a")), "reader"),
            (_look(own, where.name("a")), "reader"),
            (own.queues.all(), "reader"),
            (own.workers.all(), "reader"),
            (own.crons.all(), "reader"),
            (own.jobs.cancel(where.id(id), "why"), "worker"),
            (own.jobs.delete(where.id(id)), "worker"),
            (own.jobs.update(where.id(id), {"priority": 1}), "worker"),
            (own.jobs.await_final([id]), "worker"),
            (own.attempts.exchange((), ask()), "worker"),
            (own.workers.register("w1", lease=30, info=INFO), "worker"),
            (own.queues.set("q", paused=True), "worker"),
            (own.crons.put(CronRow(name="c", spec={})), "worker"),
        ]:
            await _is_refused(call, kind)
    with open_blocking(url) as jobs, refused("reader"):
        jobs.get(id)
    with psycopg.connect(url, autocommit=True) as conn:
        for forged in (
            "insert into jobrt.job (priority, queue, name, args, worker) values (0, 'q', 'a', '{}', 'w1')",
            "insert into jobrt.job (priority, queue, name, args, lease) values (0, 'q', 'a', '{}', 7)",
            "select args from jobrt.job",
            "select nextval('jobrt.lease')",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                conn.execute(forged.encode())


async def test_a_reader_reads(storage: Storage, granted: Grant, postgres_url: str) -> None:
    """It lists, shows and counts what there is, as `doctor` does."""
    (id,) = await add(storage, job(context="why"))
    await storage.workers.register("w1", lease=30, info=INFO)
    app = jobrt.App(granted("reader"))
    async with app.open_client() as jobs, app.open_storage() as own:
        assert len(await jobs.queues()) == 1
        await own.health.try_write(seconds=1)  # which it cannot: no fault of the database
        record = await own.jobs.get(id)
        assert record is not None
        assert record.context == "why"
        assert await own.jobs.count(where.args("x", 1)) == 0
        assert len(await own.jobs.query(where.everything())) == 1
        assert [(await _look(own, filter)).ids for filter in LOOKS] == [(id,), (id,), (), (), (), (), (id,)]
        assert len(await own.workers.all()) == 1
        assert len(await own.queues.all()) == 1
        assert len(await own.jobs.stats(since=datetime(2020, 1, 1, tzinfo=UTC))) == 1
        assert await own.crons.all() == ()
        for call, kind in [
            (own.jobs.insert([job()]), "enqueuer"),
            (own.jobs.insert([job()] * 600), "enqueuer"),
            (own.jobs.cancel(where.id(id), "why"), "worker"),
            (own.jobs.rerun(where.id(id)), "worker"),
            (own.attempts.exchange((), ask()), "worker"),
            (own.queues.set("q", paused=True), "worker"),
        ]:
            await _is_refused(call, kind)


async def test_who_may_follow_a_job(storage: Storage, granted: Grant) -> None:
    """Readers and workers, who are woken although a reader may change no job; enqueuers may not."""
    (id,) = await add(storage, job())
    for kind in ("reader", "worker"):
        async with open_postgres(granted(kind)) as own, trio.open_nursery() as nursery:
            told = trio.Event()

            async def listen(
                task_status: trio.TaskStatus[None], own: Storage = own, told: trio.Event = told
            ) -> None:
                await own.wakes.listen(
                    lambda wake: told.set() if wake.kind == "stream" else None,
                    news=True,
                    task_status=task_status,
                )

            with trio.fail_after(PATIENCE):
                await nursery.start(listen)
                page = await own.streams.read(id, 0, wake=True)
                assert page is not None
                await storage.jobs.update(where.id(id), {"delay": timedelta(hours=1)})
                await told.wait()
                await storage.jobs.update(where.id(id), {"delay": timedelta()})
            nursery.cancel_scope.cancel()
    async with open_postgres(granted("enqueuer")) as own:
        for wake in (True, False):
            await _is_refused(own.streams.read(id, 0, wake=wake), "reader")


async def test_a_worker_works(granted: Grant) -> None:
    """A whole worker, with transactions, cron entries and retention; it changes no table."""
    app = jobrt.App(
        granted("worker"), queues={"default": 2}, keep={"completed": jobrt.Keep(count=0)}, grace=1
    )

    @app.job
    async def pays(ctx: jobrt.Context) -> int:
        ctx.progress(1, 2)
        async with ctx.transaction() as conn:
            await conn.execute("select 1")
        return 1

    app.cron("0 3 * * *", pays.new(), name="nightly")
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery, app.open_client() as jobs:
            worker = await nursery.start(app.run_worker)
            handle = await jobs.enqueue(pays.new())
            record = await handle.wait()
            assert record.state is State.COMPLETED
            await jobs.pause("default")
            await jobs.resume("default")
            await jobs.cancel((await jobs.enqueue(pays.new(), schedule_in=60)).id, "why")
            await jobs.prune()
            await worker.stop()


async def test_a_worker_changes_no_table(granted: Grant) -> None:
    """Migrating needs the owner; where nothing is pending, `migrate=True` does no harm."""
    url = granted("worker")
    async with open_postgres(url) as own:
        assert await own.schema.migrate() == ()
    with psycopg.connect(url, autocommit=True) as conn:
        for change in (
            "alter table jobrt.job add column more text",
            "drop table jobrt.step",
            "create table jobrt.own (x integer)",
            "delete from jobrt.migration",
            "insert into jobrt.migration (name) values ('0002_more')",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                conn.execute(change.encode())
    async with open_postgres(url, schema="another") as own:
        with pytest.raises(StorageError, match="only the owner of the schema may migrate it"):
            await own.schema.migrate()


async def test_a_transaction_of_a_role_without_grants_is_refused(storage: Storage, granted: Grant) -> None:
    """The error of the worker's own statements is as clear as elsewhere."""
    await add(storage, job())
    (claimed,) = (await storage.attempts.exchange((), ask())).jobs
    async with open_postgres(granted("enqueuer")) as own:
        with refused("worker"):
            async with own.attempts.transaction(_ref(claimed), end(claimed)):
                pytest.fail("the block was entered")


def _ref(claimed: Claimed) -> JobRef:
    return JobRef(claimed.id, claimed.lease)


@pytest.mark.parametrize("kind", KINDS)
def test_grants_name_schema_and_role_as_identifiers(kind: str) -> None:
    """Any names can be given; they are quoted."""
    text = grants_sql('we"ird', kind, schema="my%s")
    assert 'to "we""ird";' in text or 'from "we""ird";' in text
    assert '"my%s".' in text or 'in schema "my%s"' in text
    assert "{" not in text


async def test_doctor_finds_what_a_worker_may_not_write(
    storage: Storage, granted: Grant, admin: psycopg.Connection[Any]
) -> None:
    """A worker whose role lacks a grant is a finding, unlike a reader."""
    url = granted("worker")
    async with open_postgres(url) as own:
        await own.health.try_write(seconds=1)
        admin.execute(f'revoke insert on jobrt.queue from "{_role(url)}"'.encode())
        await _is_refused(own.health.try_write(seconds=1), "worker")


def _role(url: str) -> str:
    return unquote(urlsplit(url).username or "").replace('"', '""')
