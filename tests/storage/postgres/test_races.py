"""Many connections at once, connections that die, replies that are lost."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import psycopg
import pytest
import trio

from jobrt._core import where
from jobrt._core.job import Claimed, JobRef, Outcome
from jobrt._core.keep import PruneRule
from jobrt._core.states import FINAL, End, State, Transition
from jobrt._core.unique import Replace, Unique, unique_key
from jobrt._core.worker_info import WorkerInfo
from jobrt._storage.contract import CronRow, Storage
from jobrt._storage.postgres import finish
from jobrt._storage.postgres.database import retried
from jobrt._trio_psycopg import TrioConnection
from jobrt.errors import StorageError, StorageUnavailable
from tests.storage.postgres.build import add, ask, claim, end, job
from tests.storage.postgres.conftest import PATIENCE
from tests.storage.postgres.test_families import until_waiting

EVENTS = [
    Transition.COMPLETE,
    Transition.RETRY,
    Transition.SNOOZE,
    Transition.GIVE_BACK,
    Transition.DISCARD,
    Transition.CANCEL,
]


class Fuzz:
    """Random calls of workers, clients and operators, with a record of the accepted outcomes."""

    def __init__(self, storage: Storage, seed: int, name: str) -> None:
        self.storage = storage
        self.chance = random.Random(seed)
        self.name = name
        self.held: list[Claimed] = []

    async def run(self, rounds: int) -> None:
        """Make a number of random calls."""
        for _ in range(rounds):
            await self.chance.choice(
                [self.work, self.work, self.work, self.enqueue, self.operate, self.parent]
            )()

    def some_ids(self) -> list[int]:
        return self.chance.sample(range(1, 150), 20)

    def outcomes(self) -> list[Outcome]:
        mine, self.held = self.held, []
        self.chance.shuffle(mine)
        return [
            end(
                one,
                event=event,
                end=End.FINISHED if event is Transition.COMPLETE else End.FAILED,
                message="m",
            )
            for one in mine
            for event in [self.chance.choice(EVENTS)]
        ]

    async def work(self) -> None:
        exchange = await self.storage.attempts.exchange(
            self.outcomes(), ask("a", "b", limit=self.chance.randrange(1, 20), worker=self.name)
        )
        self.held = list(exchange.jobs)

    async def enqueue(self) -> None:
        names = [self.chance.choice("ab") for _ in range(10)]
        keys = [
            unique_key(
                Unique(key=self.chance.randrange(5), on_conflict=Replace("priority")),
                name=name,
                queue="default",
                args="{}",
                metadata={},
            )
            for name in names
        ]
        await self.storage.jobs.insert(
            [
                job(name, unique=key, priority=self.chance.randrange(3))
                for name, key in zip(names, keys, strict=True)
            ]
        )
        await add(self.storage, *(job(self.chance.choice("ab")) for _ in range(10)))

    async def operate(self) -> None:
        ids = where.id_in(self.some_ids())
        await self.chance.choice(
            [
                partial(self.storage.jobs.cancel, ids, "x"),
                partial(self.storage.jobs.rerun, ids),
                partial(self.storage.jobs.update, ids, {"priority": 1}),
                partial(self.storage.jobs.delete, ids, limit=2),
                partial(
                    self.storage.jobs.prune, [PruneRule(state=state, keep_at_least=9) for state in FINAL]
                ),
                partial(self.storage.workers.rescue, limit=5),
                partial(self.storage.jobs.await_final, self.some_ids()),
            ]
        )()

    async def parent(self) -> None:
        if self.held:
            one = self.held.pop()
            waits = end(
                one, event=Transition.SNOOZE, end=End.SNOOZED, children=tuple(self.some_ids()), spent=False
            )
            await self.storage.attempts.finish([waits])


@pytest.mark.slow
async def test_everything_at_once_and_no_deadlock_is_seen(
    storage: Storage, another: Callable[..., Any], admin: psycopg.Connection[Any]
) -> None:
    """Sixteen connections make all kinds of calls on the same few rows: none fails, and no job is left half-changed."""
    names = [f"w{n}" for n in range(16)]
    for name in names:
        await storage.workers.register(name, lease=1000, info=WorkerInfo())
    async with another(pool_size=8) as other:
        with trio.fail_after(2 * PATIENCE):
            async with trio.open_nursery() as nursery:
                for number, name in enumerate(names):
                    fuzz = Fuzz((storage, other)[number % 2], number, name)
                    nursery.start_soon(fuzz.run, 25)
    for name in names:
        await storage.workers.unregister(name)
    while await storage.workers.rescue():
        pass
    assert await storage.jobs.count(where.state("executing")) == 0
    stuck = admin.execute(
        "select id from jobrt.job j where schedule_at = 'infinity' and state = 'scheduled'"
        " and not exists (select from jobrt.dependency d where d.parent = j.id)"
    ).fetchall()
    assert stuck == []
    waiting_for_nobody = admin.execute(
        "select parent, child from jobrt.dependency d where not exists"
        " (select from jobrt.job j where j.id = d.child and j.finished_at is null and j.flags & 4 <> 0)"
    ).fetchall()
    assert waiting_for_nobody == []


async def test_a_child_that_ends_while_it_is_noted_is_not_waited_for(
    storage: Storage, admin: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was enqueued after the locks of the family were taken: so it may end until it is locked itself."""

    async def lock_nothing(_session: object, _outcomes: object) -> None:
        await trio.lowlevel.checkpoint()

    monkeypatch.setattr(finish, "lock_families", lock_nothing)
    await add(storage, job("a"), job("b"))
    (parent,) = (await storage.attempts.exchange((), ask("a"))).jobs
    (child,) = (await storage.attempts.exchange((), ask("b"))).jobs
    waits = end(parent, event=Transition.SNOOZE, end=End.SNOOZED, children=(child.id,), spent=False)
    with psycopg.connect(admin.info.dsn) as gate, trio.fail_after(PATIENCE):
        gate.execute(
            "update jobrt.job set state = 'completed', finished_at = now(), lease = -lease where id = %s",
            [child.id],
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(storage.attempts.finish, [waits])
            await until_waiting(admin, 1)
            gate.commit()
    assert await claim(storage, "a") == [parent.id]


async def test_a_call_that_loses_a_deadlock_is_made_again() -> None:
    """The database rolled it back, so it had no effect; the caller sees an error only if it happens repeatedly."""
    calls = 0

    async def call() -> str:
        nonlocal calls
        calls += 1
        await trio.lowlevel.checkpoint()
        if calls < 3:
            raise StorageUnavailable from psycopg.errors.DeadlockDetected()
        return "done"

    async def never() -> str:
        await trio.lowlevel.checkpoint()
        raise StorageUnavailable from psycopg.errors.SerializationFailure()

    assert (await retried(call), calls) == ("done", 3)
    with pytest.raises(StorageUnavailable):
        await retried(never)


CALLS: dict[str, Callable[[Storage, Claimed], Any]] = {
    "insert": lambda s, c: s.jobs.insert([job("late")]),
    "insert many": lambda s, c: s.jobs.insert([job("late")] * 3),
    "copy": lambda s, c: s.jobs.insert([job("late")] * 600),
    "exchange": lambda s, c: s.attempts.exchange([end(c)], ask("none")),
    "finish": lambda s, c: s.attempts.finish([end(c, message="m", event=Transition.DISCARD, end=End.FAILED)]),
    "finish with children": lambda s, c: s.attempts.finish(
        [end(c, event=Transition.SNOOZE, end=End.SNOOZED, children=(5,))]
    ),
    "limited claim": lambda s, c: s.attempts.exchange([end(c)], ask("none", cluster_limit=1)),
    "save": lambda s, c: s.attempts.save(JobRef(c.id, c.lease), saved="1"),
    "save_step": lambda s, c: s.attempts.save_step(JobRef(c.id, c.lease), "s", "1"),
    "beat": lambda s, c: s.workers.beat("w1", lease=30, info=WorkerInfo()),
    "changes": lambda s, c: s.workers.changes("w1"),
    "rescue": lambda s, c: s.workers.rescue(),
    "lead": lambda s, c: s.workers.lead("r", "w1", seconds=10),
    "get": lambda s, c: s.jobs.get(c.id),
    "query": lambda s, c: s.jobs.query(where.everything()),
    "cancel": lambda s, c: s.jobs.cancel(where.everything(), "x"),
    "update": lambda s, c: s.jobs.update(where.everything(), {"priority": 9}),
    "delete": lambda s, c: s.jobs.delete(where.name("late")),
    "prune": lambda s, c: s.jobs.prune([PruneRule(state=State.COMPLETED)]),
    "await_final": lambda s, c: s.jobs.await_final([c.id]),
    "queues.all": lambda s, c: s.queues.all(),
    "stats": lambda s, c: s.jobs.stats(since=c.created_at),
    "crons.fire": lambda s, c: s.crons.fire("c", c.created_at, job()),
    "check": lambda s, c: s.schema.check(),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
async def test_a_connection_that_dies_is_unavailable_once(
    storage: Storage, admin: psycopg.Connection[Any], call: Callable[[Storage, Claimed], Any]
) -> None:
    """Killed while it waits in the middle of a call: that raises `StorageUnavailable`, and again works at once."""
    await storage.workers.register("w1", lease=1000, info=WorkerInfo())
    await storage.crons.put(CronRow(name="c", spec={}))
    await add(storage, job())
    (claimed,) = (await storage.attempts.exchange((), ask())).jobs
    failed = trio.Event()

    async def fails() -> None:
        with pytest.raises(StorageUnavailable):
            await call(storage, claimed)
        failed.set()

    with trio.fail_after(PATIENCE):
        with psycopg.connect(admin.info.dsn) as blocker:
            blocker.execute(f"lock table {_TABLES} in access exclusive mode")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(fails)
                await _kill_the_one_that_waits(admin, failed)
            blocker.rollback()
        await call(storage, claimed)
    assert await storage.jobs.count(where.name("late")) in {0, 1, 3, 600}


_TABLES = "jobrt.job, jobrt.worker, jobrt.queue, jobrt.leader, jobrt.cron, jobrt.past, jobrt.migration"


async def _kill_the_one_that_waits(admin: psycopg.Connection[Any], failed: trio.Event) -> None:
    """Kill the session that waits for the lock, as soon as there is one."""
    while not failed.is_set():
        await trio.lowlevel.checkpoint()
        killed = admin.execute(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity"
            " where datname = current_database() and wait_event_type = 'Lock'"
        ).fetchone()
        if killed and killed[0]:
            await failed.wait()


async def test_refusals_are_not_worth_another_try(storage: Storage) -> None:
    """What the database will never accept is a `StorageError`, and not an unavailable one."""
    with pytest.raises(StorageError) as caught:
        await storage.jobs.insert([job(priority=1 << 40)])
    assert not isinstance(caught.value, StorageUnavailable)
    with pytest.raises(StorageError) as caught:
        await storage.jobs.insert([job(context="nul\x00")])
    assert not isinstance(caught.value, StorageUnavailable)


async def test_a_unique_job_in_a_transaction_that_cannot_see_is_refused(
    storage: Storage, postgres_url: str
) -> None:
    """REPEATABLE READ does not see what others have just committed: a duplicate would get in."""
    key = unique_key(Unique(), name="a", queue="default", args="{}", metadata={})
    async with await TrioConnection.connect(postgres_url) as conn:
        await conn.execute("set transaction isolation level repeatable read")
        with pytest.raises(StorageError, match="repeatable read"):
            await storage.jobs.insert([job(unique=key)], conn=conn)
        await storage.jobs.insert([job()], conn=conn)


@pytest.mark.parametrize("listen", [True, False])
async def test_a_default_isolation_of_the_databases_own(
    storage: Storage, another: Callable[..., Any], admin: psycopg.Connection[Any], listen: bool
) -> None:
    """Where transactions are SERIALIZABLE unless they say otherwise, everything still works."""
    admin.execute(
        "do $$ begin execute format('alter database %I set default_transaction_isolation = serializable',"
        " current_database()); end $$"
    )
    async with another(listen=listen) as strict:
        key = unique_key(Unique(), name="a", queue="default", args="{}", metadata={})
        first, second = await strict.jobs.insert([job(unique=key), job(unique=key)])
        assert second.duplicate
        assert await claim(strict) == [first.id]
        assert await strict.jobs.update(where.everything(), {"delay": timedelta(0)}) == 0
        assert await strict.jobs.delete(where.everything()) == 1


async def test_a_locked_job_delays_no_other_that_saves(
    storage: Storage, admin: psycopg.Connection[Any]
) -> None:
    """Somebody else's transaction holds the row of one job. What others save at the same moment is stored meanwhile."""
    await add(storage, *(job() for _ in range(3)))
    jobs = (await storage.attempts.exchange((), ask())).jobs
    stored: list[int] = []

    async def save(one: Claimed) -> None:
        assert await storage.attempts.save(JobRef(one.id, one.lease), saved="1")
        stored.append(one.id)

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            with admin.transaction():
                admin.execute("select from jobrt.job where id = %s for update", (jobs[0].id,))
                for one in jobs:
                    nursery.start_soon(save, one)
                while len(stored) < 2:
                    await trio.sleep(0.01)
                assert jobs[0].id not in stored
    assert len(stored) == 3
