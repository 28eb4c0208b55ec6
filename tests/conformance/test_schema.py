"""Migrations, clocks and session settings."""

from __future__ import annotations

from datetime import timedelta

import pytest
import trio

from jobrt._core import where
from jobrt._core.states import State, Transition
from jobrt._core.worker_info import WorkerInfo
from jobrt._storage.contract import Storage
from jobrt.errors import SchemaError
from tests.conformance.build import add, ask, claim, complete, end, job, look, next_due, ref, start
from tests.conformance.harness import PATIENCE, Engine, Postgres, Sqlite
from tests.conformance.test_manage import one_of_each


async def test_the_engine_is_named(engine: Engine) -> None:
    """A storage names its engine."""
    assert engine.storage.engine == ("postgres" if engine.name == "postgres" else "sqlite")


async def test_a_migrated_database(storage: Storage) -> None:
    """All migrations are applied, none is pending, nothing is newer; the check passes."""
    status = await storage.schema.status()
    assert len(status.applied) >= 1
    assert (status.pending, status.newer) == ((), False)
    await storage.schema.check()


async def test_migrating_again_does_nothing(engine: Engine) -> None:
    """There is nothing to apply, and jobs are kept."""
    ids = await one_of_each(engine.storage)
    before = await engine.everything()
    assert await engine.storage.schema.migrate() == ()
    assert await engine.everything() == before
    assert await engine.storage.jobs.count(where.everything()) == len(ids)


@pytest.fixture
async def bare(request: pytest.FixtureRequest, unopened: Engine) -> Engine:
    """A database that has not been migrated; in memory there is none."""
    if isinstance(unopened, Sqlite):
        return unopened
    if isinstance(unopened, Postgres):
        await unopened.execute("drop schema jobrt cascade")
        return unopened
    pytest.skip("a database in memory is migrated when it is opened")


async def test_a_new_database_is_migrated_once(bare: Engine) -> None:
    """The first call applies everything and names it; the second nothing."""
    if isinstance(bare, Sqlite):
        pytest.skip("files are migrated when they are opened")
    async with bare.open() as storage:
        status = await storage.schema.status()
        assert status.applied == ()
        assert await storage.schema.migrate() == status.pending
        assert await storage.schema.migrate() == ()
        assert (await storage.schema.status()).applied == status.pending
        assert len(await add(storage, job())) == 1


async def test_a_database_without_tables(bare: Engine) -> None:
    """`schema` says what is missing, `check_schema` refuses and names the remedy."""
    if isinstance(bare, Sqlite):
        pytest.skip("files are migrated when they are opened")
    async with bare.open() as storage:
        status = await storage.schema.status()
        assert status.pending
        assert not status.newer
        with pytest.raises(SchemaError, match="migrate"):
            await storage.schema.check()


async def test_many_migrate_at_once(bare: Engine) -> None:
    """Processes that start together: one migrates, none fails, each migration is applied once."""
    done: list[tuple[str, ...]] = []

    async def migrate() -> None:
        async with bare.open() as storage:
            done.append(await storage.schema.migrate())
            await storage.schema.check()
            await storage.jobs.insert([job()])

    with trio.fail_after(PATIENCE * 2):
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(migrate)
    names = [name for each in done for name in each]
    assert len(names) == len(set(names))
    async with bare.open() as storage:
        assert await storage.jobs.count(where.everything()) == 5


async def test_a_schema_that_is_newer_is_refused(engine: Engine) -> None:
    """A database that a later jobrt has migrated is not changed, and the error says so."""
    storage = engine.storage
    await _add_a_migration(engine)
    status = await storage.schema.status()
    assert status.newer
    before = await engine.everything()
    with pytest.raises(SchemaError, match="newer"):
        await storage.schema.migrate()
    with pytest.raises(SchemaError, match="newer"):
        await storage.schema.check()
    assert await engine.everything() == before


async def test_a_file_that_is_newer_is_not_opened(engine: Engine) -> None:
    """Files are migrated when they are opened, so that is when a newer one is refused."""
    if not isinstance(engine, Sqlite):
        pytest.skip("only files are migrated when they are opened")
    await _add_a_migration(engine)
    with pytest.raises(SchemaError, match="newer"):
        async with engine.open():
            pytest.fail("it was opened")


async def _add_a_migration(engine: Engine) -> None:
    """Make the database look as if a later jobrt had migrated it: copy the newest row, with a later name."""
    (table,) = [name for name in await engine.tables() if "migration" in name]
    columns = (await engine.tables())[table]
    key = "version" if "version" in columns else "name"
    rest = sorted(columns - {key})
    await engine.execute(
        f"insert into {table} ({', '.join([key, *rest])})"
        f" select '9999_from_the_future', {', '.join(rest)} from {table} limit 1"
        if key == "name"
        else f"insert into {table} ({', '.join([key, *rest])}) select 9999, {', '.join(rest)} from {table} limit 1"
    )


# ------------------------------------------------------------------ checkpoints

CALLS = {
    "status": lambda s, c: s.schema.status(),
    "migrate": lambda s, c: s.schema.migrate(),
    "check": lambda s, c: s.schema.check(),
    "now": lambda s, c: s.schema.now(),
    "insert": lambda s, c: s.jobs.insert([job()]),
    "insert nothing": lambda s, c: s.jobs.insert([]),
    "exchange": lambda s, c: s.attempts.exchange([end(c)], ask()),
    "exchange nothing": lambda s, c: s.attempts.exchange([], ask(limit=0)),
    "finish": lambda s, c: s.attempts.finish([end(c)]),
    "finish nothing": lambda s, c: s.attempts.finish([]),
    "release_unknown": lambda s, c: s.attempts.release_unknown("w1", "default", []),
    "save": lambda s, c: s.attempts.save(ref(c), saved="1"),
    "steps": lambda s, c: s.attempts.steps(ref(c)),
    "save_step": lambda s, c: s.attempts.save_step(ref(c), "a", "1"),
    "scopes.open": lambda s, c: s.scopes.open(ref(c), "n", on_failure="cancel", seconds=None),
    "scopes.members": lambda s, c: s.scopes.members(ref(c), "n"),
    "scopes.enqueue": lambda s, c: s.scopes.enqueue(ref(c), "n", []),
    "seal": lambda s, c: s.scopes.seal(ref(c), "n"),
    "failures": lambda s, c: s.scopes.failures(ref(c), "n"),
    "receive": lambda s, c: s.scopes.receive(ref(c), "x", 0, within=None),
    "scopes.sleep": lambda s, c: s.scopes.sleep(ref(c), "x", seconds=1),
    "send": lambda s, c: s.scopes.send(c.id, "x", "1"),
    "tend": lambda s, c: s.scopes.tend(),
    "register": lambda s, c: s.workers.register("w9", lease=30, info=WorkerInfo()),
    "beat": lambda s, c: s.workers.beat("w1", lease=99, info=WorkerInfo(landed=1)),
    "changes": lambda s, c: s.workers.changes("w1"),
    "unregister": lambda s, c: s.workers.unregister("w1"),
    "workers.all": lambda s, c: s.workers.all(),
    "rescue": lambda s, c: s.workers.rescue(),
    "lead": lambda s, c: s.workers.lead("cron", "w1", seconds=10),
    "resign": lambda s, c: s.workers.resign("cron", "w1"),
    "get": lambda s, c: s.jobs.get(c.id),
    "query": lambda s, c: s.jobs.query(where.everything()),
    "count": lambda s, c: s.jobs.count(where.everything()),
    "cancel": lambda s, c: s.jobs.cancel(where.everything(), "x"),
    "rerun": lambda s, c: s.jobs.rerun(where.everything()),
    "update": lambda s, c: s.jobs.update(where.everything(), {"priority": 9}),
    "delete": lambda s, c: s.jobs.delete(where.everything()),
    "prune": lambda s, c: s.jobs.prune([]),
    "await_final": lambda s, c: s.jobs.await_final([c.id]),
    "queues.all": lambda s, c: s.queues.all(),
    "queues.set": lambda s, c: s.queues.set("default", paused=True),
    "stats": lambda s, c: s.jobs.stats(since=c.created_at),
    "crons.put": lambda s, c: s.crons.put(_row()),
    "crons.all": lambda s, c: s.crons.all(),
    "crons.set": lambda s, c: s.crons.set("nightly", paused=True),
    "crons.delete": lambda s, c: s.crons.delete("nightly"),
    "crons.fire": lambda s, c: s.crons.fire("nightly", c.created_at, job()),
}


def _row() -> object:
    from jobrt._storage.contract import CronRow

    return CronRow(name="nightly", spec={})


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
async def test_every_method_is_a_checkpoint(engine: Engine, call: object) -> None:
    """In a scope that is cancelled already it raises `trio.Cancelled`, and nothing has happened."""
    storage = engine.storage
    await storage.workers.register("w1", lease=30, info=WorkerInfo())
    await storage.crons.put(_row())
    claimed = await start(storage)
    await one_of_each(storage)
    before = await engine.everything()
    with trio.CancelScope() as scope:
        scope.cancel()
        await call(storage, claimed)
    assert scope.cancelled_caught
    assert await engine.everything() == before


async def test_a_cancelled_transaction_is_not_entered(engine: Engine) -> None:
    """Entering the block is a checkpoint, too."""
    claimed = await start(engine.storage)
    with trio.CancelScope() as scope:
        scope.cancel()
        async with engine.storage.attempts.transaction(ref(claimed), end(claimed)):
            pytest.fail("the block was entered")
    assert scope.cancelled_caught
    await complete(engine.storage, claimed)


# ------------------------------------------------------------------ clocks and sessions


async def test_a_sessions_time_zone_changes_nothing(request: pytest.FixtureRequest, unopened: Engine) -> None:
    """Times mean the same whatever zone the server or the role is set to, an hour before a change of clocks too."""
    if not isinstance(unopened, Postgres):
        pytest.skip("SQLite has no sessions with a zone")
    for zone in ("America/New_York", "Asia/Kathmandu", "Pacific/Kiritimati"):
        await unopened.execute(
            f"alter role current_user in database \"{await _database(unopened)}\" set timezone = '{zone}'"
        )
        async with unopened.open() as storage:
            moment = (await storage.schema.now() + timedelta(hours=1)).replace(microsecond=7)
            assert moment.utcoffset() == timedelta(0)
            later, now = await add(storage, job(schedule_at=moment), job())
            record = await look(storage, later)
            assert (record.schedule_at, record.state) == (moment, State.SCHEDULED)
            (claimed,) = await claim(storage)
            assert claimed.id == now
            assert claimed.started_at.utcoffset() == timedelta(0)
            await storage.attempts.finish([end(claimed, Transition.RETRY, delay=3600.0)])
            assert await claim(storage) == ()
            assert await storage.jobs.count(where.created_within(timedelta(minutes=5))) == 2
            assert await storage.jobs.count(where.scheduled_at(moment)) == 1
            due = await next_due(storage, "default")
            assert due["default"] == pytest.approx(3600, abs=60)
            await storage.jobs.delete(where.everything())


async def _database(engine: Engine) -> str:
    ((name,),) = await engine.execute("select current_database()")
    return str(name)


async def test_another_schema_is_another_jobrt(engine: Engine) -> None:
    """Two schemas in one database do not see each other's jobs."""
    if not isinstance(engine, Postgres):
        pytest.skip("a file has no schemas")
    other = Postgres(engine.url, schema='other "jobs"')
    async with other.open() as storage:
        await storage.schema.migrate()
        (id,) = await add(storage, job())
        assert await engine.storage.jobs.count(where.everything()) == 0
        assert [one.id for one in await claim(storage)] == [id]
        await storage.workers.rescue()
        assert await storage.jobs.count(where.state("retryable")) == 1
