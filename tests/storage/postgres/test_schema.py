"""Schemas, names and rights."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobrt._core import where
from jobrt._core.keep import PruneRule
from jobrt._core.states import State
from jobrt._core.worker_info import WorkerInfo
from jobrt._storage.contract import CronRow
from jobrt._storage.postgres import migration_sql, open_postgres, schema
from jobrt._storage.postgres.names import Schema
from jobrt._storage.sql_files import Migration
from jobrt.errors import SchemaError, StorageError, StorageUnavailable
from tests.conformance.drive import drive, wait
from tests.storage.postgres.build import add, ask, claim, end, job
from tests.storage.postgres.conftest import PATIENCE
from tests.support.postgres import Server

NAMES = [
    "jobrt",
    'we"ird',
    "o'hare",
    "UPPER case",
    "my%s",
    "100%",
    "sch{schema}ema",
    "dollar $1 :name",
    "ü" * 31,
    "x" * 63,
]


EVERY = tuple(sorted(path.stem for path in Path(schema.__file__).with_name("migrations").glob("*.sql")))
"""The names of all migrations, in order."""


@pytest.fixture
def postgres_url(new_postgres_url: str) -> str:
    """The URL of a database without jobrt's tables: the tests make them."""
    return new_postgres_url


@pytest.mark.parametrize("name", NAMES)
async def test_any_name_can_be_the_schemas(postgres_url: str, name: str) -> None:
    """Any name that PostgreSQL allows works for storing jobs, for waking workers, and for every statement."""
    heard = trio.Event()
    with trio.fail_after(PATIENCE):
        async with open_postgres(postgres_url, schema=name) as storage, trio.open_nursery() as nursery:
            assert await storage.schema.migrate() == EVERY
            await storage.schema.check()
            await nursery.start(storage.wakes.listen, lambda wake: heard.set())
            ids = await add(storage, job(), job(), job(queue="limited"))
            await heard.wait()
            first, second = (await storage.attempts.exchange((), ask())).jobs
            await storage.attempts.finish([end(first), end(second, result="1")])
            assert await claim(storage, queue="limited", key="args.x", per_key=1) == ids[2:]
            assert await storage.jobs.update(where.everything(), {"priority": 1}) == 0
            assert await storage.jobs.cancel(where.args("x", 1), "why") == (0, 0)
            assert await storage.jobs.rerun(where.id(ids[0])) == 1
            assert len(await storage.workers.rescue()) == 1
            assert len(await storage.queues.all()) == 2
            assert len(await storage.jobs.stats(since=await storage.schema.now())) == 0
            assert await storage.jobs.prune([PruneRule(state=State.COMPLETED)]) == 1
            await storage.crons.put(CronRow(name="c", spec={}))
            assert await storage.jobs.delete(where.everything()) == 2
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "name", ["", "x" * 64, "ü" * 32, "nul\x00", "line\nbreak", "do$$lar", "\x1b[31m", "\udce9"]
)
async def test_impossible_names_are_refused(postgres_url: str, name: str) -> None:
    """PostgreSQL would cut a longer name off, and two schemas could become one."""
    with pytest.raises(StorageError, match="schema="):
        async with open_postgres(postgres_url, schema=name):
            pytest.fail("it was opened")


async def test_schemas_whose_long_names_begin_alike_do_not_wake_each_other(postgres_url: str) -> None:
    """A channel's name is as short as an identifier's, so that of a long schema is a digest."""
    one, other = "x" * 62 + "a", "x" * 62 + "b"
    async with open_postgres(postgres_url, schema=one) as storage:
        first = storage.jobs._database.schema.channel  # type: ignore[attr-defined]
    async with open_postgres(postgres_url, schema=other) as storage:
        assert storage.jobs._database.schema.channel != first  # type: ignore[attr-defined]
        assert len(first.encode()) <= 63


async def test_the_printed_sql_is_what_migrating_does(
    postgres_url: str, admin: psycopg.Connection[Any]
) -> None:
    """Run by hand it leaves a schema in which nothing is pending."""
    admin.execute(migration_sql('we"ird').encode())
    with trio.fail_after(PATIENCE):
        async with open_postgres(postgres_url, schema='we"ird') as storage:
            await storage.schema.check()
            assert await storage.schema.migrate() == ()
            assert len(await add(storage, job())) == 1


async def test_twenty_migrate_at_once(postgres_url: str) -> None:
    """One of them applies each migration; the others find nothing pending; none fails."""
    done: list[tuple[str, ...]] = []

    async def migrate() -> None:
        async with open_postgres(postgres_url, listen=False) as storage:
            done.append(await storage.schema.migrate())
            await storage.schema.check()

    with trio.fail_after(2 * PATIENCE):
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(migrate)
    assert sorted(name for names in done for name in names) == list(EVERY)


async def test_migrating_where_the_schema_is_there_already(
    postgres_url: str, admin: psycopg.Connection[Any]
) -> None:
    """An administrator may have created the schema, and kept the right to create others."""
    admin.execute("create schema jobrt")
    with trio.fail_after(PATIENCE):
        async with open_postgres(postgres_url) as storage:
            assert await storage.schema.migrate() == EVERY


@pytest.fixture
def stranger(postgres_server: Server, postgres_url: str) -> Iterator[str]:
    """The URL of a role without rights on the database."""
    name = f"jobrt_test_{uuid4().hex[:8]}"
    postgres_server.execute(f"create role {name} login password 'secret'")
    try:
        yield psycopg.conninfo.make_conninfo(postgres_url, user=name, password="secret")
    finally:
        postgres_server.execute(f"drop owned by {name}", url=postgres_url)
        postgres_server.execute(f"drop role {name}")


async def test_without_the_right_to_create_one_clear_line(stranger: str) -> None:
    """Migrating without rights raises an error that says what is not permitted, and that is not transient."""
    with trio.fail_after(PATIENCE):
        async with open_postgres(stranger) as storage:
            with pytest.raises(StorageError, match="permission denied for database") as caught:
                await storage.schema.migrate()
    assert not isinstance(caught.value, StorageUnavailable)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


async def test_without_rights_on_the_tables_one_clear_line(storage: Any, stranger: str) -> None:
    """The same for a role that may not read."""
    async with open_postgres(stranger) as other:
        with pytest.raises(StorageError, match="permission denied for schema jobrt"):
            await other.jobs.insert([job()])


async def test_unmigrated_is_said_by_every_call(postgres_url: str) -> None:
    """Not only `check_schema` reports it: without that check, the first call does."""
    with trio.fail_after(PATIENCE):
        async with open_postgres(postgres_url) as storage:
            with pytest.raises(SchemaError, match=r"run `python -m jobrt --url .* migrate`"):
                await storage.schema.check()
            for call in (
                storage.jobs.insert([job()]),
                storage.attempts.exchange((), ask()),
                storage.queues.all(),
            ):
                with pytest.raises(SchemaError):
                    await call


async def test_workers_go_on_while_others_migrate(storage: Any, another: Any) -> None:
    """Migrating takes no lock that a claim would wait for when there is nothing to apply."""
    await add(storage, job())
    async with another() as other, storage.jobs._database.plain.acquire() as conn, conn.transaction():
        await conn.execute("select 1 from jobrt.job for update")
        with trio.fail_after(PATIENCE):
            assert await other.schema.migrate() == ()


async def test_a_migration_gives_way_to_long_transactions(
    storage: Any, another: Any, admin: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transaction holds what a migration needs. The migration reports it and tries again; claims go on meanwhile."""
    more = Migration("9998_more", "alter table {schema}.job add column more text;")
    monkeypatch.setattr(schema, "_MIGRATIONS", (*schema._MIGRATIONS, more))
    lines: list[str] = []
    waits, let_go = trio.Event(), trio.Event()

    def report(line: str) -> None:
        lines.append(line)
        waits.set()

    async def hold(*, task_status: trio.TaskStatus[None]) -> None:
        async with storage.jobs._database.plain.acquire() as conn, conn.transaction():
            await conn.execute("select count(*) from jobrt.job")
            task_status.started()
            await let_go.wait()

    async with another() as other, trio.open_nursery() as nursery:
        await nursery.start(hold)
        nursery.start_soon(partial(other.schema.migrate, report=report))
        await waits.wait()
        for _ in range(20):
            await storage.workers.register("w1", lease=30, info=WorkerInfo())
            assert (await storage.workers.beat("w1", lease=30, info=WorkerInfo())).known
            ids = await add(storage, job())
            assert await claim(storage) == ids
        let_go.set()
    assert (await storage.schema.status()).applied == (*EVERY, "9998_more")
    assert re.search(r"'jobrt' is used by a transaction of \w+, process \d+, open for \d s", lines[0])


async def test_a_migration_that_others_never_let_through_names_them(
    storage: Any, another: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is transient, and says what to end."""
    more = Migration("9998_more", "alter table {schema}.job add column more text;")
    monkeypatch.setattr(schema, "_MIGRATIONS", (*schema._MIGRATIONS, more))
    monkeypatch.setattr(schema, "_MIGRATE_SECONDS", schema._READ_SECONDS)
    async with another() as other, storage.jobs._database.plain.acquire() as conn, conn.transaction():
        await conn.execute("select count(*) from jobrt.job")
        with pytest.raises(StorageUnavailable, match=r"process .*: end that transaction, and migrate again"):
            await other.schema.migrate()


async def test_a_heartbeat_does_not_wait_for_a_locked_table_of_jobs(storage: Any, another: Any) -> None:
    """A migration may hold the table for long: the lease is renewed, and the last settings are returned."""
    await storage.workers.register("w1", lease=3, info=WorkerInfo())
    await storage.queues.set("q", paused=True)
    assert (await storage.workers.beat("w1", lease=3, info=WorkerInfo())).queues[0].paused
    (before,) = await storage.workers.all()
    async with another() as other, other.jobs._database.plain.acquire() as conn, conn.transaction():
        await conn.execute("lock table jobrt.job in access exclusive mode")
        changes = await storage.workers.beat("w1", lease=3, info=WorkerInfo())
        (after,) = await storage.workers.all()
    assert changes.known
    assert changes.queues[0].paused
    assert after.expires_at > before.expires_at


names = st.text(min_size=1, max_size=40)


@pytest.mark.slow
async def test_any_drawn_name_can_be_the_schemas_or_is_refused_in_one_line(postgres_url: str) -> None:
    """Signs of every kind: per cents, quotes, backslashes, braces, dollars, letters of all scripts, long names."""

    async def check(name: str) -> None:
        async with open_postgres(postgres_url, schema=name) as storage:
            assert await storage.schema.migrate() == EVERY
            ((id, _),) = await storage.jobs.insert([job()])
            assert await claim(storage) == [id]
            assert await storage.jobs.delete(where.everything()) == 1
        await trio.to_thread.run_sync(drop, Schema(name).quoted)

    def drop(quoted: str) -> None:
        with psycopg.connect(postgres_url, autocommit=True) as conn:
            conn.execute(f"drop schema {quoted} cascade".encode())

    @settings(max_examples=25, suppress_health_check=list(HealthCheck))
    @given(names | st.text("%s()'\"\\{}$:;. -", min_size=1, max_size=63))
    def run(name: str) -> None:
        try:
            wait(check, name)
        except StorageError as error:
            if not ("schema=" in str(error) or name.startswith("pg_")) or "\n" in str(error):
                raise

    await drive(run)
