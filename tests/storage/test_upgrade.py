"""Databases of earlier versions: they are migrated with their data, while workers of those versions run."""

from __future__ import annotations

import json
import re
import sqlite3
from collections import defaultdict
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import trio

import jobrt
from jobrt import State
from jobrt._core.job import Wait
from jobrt._core.scopes import Child
from jobrt._core.states import Transition
from jobrt._storage.open import open_storage
from jobrt._storage.postgres import schema as postgres_schema
from jobrt._storage.postgres.grants import grants_sql
from jobrt._storage.sqlite import schema as sqlite_schema
from tests.conformance.build import claim, end, job, ref, start

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE = 60
RELEASE = Path(__file__).parent / "release_0_1_0"
STATES = ["scheduled", "available", "retryable", "executing", "completed", "cancelled", "discarded"]
_QUERIES = re.compile(r"(\s|--.*\n)*(with|select|insert|update|delete)\b", re.IGNORECASE)


class Send(jobrt.Job):
    """The job whose rows are in the database."""

    to: str = ""

    async def run(self, ctx: jobrt.Context) -> None: ...


@pytest.fixture
def postgres_url(new_postgres_url: str) -> str:
    """The URL of a database without jobrt's tables: the tests make those of earlier versions."""
    return new_postgres_url


@pytest.fixture
def first_only(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Make migrations end with the first one; the value ends that."""
    for module in (postgres_schema, sqlite_schema):
        monkeypatch.setattr(module, "_MIGRATIONS", module._MIGRATIONS[:1])
    return monkeypatch.undo


async def make_old(url: str) -> None:
    """Make a database of version 0.1.0 with a job in each state."""
    async with open_storage(url) as storage:
        assert len(await storage.schema.migrate()) == int(url.startswith("postgres"))
    if url.startswith("postgres"):
        with psycopg.connect(url, autocommit=True) as conn:
            for state in STATES:
                final = state in STATES[4:]
                conn.execute(
                    "insert into jobrt.job (priority, state, queue, name, args, worker, lease, attempt, started_at,"
                    " finished_at) values (0, %s, 'default', 'Send', '{}', %s, %s, 1, now(),"
                    " case when %s then now() end)",
                    (
                        state,
                        "gone" if state == "executing" else None,
                        1 if state == "executing" else None,
                        final,
                    ),
                )
        return
    with closing(_connect(url)) as conn:
        for number, state in enumerate(STATES):
            running = state == "executing"
            conn.execute(
                "insert into jobrt_job (priority, state, queue, name, args, worker, lease, attempt, schedule_at,"
                " created_at, started_at, finished_at) values (0, ?, 'default', 'Send', '{}', ?, ?, 1, 1, 1, 1,"
                " iif(?, unixepoch() * 1000000, null))",
                (number, "gone" if running else None, 1 if running else None, number > 3),
            )


def _connect(url: str) -> sqlite3.Connection:
    return sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)


async def test_jobs_of_an_old_database_run_after_its_migration(
    database_url: str, first_only: Callable[[], None]
) -> None:
    """Those that wait, and that of a worker that died; final ones stay. All of them have the first version."""
    await make_old(database_url)
    first_only()
    app = jobrt.App(database_url, jobs=[Send], migrate=True, lease=1)
    with trio.fail_after(PATIENCE):
        async with app.open_client() as jobs, trio.open_nursery() as nursery:
            before = {record.id: record for record in await jobs.query()}
            assert {record.version for record in before.values()} == {1}
            await nursery.start(app.run_worker)
            while await jobs.count(jobrt.where.state("completed")) < 5:
                await trio.sleep(0.05)
            nursery.cancel_scope.cancel()
        async with app.open_client() as jobs:
            states = [record.state for record in await jobs.query(order_by="id")]
    assert states == [State.COMPLETED] * 5 + [State.CANCELLED, State.DISCARDED]


def test_statements_of_0_1_0_work_on_sqlite(sqlite_url: str) -> None:
    """A worker of that version goes on while the file is migrated under it."""
    statements = json.loads((RELEASE / "sqlite.json").read_text(encoding="utf-8"))
    queries = [statement for statement in statements if _QUERIES.match(statement)]
    assert len(queries) > 70
    _migrate(sqlite_url)
    with closing(_connect(sqlite_url)) as conn:
        conn.create_function("jobrt_json_equal", 3, max)  # a connection of that version has it
        for statement in queries:
            named: dict[str, Any] = defaultdict(lambda: None)
            values = named if re.search(r":[a-z_]+", statement) else (None,) * statement.count("?")
            conn.execute(f"EXPLAIN {statement}", values)


def test_statements_of_0_1_0_work_on_postgres(postgres_url: str) -> None:
    """A worker of that version goes on while the schema is migrated under it."""
    statements = json.loads((RELEASE / "postgres.json").read_text(encoding="utf-8"))
    _migrate(postgres_url)
    checked = 0
    with psycopg.connect(postgres_url, autocommit=True) as conn:
        for statement in statements:
            if statement.startswith("copy"):
                with conn.cursor().copy(statement):
                    checked += 1
            elif _QUERIES.match(statement):
                conn.execute(f"prepare checked_{checked} as {statement}".encode())
                checked += 1
    assert checked > 40


async def test_a_parent_learns_of_a_child_that_an_old_worker_has_ended(database_url: str) -> None:
    """Workers of 0.1.0 know no families; the next look of a new one wakes the parent."""
    async with open_storage(database_url) as storage:
        await storage.schema.migrate()
        parent = await start(storage, job("parent"))
        await storage.scopes.open(ref(parent), "n", on_failure="cancel", seconds=None)
        await storage.scopes.enqueue(ref(parent), "n", [Child("a", job())])
        await storage.attempts.finish([end(parent, Transition.SUSPEND, wait=Wait("children", "n"))])
        (child,) = await claim(storage)
        _complete_as_0_1_0(database_url, child.id)
        await storage.scopes.tend()
        assert [one.id for one in await claim(storage, "parent")] == [parent.id]


def _complete_as_0_1_0(url: str, job_id: int) -> None:
    if url.startswith("postgres"):
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute(
                "update jobrt.job set state = 'completed', lease = -lease, finished_at = now() where id = %s",
                (job_id,),
            )
    else:
        statements = json.loads((RELEASE / "sqlite.json").read_text(encoding="utf-8"))
        (clean,) = (
            text for text in statements if text.startswith("UPDATE jobrt_job SET state = 4, lease = -lease")
        )
        with closing(_connect(url)) as conn:
            (lease,) = conn.execute("SELECT lease FROM jobrt_job WHERE id = ?", (job_id,)).fetchone()
            conn.execute(clean, {"now": lease, "refs": json.dumps({job_id: lease})})


def test_every_end_of_0_1_0_fires_the_trigger_of_members() -> None:
    """On SQLite it watches two columns, of which each statement that ends jobs changed one."""
    statements = json.loads((RELEASE / "sqlite.json").read_text(encoding="utf-8"))
    ends = [
        text for text in statements if re.match(r"UPDATE jobrt_job SET.* finished_at = ", text, re.DOTALL)
    ]
    assert len(ends) >= 4
    assert [text for text in ends if not re.search(r"\b(cancel_reason|schedule_at) = ", text)] == []


def _migrate(url: str) -> None:
    async def migrate() -> None:
        async with open_storage(url) as storage:
            await storage.schema.migrate()

    trio.run(migrate)


async def test_an_enqueuer_keeps_its_rights(postgres_url: str, first_only: Callable[[], None]) -> None:
    """A role that could insert the columns of 0.1.0 can insert what today's enqueuers do; no other role can."""
    await make_old(postgres_url)
    with psycopg.connect(postgres_url, autocommit=True) as conn:
        role, other, new = "Old enqueuer % '", "somebody else", "new enqueuer"
        for name in (role, other, new):
            conn.execute(f'drop role if exists "{name}"'.encode())
            conn.execute(f'create role "{name}"'.encode())
        of_jobs = "from pg_attribute where attrelid = 'jobrt.job'::regclass and attnum > 0"
        (columns,) = conn.execute(f"select string_agg(attname, ', ') {of_jobs}".encode()).fetchone() or ("",)
        conn.execute(f'grant insert ({columns}) on jobrt.job to "{role}"'.encode())
        conn.execute(f'grant insert (id) on jobrt.job to "{other}"'.encode())
        try:
            first_only()
            async with open_storage(postgres_url) as storage:
                assert (await storage.schema.migrate())[0] == "0002_versions"
            conn.execute(grants_sql(new, "enqueuer").encode())
            may = f"select attname {of_jobs} and has_column_privilege(%s, attrelid, attnum, 'INSERT')"
            allowed = {name: set(conn.execute(may.encode(), (name,))) for name in (role, other, new)}
            assert ("version",) in allowed[new] <= allowed[role]
            assert allowed[other] == {("id",)}
        finally:
            for name in (role, other, new):
                conn.execute(f'drop owned by "{name}"'.encode())
                conn.execute(f'drop role "{name}"'.encode())
