"""Sessions that do not fit the database any more, and settings that others have chosen for them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobrt._core import where
from jobrt._core.job import Claimed, JobRef, Outcome
from jobrt._core.keep import PruneRule
from jobrt._core.states import End, State, Transition
from jobrt._core.unique import UniqueKey
from jobrt._core.worker_info import WorkerInfo
from jobrt._storage.contract import Storage
from jobrt._storage.postgres import migration_sql, open_postgres
from jobrt._storage.postgres.blocking import insert_async, open_blocking
from jobrt._trio_psycopg import TrioConnection
from jobrt.errors import StorageError
from tests.conformance.drive import drive, wait
from tests.storage.postgres.build import ask, end, job
from tests.storage.postgres.conftest import PATIENCE
from tests.support.postgres import Server

COLUMNS = ["args", "name", "queue", "context", "worker"]

UNIQUE = UniqueKey("0" * 32, None, frozenset(State), None)

CHANGES = [
    *(f"alter table jobrt.job alter column {column} type varchar" for column in COLUMNS),
    *(f"alter table jobrt.job alter column {column} type text" for column in COLUMNS),
    "alter table jobrt.job add column if not exists more text default 'x'",
    "alter table jobrt.job drop column if exists more",
    "alter table jobrt.job alter column max_attempts type bigint",
    "alter table jobrt.job alter column max_attempts type integer",
    "alter table jobrt.worker alter column info type varchar",
    "alter table jobrt.queue alter column name type varchar",
    "alter table jobrt.job rename column context to other; alter table jobrt.job rename column other to context",
    "reindex table jobrt.job",
    "drop index if exists jobrt.job_due",
    "vacuum full jobrt.job",
    "analyze jobrt.job",
    f"drop schema jobrt cascade; {migration_sql()}",
]
"""What operators, dumps and newer versions do to the tables of running workers."""


async def _use(storage: Storage) -> None:
    """Call everything that a worker and its clients call."""
    await storage.workers.register("w1", lease=30, info=WorkerInfo())
    assert (await storage.workers.beat("w1", lease=30, info=WorkerInfo())).known
    assert (await storage.workers.changes("w1")).known
    made = [one.id for one in await storage.jobs.insert([job()])]
    made += [one.id for one in await storage.jobs.insert([job(priority=3), job(context="why", tags=("t",))])]
    claimed = (await storage.attempts.exchange((), ask())).jobs
    assert sorted(one.id for one in claimed) == made
    await storage.attempts.save(_ref(claimed[0]), saved="1")
    await storage.attempts.save_step(_ref(claimed[0]), "step", "1")
    retry = end(claimed[0], event=Transition.RETRY, end=End.FAILED, delay=0.0, message="why")
    assert await storage.attempts.finish([retry]) == ()
    again = await _claim_one(storage)
    outcomes = [end(again, result="1"), *(end(one) for one in claimed[1:])]
    assert (await storage.attempts.exchange(outcomes, ask())).refused == ()
    async with storage.attempts.transaction(*await _in_transaction(storage)) as conn:
        await conn.execute("select 1")
    found = await storage.jobs.get(made[0])
    assert found is not None
    assert found.state is State.COMPLETED
    assert len(await storage.jobs.query(where.everything())) == 4
    await storage.queues.set("q", concurrency=3)
    await storage.queues.all()
    await storage.workers.all()
    await storage.workers.rescue()
    await storage.jobs.stats(since=datetime(2020, 1, 1, tzinfo=UTC))
    await storage.jobs.prune([PruneRule(state=State.COMPLETED)])
    await storage.jobs.delete(where.everything())


def _ref(claimed: Claimed) -> JobRef:
    return JobRef(claimed.id, claimed.lease)


async def _in_transaction(storage: Storage) -> tuple[JobRef, Outcome]:
    await storage.jobs.insert([job()])
    claimed = await _claim_one(storage)
    return _ref(claimed), end(claimed)


async def _claim_one(storage: Storage) -> Claimed:
    """Claim the only due job; while claims are slow, one may not look for released jobs."""
    while True:
        for claimed in (await storage.attempts.exchange((), ask())).jobs:
            return claimed


async def _change(url: str, statements: str) -> None:
    def run() -> None:
        with psycopg.connect(url, autocommit=True) as conn:
            steps = [statements] if "$$" in statements else statements.split(";")
            for step in steps:
                conn.execute(step.encode())

    await trio.to_thread.run_sync(run)


@pytest.mark.parametrize("change", CHANGES)
async def test_every_call_works_after_a_change_of_the_tables(
    storage: Storage, postgres_url: str, change: str
) -> None:
    """All statements were prepared before; none of them fails after the change."""
    for _ in range(7):  # psycopg prepares a statement at its sixth execution
        await _use(storage)
    await _change(postgres_url, change)
    await _use(storage)


@pytest.mark.slow
async def test_every_call_works_after_any_changes(storage: Storage, postgres_url: str) -> None:
    """In any order, and one after the other."""

    async def check(changes: list[str]) -> None:
        for change in changes:
            await _use(storage)
            await _change(postgres_url, change)
        await _use(storage)

    @settings(max_examples=8, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.sampled_from(CHANGES), min_size=1, max_size=3))
    def run(changes: list[str]) -> None:
        wait(check, changes)

    await drive(run)


@pytest.mark.parametrize("statement", ["deallocate all", "discard all"])
async def test_every_call_works_after_prepared_statements_were_dropped(
    storage: Storage, statement: str
) -> None:
    """A pooler, or a job that is given a connection, may drop what was prepared on it."""
    await _use(storage)
    database = storage.jobs._database  # type: ignore[attr-defined]
    for pool in (database.hot, database.lease, database.plain):
        async with pool.acquire() as conn:
            await conn.execute(statement)
    await _use(storage)


async def test_a_job_whose_own_statement_is_stale_leaves_no_stale_connection(
    storage: Storage, admin: psycopg.Connection[Any]
) -> None:
    """The job gets the error of its own statement; the next transaction has a new connection."""
    admin.execute("create table own (value integer)")

    async def read() -> None:
        ref, outcome = await _in_transaction(storage)
        async with storage.attempts.transaction(ref, outcome) as conn:
            await conn.execute("select * from own")

    for _ in range(7):
        await read()
    admin.execute("alter table own alter column value type bigint")
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="cached plan"):
        await read()
    await read()


async def test_the_blocking_client_goes_on_after_a_change_of_the_tables(
    storage: Storage, postgres_url: str, admin: psycopg.Connection[Any]
) -> None:
    """It makes the call again, with another connection."""
    with open_blocking(postgres_url) as jobs:
        (inserted,) = jobs.insert([job()])
        for _ in range(7):
            assert jobs.get(inserted.id) is not None
        admin.execute("alter table jobrt.job alter column args type varchar")
        assert jobs.get(inserted.id) is not None
        assert len(jobs.insert([job(), job(unique=UNIQUE)])) == 2


# ---------------------------------------------------------------------- settings of others

TEXT = "\N{GRINNING FACE} \u0142"

OPTIONS = [
    "client_encoding=latin1",
    "default_transaction_isolation=serializable",
    "default_transaction_isolation=repeatable\\ read",
    "standard_conforming_strings=off",
    "array_nulls=off",
    "statement_timeout=1min",
    "DateStyle=SQL,DMY",
    "IntervalStyle=sql_standard",
    "TimeZone=Australia/Lord_Howe",
    "extra_float_digits=-15",
    "bytea_output=escape",
    "search_path=nowhere",
    "enable_indexscan=off",
    "plan_cache_mode=force_custom_plan",
    "transform_null_equals=on",
    "lc_messages=C",
]
"""Settings that a role, a database, an environment variable or a URL may set."""


@pytest.mark.parametrize("option", OPTIONS)
async def test_settings_of_others_change_nothing(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    """Whatever PGOPTIONS sets, every call works, with any text."""
    monkeypatch.setenv("PGOPTIONS", f"-c {option}")
    monkeypatch.setenv("PGCLIENTENCODING", "latin1")
    with trio.fail_after(2 * PATIENCE):
        async with open_postgres(postgres_url) as storage:
            await storage.schema.migrate()
            await _use(storage)
            ((id, _),) = await storage.jobs.insert([job(context=TEXT, tags=(TEXT,))])
            found = await storage.jobs.get(id)
            assert found is not None
            assert (found.context, found.tags) == (TEXT, (TEXT,))


@pytest.mark.parametrize("level", ["serializable", "repeatable read"])
async def test_a_strict_database_commits_jobs_own_transactions(
    storage: Storage, postgres_url: str, admin: psycopg.Connection[Any], level: str
) -> None:
    """Somebody waits for the job meanwhile, which writes its row: the transaction commits all the same."""
    admin.execute(
        f"alter database {admin.info.dbname} set default_transaction_isolation = '{level}'".encode()
    )
    async with open_postgres(postgres_url) as strict:
        await strict.jobs.insert([job()])
        (claimed,) = (await strict.attempts.exchange((), ask())).jobs
        async with strict.attempts.transaction(_ref(claimed), end(claimed)) as conn:
            await conn.execute("select 1")
            await storage.jobs.await_final([claimed.id])
        found = await strict.jobs.get(claimed.id)
        assert found is not None
        assert found.state is State.COMPLETED
    with open_blocking(postgres_url) as jobs:
        assert [one.duplicate for one in jobs.insert([job(unique=UNIQUE)] * 2)] == [False, True]


@pytest.fixture(params=["LATIN1", "SQL_ASCII"])
def narrow_url(request: pytest.FixtureRequest, postgres_server: Server) -> Iterator[str]:
    """The URL of a database that cannot store every text."""
    name = f"jobrt_test_{uuid4().hex}"
    postgres_server.execute(
        f"create database {name} encoding '{request.param}' locale 'C' template template0"
    )
    try:
        yield postgres_server.url(name)
    finally:
        postgres_server.drop_database(name)


async def test_a_database_that_cannot_store_every_text(
    narrow_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Opening it warns with encoding and remedy, and doctor can tell. Texts that it can store are stored."""
    async with open_postgres(narrow_url) as storage:
        await storage.schema.migrate()
        await storage.schema.check()
        await storage.jobs.insert([job()])
        encoding = (await storage.health.vitals()).encoding
        with suppress(StorageError):  # SQL_ASCII takes the bytes as they are
            await storage.jobs.insert([job(context="\N{GRINNING FACE}")])
        assert await storage.jobs.count(where.everything()) in {1, 2}
    assert encoding in {"LATIN1", "SQL_ASCII"}
    (first, second) = [record.getMessage() for record in caplog.records if record.name == "jobrt"]
    assert first == second
    assert first.startswith(f"the encoding of the database is {encoding}: ")
    with open_blocking(narrow_url) as jobs:
        jobs.insert([job()])


async def test_a_text_that_a_callers_connection_cannot_send_is_named(
    storage: Storage, postgres_url: str
) -> None:
    """One clear error, with the driver of each kind of caller; texts that it can send are enqueued."""
    names = re.escape("has no character '\\u0142': set its client_encoding to UTF8")
    odd, fine = [job(context="\u0142")], [job(context="\xe9")]
    conn = await TrioConnection.connect(postgres_url, client_encoding="latin1")
    with pytest.raises(StorageError, match=names):
        await storage.jobs.insert(odd, conn=conn)
    await conn.rollback()
    with pytest.raises(StorageError, match=names):
        await storage.jobs.insert(odd * 500, conn=conn)  # by COPY
    await conn.rollback()
    with pytest.raises(StorageError, match=names):
        await insert_async(conn, odd, schema="jobrt")
    await conn.rollback()
    await storage.jobs.insert(fine, conn=conn)
    await conn.commit()
    await conn.close()
    with open_blocking(postgres_url) as jobs, psycopg.connect(postgres_url, client_encoding="latin1") as own:
        with pytest.raises(StorageError, match=names):
            jobs.insert(odd, conn=own)
        own.rollback()
        jobs.insert(fine, conn=own)
    assert [one.context for one in await storage.jobs.query(where.everything())] == ["\xe9", "\xe9"]
